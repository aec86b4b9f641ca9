"""Key files: made once, readable by their owner alone, whole after power loss."""

import stat
from pathlib import Path

import pytest

from fleetward.adapters.disk import Disk, SystemDisk
from fleetward.errors import ConfigurationError, DocumentError, SignatureError
from fleetward.identity.consoles import (
    SEAL_OVERHEAD_BYTES,
    ConsoleKeys,
    ConsolePublic,
    load_console_keys,
    obtain_console_keys,
    open_seal,
)
from fleetward.identity.hosts import HostKey, load_host_key, obtain_host_key
from support.fakes import SeededEntropy
from support.simdisk import Aftermath, PowerLossError, SimDisk
from support.status import CONSOLE, OTHER_CONSOLE

FOLDER = Path("/home/agent")
FILE = FOLDER / "host.key"


def fresh() -> SimDisk:
    disk = SimDisk()
    disk.make_folder(FOLDER)
    return disk


def test_a_host_key_is_made_once() -> None:
    disk = fresh()
    first = obtain_host_key(disk, FILE, SeededEntropy(1))
    again = obtain_host_key(disk, FILE, SeededEntropy(2))
    assert again.id == first.id
    assert load_host_key(disk, FILE).public == first.public


def test_the_id_of_a_key_has_not_changed_since_it_was_fixed() -> None:
    # The sha256 of RFC 8032's first public key.
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = HostKey(seed)
    assert key.public.hex().startswith("d75a980182b10ab7")
    assert key.id == "21fe31dfa154a261626bf854046fd2271b7bed4b6abe45aa58877ef47f9721b9"
    assert repr(key) == f"HostKey({key.id})"


@pytest.mark.parametrize("name", ["host.key", "console.key"])
def test_key_files_are_readable_by_their_owner_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "host.key":
        obtain_host_key(SystemDisk(), path, SeededEntropy())
    else:
        obtain_console_keys(SystemDisk(), path, SeededEntropy())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_power_loss_at_any_instant_leaves_a_whole_key_or_none() -> None:
    """Power is lost while the key is made. The host starts again and has one key from then on."""
    whole = fresh()
    obtain_host_key(whole, FILE, SeededEntropy(1))
    for stop in range(len(whole.steps)):
        disk = fresh()
        disk.stop_at = stop
        try:
            announced = obtain_host_key(disk, FILE, SeededEntropy(1)).id
        except PowerLossError:
            announced = None
        for aftermath in Aftermath:
            after = disk.crash(aftermath, stop)
            if after.kind(FOLDER).value == "absent":
                continue
            key = obtain_host_key(after, FILE, SeededEntropy(2))
            assert announced in (None, key.id)
            assert load_host_key(after, FILE).id == key.id


def spoilt(disk: Disk, content: bytes) -> None:
    with disk.create(FILE) as file:
        file.write(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"schema":"fleetward.host-key/2","host":"","seed":""}',
        b'{"schema":"fleetward.host-key/1","host":"","seed":"zz"}',
        b'{"schema":"fleetward.host-key/1","host":"","seed":"00"}',
    ],
)
def test_what_is_no_host_key_says_what_to_do(content: bytes) -> None:
    disk = fresh()
    spoilt(disk, content)
    with pytest.raises(ConfigurationError, match="enrol this host again"):
        obtain_host_key(disk, FILE, SeededEntropy())


def test_a_damaged_seed_does_not_become_another_host() -> None:
    disk = fresh()
    obtain_host_key(disk, FILE, SeededEntropy())
    content = disk.read(FILE)
    spoilt(disk, content.replace(b'"seed":"', b'"seed":"00')[:-4] + b'"}')
    with pytest.raises(ConfigurationError, match="damaged"):
        load_host_key(disk, FILE)


def test_an_absent_key_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="enrol"):
        load_host_key(fresh(), FILE)
    with pytest.raises(ConfigurationError, match="backup"):
        load_console_keys(fresh(), FILE)


def test_console_keys_are_made_once() -> None:
    disk = fresh()
    first = obtain_console_keys(disk, FILE, SeededEntropy(1))
    again = obtain_console_keys(disk, FILE, SeededEntropy(2))
    assert again.public == first.public
    assert repr(first) == f"ConsoleKeys({first.public.id})"


@pytest.mark.parametrize("text", ["zz", "00"])
def test_what_is_no_console_key_says_what_to_do(text: str) -> None:
    disk = fresh()
    spoilt(
        disk,
        b'{"schema":"fleetward.console-key/1","signing":"%b","sealing":""}' % text.encode(),
    )
    with pytest.raises(ConfigurationError, match="backup"):
        load_console_keys(disk, FILE)


def test_a_seal_opens_for_the_console_alone() -> None:
    seal = CONSOLE.public.seal(b"words")
    assert len(seal) == len(b"words") + SEAL_OVERHEAD_BYTES
    assert CONSOLE.open(seal) == b"words"
    assert CONSOLE.public.seal(b"words") != seal
    with pytest.raises(SignatureError):
        OTHER_CONSOLE.open(seal)


@pytest.mark.parametrize("seal", [b"", b"short", bytes(48), bytes(200)])
def test_what_is_no_seal_is_refused(seal: bytes) -> None:
    with pytest.raises(SignatureError):
        CONSOLE.open(seal)


def test_an_altered_seal_is_refused() -> None:
    seal = bytearray(CONSOLE.public.seal(b"words"))
    for at in range(len(seal)):
        seal[at] ^= 1
        with pytest.raises(SignatureError):
            CONSOLE.open(bytes(seal))
        seal[at] ^= 1


def test_a_replaced_key_still_opens_what_was_on_its_way() -> None:
    seal = OTHER_CONSOLE.public.seal(b"words")
    assert open_seal(seal, [CONSOLE, OTHER_CONSOLE]) == b"words"
    with pytest.raises(SignatureError):
        open_seal(seal, [CONSOLE])
    with pytest.raises(SignatureError, match="no key"):
        open_seal(seal, [])


def test_public_keys_have_their_length() -> None:
    with pytest.raises(DocumentError):
        ConsolePublic(b"k" * 32, b"k" * 31)


def test_new_console_keys_differ() -> None:
    entropy = SeededEntropy()
    assert ConsoleKeys.make(entropy).public != ConsoleKeys.make(entropy).public
