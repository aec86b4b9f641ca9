"""What of a sensor's sightings is told to the console: soon, once, and never more than some an hour.

Sightings of one class, port and network of origin are one subject.

    a subject                          then
    not told within the window         told at once, where its bucket has room; else only counted
    told within the window             kept, and told with its count when the window has passed
    what was only counted              told as one line in each window

Buckets are protocol and whether the class is suspicious. So whoever forges senders (UDP) keeps no
TCP connection from being told, and noise keeps nothing suspicious from it.

Invariants: at most `2 * 2 * burst + 1` tellings in a window, whatever comes; what is remembered is
as bounded; every sighting is in a telling or in the count.

Deliberately not here: sockets and sums (listeners.sensor), where tellings go (agent.sensing).
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from fleetward.core.listeners import Transport
from fleetward.core.portclass import FACTS, TrafficClass
from fleetward.core.portrules import Verdict


@dataclass(frozen=True, slots=True)
class TellingLimits:
    """How much is told.

    Attributes:
        burst: subjects of one bucket within `window`: a flood from forged senders would fill the
            spool of events.
        window: see above.
    """

    burst: int = 6
    window: timedelta = timedelta(hours=1)


TELLING: Final = TellingLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What sightings are counted by.

    Attributes:
        transport: tcp or udp.
        port: that was asked.
        kind: the class.
        network: of the sender: a /24 of IPv4, a /48 of IPv6.
    """

    transport: Transport
    port: int
    kind: TrafficClass
    network: str

    @property
    def is_suspicious(self) -> bool:
        """Whether the class is."""
        return FACTS[self.kind].verdict is Verdict.SUSPICIOUS

    @property
    def bucket(self) -> tuple[Transport, bool]:
        """Which share of the tellings it is of."""
        return self.transport, self.is_suspicious


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Sightings of one subject.

    Attributes:
        subject: see there.
        source: the address of the first.
        count: how many.
        first: when the first came.
        last: when the last came.
        detail: of the first that has one.
    """

    subject: Subject
    source: str
    count: int
    first: datetime
    last: datetime
    detail: str = ""

    def with_more(self, other: "Heard") -> "Heard":
        """Return both together."""
        return replace(
            self,
            count=self.count + other.count,
            first=min(self.first, other.first),
            last=max(self.last, other.last),
            detail=self.detail or other.detail,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """Sightings that were only counted.

    Attributes:
        count: how many.
        suspicious: how many of them.
    """

    count: int = 0
    suspicious: int = 0

    def with_more(self, count: int, suspicious: int) -> "Rest":
        """Return both together."""
        return Rest(count=self.count + count, suspicious=self.suspicious + suspicious)

    def with_heard(self, one: Heard) -> "Rest":
        """Return both together."""
        return self.with_more(one.count, one.count if one.subject.is_suspicious else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldSubject:
    """A subject that was told, and when."""

    subject: Subject
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensed:
    """All that is remembered from one telling to the next.

    Attributes:
        told: subjects that were told within the window.
        kept: sightings of them since.
        rest: what was only counted since `rest_told`.
        rest_told: when a rest was told last.
    """

    told: tuple[ToldSubject, ...] = ()
    kept: tuple[Heard, ...] = ()
    rest: Rest = Rest()
    rest_told: datetime | None = None


Telling = Heard | Rest


def network_of(address: str) -> str:
    """Return the network by which senders are counted: a /24 of IPv4, a /48 of IPv6."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    prefix = 24 if parsed.version == 4 else 48
    return str(ipaddress.ip_network((parsed, prefix), strict=False))


def sense(
    sensed: Sensed,
    heard: Iterable[Heard],
    rest: Rest,
    now: datetime,
    limits: TellingLimits = TELLING,
) -> tuple[Sensed, tuple[Telling, ...]]:
    """Return what is remembered now, and what is to be told.

    Args:
        sensed: what the last time left.
        heard: sightings since, one or more for each subject.
        rest: sightings since that the sensor could only count.
        now: the wall clock; one that was set back makes no silence.
        limits: see there.
    """
    told = [one for one in sensed.told if _is_within(one.at, now, limits)]
    recent = {one.subject for one in told}
    left = sensed.rest.with_more(rest.count, rest.suspicious)
    tellings: list[Telling] = []
    kept: list[Heard] = []
    for one in sorted(_merged((*sensed.kept, *heard)), key=_urgency):
        room = limits.burst - sum(t.subject.bucket == one.subject.bucket for t in told)
        if one.subject in recent:
            kept.append(one)
        elif room > 0:
            tellings.append(one)
            told.append(ToldSubject(subject=one.subject, at=now))
        else:
            left = left.with_heard(one)
    rest_told = sensed.rest_told
    if left.count and (rest_told is None or not _is_within(rest_told, now, limits)):
        tellings.append(left)
        left, rest_told = Rest(), now
    after = Sensed(told=tuple(told), kept=tuple(kept), rest=left, rest_told=rest_told)
    return after, tuple(tellings)


def counted(sensed: Sensed, telling: Telling) -> Sensed:
    """Return what is remembered where nobody had room for a telling: it is only counted."""
    if isinstance(telling, Rest):
        return replace(sensed, rest=sensed.rest.with_more(telling.count, telling.suspicious))
    return replace(sensed, rest=sensed.rest.with_heard(telling))


def untold(sensed: Sensed, telling: Telling) -> Sensed:
    """Return what is remembered where a telling failed: the next time tells it."""
    if isinstance(telling, Rest):
        return replace(counted(sensed, telling), rest_told=None)
    told = tuple(one for one in sensed.told if one.subject != telling.subject)
    return replace(sensed, told=told, kept=(*sensed.kept, telling))


def _is_within(at: datetime, now: datetime, limits: TellingLimits) -> bool:
    return timedelta() <= now - at < limits.window


def _merged(heard: Iterable[Heard]) -> list[Heard]:
    found: dict[Subject, Heard] = {}
    for one in heard:
        before = found.get(one.subject)
        found[one.subject] = before.with_more(one) if before else one
    return list(found.values())


def _urgency(one: Heard) -> tuple[bool, int]:
    return not one.subject.is_suspicious, -one.count
