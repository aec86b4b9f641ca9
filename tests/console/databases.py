"""A database for the real program: SQLite, or PostgreSQL where the suite runs on it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg

from console.conftest import DATABASE


@contextmanager
def a_database(folder: Path) -> Iterator[str]:
    """Give the URL of an empty database of its own."""
    if not DATABASE:
        yield f"sqlite:///{folder}/console.db"
        return
    with on_postgresql(DATABASE) as url:
        yield url


@contextmanager
def on_postgresql(server: str) -> Iterator[str]:
    """Give the URL of an empty database of the server at `server`; it is dropped at the end."""
    name = f"console_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        try:
            yield re.sub(r"/[^/?]*(\?|$)", rf"/{name}\1", server, count=1)
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
