"""What a sensor saw, summed up by source and class in bounded tables.

Invariants: memory does not grow with what comes: sources past the limit are counted together, and
single sightings are told at a bounded rate; every sighting is in the sums.

Deliberately not here: sockets (listeners.sensor.hearing).
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from fleetward.adapters.clock import Clock
from fleetward.core.listeners import Transport
from fleetward.core.portclass import FACTS, PRECEDENCE, Classified, TrafficClass
from fleetward.core.portrules import Verdict
from fleetward.listeners.sensor.limits import SENSOR, SensorLimits

SIGHTING_SCHEMA: Final = "fleetward.sighting/1"
SENSOR_SCHEMA: Final = "fleetward.sensor/1"
_SECOND: Final = timedelta(seconds=1)
_SEVERITY: Final = {Verdict.EXPECTED: 0, Verdict.UNKNOWN: 1, Verdict.SUSPICIOUS: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One connection or datagram.

    Attributes:
        when: it began, by the wall clock.
        transport: tcp or udp.
        port: that was asked.
        source: the sender's address; by UDP anybody can write any.
        source_port: see there.
        kind: the class.
        verdict: of the class.
        detail: what is worth a look.
        octets: that were read.
        ended: why no more was read: `closed`, `full`, `silent`, `crowded`, `datagram`.
    """

    when: datetime
    transport: Transport
    port: int
    source: str
    source_port: int
    kind: TrafficClass
    verdict: Verdict
    detail: str
    octets: int
    ended: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorRow:
    """Sightings of one class from one source.

    Attributes:
        source: address.
        transport: tcp or udp.
        port: that was asked.
        kind: the class.
        verdict: of the class.
        sentence: what the class is.
        next_step: what to do about it.
        count: how many.
        octets: that were read of all.
        first: when the first came.
        last: when the last came.
        detail: of the first that has one.
    """

    source: str
    transport: Transport
    port: int
    kind: TrafficClass
    verdict: Verdict
    sentence: str
    next_step: str
    count: int
    octets: int
    first: datetime
    last: datetime
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorReport:
    """What a sensor saw in all; the document `fleetward.sensor/1`.

    Attributes:
        listening: where.
        began: when.
        ended: when.
        verdict: the worst of what was seen; expected where that is nothing.
        seen: connections and datagrams.
        classes: of them.
        rows: the worst first, then by count.
        more: sightings of sources that found no row, by class.
        untold: sightings that were not reported one by one.
        crowded_out: connections that made room for others.
        pauses: seconds in which the kernel was left to drop what came.
    """

    listening: str
    began: datetime
    ended: datetime
    verdict: Verdict
    seen: int
    classes: dict[str, int]
    rows: tuple[SensorRow, ...]
    more: dict[str, int]
    untold: int
    crowded_out: int
    pauses: int


@dataclass(slots=True)
class _Sum:
    first: datetime
    last: datetime
    count: int = 0
    octets: int = 0
    detail: str = ""


_Key = tuple[str, Transport, int, TrafficClass]


@dataclass(slots=True)
class Sightings:
    """Sums up sightings and tells them on, not faster than people can read.

    One thread may add while another takes.

    Attributes:
        tell: takes single sightings.
        clock: measures how fast they are told.
        limits: see there.
        crowded_out: connections that made room for others.
        pauses: see `SensorReport`.
    """

    tell: Callable[[Sighting], None]
    clock: Clock
    limits: SensorLimits = SENSOR
    crowded_out: int = 0
    pauses: int = 0
    _sums: dict[_Key, _Sum] = field(default_factory=dict)
    _classes: Counter[TrafficClass] = field(default_factory=Counter)
    _more: Counter[TrafficClass] = field(default_factory=Counter)
    _untold: int = 0
    _second: timedelta = timedelta.min
    _told: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self,
        when: datetime,
        asked: tuple[Transport, int],
        source: tuple[str, int],
        classified: Classified,
        read: tuple[int, str],
    ) -> None:
        """Take a sighting.

        Args:
            when: it began.
            asked: tcp or udp, and the port.
            source: address and port.
            classified: what it is.
            read: how many bytes, and why no more.
        """
        kind = classified.kind
        with self._lock:
            self._classes[kind] += 1
            self._sum(when, (source[0], *asked, kind), classified.detail, read[0])
        if not self._may_tell():
            self._untold += 1
            return
        self.tell(
            Sighting(
                when=when,
                transport=asked[0],
                port=asked[1],
                source=source[0],
                source_port=source[1],
                kind=kind,
                verdict=classified.fact.verdict,
                detail=classified.detail,
                octets=read[0],
                ended=read[1],
            )
        )

    def _sum(self, when: datetime, key: _Key, detail: str, octets: int) -> None:
        row = self._sums.get(key)
        if row is None:
            if len(self._sums) >= self.limits.sources:
                self._more[key[-1]] += 1
                return
            row = self._sums[key] = _Sum(when, when)
        row.count += 1
        row.octets += octets
        row.last = max(row.last, when)
        row.detail = row.detail or detail

    def _may_tell(self) -> bool:
        now = self.clock.monotonic()
        if self._second < now - _SECOND:
            self._second, self._told = now, 0
        self._told += 1
        return self._told <= self.limits.lines_per_second

    def take(self, listening: str, began: datetime, ended: datetime) -> SensorReport:
        """Return what was seen since the last time, and begin anew."""
        with self._lock:
            report = self.report(listening, began, ended)
            self._sums, self._classes, self._more = {}, Counter(), Counter()
            self._untold = self.crowded_out = self.pauses = 0
        return report

    def report(self, listening: str, began: datetime, ended: datetime) -> SensorReport:
        """Return what was seen since the beginning; not while another thread adds."""
        rows = [_row(key, row) for key, row in self._sums.items()]
        rows.sort(key=lambda row: (PRECEDENCE[row.kind], -row.count, row.source))
        rows.sort(key=lambda row: -_SEVERITY[row.verdict])
        seen = [FACTS[kind].verdict for kind in self._classes]
        return SensorReport(
            listening=listening,
            began=began,
            ended=ended,
            verdict=max(seen, key=_SEVERITY.__getitem__, default=Verdict.EXPECTED),
            seen=self._classes.total(),
            classes={kind.value: count for kind, count in self._classes.items()},
            rows=tuple(rows),
            more={kind.value: count for kind, count in self._more.items()},
            untold=self._untold,
            crowded_out=self.crowded_out,
            pauses=self.pauses,
        )


def _row(key: _Key, row: _Sum) -> SensorRow:
    source, transport, port, kind = key
    fact = FACTS[kind]
    return SensorRow(
        source=source,
        transport=transport,
        port=port,
        kind=kind,
        verdict=fact.verdict,
        sentence=fact.sentence,
        next_step=fact.next_step,
        count=row.count,
        octets=row.octets,
        first=row.first,
        last=row.last,
        detail=row.detail,
    )
