"""From settings to a Django that is set up, on a database with all migrations."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import django
from django.conf import settings as django_conf
from django.core.management import call_command
from django.db import DatabaseError, connection

from fleetward.adapters.disk import Disk, Kind
from fleetward.config.console import ConsoleFileSettings
from fleetward.console.database import parse_database
from fleetward.console.keeping import secret_key, state_folder, turn
from fleetward.console.settings import django_settings
from fleetward.console.wiring import Wiring, wire
from fleetward.errors import ConfigurationError, UsageError

_MIGRATING = 2967_0002
"""The advisory lock under which one replica migrates PostgreSQL."""


def start_django(disk: Disk, wiring: Wiring) -> Path:
    """Set Django up for this process, and bring the database up to date; return the state folder.

    Raises:
        UsageError: no database was named.
        ConfigurationError: the settings name none that can be used.
        DiskError: the state folder cannot be written.
    """
    settings = wiring.settings
    if not settings.db:
        raise UsageError("name the database: --db sqlite:///console.db (or `db` in --config)")
    database = parse_database(settings.db)
    state = state_folder(settings, database)
    if disk.kind(state) is Kind.ABSENT:
        disk.make_folder(state, private=True)
    wire(wiring)
    with turn(disk, wiring.clock, state):
        if database.file is not None and disk.kind(database.file) is Kind.ABSENT:
            # SQLite would make it readable by all; it holds password hashes and sessions.
            with disk.create(database.file, private=True):
                pass
        secret = secret_key(disk, wiring.entropy, state)
        django_conf.configure(**django_settings(settings, database, secret, state))
        django.setup()
        _migrate(settings)
    return state


def _migrate(settings: ConsoleFileSettings) -> None:
    try:
        with _one_replica():
            call_command("migrate", verbosity=0, interactive=False)
    except DatabaseError as error:
        raise ConfigurationError(
            f"cannot use the database {_shown(settings.db)}: {error}"
        ) from error
    finally:
        connection.close()


@contextmanager
def _one_replica() -> Generator[None]:
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_MIGRATING])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_MIGRATING])


def _shown(url: str) -> str:
    """Return a database's URL without what may be a password."""
    before, at, after = url.rpartition("@")
    return f"{before.partition('://')[0]}://…@{after}" if at else url


def collect_static_files() -> None:
    """Put the static files, under names with their digests, where they are served from."""
    call_command("collectstatic", verbosity=0, interactive=False, clear=False)


def is_first_start() -> bool:
    """Return whether nobody can log in yet."""
    from fleetward.console.organisation.models import User  # noqa: PLC0415 (Django is set up only now)

    try:
        return not User.objects.exists()
    finally:
        connection.close()
