"""Backup and restore of a console on SQLite: its database, secret key and keys, as one folder.

A backup is taken while the console runs, and holds what was committed at one moment. It holds the
console's keys too: without them hosts' seals cannot be opened and acknowledgements not be signed,
so keep it as safe as the console itself. What hosts sent since then comes again: agents keep
acknowledged events for seven days.

Deliberately not here: PostgreSQL, which has its own (`pg_dump`, archiving); copy the state folder's
`console*` files beside it.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Disk, Kind
from fleetward.console.keeping import SECRET_FILE
from fleetward.errors import ConfigurationError, DiskError

DATABASE_FILE = "console.db"
"""What a backup's database is called, whatever the console's own is."""

_SUFFIXES = ("-wal", "-shm", "-journal")
"""What a console that was killed leaves beside its database; SQLite would put it into the next one."""

PAGES_AT_ONCE = 2_000
"""Pages copied before writers get a turn (accident: a backup that stops check-ins)."""


def back_up(disk: Disk, database: Path, state: Path, folder: Path) -> None:
    """Write a backup into a new folder.

    Args:
        disk: where all of it lies.
        database: the console's SQLite file.
        state: the folder of its keys.
        folder: where to; it must not exist yet.

    Raises:
        ConfigurationError: there is no such database, or the folder exists.
        DiskError: it cannot be written; the folder may be incomplete.
    """
    if disk.kind(database) is not Kind.FILE:
        raise ConfigurationError(f"there is no database at {database}")
    if disk.kind(folder) is not Kind.ABSENT:
        raise ConfigurationError(f"{folder} exists already: name a new folder")
    disk.make_folder(folder, private=True)
    _copy_database(disk, database, folder / DATABASE_FILE)
    _copy_keys(disk, state, folder)


def restore(disk: Disk, folder: Path, database: Path, state: Path) -> None:
    """Put a backup where a console is to begin from it; the console must not run.

    Raises:
        ConfigurationError: the folder is no backup, or there is a database already, or what belongs
            to one that was moved away.
        DiskError: it cannot be written.
    """
    if disk.kind(folder / DATABASE_FILE) is not Kind.FILE:
        raise ConfigurationError(f"{folder} is no backup: it has no {DATABASE_FILE}")
    for part in (database, *(Path(f"{database}{suffix}") for suffix in _SUFFIXES)):
        if disk.kind(part) is not Kind.ABSENT:
            raise ConfigurationError(f"{part} exists: move it away first, then restore")
    for path in (state, database.parent):
        if disk.kind(path) is Kind.ABSENT:
            disk.make_folder(path, private=True)
    _copy_keys(disk, folder, state)
    # Last: a restore that broke off has no database, and can be done again.
    _copy_database(disk, folder / DATABASE_FILE, database)


def _copy_database(disk: Disk, source: Path, target: Path) -> None:
    with disk.create(target, private=True):
        pass
    try:
        with _opened(source) as old, _opened(target) as new:
            old.backup(new, pages=PAGES_AT_ONCE)
            found = new.execute("PRAGMA integrity_check").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise DiskError(f"cannot copy {source} to {target}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(f"{source} is no database, or is damaged: {error}") from error
    if found != "ok":
        raise ConfigurationError(f"the database {source} is damaged: {found}")
    disk.sync_folder(target.parent)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        yield connection
    finally:
        connection.close()


def _copy_keys(disk: Disk, source: Path, target: Path) -> None:
    for name in disk.listing(source):
        if name == SECRET_FILE or (name.startswith("console") and name.endswith(".key")):
            write_file(disk, target / name, disk.read(source / name), private=True)
