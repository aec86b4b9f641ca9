"""Announcements are hints: few requests come of many, and none of what is known."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.relay.hints import Hints
from fleetward.relay.settings import PushLimits
from fleetward.wire.announcement import MAX_VERSION
from support.timestamps import timestamp

LIMITS = PushLimits(hint_interval=timedelta(seconds=1), max_hint_interval=timedelta(seconds=30))


class Cached:
    """A timestamp's cache whose upstream says what the test wants; notes when it is asked."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.version = 5
        self.upstream = 5
        self.asked: list[float] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self._now = now

    async def renew(self) -> None:
        self.asked.append(self._now())
        await self.answering.wait()
        self.version = self.upstream


class Bench:
    """Hints over time that the test turns."""

    def __init__(self) -> None:
        self.time = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.cached = Cached(lambda: self.time)
        self.hints = Hints(self.cached, LIMITS, self._call_later, lambda: self.time)

    def _call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        assert delay >= 0
        loop = asyncio.get_running_loop()
        self.timers.append((self.time + delay, callback))
        return loop.call_later(3600, callback)

    async def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, and what is due happen."""
        self.time += seconds
        due = [callback for when, callback in self.timers if when <= self.time]
        self.timers = [timer for timer in self.timers if timer[0] > self.time]
        for callback in due:
            callback()
        for _ in range(3):
            await asyncio.sleep(0)


def run(story: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        bench = Bench()
        await story(bench)
        await bench.hints.stop()

    asyncio.run(main())


def test_a_newer_version_makes_the_relay_ask_at_once() -> None:
    async def story(bench: Bench) -> None:
        bench.cached.upstream = 6
        bench.hints.take(timestamp(6))
        await bench.turn()
        assert bench.cached.asked == [100.0]
        assert bench.hints.counters.heard == 1
        assert bench.hints.counters.false == 0

    run(story)


def test_what_is_known_makes_it_do_nothing() -> None:
    async def story(bench: Bench) -> None:
        for version in (1, 4, 5):
            bench.hints.take(timestamp(version))
        await bench.turn(60)
        assert bench.cached.asked == []
        assert bench.hints.counters.known == 3

    run(story)


@pytest.mark.parametrize("datagram", [b"", b"{}", b'{"signed":', timestamp(9)[:-1], b"\xff" * 1200])
def test_nonsense_makes_it_do_nothing(datagram: bytes) -> None:
    async def story(bench: Bench) -> None:
        bench.hints.take(datagram)
        await bench.turn(60)
        assert bench.cached.asked == []
        assert bench.hints.counters.malformed == 1

    run(story)


def test_a_flood_of_forged_announcements_costs_less_and_less() -> None:
    """An attacker announces version 2^63 a hundred times a second, for ten minutes.

    The relay asks its upstream once a second at first, and at last every 30 s; a true
    announcement afterwards is heard again after at most that long.
    """

    async def story(bench: Bench) -> None:
        for _ in range(600):
            for _ in range(100):
                bench.hints.take(timestamp(MAX_VERSION))
            await bench.turn(1.0)
        assert len(bench.cached.asked) <= 26
        gaps = [b - a for a, b in zip(bench.cached.asked, bench.cached.asked[1:], strict=False)]
        assert min(gaps) >= 1
        assert gaps[-1] >= 30
        assert bench.hints.counters.throttled > 59_000
        bench.cached.upstream = 6
        bench.hints.take(timestamp(6))
        await bench.turn(30)
        assert bench.cached.version == 6
        bench.hints.take(timestamp(7))
        await bench.turn(1)
        assert bench.cached.asked[-1] == bench.time

    run(story)


def test_while_the_upstream_is_asked_nothing_is_read() -> None:
    async def story(bench: Bench) -> None:
        bench.cached.answering.clear()
        bench.hints.take(timestamp(6))
        await bench.turn()
        for _ in range(10):
            bench.hints.take(timestamp(7))
            await bench.turn(60)
        assert len(bench.cached.asked) == 1
        assert bench.hints.counters.throttled == 10
        bench.cached.answering.set()
        await bench.turn()
        bench.hints.take(timestamp(7))
        await bench.turn(60)
        assert len(bench.cached.asked) == 2

    run(story)


def test_stopping_ends_what_was_planned_and_what_is_asked() -> None:
    async def story(bench: Bench) -> None:
        bench.hints.take(timestamp(6))
        await bench.hints.stop()
        bench = Bench()
        bench.cached.answering.clear()
        bench.hints.take(timestamp(6))
        await bench.turn()
        await bench.hints.stop()
        assert bench.hints._asking is None

    run(story)


@given(st.lists(st.tuples(st.integers(1, 12), st.floats(0, 40), st.integers(5, 12))))
def test_never_more_than_one_request_in_an_interval(
    steps: list[tuple[int, float, int]],
) -> None:
    async def story(bench: Bench) -> None:
        for announced, seconds, upstream in steps:
            bench.cached.upstream = upstream
            bench.hints.take(timestamp(announced))
            await bench.turn(seconds)
        asked = bench.cached.asked
        assert all(b - a >= 0.999 for a, b in itertools.pairwise(asked))
        counters = bench.hints.counters
        counted = counters.heard + counters.known + counters.throttled + counters.malformed
        assert counted == len(steps)

    run(cast("Callable[[Bench], Coroutine[Any, Any, None]]", story))
