"""The console's keys, from the first pair to the next, with a stop after any step of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetward.config.console import ConsoleFileSettings
from fleetward.console.audit.chain import SYSTEM
from fleetward.console.audit.models import Entry
from fleetward.console.fleet.keys import KEY_FILE, NEXT_FILE, PREVIOUS_FILE, console_keys
from fleetward.console.fleet.rotation import Step, public_pairs, take_step
from fleetward.console.wiring import rewired
from fleetward.core.consoles import Consoles
from fleetward.errors import ConfigurationError, DocumentError
from fleetward.identity.checkins import open_check_in, seal_check_in, verify_check_in
from fleetward.identity.consoles import ConsoleKeys, load_console_keys
from fleetward.wire.consolekeys import decode_console_keys, encode_console_keys
from support.fakes import FakeClock, SeededEntropy
from support.simdisk import Aftermath, PowerLossError, SimDisk
from support.status import host_key, usual

pytestmark = pytest.mark.django_db

STATE = Path("/console")


@pytest.fixture(autouse=True)
def _wired() -> Iterator[None]:
    with rewired(clock=FakeClock(), settings=ConsoleFileSettings(state=STATE)):
        yield


class Rotation:
    """A console's folder, and the steps done in it."""

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.disk.make_folder(STATE)
        self.entropy = SeededEntropy()

    def take(self, step: Step) -> str:
        return take_step(self.disk, STATE, self.entropy, SYSTEM, step)

    def signing(self) -> list[str]:
        found = public_pairs(self.disk, STATE, self.entropy, "main", "https://c.example/")
        assert decode_console_keys(encode_console_keys(found)) == found
        assert len(Consoles(keys=found.keys).keys) == len(found.keys), "it can be signed as it is"
        assert {pair.url for pair in found.keys} == {"https://c.example"}
        return [pair.signing for pair in found.keys]

    def opening(self) -> tuple[ConsoleKeys, ...]:
        return console_keys(self.disk)

    def file(self, name: str) -> str:
        return load_console_keys(self.disk, STATE / name).public.signing.hex()


def test_from_one_pair_to_the_next() -> None:
    here = Rotation()
    (old,) = here.signing()
    assert "--switch" in here.take(Step.PREPARE)
    first, new = here.signing()
    assert first == old, "hosts go on sealing to the present pair"
    assert "restart" in here.take(Step.SWITCH)
    assert here.signing() == [new, old]
    here.take(Step.RETIRE)
    assert here.signing() == [new]
    assert here.disk.listing(STATE) == [KEY_FILE]
    steps = [entry.after for entry in Entry.objects.filter(subject="console:keys")]
    assert ["step" in str(step) for step in steps] == [True] * 3
    assert not any(here.opening()[0].public.sealing.hex() in str(step) for step in steps)


def test_what_was_sealed_to_any_pair_is_opened_until_that_is_retired() -> None:
    """A relay brings what a host sealed weeks ago."""
    here = Rotation()
    here.signing()
    old = here.opening()[0].public
    sealed = seal_check_in(usual(host_key()), host_key(), old)
    here.take(Step.PREPARE)
    following = here.opening()[1].public
    early = seal_check_in(usual(host_key(), 2), host_key(), following)
    for step in (None, Step.SWITCH):
        if step:
            here.take(step)
        for envelope in (sealed, early):
            assert open_check_in(verify_check_in(envelope), here.opening()).host == host_key().id
    here.take(Step.RETIRE)
    assert old not in [keys.public for keys in here.opening()]
    assert here.opening()[0].public == following


@pytest.mark.parametrize("step", [Step.SWITCH, Step.RETIRE])
def test_a_step_that_does_not_come_now_is_refused_and_not_in_the_log(step: Step) -> None:
    here = Rotation()
    with pytest.raises(ConfigurationError):
        here.take(step)
    assert not Entry.objects.exists()


def test_preparing_twice_makes_one_pair() -> None:
    here = Rotation()
    assert here.take(Step.PREPARE) == here.take(Step.PREPARE)


def test_two_rotations_do_not_lose_a_pair_that_still_opens() -> None:
    here = Rotation()
    here.take(Step.PREPARE)
    here.take(Step.SWITCH)
    here.take(Step.PREPARE)
    before = here.signing()
    with pytest.raises(ConfigurationError, match="--retire"):
        here.take(Step.SWITCH)
    assert here.signing() == before
    here.take(Step.RETIRE)
    here.take(Step.SWITCH)
    assert here.signing()[0] == before[1]


@pytest.mark.parametrize("aftermath", Aftermath)
def test_a_stop_at_any_instant_of_the_switch_loses_no_pair(aftermath: Aftermath) -> None:
    for stop in range(40):
        here = Rotation()
        here.signing()
        here.take(Step.PREPARE)
        old, new = here.file(KEY_FILE), here.file(NEXT_FILE)
        here.disk.stop_at = len(here.disk.steps) + stop
        try:
            here.take(Step.SWITCH)
        except PowerLossError:
            here.disk = here.disk.crash(aftermath, stop)
        else:
            assert stop > 3
            return
        found = {keys.public.signing.hex() for keys in here.opening()}
        assert found == {old, new}, "no third key was made, and none is gone"
        if here.file(KEY_FILE) == old:
            here.take(Step.SWITCH)
        assert here.signing() == [new, old]
    pytest.fail("the switch never came to its end")


def test_names_and_urls_are_what_the_document_takes() -> None:
    here = Rotation()
    with pytest.raises(DocumentError):
        public_pairs(here.disk, STATE, here.entropy, "Main Console", None)
    with pytest.raises(DocumentError):
        public_pairs(here.disk, STATE, here.entropy, "main", "ftp://c.example")
    (pair,) = public_pairs(here.disk, STATE, here.entropy, "main", None).keys
    assert pair.url is None


def test_a_damaged_file_is_told() -> None:
    here = Rotation()
    here.take(Step.PREPARE)
    with here.disk.create(STATE / PREVIOUS_FILE) as file:
        file.write(b"{}")
    with pytest.raises(ConfigurationError):
        here.signing()
