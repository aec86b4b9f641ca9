"""What is taken from the upstreams: bytes per second by hours of the day, and downloads at once.

    Schedule    which rate holds at a local time (pure)
    Bandwidth   spreads the bodies of all upstreams over time; a `Pace` and a part of the relay
    Turns       so many downloads at once; the others wait

Blobs that a client waits for come before those that nobody has asked for yet. Metadata is counted,
so that blobs make room for it, and is never kept waiting: it is small, and tells of attacks.

The rate holds for what this program reads. What the kernels hold on the way comes as a burst at
the start of each connection, so the receive buffer is kept to about half a second's worth.
"""

import asyncio
import enum
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final

from fleetward.adapters.clock import Clock
from fleetward.config.relay import BandwidthSettings, ScheduleSettings, minutes_of
from fleetward.core.limits import KIB, MIB
from fleetward.httpd.client import UpstreamClient
from fleetward.relay.bucket import Bucket
from fleetward.relay.part import Kind, Metric, Route

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_BURST_SECONDS: Final = 0.25
"""What a pause saves up; more would let a limit of 1 MB/s begin with a jolt."""

_BUFFER_SECONDS: Final = 0.5
"""The receive buffer, in seconds at the rate: less would slow links with long round trips."""

_MIN_BUFFER: Final = 16 * KIB
_MAX_BUFFER: Final = 4 * MIB
PACED_READ_AHEAD: Final = 32 * KIB
"""Body bytes held in memory where a rate is set; the kernel holds more."""

LOOK_AT_SCHEDULE: Final = timedelta(seconds=10)
"""How late a change of the rate by the hour may be."""


# -- the schedule ------------------------------------------------------------------------------


class Schedule:
    """Which rate holds when; local time, so it follows daylight saving as people do."""

    def __init__(self, settings: BandwidthSettings) -> None:
        self._default = settings.rate
        self._rules = settings.schedule

    def rate_at(self, local: datetime) -> int:
        """Return the bytes per second that hold; 0 is no limit.

        Args:
            local: the relay's local time. An hour that daylight saving repeats has its rate twice.
        """
        return next((r.rate for r in self._rules if _holds(r, local)), self._default)


def _holds(rule: ScheduleSettings, local: datetime) -> bool:
    start, end = minutes_of(rule.start), minutes_of(rule.end)
    minute = local.hour * 60 + local.minute
    if start < end:
        return start <= minute < end and _is_day(rule, local)
    if minute >= start:
        return _is_day(rule, local)
    return minute < end and _is_day(rule, local - timedelta(days=1))


def _is_day(rule: ScheduleSettings, local: datetime) -> bool:
    return not rule.days or _DAYS[local.weekday()] in rule.days


# -- what a body is for ------------------------------------------------------------------------


class Need(enum.IntEnum):
    """How urgent a body is; the least number goes first."""

    METADATA = 0
    DEMAND = 1
    AHEAD = 2


@dataclass(slots=True)
class Purpose:
    """What a task receives bodies for; it may become more urgent on the way."""

    need: Need


PURPOSE: Final[ContextVar[Purpose | None]] = ContextVar("purpose", default=None)
"""Of the task that reads from an upstream: a fill sets its own; None is metadata."""


@dataclass(slots=True, eq=False)
class _Waiter:
    purpose: Purpose
    turn: "asyncio.Future[None]"
    count: int


# -- bytes per second --------------------------------------------------------------------------


class Bandwidth:
    """The rate that all upstreams share; the `Pace` of each, and a part of the relay.

    Attributes:
        rate: bytes per second that hold now; 0 is no limit.
        received: body bytes that were received.
        waited: seconds that bodies were kept waiting, together.
    """

    def __init__(
        self,
        settings: BandwidthSettings,
        clock: Clock,
        clients: Iterable[UpstreamClient] = (),
        zone: tzinfo | None = None,
    ) -> None:
        """Take the settings, and the upstreams whose pace this is.

        Args:
            settings: rate and schedule.
            clock: the wall clock.
            clients: their bodies are spread over time.
            zone: the relay's time zone; None is the system's.
        """
        self.rate = 0
        self.received = 0
        self.waited = 0.0
        self._schedule = Schedule(settings)
        self._clock = clock
        self._clients: list[UpstreamClient] = []
        self._zone = zone
        self._bucket = Bucket(0, 0, 0.0)
        self._waiters: list[_Waiter] = []
        self._timer: asyncio.TimerHandle | None = None
        for client in clients:
            self.join(client)

    def join(self, client: UpstreamClient) -> None:
        """Spread what an upstream sends from now on; also for upstreams that appear later."""
        client.pace = self
        client.receive_buffer = self._buffer
        self._clients.append(client)

    @property
    def _buffer(self) -> int:
        wanted = min(_MAX_BUFFER, max(_MIN_BUFFER, int(self.rate * _BUFFER_SECONDS)))
        return wanted if self.rate else 0

    def adjust(self) -> None:
        """Take up the rate that holds by the clock now; called in the event loop."""
        rate = self._schedule.rate_at(self._clock.now().astimezone(self._zone))
        if rate == self.rate:
            return
        self.rate = rate
        self._bucket.set_rate(rate, rate * _BURST_SECONDS, asyncio.get_running_loop().time())
        for client in self._clients:
            client.receive_buffer = self._buffer
        self._grant()

    async def take(self, count: int) -> None:
        """Return once a body may have `count` more bytes."""
        self.received += count
        purpose = PURPOSE.get()
        loop = asyncio.get_running_loop()
        if purpose is None or purpose.need is Need.METADATA or not self.rate:
            self._bucket.spend(count, loop.time())
            return
        waiter = _Waiter(purpose, loop.create_future(), count)
        self._waiters.append(waiter)
        began = loop.time()
        self._grant()
        try:
            await waiter.turn
        finally:
            self.waited += loop.time() - began
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _grant(self) -> None:
        """Let waiters go on in their order, as long as there is no debt; come back when it ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._waiters:
            wait = self._bucket.wait(loop.time())
            if wait > 0:
                self._timer = loop.call_later(wait, self._grant)
                return
            waiter = min(self._waiters, key=lambda waiter: waiter.purpose.need)
            self._waiters.remove(waiter)
            if not waiter.turn.done():
                self._bucket.spend(waiter.count, loop.time())
                waiter.turn.set_result(None)

    # -- as a part -----------------------------------------------------------------------------

    def routes(self) -> tuple[Route, ...]:
        """Answer nothing."""
        return ()

    async def run(self) -> None:
        """Follow the clock."""
        while True:
            self.adjust()
            await asyncio.sleep(LOOK_AT_SCHEDULE.total_seconds())

    def status(self) -> dict[str, object]:
        """Tell the rate that holds and who waits for it."""
        return {
            "bandwidth": {
                "rate": self.rate,
                "received": self.received,
                "waiting": len(self._waiters),
                "waited_seconds": round(self.waited, 3),
            }
        }

    def metrics(self) -> tuple[Metric, ...]:
        """Tell the same."""
        return (
            Metric(
                "bandwidth_limit_bytes_per_second",
                self.rate,
                "What may be taken from all upstreams together now; 0 is no limit.",
                Kind.GAUGE,
            ),
            Metric("bandwidth_waiting", len(self._waiters), "Bodies kept waiting now.", Kind.GAUGE),
            Metric("bandwidth_received_bytes_total", self.received, "Bytes of upstream bodies."),
            Metric("bandwidth_waited_seconds_total", self.waited, "Time bodies were kept waiting."),
        )


# -- downloads at once -------------------------------------------------------------------------

GiveWay = Callable[[], None]


@dataclass(slots=True, eq=False)
class _Holder:
    purpose: Purpose
    give_way: GiveWay
    turn: "asyncio.Future[None]"


class Turns:
    """So many downloads at once; those that clients wait for go first.

    Where all places are taken and a client waits, a download that nobody waits for gives way.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._holders: list[_Holder] = []
        self._waiters: list[_Holder] = []

    @property
    def waiting(self) -> int:
        """Return how many wait for their turn."""
        return len(self._waiters)

    @property
    def active(self) -> int:
        """Return how many have their turn."""
        return len(self._holders)

    @asynccontextmanager
    async def turn(self, purpose: Purpose, give_way: GiveWay) -> AsyncGenerator[None]:
        """Hold one place for the `async with` block, once there is one.

        Args:
            purpose: how urgent it is.
            give_way: called where the place is needed by somebody more urgent; must end the block
                soon, by a cancel.
        """
        holder = _Holder(purpose, give_way, asyncio.get_running_loop().create_future())
        self._waiters.append(holder)
        self._pass_on()
        if not holder.turn.done():
            self._make_way(purpose)
        try:
            await holder.turn
            yield
        finally:
            for those in (self._waiters, self._holders):
                if holder in those:
                    those.remove(holder)
            self._pass_on()

    def _make_way(self, purpose: Purpose) -> None:
        for holder in self._holders:
            if holder.purpose.need > purpose.need:
                holder.give_way()
                return

    def _pass_on(self) -> None:
        """Give free places to the most urgent waiters."""
        while self._waiters and len(self._holders) < self._places:
            holder = min(self._waiters, key=lambda waiter: waiter.purpose.need)
            self._waiters.remove(holder)
            if not holder.turn.done():
                self._holders.append(holder)
                holder.turn.set_result(None)
