"""Many rows in one statement, the same way for SQLite and PostgreSQL.

SQLite takes them by `executemany`; PostgreSQL takes one JSON document and spreads it by
`json_to_recordset`, which costs a tenth of as many statements. What is read comes from PostgreSQL
as one JSON document too, since its driver turns each value of each row into Python's by itself.
Names of tables and columns come from this code alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
from django.db import connection

from fleetward.wire.preparing import prepared

Value = str | int | bytes | datetime | None
Row = tuple[Value, ...]
_Row = TypeVar("_Row", bound=msgspec.Struct)

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

    def for_sqlite(self) -> str:
        """Return the statement that takes one row."""
        places = ", ".join("%s" for _ in self.columns)
        return f"{self._head()}VALUES ({places}){self._tail()}"

    def for_postgresql(self) -> str:
        """Return the statement that takes a JSON list of objects."""
        names = ", ".join(_unpacked(name, kind) for name, kind in self.columns)
        spread = f"SELECT {names} FROM {_recordset(self.columns)}"  # noqa: S608 (names of this module's callers)
        return f"{self._head()}{spread}{self._tail()}"

    def _head(self) -> str:
        return f"INSERT INTO {self.name} ({', '.join(name for name, _ in self.columns)}) "

    def _tail(self) -> str:
        if not self.conflict:
            return ""
        changed = [name for name, _ in self.columns if name not in self.conflict]
        changes = ", ".join(f"{name} = excluded.{name}" for name in changed)
        act = f"UPDATE SET {changes}" if self.replaces else "NOTHING"
        return f" ON CONFLICT ({', '.join(self.conflict)}) DO {act}"


@dataclass(frozen=True, slots=True)
class Columns:
    """Some columns of a table, written over rows that are there.

    Attributes:
        name: of the table.
        columns: with PostgreSQL's types; the last one names the row.
    """

    name: str
    columns: tuple[tuple[str, str], ...]

    def for_sqlite(self) -> str:
        """Return the statement that changes one row."""
        changes = ", ".join(f"{name} = %s" for name, _ in self.columns[:-1])
        return f"UPDATE {self.name} SET {changes} WHERE {self.columns[-1][0]} = %s"  # noqa: S608 (as above)

    def for_postgresql(self) -> str:
        """Return the statement that takes a JSON list of objects."""
        changes = ", ".join(f"{name} = {_unpacked(name, kind)}" for name, kind in self.columns[:-1])
        key = self.columns[-1][0]
        return (
            f"UPDATE {self.name} AS t SET {changes} "  # noqa: S608 (as above)
            f"FROM {_recordset(self.columns)} WHERE t.{key} = r.{key}"
        )


def _recordset(columns: tuple[tuple[str, str], ...]) -> str:
    record = ", ".join(f"{name} {_carried(kind)}" for name, kind in columns)
    return f"json_to_recordset(%s::json) AS r({record})"


def _carried(kind: str) -> str:
    return "text" if kind == "bytea" else kind


def _unpacked(name: str, kind: str) -> str:
    return f"decode(r.{name}, 'hex')" if kind == "bytea" else f"r.{name}"


def write(table: Table | Columns, rows: Sequence[Row]) -> None:
    """Write rows, as `table` says what becomes of those that are there; in the caller's transaction."""
    if not rows:
        return
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            names = [name for name, _ in table.columns]
            packed = [place for place, (_, kind) in enumerate(table.columns) if kind == "bytea"]
            records = [dict(zip(names, _each(row, packed, _hex), strict=True)) for row in rows]
            cursor.execute(table.for_postgresql(), [_ENCODER.encode(records).decode()])
        else:
            dated = [place for place, (_, kind) in enumerate(table.columns) if kind == _INSTANT]
            cursor.executemany(table.for_sqlite(), [_each(row, dated, _text) for row in rows])


_INSTANT: Final = "timestamptz"


def _each(row: Row, places: Sequence[int], turn: Any) -> Sequence[Value]:  # noqa: ANN401 (of one value each)
    if not places:
        return row
    turned = list(row)
    for place in places:
        value = turned[place]
        if value is not None:
            turned[place] = turn(value)
    return turned


def _hex(value: bytes) -> str:
    return value.hex()


def _text(value: datetime) -> str:
    aware = value if value.tzinfo is UTC else value.astimezone(UTC)
    return aware.isoformat(" ")[:-6]  # as Django writes it: naive, in UTC


@dataclass(frozen=True, slots=True)
class Query:
    """What is read in bulk.

    Attributes:
        columns: expressions, with PostgreSQL's types; in the order of the fields of its rows.
        rest: from FROM on, with `{among}` where the values stand, as in `k.key {among}`.
        locks: rows that stay locked until the transaction ends, on PostgreSQL; empty for none.
    """

    columns: tuple[tuple[str, str], ...]
    rest: str
    locks: str = ""

    def for_sqlite(self) -> str:
        """Return the statement that gives rows; instants as text that says that it is UTC."""
        # An expression is not a column, so that Django's converters leave it alone.
        given = (f"{c} || 'Z'" if kind == _INSTANT else c for c, kind in self.columns)
        among = "IN (SELECT value FROM json_each(%s))"
        return f"SELECT {', '.join(given)} {self.rest.format(among=among)}"

    def for_postgresql(self) -> str:
        """Return the statement that gives one JSON list of lists."""
        names = ", ".join(f"c{place}" for place in range(len(self.columns)))
        columns = ", ".join(f"{c} AS c{place}" for place, (c, _) in enumerate(self.columns))
        rows = f"SELECT {columns} {self.rest.format(among='= ANY(%s)')} {self.locks}"
        return f"SELECT coalesce(json_agg(json_build_array({names})), '[]')::text FROM ({rows}) q"  # noqa: S608 (as above)


def rows_among(query: Query, values: Iterable[str | int], kind: type[_Row]) -> list[_Row]:
    """Return the rows of a query about many values.

    Args:
        query: what is asked.
        values: texts or numbers.
        kind: of a row: a struct that is like an array.
    """
    wanted = list(values)
    if not wanted:
        return []
    prepared(kind)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(query.for_postgresql(), [wanted])
            found = cursor.fetchone()
            return msgspec.json.decode(found[0] if found else "[]", type=list[kind])  # type: ignore[valid-type]
        cursor.execute(query.for_sqlite(), [_ENCODER.encode(wanted).decode()])
        return msgspec.convert(cursor.fetchall(), list[kind])  # type: ignore[valid-type]
