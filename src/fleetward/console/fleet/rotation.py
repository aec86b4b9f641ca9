"""The console's keys, from the first pair to the next: what an administrator does, step by step.

    prepare   STATE/console-next.key is made; the fleet keys sign [present, next]
    switch    the next pair becomes the present one, which signs from the next start on; the one
              before stays as STATE/console-previous.key and opens what was sealed to it
    retire    the previous pair goes, once the fleet keys have signed [present] alone

Each step is in the audit log, and may be done again after a stop at any instant. A running console
reads its keys at its start. Hosts follow the document that the fleet keys sign, never these files.
"""

from enum import Enum
from pathlib import Path

from django.db import transaction

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Disk, Kind
from fleetward.adapters.entropy import Entropy
from fleetward.console.audit.chain import Actor, record
from fleetward.console.fleet.keys import KEY_FILE, NEXT_FILE, PREVIOUS_FILE
from fleetward.core.consoles import ConsolePair
from fleetward.errors import ConfigurationError
from fleetward.identity.consoles import ConsoleKeys, load_console_keys, obtain_console_keys
from fleetward.wire.consolekeys import ConsoleKeysFile


class Step(Enum):
    """A step of the rotation."""

    PREPARE = "prepare"
    SWITCH = "switch"
    RETIRE = "retire"


def public_pairs(
    disk: Disk, folder: Path, entropy: Entropy, name: str, url: str | None
) -> ConsoleKeysFile:
    """Return what the fleet keys are to sign: the present pair, the next and the previous one.

    Args:
        disk: where the keys lie.
        folder: the console's folder, which exists.
        entropy: makes the first pair where there is none.
        name: what people call this console.
        url: where hosts reach it; None for what each token file says.

    Raises:
        ConfigurationError: a file of keys is damaged.
        DocumentError: the name or the URL is none.
        DiskError: they cannot be read or written.
    """
    present = obtain_console_keys(disk, folder / KEY_FILE, entropy)
    others = [_present(disk, folder / other) for other in (NEXT_FILE, PREVIOUS_FILE)]
    found = {keys.public.signing: keys for keys in (present, *others) if keys is not None}
    return ConsoleKeysFile(keys=tuple(_pair(keys, name, url) for keys in found.values()))


def _present(disk: Disk, path: Path) -> ConsoleKeys | None:
    return load_console_keys(disk, path) if disk.kind(path) is Kind.FILE else None


def _pair(keys: ConsoleKeys, name: str, url: str | None) -> ConsolePair:
    return ConsolePair(
        name=name,
        signing=keys.public.signing.hex(),
        sealing=keys.public.sealing.hex(),
        url=url.rstrip("/") if url else None,
    )


def take_step(disk: Disk, folder: Path, entropy: Entropy, actor: Actor, step: Step) -> str:
    """Do one step, and return what is to be done next, in words.

    Raises:
        ConfigurationError: the step does not come now.
        DiskError: it could not be made durable.
    """
    with transaction.atomic():
        present = obtain_console_keys(disk, folder / KEY_FILE, entropy)
        record(
            actor, "settings.manage", "console:keys", before={"present": present.public.id},
            after={"step": step.value},
        )  # fmt: skip
        match step:
            case Step.PREPARE:
                return _prepare(disk, folder, entropy)
            case Step.SWITCH:
                return _switch(disk, folder)
            case Step.RETIRE:
                return _retire(disk, folder)


def _prepare(disk: Disk, folder: Path, entropy: Entropy) -> str:
    made = obtain_console_keys(disk, folder / NEXT_FILE, entropy)
    return (
        f"the next key is {made.public.id}: let the fleet keys sign what `console keys --json` "
        "prints, wait until hosts have it, then --switch"
    )


def _switch(disk: Disk, folder: Path) -> str:
    """Keep the present pair as the previous one, then put the next one in its place."""
    present, following, previous = (folder / n for n in (KEY_FILE, NEXT_FILE, PREVIOUS_FILE))
    if disk.kind(following) is not Kind.FILE:
        raise ConfigurationError("there is no next key: --prepare it first")
    made, content = load_console_keys(disk, following), disk.read(present)
    if disk.kind(previous) is Kind.FILE and disk.read(previous) != content:
        raise ConfigurationError("a previous key is there still: --retire it first")
    write_file(disk, previous, content, private=True)
    disk.replace(following, present)
    disk.sync_folder(folder)
    return (
        f"the key is {made.public.id} from the next start on: restart the console, let the fleet "
        "keys sign what `console keys --json` prints; once nobody waits for approval, sign the "
        "first pair alone and --retire"
    )


def _retire(disk: Disk, folder: Path) -> str:
    previous = folder / PREVIOUS_FILE
    if disk.kind(previous) is not Kind.FILE:
        raise ConfigurationError("there is no previous key")
    disk.remove(previous)
    disk.sync_folder(folder)
    return "the previous key is gone: what is sealed to it can be opened by nobody from the next start on"
