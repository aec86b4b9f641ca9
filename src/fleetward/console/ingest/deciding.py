"""What a batch of opened check-ins changes: from what is known of hosts to rows; pure.

`core.checkins` rules on each check-in; here several of one host in a batch follow each other, and
the rulings become rows of `fleet.models`. Nothing is read or written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

import msgspec

from fleetward.console.fleet.numbering import next_inbox
from fleetward.console.fleet.standings import HostStanding, KeyStanding
from fleetward.console.ingest.opening import Opened, OpenedEvent, OpenedProduct
from fleetward.core.checkins import (
    Arrival,
    Clock,
    CloneSign,
    Epoch,
    EventMark,
    Known,
    Ruling,
    Standing,
    rule,
    wanted,
)
from fleetward.core.digest import Sha256
from fleetward.core.status import EventKind

KEEP_EVERY: Final = timedelta(minutes=10)
"""A check-in that says nothing new is kept whole only so often (accident: a full disk)."""

CLONE_EVERY: Final = timedelta(minutes=10)
"""How often a host that looks like two is written down anew."""

_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ENCODER: Final = msgspec.json.Encoder()


class Verdict(Enum):
    """What became of one envelope."""

    STORED = "stored"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    PENDING = "pending"
    REVOKED = "revoked"


@dataclass(slots=True)
class KnownKey:
    """What is known of a key, and kept up to date through a batch.

    Attributes:
        pk: of the key's row.
        host: the primary key of its record.
        standing: of the key.
        host_standing: of the record.
        presence: its newest, or None before its first check-in.
        retired: its other epochs.
        contents: whether a clone was written down, and when.
    """

    pk: int
    host: int
    standing: str
    host_standing: str
    cloned: datetime | None = None
    presence: "PresenceRow | None" = None
    retired: dict[str, Epoch] = field(default_factory=dict)


@dataclass(slots=True)
class PresenceRow:
    """A row of `Presence`; attributes as there."""

    epoch: Epoch
    seen: datetime
    received: datetime
    clock: Clock
    peer: str = ""
    relay: str = ""
    said_clock: int | None = None
    tuf: tuple[int, int, int] = (0, 0, 0)
    ports: tuple[int, int, str] | None = None
    content: str = ""
    kept: datetime | None = None
    inbox_seq: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """An envelope on its way in.

    Attributes:
        envelope: its bytes.
        received: when whoever took it first got it, never after the console's own clock.
        peer: from which address.
    """

    envelope: bytes
    received: datetime
    peer: str


@dataclass(frozen=True, slots=True)
class KeptCheckIn:
    """A row of `CheckIn`."""

    key: int
    said: Opened
    delivery: Delivery
    standing: Standing
    proves: bool


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A row of `Event`."""

    key: int
    host: int
    epoch: str
    event: OpenedEvent


@dataclass(frozen=True, slots=True)
class NewStatus:
    """What a host runs now, which is not what it ran before."""

    host: int
    products: tuple[OpenedProduct, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class Answered:
    """A directive that a host has answered."""

    host: int
    directive: str
    is_done: bool
    detail: str


@dataclass(slots=True)
class Changes:
    """What a batch changes, in the order in which it is written.

    Attributes:
        verdicts: one for each envelope.
        keys: keys whose presence changed.
        retired: epochs that are not current, by key and name.
        kept: check-ins to keep whole.
        events: to be stored.
        statuses: the newest of each host whose status changed, after all before it.
        answered: directives.
        clones: why hosts look like two.
        returned: records that were decommissioned and report again.
        left: records whose hosts say that they leave.
    """

    verdicts: list[Verdict] = field(default_factory=list)
    keys: dict[int, KnownKey] = field(default_factory=dict)
    retired: dict[tuple[int, str], Epoch] = field(default_factory=dict)
    kept: list[KeptCheckIn] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)
    statuses: list[NewStatus] = field(default_factory=list)
    answered: list[Answered] = field(default_factory=list)
    clones: dict[int, tuple[str, datetime]] = field(default_factory=dict)
    returned: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)


StoredDigests = dict[tuple[int, str, int], set[Sha256]]
"""Digests of events that the store has, by key, epoch and number."""


def arrival_of(said: Opened, received: datetime) -> Arrival:
    """Return an opened check-in as `core.checkins` looks at it."""
    return Arrival(
        epoch=said.epoch,
        n=said.n,
        sent=_START + timedelta(seconds=said.sent),
        received=received,
        digest=Sha256(said.digest),
        events=tuple(EventMark(event.e, Sha256(event.digest)) for event in said.events),
    )


def events_wanted(known: Mapping[str, KnownKey], batch: list[Opened]) -> set[tuple[int, str, int]]:
    """Return which events' digests are to be looked up before `decide`.

    Args:
        known: by the key's id.
        batch: what was opened.
    """
    found: set[tuple[int, str, int]] = set()
    for said in batch:
        key = known.get(said.host)
        if key is not None and said.events:
            epoch = _epoch_of(key, said.epoch)
            numbers = wanted(epoch, arrival_of(said, _START))
            found |= {(key.pk, said.epoch, e) for e in numbers}
    return found


def decide(
    batch: list[tuple[Delivery, Opened | None]],
    known: Mapping[str, KnownKey],
    stored: StoredDigests,
    now: datetime,
) -> Changes:
    """Return what a batch changes; `known` and `stored` are brought up to date.

    Args:
        batch: each envelope with its content, None where it was malformed.
        known: by the key's id.
        stored: from the store, for `events_wanted`.
        now: the console's clock.
    """
    changes = Changes()
    for delivery, said in batch:
        key = known.get(said.host) if said else None
        verdict = _verdict(said, key)
        changes.verdicts.append(verdict)
        if verdict is Verdict.STORED and said is not None and key is not None:
            _Decision(changes, key, said, delivery, stored, now).take()
    return changes


def _verdict(said: Opened | None, key: KnownKey | None) -> Verdict:
    if said is None:
        return Verdict.MALFORMED
    if key is None:
        return Verdict.UNKNOWN
    if key.standing == KeyStanding.PENDING:
        return Verdict.PENDING
    is_out = key.standing in {KeyStanding.REVOKED, KeyStanding.REFUSED}
    return (
        Verdict.REVOKED if is_out or key.host_standing == HostStanding.REVOKED else Verdict.STORED
    )


def _epoch_of(key: KnownKey, epoch: str) -> Epoch | None:
    presence = key.presence
    if presence is not None and presence.epoch.epoch == epoch:
        return presence.epoch
    return key.retired.get(epoch)


@dataclass(slots=True)
class _Decision:
    """One check-in of a known host."""

    changes: Changes
    key: KnownKey
    said: Opened
    delivery: Delivery
    stored: StoredDigests
    now: datetime

    def take(self) -> None:
        key, said = self.key, self.said
        arrival = arrival_of(said, self.delivery.received)
        presence = key.presence
        known = Known(
            current=presence.epoch if presence else None,
            other=key.retired.get(said.epoch),
            clock=presence.clock if presence else None,
        )
        ruling = rule(known, arrival, self._stored(arrival))
        self._take_events(ruling)
        if presence is None:
            presence = PresenceRow(ruling.epoch, arrival.received, arrival.received, ruling.clock)
            key.presence = presence
        changed = self._take_status(ruling, presence)
        self._take_epoch(ruling, presence)
        self._keep(ruling, presence, changed=changed)
        if said.events or ruling.clones:  # whatever it acknowledges: the host waits for an answer
            presence.inbox_seq = next_inbox(presence.inbox_seq, self.now)
        if ruling.clones:
            self._note_clone(ruling.clones)
        if ruling.standing.takes_status:
            self._take_standing()
        self.changes.keys[key.pk] = key

    def _take_standing(self) -> None:
        """Retire a host that says it leaves, each time it says so; take back one that reports again."""
        key, changes = self.key, self.changes
        if any(event.kind == EventKind.LEFT for event in self.said.events):
            if key.host_standing == HostStanding.ACTIVE:
                key.host_standing = HostStanding.RETIRED
                changes.left.add(key.host)
                changes.returned.discard(key.host)
        elif key.host_standing == HostStanding.RETIRED:
            key.host_standing = HostStanding.ACTIVE
            changes.returned.add(key.host)
            changes.left.discard(key.host)

    def _stored(self, arrival: Arrival) -> dict[int, frozenset[Sha256]]:
        if not arrival.events:
            return {}
        numbers = wanted(_epoch_of(self.key, arrival.epoch), arrival)
        found = {e: self.stored.get((self.key.pk, arrival.epoch, e)) for e in numbers}
        return {e: frozenset(digests) for e, digests in found.items() if digests}

    def _take_events(self, ruling: Ruling) -> None:
        if not ruling.store:
            return
        by_mark = {(event.e, event.digest): event for event in self.said.events}
        for mark in ruling.store:
            event = by_mark[mark.e, mark.digest]
            place = (self.key.pk, self.said.epoch, mark.e)
            self.stored.setdefault(place, set()).add(mark.digest)
            self.changes.events.append(NewEvent(self.key.pk, self.key.host, self.said.epoch, event))
            if event.kind in _ANSWERS:
                done = event.kind == EventKind.DIRECTIVE_DONE
                self.changes.answered.append(
                    Answered(self.key.host, event.subject, done, event.detail)
                )

    def _take_status(self, ruling: Ruling, presence: PresenceRow) -> bool:
        if ruling.seen is None or self.key.standing != KeyStanding.ACTIVE:
            return False
        presence.seen = max(presence.seen, ruling.seen)
        presence.clock = ruling.clock
        said = self.said
        changed = presence.content != said.content
        presence.received = self.delivery.received
        presence.peer = self.delivery.peer
        presence.relay, presence.said_clock = said.relay, said.clock
        presence.tuf, presence.ports, presence.content = said.tuf, said.ports, said.content
        if changed:
            self.changes.statuses.append(NewStatus(self.key.host, said.products, ruling.seen))
        return changed

    def _take_epoch(self, ruling: Ruling, presence: PresenceRow) -> None:
        current, ruled = presence.epoch, ruling.epoch
        if ruled.epoch == current.epoch:
            presence.epoch = ruled
            return
        if ruling.standing.takes_status:
            self.key.retired.pop(ruled.epoch, None)
            presence.epoch, ruled = ruled, current
        self.key.retired[ruled.epoch] = ruled
        self.changes.retired[self.key.pk, ruled.epoch] = ruled

    def _keep(self, ruling: Ruling, presence: PresenceRow, *, changed: bool) -> None:
        received = self.delivery.received
        is_due = presence.kept is None or received - presence.kept >= KEEP_EVERY
        is_new = ruling.standing.takes_status and is_due
        proves = changed or bool(ruling.store) or bool(ruling.clones and is_due)
        if is_new or proves or ruling.standing in _ODD:
            presence.kept = max(received, presence.kept or received)
            self.changes.kept.append(
                KeptCheckIn(self.key.pk, self.said, self.delivery, ruling.standing, proves)
            )

    def _note_clone(self, signs: frozenset[CloneSign]) -> None:
        if self.key.cloned is None or self.now - self.key.cloned >= CLONE_EVERY:
            self.key.cloned = self.now
            sign = "; ".join(sorted(sign.value for sign in signs))
            self.changes.clones[self.key.host] = (sign, self.now)


_ODD: Final = frozenset({Standing.FIRST, Standing.NEW_EPOCH, Standing.REVIVED})
_ANSWERS: Final = frozenset({EventKind.DIRECTIVE_DONE.value, EventKind.DIRECTIVE_REFUSED.value})


def content_of(said: Opened) -> bytes:
    """Return what a host said, as it is kept: JSON for people."""
    return _ENCODER.encode(
        {
            "products": [_named(product) for product in said.products],
            "tuf": said.tuf,
            "relay": said.relay,
            "clock": said.clock,
            "ports": said.ports,
            "events": [event.e for event in said.events],
        }
    )


def _named(product: OpenedProduct) -> dict[str, object]:
    return {
        "product": product.product,
        "channel": product.channel,
        "release": product.release,
        "seq": product.seq,
        "state": product.state,
        "tree": product.tree,
        "wave": product.wave,
    }
