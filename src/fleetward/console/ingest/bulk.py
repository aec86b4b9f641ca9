"""Many rows in one statement, the same way for SQLite and PostgreSQL.

SQLite takes them by `executemany`; PostgreSQL takes one JSON document and spreads it by
`json_to_recordset`, which costs a tenth of as many statements. Both add or replace (an "upsert"),
both take names of tables and columns from this code alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from django.db import connection

Value = str | int | bytes | datetime | None
Row = tuple[Value, ...]

_ENCODER: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is written in bulk.

    Attributes:
        name: of the table.
        columns: with PostgreSQL's types.
        conflict: the columns of the unique constraint that tells rows apart; empty for none.
        replaces: whether a row that is there is replaced, or kept.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    conflict: tuple[str, ...] = ()
    replaces: bool = False

    def _head(self) -> str:
        return f"INSERT INTO {self.name} ({', '.join(name for name, _ in self.columns)}) "

    def _tail(self) -> str:
        if not self.conflict:
            return ""
        changed = [name for name, _ in self.columns if name not in self.conflict]
        changes = ", ".join(f"{name} = excluded.{name}" for name in changed)
        act = f"UPDATE SET {changes}" if self.replaces else "NOTHING"
        return f" ON CONFLICT ({', '.join(self.conflict)}) DO {act}"

    def for_sqlite(self) -> str:
        """Return the statement that takes one row."""
        places = ", ".join("%s" for _ in self.columns)
        return f"{self._head()}VALUES ({places}){self._tail()}"

    def for_postgresql(self) -> str:
        """Return the statement that takes a JSON list of objects."""
        names = ", ".join(_unpacked(name, kind) for name, kind in self.columns)
        record = ", ".join(f"{name} {_carried(kind)}" for name, kind in self.columns)
        spread = f"SELECT {names} FROM json_to_recordset(%s::json) AS r({record})"  # noqa: S608 (names of this module's callers)
        return f"{self._head()}{spread}{self._tail()}"


def _carried(kind: str) -> str:
    return "text" if kind == "bytea" else kind


def _unpacked(name: str, kind: str) -> str:
    return f"decode(r.{name}, 'hex')" if kind == "bytea" else f"r.{name}"


def write(table: Table, rows: Sequence[Row]) -> None:
    """Add rows, and replace or keep those that are there; inside the caller's transaction."""
    if not rows:
        return
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            names = [name for name, _ in table.columns]
            records = [dict(zip(names, map(_for_json, row), strict=True)) for row in rows]
            cursor.execute(table.for_postgresql(), [_ENCODER.encode(records).decode()])
        else:
            cursor.executemany(table.for_sqlite(), [tuple(map(_for_sqlite, row)) for row in rows])


def _for_json(value: Value) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _for_sqlite(value: Value) -> str | int | bytes | None:
    if not isinstance(value, datetime):
        return value
    aware = value if value.tzinfo is UTC else value.astimezone(UTC)
    return aware.isoformat(" ")[: -len("+00:00")]  # as Django writes it: naive, in UTC


def instant(value: Any) -> datetime:  # noqa: ANN401 (a driver's value)
    """Return an instant of a raw query: PostgreSQL's is aware, SQLite's is naive and in UTC."""
    found: datetime = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def maybe_instant(value: Any) -> datetime | None:  # noqa: ANN401 (a driver's value)
    """Return an instant, or None for NULL."""
    return None if value is None else instant(value)


def rows_among(query: str, values: Iterable[str | int]) -> list[tuple[Any, ...]]:
    """Return the rows of a query about many values.

    Args:
        query: with `{among}` where the values stand, as in `k.key {among}`.
        values: texts or numbers.
    """
    wanted = list(values)
    if not wanted:
        return []
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(query.format(among="= ANY(%s)"), [wanted])
        else:
            among = "IN (SELECT value FROM json_each(%s))"
            cursor.execute(query.format(among=among), [_ENCODER.encode(wanted).decode()])
        return list(cursor.fetchall())
