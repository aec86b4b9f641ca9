"""Announcements as a relay hears them: hints that asking the upstream may be worth it.

Anybody can send one, with any version in it. So a hint makes the relay do one thing: ask its
upstream, as it would have soon anyway, at most once in an interval that doubles while hints turn
out false. Of an announcement nothing is kept but that there was one.

    waiting to ask, or asking    everything is dropped unread
    else                         a version above the cached one plans a request, at the earliest
                                 one interval after the last
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fleetward.errors import DocumentError
from fleetward.relay.settings import PushLimits
from fleetward.wire.announcement import announced_version


class Renewable(Protocol):
    """What a hint is about; the timestamp's cache."""

    @property
    def version(self) -> int:
        """Return what the present timestamp claims."""
        ...

    async def renew(self) -> None:
        """Ask the upstreams now."""
        ...


@dataclass(slots=True)
class HintCounters:
    """Only ever counted up.

    Attributes:
        heard: announcements that led to a request.
        false: of these, those after which the upstream had nothing newer.
        known: announcements of a version that is not above the cached one.
        throttled: dropped unread, since a request was planned or under way.
        malformed: no announcement, although it begins like one.
    """

    heard: int = 0
    false: int = 0
    known: int = 0
    throttled: int = 0
    malformed: int = 0


class Hints:
    """Turns announcements into requests, few of them; lives in one event loop.

    Attributes:
        counters: what was heard so far.
    """

    def __init__(
        self,
        timestamp: Renewable,
        limits: PushLimits,
        call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        now: Callable[[], float],
    ) -> None:
        """Take what is asked and how time passes.

        Args:
            timestamp: asked to renew itself.
            limits: how often.
            call_later: of the event loop.
            now: of the event loop.
        """
        self.counters = HintCounters()
        self._timestamp = timestamp
        self._least = limits.hint_interval.total_seconds()
        self._most = limits.max_hint_interval.total_seconds()
        self._interval = self._least
        self._call_later = call_later
        self._now = now
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None

    def take(self, datagram: bytes) -> None:
        """Take an announcement."""
        if self._timer is not None or self._asking is not None:
            self.counters.throttled += 1
            return
        try:
            version = announced_version(datagram)
        except DocumentError:
            self.counters.malformed += 1
            return
        if version <= self._timestamp.version:
            self.counters.known += 1
            return
        self.counters.heard += 1
        self._timer = self._call_later(max(0.0, self._next - self._now()), self._ask)

    def _ask(self) -> None:
        self._timer = None
        self._asking = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        before = self._timestamp.version
        try:
            await self._timestamp.renew()
        finally:
            self._asking = None
        is_true = self._timestamp.version > before
        self.counters.false += not is_true
        self._interval = self._least if is_true else min(self._interval * 2, self._most)
        self._next = self._now() + self._interval

    async def stop(self) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()
        asking = self._asking
        if asking is not None:
            asking.cancel()
            await asyncio.wait([asking])
