"""The store's side of ingest: what is known of hosts, in; what a batch changed, out.

Invariants: one batch is one transaction, which is durable when `store` returns (SQLite with
synchronous=FULL, PostgreSQL with synchronous_commit on); on PostgreSQL the keys of a batch are
locked, so that replicas do not rule on one host at the same time.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.db import connection, transaction

from fleetward.console.fleet.models import Directive, Host, ProductState, Transition
from fleetward.console.fleet.standings import LIVE_DIRECTIVES, DirectiveState, HostStanding
from fleetward.console.ingest.bulk import (
    Row,
    Table,
    instant,
    maybe_instant,
    rows_among,
    write,
)
from fleetward.console.ingest.deciding import (
    Answered,
    Changes,
    Delivery,
    KeptCheckIn,
    KnownKey,
    NewEvent,
    NewStatus,
    PresenceRow,
    StoredDigests,
    Verdict,
    content_of,
    decide,
    events_wanted,
)
from fleetward.console.ingest.opening import Opened, OpenedProduct
from fleetward.core.checkins import Clock, Epoch
from fleetward.core.digest import Sha256

_MILLISECOND: Final = timedelta(milliseconds=1)

_PRESENCE: Final = Table(
    "fleet_presence",
    (
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
    ),
    ("key_id",),
    replaces=True,
)
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

_KEYS: Final = """
SELECT k.id, k.key, k.standing, k.host_id, h.standing, h.cloned,
       p.epoch, p.greatest_n, p.digest, p.first_sent, p.newest_sent, p.contiguous_e, p.greatest_e,
       p.seen, p.received, p.offset_ms, p.measured, p.peer, p.relay, p.clock,
       p.tuf_root, p.tuf_timestamp, p.tuf_snapshot, p.listeners, p.unexpected, p.ports,
       p.content, p.kept, p.inbox_seq
FROM fleet_hostkey k JOIN fleet_host h ON h.id = k.host_id
LEFT JOIN fleet_presence p ON p.key_id = k.id
WHERE k.key {among} ORDER BY k.id
"""
_RETIRED_OF: Final = """
SELECT key_id, epoch, greatest_n, digest, first_sent, newest_sent, contiguous_e, greatest_e
FROM fleet_retiredepoch WHERE key_id {among}
"""
_EVENTS_OF: Final = "SELECT key_id, epoch, e, digest FROM fleet_event WHERE key_id {among}"

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
        known = _load(opened.host for opened in said)
        stored = _load_events(events_wanted(known, said))
        changes = decide(batch, known, stored, now)
        _write(changes, now)
    return changes.verdicts


# -- in ----------------------------------------------------------------------------------------------


def _load(hosts: Iterable[str]) -> dict[str, KnownKey]:
    query = _KEYS
    if connection.vendor == "postgresql":
        query += " FOR UPDATE OF k"
    known = {row[1]: _known(row) for row in rows_among(query, dict.fromkeys(hosts))}
    by_pk = {key.pk: key for key in known.values() if key.presence}
    for row in rows_among(_RETIRED_OF, by_pk):
        by_pk[row[0]].retired[row[1]] = _epoch(row[1:])
    return known


def _known(row: tuple[object, ...]) -> KnownKey:
    pk, _, standing, host, host_standing, cloned, *rest = row
    key = KnownKey(pk, host, standing, host_standing, maybe_instant(cloned))  # type: ignore[arg-type]
    if rest[0] is not None:
        key.presence = _presence(rest)
    return key


def _presence(row: list[object]) -> PresenceRow:
    seen, received, offset, measured, peer, relay, clock = row[7:14]
    root, timestamp, snapshot, listeners, unexpected, ports, content, kept, seq = row[14:]
    return PresenceRow(
        epoch=_epoch(tuple(row[:7])),
        seen=instant(seen),
        received=instant(received),
        clock=Clock(offset * _MILLISECOND, instant(measured)),  # type: ignore[operator]
        peer=peer,  # type: ignore[arg-type]
        relay=relay,  # type: ignore[arg-type]
        said_clock=clock,  # type: ignore[arg-type]
        tuf=(root, timestamp, snapshot),  # type: ignore[arg-type]
        ports=None if listeners is None else (listeners, unexpected, ports),  # type: ignore[arg-type]
        content=content,  # type: ignore[arg-type]
        kept=maybe_instant(kept),
        inbox_seq=seq,  # type: ignore[arg-type]
    )


def _epoch(row: tuple[object, ...]) -> Epoch:
    epoch, n, digest, first, newest, contiguous, greatest = row
    return Epoch(
        epoch,  # type: ignore[arg-type]
        n,  # type: ignore[arg-type]
        Sha256(digest),  # type: ignore[arg-type]
        instant(first),
        instant(newest),
        contiguous,  # type: ignore[arg-type]
        greatest,  # type: ignore[arg-type]
    )


def _load_events(wanted: set[tuple[int, str, int]]) -> StoredDigests:
    stored: StoredDigests = {}
    if not wanted:
        return stored
    least, most = min(e for _, _, e in wanted), max(e for _, _, e in wanted)
    query = f"{_EVENTS_OF} AND e BETWEEN {least:d} AND {most:d}"
    for key, epoch, e, digest in rows_among(query, {key for key, _, _ in wanted}):
        if (key, epoch, e) in wanted:
            stored.setdefault((key, epoch, e), set()).add(Sha256(digest))
    return stored


# -- out ---------------------------------------------------------------------------------------------


def _write(changes: Changes, now: datetime) -> None:
    write(_PRESENCE, [_presence_row(key) for key in changes.keys.values()])
    write(
        _RETIRED,
        [(key, *_epoch_row(epoch)) for (key, _), epoch in changes.retired.items()],
    )
    write(_CHECK_IN, [_check_in_row(kept) for kept in changes.kept])
    write(_EVENT, [_event_row(new, now) for new in changes.events])
    _write_statuses(changes.statuses)
    for answer in changes.answered:
        _write_answer(answer, now)
    for host, (sign, at) in changes.clones.items():
        Host.objects.filter(pk=host).update(clone_sign=sign[:200], cloned=at)
    _move(changes.returned, HostStanding.RETIRED, HostStanding.ACTIVE, now)
    _move(changes.left, HostStanding.ACTIVE, HostStanding.RETIRED, now)
    _forget_epochs(changes)


def _move(hosts: set[int], before: HostStanding, after: HostStanding, now: datetime) -> None:
    if hosts:
        found = Host.objects.filter(pk__in=hosts, standing=before)
        found.update(standing=after, standing_since=now)


def _presence_row(key: KnownKey) -> Row:
    row = key.presence
    if row is None:
        raise AssertionError("only keys with a presence are written")
    listeners, unexpected, ports = row.ports or (None, None, "")
    return (
        key.pk,
        *_epoch_row(row.epoch),
        row.seen,
        row.received,
        row.clock.offset // _MILLISECOND,
        row.clock.measured,
        row.peer,
        row.relay,
        row.said_clock,
        *row.tuf,
        listeners,
        unexpected,
        ports,
        row.content,
        row.kept,
        row.inbox_seq,
    )


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
        _instant_of(said.sent),
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
        _instant_of(event.at),
        now,
        event.kind,
        event.product,
        event.release,
        event.subject,
        event.detail,
    )


def _instant_of(seconds: int) -> datetime:
    return EPOCH_START + timedelta(seconds=seconds)


EPOCH_START: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _write_statuses(statuses: list[NewStatus]) -> None:
    """Write what hosts run now, and a transition for each product that changed."""
    if not statuses:
        return
    before = {
        (state.host_id, state.product): state
        for state in ProductState.objects.filter(host_id__in={s.host for s in statuses})
    }
    transitions: list[Transition] = []
    states: dict[tuple[int, str], ProductState] = {}
    gone: set[int] = set()
    for status in statuses:
        for product in status.products:
            place = (status.host, product.product)
            known = before.get(place)
            new = _state(status, product, known)
            if known is None or _differs(known, new):
                transitions.append(_transition(status, known, new))
            before[place] = states[place] = new
        there = {product.product for product in status.products}
        left = [
            s for (host, name), s in before.items() if host == status.host and name not in there
        ]
        for state in left:
            transitions.append(_left(status, state))
            before.pop((state.host_id, state.product))
            states.pop((state.host_id, state.product), None)
            if state.pk:
                gone.add(state.pk)
    ProductState.objects.filter(pk__in=gone).delete()
    ProductState.objects.bulk_create(
        states.values(),
        update_conflicts=True,
        unique_fields=["host", "product"],
        update_fields=["channel", "release", "seq", "state", "tree", "wave", "since"],
    )
    Transition.objects.bulk_create(transitions)


def _state(status: NewStatus, product: OpenedProduct, known: ProductState | None) -> ProductState:
    new = ProductState(
        host_id=status.host,
        product=product.product,
        channel=product.channel,
        release=product.release,
        seq=product.seq,
        state=product.state,
        tree=product.tree,
        wave=product.wave,
        since=status.at,
    )
    if known is not None and not _differs(known, new):
        new.since = known.since
    return new


def _differs(known: ProductState, new: ProductState) -> bool:
    return (known.release, known.state, known.tree) != (new.release, new.state, new.tree)


def _transition(status: NewStatus, known: ProductState | None, new: ProductState) -> Transition:
    return Transition(
        host_id=status.host,
        at=status.at,
        product=new.product,
        release_before=known.release if known else "",
        state_before=known.state if known else "",
        release=new.release,
        seq=new.seq,
        state=new.state,
    )


def _left(status: NewStatus, known: ProductState) -> Transition:
    return Transition(
        host_id=status.host,
        at=status.at,
        product=known.product,
        release_before=known.release,
        state_before=known.state,
        state="left",
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
