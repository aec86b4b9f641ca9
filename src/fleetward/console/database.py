"""`--db URL` as Django's own description of a database, with the promises that status needs.

SQLite: WAL; synchronous=FULL, since an acknowledged event must survive power loss (P7); every
transaction is IMMEDIATE, so that two writers wait for each other instead of failing half-way.
PostgreSQL: a pool of psycopg's, for which Django must not keep connections by itself.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from fleetward.errors import ConfigurationError

BUSY_SECONDS = 20.0
"""How long a writer waits for another before it gives up (accident: a long batch)."""

POOL_CONNECTIONS = 20
"""Connections of one console to PostgreSQL, at most (accident: exhausting max_connections)."""

POOL_SECONDS = 10.0
"""How long a request waits for a connection before it fails."""

_PRAGMAS = (
    "PRAGMA journal_mode=WAL;"
    "PRAGMA synchronous=FULL;"
    "PRAGMA foreign_keys=ON;"
    "PRAGMA cache_size=-65536;"
    "PRAGMA temp_store=MEMORY;"
)


@dataclass(frozen=True, slots=True)
class Database:
    """A database that the console may use.

    Attributes:
        django: its entry in Django's DATABASES.
        file: SQLite's file; None for PostgreSQL.
    """

    django: dict[str, Any]
    file: Path | None


def parse_database(url: str) -> Database:
    """Return the database that a URL names.

    Args:
        url: `sqlite:///relative.db`, `sqlite:////absolute.db`, or `postgresql://` as libpq reads it.

    Raises:
        ConfigurationError: another form.
    """
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        return sqlite_database(Path(_sqlite_path(url)).absolute())
    if scheme in {"postgresql", "postgres"}:
        return _postgresql_database(url)
    raise ConfigurationError(
        f"{url!r} names no database: write sqlite:///console.db or postgresql://host/name"
    )


def _sqlite_path(url: str) -> str:
    parts = urlsplit(url)
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path:
        raise ConfigurationError(f"{url!r}: write three slashes and a path, sqlite:///console.db")
    return path


def sqlite_database(path: Path) -> Database:
    """Return the SQLite database in the file at `path`."""
    return Database(
        {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(path),
            "OPTIONS": {
                "timeout": BUSY_SECONDS,
                "transaction_mode": "IMMEDIATE",
                "init_command": _PRAGMAS,
            },
        },
        path,
    )


def _postgresql_database(url: str) -> Database:
    try:
        given = {key: str(value) for key, value in conninfo_to_dict(url).items() if value}
    except ProgrammingError as error:
        raise ConfigurationError(f"libpq cannot read the database's URL: {error}") from error
    pool = {"min_size": 1, "max_size": POOL_CONNECTIONS, "timeout": POOL_SECONDS}
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST"}
    entry: dict[str, Any] = {
        "ENGINE": "django.db.backends.postgresql",
        "CONN_MAX_AGE": 0,
        "PORT": given.pop("port", ""),
    }
    for libpq, django in names.items():
        entry[django] = given.pop(libpq, "")
    return Database(entry | {"OPTIONS": {**given, "pool": pool}}, None)
