"""Whom a host believes as its console: the token file's keys, then the signed ones and no others.

Stories: the fleet keys rotate a console's keys, a stand-by takes over, a retired key is in the wrong
hands, somebody takes the document away.
"""

from collections.abc import Generator
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.test_reporting_to_console import HOME, SEEN, Scene, record
from fleetward.adapters.disk import Kind
from fleetward.adapters.http import HttpSession
from fleetward.agent import checkins
from fleetward.agent.checkins import Seen, Way
from fleetward.agent.consoles import SIGNED_FILE, believed, remember_consoles, signed_consoles
from fleetward.agent.enrolling import HOST_KEY_FILE, enrol, load_enrolled
from fleetward.agent.home import Home
from fleetward.agent.inbox import Orders
from fleetward.core.consoles import ConsolePair, Consoles
from fleetward.core.enrolment import Standing
from fleetward.core.inbox import Directive, DirectiveKind
from fleetward.core.status import EventKind
from fleetward.errors import ConfigurationError, SignatureError
from fleetward.identity.consoles import ConsoleKeys
from fleetward.wire.tokenfile import ConsolePins
from support import world
from support.fakes import FakeClock
from support.simdisk import Aftermath, SimDisk
from support.standinconsole import StandInConsole, stand_in_console
from support.status import CONSOLE, FACTS, OTHER_CONSOLE

NEW = ConsoleKeys(b"\x07" * 32, b"\x08" * 32)


def pair(keys: ConsoleKeys, url: str | None = None) -> ConsolePair:
    public = keys.public
    return ConsolePair(
        name="main", signing=public.signing.hex(), sealing=public.sealing.hex(), url=url
    )


OLD_PAIR, NEW_PAIR = pair(CONSOLE), pair(NEW)


@pytest.fixture
def scene() -> Generator[Scene]:
    clock = FakeClock()
    session = HttpSession(clock)
    with stand_in_console(clock) as console:
        yield Scene(clock, console, session)
    session.close()


@pytest.fixture
def successor(scene: Scene) -> Generator[StandInConsole]:
    """A stand-by with a database of its own; its inboxes' numbers are times, so they are greater."""
    with stand_in_console(scene.clock, keys=NEW, seq=10**6) as console:
        yield console


def sign(scene: Scene, *pairs: ConsolePair) -> None:
    """The fleet keys sign these pairs, and the host's next check brings them."""
    remember_consoles(scene.home, Consoles(keys=pairs))


# -- what is kept ------------------------------------------------------------------------------------


def a_home() -> Home:
    disk = SimDisk()
    disk.make_folder(HOME)
    return Home(disk, HOME)


def test_the_document_is_kept_and_written_only_where_it_changed() -> None:
    home = a_home()
    assert signed_consoles(home) is None
    first, second = Consoles(keys=(OLD_PAIR,)), Consoles(keys=(NEW_PAIR, OLD_PAIR))
    remember_consoles(home, first)
    before = home.disk._at(HOME / SIGNED_FILE)  # type: ignore[attr-defined]
    remember_consoles(home, first)
    assert home.disk._at(HOME / SIGNED_FILE) is before  # type: ignore[attr-defined]
    remember_consoles(home, second)
    assert signed_consoles(home) == second


@pytest.mark.parametrize("aftermath", Aftermath)
def test_power_loss_leaves_one_document_or_the_other(aftermath: Aftermath) -> None:
    home = a_home()
    remember_consoles(home, Consoles(keys=(OLD_PAIR,)))
    remember_consoles(home, Consoles(keys=(NEW_PAIR,)))
    after = Home(home.disk.crash(aftermath), HOME)  # type: ignore[attr-defined]
    assert signed_consoles(after) == Consoles(keys=(NEW_PAIR,))


def test_a_damaged_file_is_told_and_the_next_check_mends_it(scene: Scene) -> None:
    """The token file is no way out: its key may be the one that was taken out."""
    scene.enrol()
    with scene.disk.create(HOME / SIGNED_FILE) as file:
        file.write(b"{")
    with pytest.raises(ConfigurationError, match="agent update"):
        scene.report()
    sign(scene, OLD_PAIR)
    assert scene.report().way is Way.STORED


PINS = ConsolePins(
    console="http://127.0.0.1:1", signing=(OLD_PAIR.signing,), sealing=OLD_PAIR.sealing
)
SEEDS = st.binary(min_size=32, max_size=32)


@given(st.lists(st.tuples(SEEDS, SEEDS), min_size=1, max_size=4, unique_by=lambda two: two[0]))
def test_no_key_is_believed_that_the_document_does_not_name(
    seeds: list[tuple[bytes, bytes]],
) -> None:
    pairs = {p.sealing: p for p in (pair(ConsoleKeys(*two)) for two in seeds)}
    home = a_home()
    assert believed(home, PINS) == PINS
    signed = Consoles(keys=tuple(pairs.values()))
    remember_consoles(home, signed)
    found = believed(home, PINS)
    assert found.signing == tuple(one.signing for one in signed.keys)
    assert signed.names(found.signing[0], found.sealing)
    assert found.console == PINS.console, "no pair names a URL, so the token file's stays"


def test_a_check_keeps_what_is_signed_and_nothing_where_it_is_absent() -> None:
    """Somebody takes the document out of the repository, to bring the old pins back."""
    here, disk = world.World(), world.fresh_disk()
    here.publish(world.V1)
    home = Home(disk, world.HOME)
    here.agent(disk).update()
    assert disk.kind(world.HOME / SIGNED_FILE) is Kind.ABSENT
    here.trust.consoles = Consoles(keys=(NEW_PAIR,))
    here.agent(disk).update()
    here.trust.consoles = None
    here.agent(disk).update()
    assert signed_consoles(home) == Consoles(keys=(NEW_PAIR,))
    assert believed(home, PINS).signing == (NEW_PAIR.signing,)


# -- rotation ----------------------------------------------------------------------------------------


def test_keys_rotate_and_no_event_is_lost(scene: Scene, successor: StandInConsole) -> None:
    """What waits in the spool is sealed anew; the host goes on, at the address that is signed."""
    scene.enrol()
    scene.report()
    scene.console.is_away = True
    waiting = Seen(records=(record("r2"),))
    assert scene.report(waiting).pending == 1
    heard = len(scene.console.check_ins)
    sign(scene, pair(NEW, successor.url))
    scene.console.is_away = False
    outcome = scene.report(Seen(records=(record("r3"),)))
    assert (outcome.way, outcome.pending, outcome.error) == (Way.STORED, 0, None)
    assert len(scene.console.check_ins) == heard, "the old address is not asked any more"
    told = [event.release for event in successor.stored()]
    assert told == ["", "r1", "r2", "r3"], "it asks again for what it never had"


def test_while_both_keys_are_signed_either_may_answer(scene: Scene) -> None:
    """First the document names the next key, then the console signs with it, then the old one goes."""
    scene.enrol()
    sign(scene, OLD_PAIR, NEW_PAIR)
    assert scene.report().pending == 0
    scene.console.signs_inbox = NEW
    assert scene.report(Seen(records=(record("r2"),))).pending == 0
    sign(scene, NEW_PAIR, OLD_PAIR)
    scene.console.keys = NEW
    assert scene.report(Seen(records=(record("r3"),))).pending == 0
    sign(scene, NEW_PAIR)
    assert scene.report(Seen(records=(record("r4"),))).pending == 0
    assert [event.release for event in scene.console.stored() if event.release] == [
        *("r1", "r2", "r3", "r4"),
    ]


def test_a_key_that_left_the_document_directs_nobody_and_that_is_told(scene: Scene) -> None:
    """The old key was stolen: its thief sits at the console's address, and orders a roll-back."""
    scene.enrol()
    scene.report()
    scene.console.keys = NEW
    scene.console.signs_inbox = CONSOLE
    sign(scene, NEW_PAIR)
    scene.console.direct(Directive(id="ab" * 8, kind=DirectiveKind.ROLL_BACK, product="yara"))
    outcome = scene.report(Seen(records=(record("r2"),)))
    assert scene.deeds.done == []
    assert outcome.pending, "what the thief acknowledges stays in the spool"
    assert "signed by no console key" in (outcome.error or "")
    scene.console.signs_inbox = None
    scene.console.directives.clear()
    assert scene.report().pending == 0
    told = [event for event in scene.console.stored() if event.kind is EventKind.REFUSED_SOURCE]
    assert [event.detail for event in told] == [
        "an inbox: signed by no console key that this host trusts"
    ]


def test_a_thief_who_signs_all_the_time_is_told_once_an_hour(scene: Scene) -> None:
    scene.enrol()
    sign(scene, OLD_PAIR)
    scene.console.signs_inbox = OTHER_CONSOLE
    for _ in range(90):
        scene.console.seq += 1
        scene.report()
    told = [event for event in scene.console.stored() if event.kind is EventKind.REFUSED_SOURCE]
    assert len(told) == 2


def test_nothing_is_sealed_to_a_key_that_left(scene: Scene, successor: StandInConsole) -> None:
    """The thief has the old sealing key too, and takes whatever comes to the old address."""
    scene.enrol()
    scene.report()
    scene.console.check_ins.clear()
    sign(scene, NEW_PAIR)  # no URL: the host still asks the address of its token file
    outcome = scene.report(Seen(records=(record("r2"),)))
    assert outcome.way is Way.FAILED
    assert scene.console.check_ins == [], "it could not open what came"
    sign(scene, pair(NEW, successor.url))
    assert scene.report().pending == 0
    assert "r2" in [event.release for event in successor.stored()]


def test_the_address_of_before_is_not_asked_first_any_more(
    scene: Scene, successor: StandInConsole
) -> None:
    """Else whoever keeps the old address could take check-ins for a while, and say 202."""
    scene.enrol()
    scene.report()
    before = scene.console.requests
    sign(scene, pair(NEW, successor.url))
    assert scene.report().way is Way.STORED
    assert scene.console.requests == before


def test_a_directive_is_done_once_although_the_key_is_new(scene: Scene) -> None:
    scene.enrol()
    scene.console.direct(Directive(id="ab" * 8, kind=DirectiveKind.UPDATE_NOW))
    scene.report()
    assert scene.deeds.done == ["update None"]
    sign(scene, NEW_PAIR)
    scene.console.keys = NEW
    scene.console.seq += 1
    scene.clock.advance(checkins.INBOX_INTERVAL)
    assert scene.report(Seen(records=(record("r2"),))).pending == 0
    assert scene.deeds.done == ["update None"]


def test_an_inbox_of_before_the_rotation_stays_old(scene: Scene) -> None:
    """A relay replays what the old key signed, while both keys are in the document."""
    scene.enrol()
    scene.console.seq = 900
    scene.report()
    sign(scene, NEW_PAIR, OLD_PAIR)
    scene.console.keys = NEW
    scene.report(Seen(records=(record("r2"),)))
    orders = Orders(scene.disk, HOME / "reports")
    assert orders.seq(NEW.public.id) > 900
    orders.hand_over(NEW.public.id)
    assert orders.seq(NEW.public.id) > 900


def test_without_a_document_another_console_begins_anew() -> None:
    """`hand_over` is for the fleet keys' word alone; a host that enrols elsewhere starts from 0."""
    disk = SimDisk()
    disk.make_folder(HOME)
    orders = Orders(disk, HOME)
    orders.hand_over(NEW.public.id)
    assert orders.seq(NEW.public.id) == 0
    assert disk.kind(HOME / "inbox.json") is Kind.ABSENT, "there is nothing to hand over"


def test_a_stand_by_takes_over_and_the_console_is_not_asked(
    scene: Scene, successor: StandInConsole
) -> None:
    main = replace(OLD_PAIR, url=scene.console.url)
    spare = replace(NEW_PAIR, url=successor.url)
    scene.enrol()
    sign(scene, main, spare)
    scene.report()
    assert successor.check_ins == []
    scene.console.is_away = True
    sign(scene, spare, main)
    assert scene.report(Seen(records=(record("r2"),))).way is Way.STORED
    assert successor.check_ins


# -- enrolment ---------------------------------------------------------------------------------------


def test_a_token_file_of_another_console_is_refused_and_nothing_is_asked(scene: Scene) -> None:
    """Somebody hands out token files of a console of his own."""
    scene.disk.make_folder(HOME)
    sign(scene, NEW_PAIR)
    with pytest.raises(SignatureError, match="the fleet keys do not"):
        scene.enrol()
    assert scene.console.requests == 0
    assert load_enrolled(scene.home) is None
    assert scene.disk.kind(HOME / HOST_KEY_FILE) is Kind.ABSENT


@pytest.mark.parametrize("sealing", [pair(OTHER_CONSOLE).sealing, NEW_PAIR.sealing])
def test_a_token_file_that_mixes_two_consoles_is_refused(scene: Scene, sealing: str) -> None:
    """The right signing key with a sealing key of the attacker's, or of another signed pair."""
    scene.disk.make_folder(HOME)
    sign(scene, OLD_PAIR, NEW_PAIR)
    file = scene.console.token_file
    with pytest.raises(SignatureError):
        enrol(
            scene.home,
            replace(file, pins=replace(file.pins, sealing=sealing)),
            (),
            FACTS,
            session=scene.session,
            clock=scene.clock,
            entropy=scene.entropy,
        )
    assert scene.console.requests == 0


def test_a_host_enrols_where_the_fleet_keys_name_the_console(scene: Scene) -> None:
    scene.disk.make_folder(HOME)
    sign(scene, NEW_PAIR, OLD_PAIR)
    assert scene.enrol().standing is Standing.APPROVED
    enrolled = load_enrolled(scene.home)
    assert enrolled is not None
    assert enrolled.public() == NEW.public, "from now on it seals to the first pair"


def test_a_host_that_waits_asks_no_console_that_left_the_document(scene: Scene) -> None:
    scene.console.standing = Standing.PENDING
    scene.enrol()
    sign(scene, NEW_PAIR)
    scene.console.standing = Standing.APPROVED
    before = scene.console.requests
    scene.clock.advance(timedelta(minutes=10))
    outcome = scene.report()
    assert outcome.way is Way.WAITING
    assert "fleet keys do not" in (outcome.error or "")
    assert scene.console.requests == before


def test_what_is_on_disk_stays_as_the_token_file_said(scene: Scene) -> None:
    """The document is laid over it at each reading, so no state of it is kept twice."""
    scene.enrol()
    before = scene.disk.read(HOME / "console.json")
    sign(scene, NEW_PAIR)
    scene.report(SEEN)
    assert scene.disk.read(HOME / "console.json") == before
