"""What a batch of opened check-ins changes: from what is known of hosts to rows; pure.

`core.checkins` rules on each check-in; here several of one host in a batch follow each other, and
the rulings become rows of `fleet.models`. Nothing is read or written.

The usual check-in (the next number of the current epoch, no event, an active host) is most of what
ever comes. `advance` says of it what `core.checkins.rule` says, at a tenth of the cost;
tests/console/ingest/test_deciding.py holds the two against each other.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from fleetward.console.fleet.numbering import next_inbox
from fleetward.console.fleet.standings import HostStanding, KeyStanding
from fleetward.console.ingest.opening import Opened
from fleetward.console.ingest.rows import (
    START,
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
    instant_of,
)
from fleetward.core.checkins import (
    DEFAULT_LIMITS,
    Arrival,
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

_MILLISECOND: Final = timedelta(milliseconds=1)


def arrival_of(said: Opened, received: datetime) -> Arrival:
    """Return an opened check-in as `core.checkins` looks at it."""
    return Arrival(
        epoch=said.epoch,
        n=said.n,
        sent=instant_of(said.sent),
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
            numbers = wanted(epoch, arrival_of(said, START))
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
        if verdict is not Verdict.STORED or said is None or key is None:
            continue
        decision = _Decision(changes, key, said, delivery, stored, now)
        presence = key.presence
        if presence is not None and is_usual(key, presence, said):
            decision.take_usual(presence)
        else:
            decision.take()
    return changes


def is_usual(key: KnownKey, presence: PresenceRow, said: Opened) -> bool:
    """Return whether a check-in is the next of an active host's current epoch, without an event."""
    return (
        said.n > presence.greatest_n
        and said.epoch == presence.epoch
        and not said.events
        and key.standing == KeyStanding.ACTIVE
        and key.host_standing == HostStanding.ACTIVE
    )


def advance(presence: PresenceRow, said: Opened, received: datetime) -> datetime:
    """Take a usual check-in's number, time and clock; return when the host was certainly alive."""
    sent = instant_of(said.sent)
    offset = measured = received - sent
    if received < presence.measured:  # reordered: the newer measure stays
        presence.offset_ms = min(presence.offset_ms, measured // _MILLISECOND)
        alive = received
    else:
        known = presence.offset_ms * _MILLISECOND
        if measured > known:
            rise = (received - presence.measured) * DEFAULT_LIMITS.offset_rise
            offset = min(measured, known + rise)
        alive = received - (measured - offset)
        presence.offset_ms, presence.measured = offset // _MILLISECOND, received
    presence.greatest_n, presence.digest, presence.newest_sent = said.n, said.digest, sent
    presence.first_sent = min(presence.first_sent, sent)
    presence.seen = max(presence.seen, alive)
    return alive


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
    if presence is not None and presence.epoch == epoch:
        return presence.current()
    return key.retired.get(epoch)


class _Decision(msgspec.Struct, gc=False):
    """One check-in of a known host."""

    changes: Changes
    key: KnownKey
    said: Opened
    delivery: Delivery
    stored: StoredDigests
    now: datetime

    def take_usual(self, presence: PresenceRow) -> None:
        """Take the next check-in of the current epoch, which has no event."""
        said, received = self.said, self.delivery.received
        first_sent = presence.first_sent
        changed = self._take_words(presence, advance(presence, said, received))
        is_due = presence.kept is None or received - presence.kept >= KEEP_EVERY
        if is_due or changed:
            self._keep(Standing.NEWEST, presence, proves=changed)
        if is_due or changed or first_sent != presence.first_sent:
            self.changes.keys[self.key.pk] = self.key
        else:
            self.changes.advanced[self.key.pk] = presence

    def take(self) -> None:
        """Take any check-in, as `core.checkins` rules."""
        key, said = self.key, self.said
        arrival = arrival_of(said, self.delivery.received)
        presence = key.presence
        known = Known(
            current=presence.current() if presence else None,
            other=key.retired.get(said.epoch),
            clock=presence.believed() if presence else None,
        )
        ruling = rule(known, arrival, self._stored(arrival))
        self._take_events(ruling)
        if presence is None:
            presence = key.presence = _first(key, ruling, arrival)
        changed = self._take_status(ruling, presence)
        self._take_epoch(ruling, presence)
        self._keep_ruled(ruling, presence, changed=changed)
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
        presence.take_clock(ruling.clock)
        return self._take_words(presence, ruling.seen)

    def _take_words(self, presence: PresenceRow, seen: datetime) -> bool:
        """Take what the host runs; return whether that is not what it ran before."""
        said = self.said
        presence.received, presence.peer = self.delivery.received, self.delivery.peer
        presence.relay, presence.clock = said.relay, said.clock
        presence.tuf_root, presence.tuf_timestamp, presence.tuf_snapshot = said.tuf
        presence.listeners, presence.unexpected, presence.ports = said.ports or _NO_PORTS
        if presence.content == said.content:
            return False
        presence.content = said.content
        self.changes.statuses.append(NewStatus(self.key.host, said.products, seen))
        return True

    def _take_epoch(self, ruling: Ruling, presence: PresenceRow) -> None:
        current, ruled = presence.current(), ruling.epoch
        if ruled.epoch == current.epoch:
            presence.take_epoch(ruled)
            return
        if ruling.standing.takes_status:
            self.key.retired.pop(ruled.epoch, None)
            presence.take_epoch(ruled)
            ruled = current
        self.key.retired[ruled.epoch] = ruled
        self.changes.retired[self.key.pk, ruled.epoch] = ruled

    def _keep_ruled(self, ruling: Ruling, presence: PresenceRow, *, changed: bool) -> None:
        received = self.delivery.received
        is_due = presence.kept is None or received - presence.kept >= KEEP_EVERY
        is_new = ruling.standing.takes_status and is_due
        proves = changed or bool(ruling.store) or bool(ruling.clones and is_due)
        if is_new or proves or ruling.standing in _ODD:
            self._keep(ruling.standing, presence, proves=proves)

    def _keep(self, standing: Standing, presence: PresenceRow, *, proves: bool) -> None:
        received = self.delivery.received
        presence.kept = max(received, presence.kept or received)
        self.changes.kept.append(
            KeptCheckIn(self.key.pk, self.said, self.delivery, standing, proves)
        )

    def _note_clone(self, signs: frozenset[CloneSign]) -> None:
        if self.key.cloned is None or self.now - self.key.cloned >= CLONE_EVERY:
            self.key.cloned = self.now
            sign = "; ".join(sorted(sign.value for sign in signs))
            self.changes.clones[self.key.host] = (sign, self.now)


def _first(key: KnownKey, ruling: Ruling, arrival: Arrival) -> PresenceRow:
    epoch, clock = ruling.epoch, ruling.clock
    presence = PresenceRow(
        key_id=key.pk,
        epoch=epoch.epoch,
        greatest_n=epoch.greatest_n,
        digest=epoch.digest,
        first_sent=epoch.first_sent,
        newest_sent=epoch.newest_sent,
        contiguous_e=epoch.contiguous_e,
        greatest_e=epoch.greatest_e,
        seen=arrival.received,
        received=arrival.received,
        offset_ms=0,
        measured=clock.measured,
    )
    presence.take_clock(clock)
    return presence


_NO_PORTS: Final = (None, None, "")
_ODD: Final = frozenset({Standing.FIRST, Standing.NEW_EPOCH, Standing.REVIVED})
_ANSWERS: Final = frozenset({EventKind.DIRECTIVE_DONE.value, EventKind.DIRECTIVE_REFUSED.value})
