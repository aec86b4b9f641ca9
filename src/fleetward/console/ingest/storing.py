"""The store's side of ingest: what is known of hosts, in; what a batch changed, out.

Invariants: one batch is one transaction, which is durable when `store` returns (SQLite with
synchronous=FULL, PostgreSQL with synchronous_commit on); on PostgreSQL the keys of a batch are
locked, so that replicas do not rule on one host at the same time.
"""

from datetime import datetime
from operator import attrgetter
from typing import Final

import msgspec
from django.db import connection, transaction

from fleetward.console.fleet.models import Directive, Host
from fleetward.console.fleet.standings import (
    LIVE_DIRECTIVES,
    DirectiveState,
    HostStanding,
    KeyStanding,
)
from fleetward.console.ingest.bulk import Columns, Query, Row, Table, rows_among, write
from fleetward.console.ingest.deciding import decide, events_wanted
from fleetward.console.ingest.listeners import take_listeners
from fleetward.console.ingest.opening import Opened
from fleetward.console.ingest.rows import (
    Answered,
    Changes,
    Delivery,
    KeptCheckIn,
    KnownKey,
    NewEvent,
    PresenceRow,
    StoredDigests,
    Verdict,
    content_of,
    instant_of,
)
from fleetward.console.ingest.statuses import write_statuses
from fleetward.core.checkins import Epoch
from fleetward.core.digest import Sha256

_PRESENCE_COLUMNS: Final = (
    ("key_id", "bigint"),
    ("epoch", "text"),
    ("greatest_n", "bigint"),
    ("digest", "text"),
    ("first_sent", "timestamptz"),
    ("newest_sent", "timestamptz"),
    ("contiguous_e", "bigint"),
    ("greatest_e", "bigint"),
    ("seen", "timestamptz"),
    ("received", "timestamptz"),
    ("offset_ms", "bigint"),
    ("measured", "timestamptz"),
    ("peer", "text"),
    ("relay", "text"),
    ("clock", "bigint"),
    ("tuf_root", "bigint"),
    ("tuf_timestamp", "bigint"),
    ("tuf_snapshot", "bigint"),
    ("listeners", "bigint"),
    ("unexpected", "bigint"),
    ("ports", "text"),
    ("content", "text"),
    ("kept", "timestamptz"),
    ("inbox_seq", "bigint"),
)
_PRESENCE: Final = Table("fleet_presence", _PRESENCE_COLUMNS, ("key_id",), replaces=True)
_ADVANCED_NAMES: Final = (
    "greatest_n",
    "digest",
    "newest_sent",
    "seen",
    "received",
    "offset_ms",
    "measured",
    "peer",
    "relay",
    "clock",
    "tuf_root",
    "tuf_timestamp",
    "tuf_snapshot",
    "key_id",
)
"""What a usual check-in of a host that runs what it ran changes of its presence."""
_ADVANCED: Final = Columns(
    "fleet_presence", tuple((name, dict(_PRESENCE_COLUMNS)[name]) for name in _ADVANCED_NAMES)
)
_advanced_row: Final = attrgetter(*_ADVANCED_NAMES)

_RETIRED: Final = Table(
    "fleet_retiredepoch",
    (
        ("key_id", "bigint"),
        ("epoch", "text"),
        ("greatest_n", "bigint"),
        ("digest", "text"),
        ("first_sent", "timestamptz"),
        ("newest_sent", "timestamptz"),
        ("contiguous_e", "bigint"),
        ("greatest_e", "bigint"),
    ),
    ("key_id", "epoch"),
    replaces=True,
)
_CHECK_IN: Final = Table(
    "fleet_checkin",
    (
        ("key_id", "bigint"),
        ("epoch", "text"),
        ("n", "bigint"),
        ("sent", "timestamptz"),
        ("received", "timestamptz"),
        ("peer", "text"),
        ("standing", "text"),
        ("content", "bytea"),
        ("envelope", "bytea"),
    ),
)
_EVENT: Final = Table(
    "fleet_event",
    (
        ("key_id", "bigint"),
        ("host_id", "bigint"),
        ("epoch", "text"),
        ("e", "bigint"),
        ("digest", "text"),
        ("at", "timestamptz"),
        ("received", "timestamptz"),
        ("kind", "text"),
        ("product", "text"),
        ("release", "text"),
        ("subject", "text"),
        ("detail", "text"),
    ),
    ("key_id", "epoch", "e", "digest"),
)

_KEYS: Final = Query(
    (
        ("k.id", "bigint"),
        ("k.key", "text"),
        ("k.standing", "text"),
        ("k.host_id", "bigint"),
        ("h.standing", "text"),
        ("h.cloned", "timestamptz"),
    ),
    "FROM fleet_hostkey k JOIN fleet_host h ON h.id = k.host_id WHERE k.key {among} ORDER BY k.id",
    locks="FOR UPDATE OF k",
)
_PRESENCES_OF: Final = Query(_PRESENCE_COLUMNS, "FROM fleet_presence WHERE key_id {among}")
_RETIRED_OF: Final = Query(
    _RETIRED.columns,
    "FROM fleet_retiredepoch WHERE key_id {among}",
)
_EVENTS_OF: Final = (
    ("key_id", "bigint"),
    ("epoch", "text"),
    ("e", "bigint"),
    ("digest", "text"),
)

MAX_RETIRED: Final = 8
"""Epochs of one key that are kept beside the current one (a host that draws epochs without end)."""


def store(batch: list[tuple[Delivery, Opened | None]], now: datetime) -> list[Verdict]:
    """Store a batch durably and return what became of each envelope.

    Args:
        batch: each envelope with its content, None where it was malformed.
        now: the console's clock.
    """
    said = [opened for _, opened in batch if opened is not None]
    with transaction.atomic():
        known = _load(said)
        stored = _load_events(events_wanted(known, said))
        changes = decide(batch, known, stored, now)
        _write(changes, now)
    return changes.verdicts


# -- in ----------------------------------------------------------------------------------------------


class _RetiredRow(msgspec.Struct, array_like=True, gc=False):
    key: int
    epoch: str
    greatest_n: int
    digest: str
    first_sent: datetime
    newest_sent: datetime
    contiguous_e: int
    greatest_e: int


class _EventRow(msgspec.Struct, array_like=True, gc=False):
    key: int
    epoch: str
    e: int
    digest: str


def _load(said: list[Opened]) -> dict[str, KnownKey]:
    known = {key.key: key for key in rows_among(_KEYS, {one.host for one in said}, KnownKey)}
    by_pk = {key.pk: key for key in known.values()}
    for presence in rows_among(_PRESENCES_OF, by_pk, PresenceRow):
        by_pk[presence.key_id].presence = presence
    for row in rows_among(_RETIRED_OF, _of_other_epochs(known, said), _RetiredRow):
        by_pk[row.key].retired[row.epoch] = Epoch(
            row.epoch,
            row.greatest_n,
            Sha256(row.digest),
            row.first_sent,
            row.newest_sent,
            row.contiguous_e,
            row.greatest_e,
        )
    return known


def _of_other_epochs(known: dict[str, KnownKey], said: list[Opened]) -> set[int]:
    """Return keys with a check-in that is not of their current epoch, by primary key."""
    found: set[int] = set()
    for one in said:
        key = known.get(one.host)
        if key is not None and key.presence is not None and key.presence.epoch != one.epoch:
            found.add(key.pk)
    return found


def _load_events(wanted: set[tuple[int, str, int]]) -> StoredDigests:
    stored: StoredDigests = {}
    if not wanted:
        return stored
    least, most = min(e for _, _, e in wanted), max(e for _, _, e in wanted)
    rest = f"FROM fleet_event WHERE key_id {{among}} AND e BETWEEN {least:d} AND {most:d}"
    for row in rows_among(Query(_EVENTS_OF, rest), {key for key, _, _ in wanted}, _EventRow):
        place = (row.key, row.epoch, row.e)
        if place in wanted:
            stored.setdefault(place, set()).add(Sha256(row.digest))
    return stored


# -- out ---------------------------------------------------------------------------------------------


def _write(changes: Changes, now: datetime) -> None:
    written = [key.presence for key in changes.keys.values() if key.presence is not None]
    write(_PRESENCE, [msgspec.structs.astuple(presence) for presence in written])
    advanced = [row for pk, row in changes.advanced.items() if pk not in changes.keys]
    write(_ADVANCED, [_advanced_row(presence) for presence in advanced])
    write(
        _RETIRED,
        [(key, *_epoch_row(epoch)) for (key, _), epoch in changes.retired.items()],
    )
    write(_CHECK_IN, [_check_in_row(kept) for kept in changes.kept])
    write(_EVENT, [_event_row(new, now) for new in changes.events])
    if changes.events:
        take_listeners(changes.events, _active(changes), now)
    write_statuses(changes.statuses)
    for answer in changes.answered:
        _write_answer(answer, now)
    for host, (sign, at) in changes.clones.items():
        Host.objects.filter(pk=host).update(clone_sign=sign[:200], cloned=at)
    _move(changes.returned, HostStanding.RETIRED, HostStanding.ACTIVE, now)
    _move(changes.left, HostStanding.ACTIVE, HostStanding.RETIRED, now)
    _forget_epochs(changes)


def _active(changes: Changes) -> set[int]:
    return {pk for pk, key in changes.keys.items() if key.standing == KeyStanding.ACTIVE}


def _move(hosts: set[int], before: HostStanding, after: HostStanding, now: datetime) -> None:
    if hosts:
        found = Host.objects.filter(pk__in=hosts, standing=before)
        found.update(standing=after, standing_since=now)


def _epoch_row(epoch: Epoch) -> Row:
    return (
        epoch.epoch,
        epoch.greatest_n,
        epoch.digest,
        epoch.first_sent,
        epoch.newest_sent,
        epoch.contiguous_e,
        epoch.greatest_e,
    )


def _check_in_row(kept: KeptCheckIn) -> Row:
    said, delivery = kept.said, kept.delivery
    return (
        kept.key,
        said.epoch,
        said.n,
        instant_of(said.sent),
        delivery.received,
        delivery.peer,
        kept.standing.value,
        content_of(said),
        delivery.envelope if kept.proves else None,
    )


def _event_row(new: NewEvent, now: datetime) -> Row:
    event = new.event
    return (
        new.key,
        new.host,
        new.epoch,
        event.e,
        event.digest,
        instant_of(event.at),
        now,
        event.kind,
        event.product,
        event.release,
        event.subject,
        event.detail,
    )


def _write_answer(answer: Answered, now: datetime) -> None:
    state = DirectiveState.DONE if answer.is_done else DirectiveState.REFUSED
    Directive.objects.filter(
        host_id=answer.host,
        directive=answer.directive,
        state__in=[*LIVE_DIRECTIVES, DirectiveState.EXPIRED],
    ).update(state=state, answered=now, answer=answer.detail)


def _forget_epochs(changes: Changes) -> None:
    for pk in {key for key, _ in changes.retired}:
        retired = changes.keys[pk].retired if pk in changes.keys else {}
        if len(retired) > MAX_RETIRED:
            oldest = sorted(retired.values(), key=lambda epoch: epoch.newest_sent)[:-MAX_RETIRED]
            with connection.cursor() as cursor:
                cursor.executemany(
                    "DELETE FROM fleet_retiredepoch WHERE key_id = %s AND epoch = %s",
                    [(pk, epoch.epoch) for epoch in oldest],
                )
