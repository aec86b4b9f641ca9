"""What the console keeps beside its database: the secret key, and the lock of the migrations."""

import base64
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.clock import Clock
from fleetward.adapters.disk import Disk
from fleetward.adapters.entropy import Entropy
from fleetward.config.console import ConsoleFileSettings
from fleetward.console.database import Database
from fleetward.errors import BusyError, ConfigurationError

SECRET_FILE = "console.secret"  # noqa: S105 (a file's name)
LOCK_FILE = "console.lock"

SECRET_BYTES = 48
"""Length of the secret key (guessing it would forge sessions)."""

LOCK_WAIT = timedelta(seconds=60)
"""How long a start waits for another that migrates."""

_PAUSE = timedelta(milliseconds=100)


def state_folder(settings: ConsoleFileSettings, database: Database) -> Path:
    """Return where the console keeps its own files.

    Raises:
        ConfigurationError: the database is PostgreSQL and no folder was given.
    """
    if settings.state is not None:
        return settings.state.absolute()
    if database.file is None:
        raise ConfigurationError(
            "with PostgreSQL the console needs a folder of its own for its secret key: "
            "give --state DIR (the same key on every replica)"
        )
    return database.file.parent


def secret_key(disk: Disk, entropy: Entropy, state: Path) -> str:
    """Return the secret key in `state`, made at the first start with mode 0600.

    Raises:
        DiskError: it can be neither read nor written.
        ConfigurationError: the file is too short to be one.
    """
    path = state / SECRET_FILE
    try:
        secret = disk.read(path).decode("ascii", "replace").strip()
    except FileNotFoundError:
        secret = base64.urlsafe_b64encode(entropy.token(SECRET_BYTES)).decode()
        write_file(disk, path, secret.encode() + b"\n", private=True)
    if len(secret) < SECRET_BYTES:
        raise ConfigurationError(f"{path} holds no secret key: remove it, and a new one is made")
    return secret


@contextmanager
def turn(disk: Disk, clock: Clock, state: Path) -> Generator[None]:
    """Hold the console's lock in `state`, waiting for another start that holds it.

    Raises:
        BusyError: it was held for a minute.
    """
    end = clock.monotonic() + LOCK_WAIT
    while True:
        lock = disk.lock(state / LOCK_FILE)
        try:
            lock.__enter__()
            break
        except BusyError:
            if clock.monotonic() > end:
                raise
            clock.sleep(_PAUSE)
    try:
        yield
    finally:
        lock.__exit__(None, None, None)
