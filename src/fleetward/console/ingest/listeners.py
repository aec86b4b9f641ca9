"""Bringing what listens up to date, in the transaction that stores the events.

A batch without an event of the port watch and without an answer costs nothing. Names of tables
stand here as in `ingest.storing`; no model is needed to take a check-in.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Final

import msgspec

from fleetward.console.fleet.models import Directive
from fleetward.console.ingest.bulk import Query, Table, rows_among, write
from fleetward.console.ingest.rows import NewEvent, instant_of
from fleetward.console.ports.deciding import (
    LISTENER_KINDS,
    MAX_LISTENERS,
    Kept,
    ListenerRow,
    Told,
    rows_of,
)
from fleetward.core.inbox import DirectiveKind
from fleetward.core.status import EventKind

_COLUMNS: Final = (
    ("key_id", "bigint"),
    ("host_id", "bigint"),
    ("protocol", "text"),
    ("port", "bigint"),
    ("reach", "text"),
    ("sha256", "text"),
    ("unit", "text"),
    ("container", "text"),
    ("name", "text"),
    ("path", "text"),
    ("verdict", "text"),
    ("reasons", "text"),
    ("is_open", "boolean"),
    ("first_seen", "timestamptz"),
    ("at", "timestamptz"),
    ("epoch", "text"),
    ("e", "bigint"),
)
_UNIQUE: Final = ("key_id", "port", "protocol", "reach", "sha256", "unit", "container")
_LISTENER: Final = Table(
    "ports_listener", (*_COLUMNS, ("stored", "timestamptz")), _UNIQUE, replaces=True
)
_READ: Final = tuple(
    ("CASE WHEN is_open THEN 1 ELSE 0 END", "bigint") if name == "is_open" else (name, kind)
    for name, kind in _COLUMNS
)
_COUNTS: Final = Query(
    (("key_id", "bigint"), ("COUNT(*)", "bigint")),
    "FROM ports_listener WHERE key_id {among} GROUP BY key_id",
)

_MOST_PORTS: Final = 500
"""Ports that one query names; of more, all rows of the keys are read."""


class _CountRow(msgspec.Struct, array_like=True, gc=False):
    key: int
    rows: int


def take_listeners(events: Sequence[NewEvent], active: Collection[int], now: datetime) -> None:
    """Take what new events say of listeners; in the caller's transaction.

    Args:
        events: that are stored in this transaction, each for the first time.
        active: primary keys of the keys that hosts report with; what others say is history alone.
        now: the console's clock.
    """
    told = _told(events, active)
    if not told:
        return
    kept = _load(told)
    changed: list[ListenerRow] = []
    for key, one in groupby(sorted(told, key=attrgetter("key")), attrgetter("key")):
        changed += kept[key].take(one)
    write(_LISTENER, [(*msgspec.structs.astuple(row), now) for row in changed])


def _told(events: Iterable[NewEvent], active: Collection[int]) -> list[Told]:
    found = [
        Told(
            new.key,
            new.host,
            new.epoch,
            new.event.e,
            instant_of(new.event.at),
            new.event.kind,
            new.event.subject,
            new.event.detail,
        )
        for new in events
        if (new.event.kind in LISTENER_KINDS or new.event.kind == EventKind.DIRECTIVE_DONE)
        and new.key in active
    ]
    answers = [one for one in found if one.kind == EventKind.DIRECTIVE_DONE]
    if not answers:
        return found
    asked = set(
        Directive.objects.filter(
            directive__in={one.subject for one in answers}, kind=DirectiveKind.LIST_PORTS
        ).values_list("host_id", "directive")
    )
    return [one for one in found if one.kind in LISTENER_KINDS or (one.host, one.subject) in asked]


def _load(told: list[Told]) -> dict[int, Kept]:
    """Return what is kept of each key, as far as `told` concerns it."""
    keys = {one.key for one in told}
    room = dict.fromkeys(keys, MAX_LISTENERS)
    for count in rows_among(_COUNTS, keys, _CountRow):
        room[count.key] -= count.rows
    kept = {key: Kept({}, room[key]) for key in keys}
    ports = {row.port for one in told for row in rows_of(one)} | {0}
    listing = {one.key for one in told if one.kind == EventKind.DIRECTIVE_DONE}
    for row in [*_rows(keys, ports), *_open_rows(listing)]:
        kept[row.key].rows.setdefault(row.identity, row)
    return kept


def _rows(keys: set[int], ports: set[int]) -> list[ListenerRow]:
    among = f" AND port IN ({', '.join(map(str, sorted(ports)))})"
    rest = "FROM ports_listener WHERE key_id {among}"
    return rows_among(
        Query(_READ, rest + (among if len(ports) <= _MOST_PORTS else "")), keys, ListenerRow
    )


def _open_rows(keys: set[int]) -> list[ListenerRow]:
    rest = "FROM ports_listener WHERE key_id {among} AND is_open"
    return rows_among(Query(_READ, rest), keys, ListenerRow)
