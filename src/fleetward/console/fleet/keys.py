"""The console's own keys, which lie beside its database and secret key, and what hosts know of them.

STATE/console.key            what it signs and opens with (identity.consoles), made at first start
STATE/console-next.key       the pair that is to follow (fleet.rotation): seals to it are opened already
STATE/console-previous.key   the pair that was replaced: seals to it are still opened
"""

from pathlib import Path
from typing import Final

from fleetward.adapters.disk import Disk, Kind, SystemDisk
from fleetward.console.database import parse_database
from fleetward.console.keeping import state_folder
from fleetward.console.wiring import wired
from fleetward.errors import ConfigurationError, UsageError
from fleetward.identity.consoles import ConsoleKeys, load_console_keys, obtain_console_keys
from fleetward.wire.tokenfile import ConsolePins

KEY_FILE: Final = "console.key"
NEXT_FILE: Final = "console-next.key"
PREVIOUS_FILE: Final = "console-previous.key"


def keys_folder() -> Path:
    """Return the folder that the keys lie in.

    Raises:
        ConfigurationError: the settings name neither a database nor a folder.
    """
    settings = wired().settings
    if settings.db:
        return state_folder(settings, parse_database(settings.db))
    if settings.state is None:
        raise ConfigurationError("the console needs a folder for its keys: give --state DIR")
    return settings.state


def key_paths(disk: Disk | None = None) -> tuple[Path, ...]:
    """Return the key files, the present one first; made where there is none.

    Raises:
        ConfigurationError: a file is damaged, or there is no folder for it.
        DiskError: it cannot be read or written.
    """
    disk = disk or SystemDisk()
    folder = keys_folder()
    obtain_console_keys(disk, folder / KEY_FILE, wired().entropy)
    found = [folder / KEY_FILE, folder / NEXT_FILE, folder / PREVIOUS_FILE]
    return tuple(path for path in found if disk.kind(path) is Kind.FILE)


def console_keys(disk: Disk | None = None) -> tuple[ConsoleKeys, ...]:
    """Return the console's keys, the present ones first. Raises as `key_paths`."""
    disk = disk or SystemDisk()
    return tuple(load_console_keys(disk, path) for path in key_paths(disk))


def pins(keys: ConsoleKeys) -> ConsolePins:
    """Return what a host is to believe of this console.

    Raises:
        UsageError: the console listens on every address and was not told its own URL.
    """
    settings = wired().settings
    scheme = "https" if settings.is_https() else "http"
    url = settings.url or f"{scheme}://{settings.listen}"
    if settings.url is None and settings.listen.startswith(("0.0.0.0:", "[::]:")):
        raise UsageError(
            f"hosts cannot reach {url}: set `url` in the console's settings, or --url, to the "
            "address that they use"
        )
    return ConsolePins(
        console=url.rstrip("/"),
        signing=(keys.public.signing.hex(),),
        sealing=keys.public.sealing.hex(),
    )
