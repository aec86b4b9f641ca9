"""What a check-in changes: the rules of `epoch`, `n` and `e` (DESIGN, "Status") as pure functions.

A host numbers its check-ins (`n`, for ever rising) and its events (`e`, without a gap) within an
epoch, which is random and drawn anew with each state directory. Check-ins are carried by datagrams
and by relays, so they get lost, late, repeated and out of order; a relay may also hold them back
or replay them. None of that may change what the console believes, and each has one defined end:

    epoch                n                 sent, by the host          what happens
    -------------------  ----------------  -------------------------  --------------------------------
    first of the host    any               any                        its status is taken
    current              above greatest    any                        its status is taken; numbers that
                                                                      were left out are ordinary
    current              the greatest      same bytes                 repeated: its events count again,
                                                                      which changes nothing
    current              the greatest      other bytes                cloned: two hosts draw one number
    current              below greatest    before the newest one      late: only its events count
    current              below greatest    well after the newest one  cloned, or a snapshot came back
    unknown              any               after the current epoch's  a new state directory: it becomes
                                           newest                     current, the old one is retired
    unknown              any               before the current         an old epoch that comes late:
                                           epoch's first              only its events count
    unknown              any               between these              cloned: two epochs live at once
    retired              any               before the current         late: only its events count
                                           epoch's first
    retired              above its         well after the current     cloned: two epochs live at once
                         greatest          epoch's first
    retired              above its         an hour after the current  cloned, and it is current again:
                         greatest          epoch's newest             the other one has ended

"Well" is `CheckInLimits.clock_tolerance`. Only the host's own signed time is compared with its
own, so a relay that holds a check-in back cannot make a host look cloned.

Events: each is stored once per content, also where what was stored has been pruned since. The
acknowledgement names the greatest `e` up to which none is missing, so what is missing is sent
again; a host that no longer has it begins a new epoch. One `e` with two contents means a cloned
host; both are kept, since both get acknowledged.

Deliberately not here: signatures (identity), storing (console.fleet), sentences for people.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum

from fleetward.core.digest import Sha256


@dataclass(frozen=True, slots=True)
class CheckInLimits:
    """What the rules tolerate.

    Attributes:
        clock_tolerance: how far a host's clock may be set back without looking like two hosts.
        revive_after: how long the current epoch is quiet before another live one takes its place.
        window: events accepted beyond a gap; stops a host from numbering at will, and bounds what
            is looked up to find a gap.
        offset_rise: seconds per second by which the clock offset that is believed may rise; a relay
            that holds check-ins back cannot pass the delay off as a slow clock faster than that.
    """

    clock_tolerance: timedelta = timedelta(minutes=5)
    revive_after: timedelta = timedelta(hours=1)
    window: int = 1_024
    offset_rise: float = 0.1


DEFAULT_LIMITS = CheckInLimits()


@dataclass(frozen=True, slots=True)
class EventMark:
    """One event of a check-in: its number and the digest of its canonical bytes."""

    e: int
    digest: Sha256


@dataclass(frozen=True, slots=True)
class Arrival:
    """A verified check-in, as far as the rules look at it.

    Attributes:
        epoch: of the host's state directory.
        n: its number, from 1.
        sent: by the host's clock.
        received: by the clock of whoever took it first: the relay's, never after the console's.
        digest: of the signed bytes.
        events: in any order.
    """

    epoch: str
    n: int
    sent: datetime
    received: datetime
    digest: Sha256
    events: tuple[EventMark, ...] = ()


@dataclass(frozen=True, slots=True)
class Epoch:
    """What the console knows of one epoch of a host.

    Attributes:
        epoch: its random name.
        greatest_n: the greatest number seen.
        digest: of the check-in with that number.
        first_sent: the earliest time that the host wrote into a check-in of this epoch.
        newest_sent: that of the check-in with the greatest number.
        contiguous_e: none is missing up to this event.
        greatest_e: the greatest event stored.
    """

    epoch: str
    greatest_n: int
    digest: Sha256
    first_sent: datetime
    newest_sent: datetime
    contiguous_e: int = 0
    greatest_e: int = 0


@dataclass(frozen=True, slots=True)
class Clock:
    """What the console believes of a host's clock.

    Attributes:
        offset: how far the host's clock stands behind, by the quickest way that was seen.
        measured: when.
    """

    offset: timedelta
    measured: datetime


@dataclass(frozen=True, slots=True)
class Known:
    """What the console knows of a host before a check-in.

    Attributes:
        current: the epoch whose status is shown, or None before the first check-in.
        other: the epoch of the check-in at hand, where it is known and not the current one.
        clock: the host's clock, or None before the first check-in.
    """

    current: Epoch | None = None
    other: Epoch | None = None
    clock: Clock | None = None


class Standing(Enum):
    """What a check-in is among those of its host."""

    FIRST = "first"
    NEWEST = "newest"
    NEW_EPOCH = "new-epoch"
    REVIVED = "revived"
    REPEATED = "repeated"
    LATE = "late"
    TWIN = "twin"

    @property
    def takes_status(self) -> bool:
        """Whether the status in the check-in is now what the host runs."""
        return self in _TAKEN


_TAKEN = frozenset({Standing.FIRST, Standing.NEWEST, Standing.NEW_EPOCH, Standing.REVIVED})


class CloneSign(Enum):
    """Why a host looks like two."""

    ONE_NUMBER = "one check-in number with two contents"
    WENT_BACK = "check-in numbers went back: two hosts, or a snapshot that was restored"
    TWO_EPOCHS = "two state directories report at the same time"
    ONE_EVENT = "one event number with two contents"


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a check-in changes.

    Attributes:
        standing: what it is.
        epoch: what is now known of its epoch.
        clock: what is now believed of the host's clock.
        seen: when the host was certainly alive, by the receiver's clock: a delay that a relay
            added is taken off. None where its status is not taken: a replay is no sign of life.
        store: events to store, each new for its epoch, in order.
        refused: events beyond the window, which are sent again once the gap is filled.
        skipped: check-in numbers left out just before this one.
        clones: why the host looks like two; empty for nearly all.
    """

    standing: Standing
    epoch: Epoch
    clock: Clock
    seen: datetime | None
    store: tuple[EventMark, ...] = ()
    refused: tuple[EventMark, ...] = ()
    skipped: int = 0
    clones: frozenset[CloneSign] = field(default_factory=frozenset)


def rule(
    known: Known,
    arrival: Arrival,
    stored: Mapping[int, frozenset[Sha256]],
    limits: CheckInLimits = DEFAULT_LIMITS,
) -> Ruling:
    """Return what `arrival` changes.

    Args:
        known: what is known of its host.
        arrival: the check-in, whose signature was verified.
        stored: digests by number, of the events already stored in the arrival's epoch, wherever
            `wanted` says that they are looked at.
        limits: what is tolerated.
    """
    standing, sign = _standing(known, arrival, limits)
    before = _epoch_of(known, arrival)
    store, refused, twice = _new_events(before, arrival, stored, limits)
    clock, alive = _clock(known.clock, arrival, limits)
    seen: datetime | None = alive
    if known.clock is not None and not standing.takes_status:
        clock, seen = known.clock, None
    signs = {sign} if sign else set()
    if twice:
        signs.add(CloneSign.ONE_EVENT)
    newer = arrival.n > before.greatest_n
    return Ruling(
        standing=standing,
        epoch=Epoch(
            epoch=arrival.epoch,
            greatest_n=max(arrival.n, before.greatest_n),
            digest=arrival.digest if newer else before.digest,
            first_sent=min(arrival.sent, before.first_sent),
            newest_sent=arrival.sent if newer else before.newest_sent,
            contiguous_e=_contiguous(before, store, stored),
            greatest_e=max([before.greatest_e, *(mark.e for mark in store)]),
        ),
        clock=clock,
        seen=seen,
        store=store,
        refused=refused,
        skipped=max(0, arrival.n - before.greatest_n - 1) if before.greatest_n else 0,
        clones=frozenset(signs),
    )


def wanted(epoch: Epoch | None, arrival: Arrival) -> frozenset[int]:
    """Return the numbers whose stored digests `rule` looks at; empty for nearly every check-in.

    Args:
        epoch: what is known of the arrival's epoch.
        arrival: the check-in.
    """
    if epoch is None or not arrival.events:
        return frozenset()
    again = {mark.e for mark in arrival.events if mark.e <= epoch.greatest_e}
    return frozenset(again.union(range(epoch.contiguous_e + 1, epoch.greatest_e + 1)))


def _epoch_of(known: Known, arrival: Arrival) -> Epoch:
    for epoch in (known.current, known.other):
        if epoch is not None and epoch.epoch == arrival.epoch:
            return epoch
    return Epoch(arrival.epoch, 0, arrival.digest, arrival.sent, arrival.sent)


def _standing(
    known: Known, arrival: Arrival, limits: CheckInLimits
) -> tuple[Standing, CloneSign | None]:
    current = known.current
    if current is None:
        return Standing.FIRST, None
    if arrival.epoch == current.epoch:
        return _in_current(current, arrival, limits)
    if known.other is not None and arrival.epoch == known.other.epoch:
        return _in_retired(current, known.other, arrival, limits)
    return _in_unknown(current, arrival, limits)


def _in_current(
    current: Epoch, arrival: Arrival, limits: CheckInLimits
) -> tuple[Standing, CloneSign | None]:
    if arrival.n > current.greatest_n:
        return Standing.NEWEST, None
    if arrival.n == current.greatest_n:
        if arrival.digest == current.digest:
            return Standing.REPEATED, None
        return Standing.TWIN, CloneSign.ONE_NUMBER
    if arrival.sent > current.newest_sent + limits.clock_tolerance:
        return Standing.TWIN, CloneSign.WENT_BACK
    return Standing.LATE, None


def _in_retired(
    current: Epoch, retired: Epoch, arrival: Arrival, limits: CheckInLimits
) -> tuple[Standing, CloneSign | None]:
    if (
        arrival.n <= retired.greatest_n
        or arrival.sent <= current.first_sent + limits.clock_tolerance
    ):
        return Standing.LATE, None
    if arrival.sent > current.newest_sent + limits.revive_after:
        return Standing.REVIVED, CloneSign.TWO_EPOCHS
    return Standing.TWIN, CloneSign.TWO_EPOCHS


def _in_unknown(
    current: Epoch, arrival: Arrival, limits: CheckInLimits
) -> tuple[Standing, CloneSign | None]:
    if arrival.sent < current.first_sent:
        return Standing.LATE, None
    if arrival.sent >= current.newest_sent - limits.clock_tolerance:
        return Standing.NEW_EPOCH, None
    if arrival.sent <= current.first_sent + limits.clock_tolerance:
        return Standing.LATE, None
    return Standing.TWIN, CloneSign.TWO_EPOCHS


def _new_events(
    before: Epoch,
    arrival: Arrival,
    stored: Mapping[int, frozenset[Sha256]],
    limits: CheckInLimits,
) -> tuple[tuple[EventMark, ...], tuple[EventMark, ...], bool]:
    """Return events to store, events beyond the window, and whether a number has two contents."""
    if not arrival.events:
        return (), (), False
    room = before.contiguous_e + limits.window
    seen = {e: set(digests) for e, digests in stored.items()}
    store: list[EventMark] = []
    refused: list[EventMark] = []
    twice = False
    for mark in sorted(arrival.events, key=lambda mark: mark.e):
        known = seen.setdefault(mark.e, set())
        if mark.digest in known:
            continue
        if mark.e <= before.contiguous_e and not known:
            continue  # it was stored, and went with its age: a replay does not bring it back
        if mark.e > room:
            refused.append(mark)
            continue
        twice = twice or bool(known)
        known.add(mark.digest)
        store.append(mark)
    return tuple(store), tuple(refused), twice


def _contiguous(
    before: Epoch, store: tuple[EventMark, ...], stored: Mapping[int, frozenset[Sha256]]
) -> int:
    """Return up to where no event is missing."""
    contiguous = before.contiguous_e
    there = {mark.e for mark in store} | {e for e, digests in stored.items() if digests}
    while contiguous + 1 in there:
        contiguous += 1
    return contiguous


def _clock(known: Clock | None, arrival: Arrival, limits: CheckInLimits) -> tuple[Clock, datetime]:
    measured = arrival.received - arrival.sent
    if known is None:
        return Clock(measured, arrival.received), arrival.received
    elapsed = max(arrival.received - known.measured, timedelta())
    offset = min(measured, known.offset + elapsed * limits.offset_rise)
    if arrival.received < known.measured:  # reordered: the newer measure stays
        return replace(known, offset=min(known.offset, measured)), arrival.received
    return Clock(offset, arrival.received), arrival.received - (measured - offset)
