"""Bytes from upstreams by rate and hour, downloads by turns: decisions in virtual time."""

import asyncio
import contextlib
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.config.relay import BandwidthSettings, ScheduleSettings
from fleetward.errors import ConfigurationError
from fleetward.httpd.client import UpstreamClient
from fleetward.httpd.endpoint import Endpoint
from fleetward.relay.bandwidth import (
    PURPOSE,
    Bandwidth,
    Need,
    Purpose,
    Schedule,
    Turns,
)
from relay.virtual import run
from support.fakes import FakeClock

BERLIN = ZoneInfo("Europe/Berlin")
Result = TypeVar("Result")


def schedule(*rules: ScheduleSettings, rate: int = 0) -> Schedule:
    return Schedule(BandwidthSettings(rate=rate, schedule=rules))


def at(text: str) -> datetime:
    """A local time; 2026-11-23 is a Monday."""
    return datetime.fromisoformat(text)


# -- the schedule ------------------------------------------------------------------------------

OFFICE = ScheduleSettings(
    rate=20_000, days=("mon", "tue", "wed", "thu", "fri"), start="07:30", end="18:00"
)
NIGHT = ScheduleSettings(rate=500_000, days=("fri",), start="22:00", end="06:00")


@pytest.mark.parametrize(
    ("local", "rate"),
    [
        ("2026-11-23T07:29:59", 7),
        ("2026-11-23T07:30:00", 20_000),
        ("2026-11-23T17:59:59", 20_000),
        ("2026-11-23T18:00:00", 7),
        ("2026-11-28T12:00:00", 7),
        ("2026-11-27T21:59:00", 7),
        ("2026-11-27T22:00:00", 500_000),
        ("2026-11-27T23:59:59", 500_000),
        ("2026-11-28T00:00:00", 500_000),
        ("2026-11-28T05:59:59", 500_000),
        ("2026-11-28T06:00:00", 7),
        ("2026-11-28T22:00:00", 7),
        ("2026-11-27T05:00:00", 7),
    ],
)
def test_which_rate_holds(local: str, rate: int) -> None:
    """A span over midnight belongs to the day on which it begins."""
    assert schedule(OFFICE, NIGHT, rate=7).rate_at(at(local)) == rate


def test_the_first_rule_that_fits_is_taken() -> None:
    lunch = ScheduleSettings(rate=0, start="12:00", end="13:00")
    rules = schedule(lunch, OFFICE, rate=7)
    assert rules.rate_at(at("2026-11-23T12:30")) == 0
    assert rules.rate_at(at("2026-11-23T13:00")) == 20_000


def test_a_whole_day_is_midnight_to_24() -> None:
    rules = schedule(ScheduleSettings(rate=5, days=("sun",)), rate=7)
    assert rules.rate_at(at("2026-11-29T00:00")) == rules.rate_at(at("2026-11-29T23:59")) == 5
    assert rules.rate_at(at("2026-11-30T00:00")) == 7


@pytest.mark.parametrize(("start", "end"), [("07:00", "07:00"), ("24:00", "06:00")])
def test_a_span_of_no_length_is_refused(start: str, end: str) -> None:
    with pytest.raises(ConfigurationError, match="no span of time"):
        ScheduleSettings(rate=1, start=start, end=end)


MINUTES = st.integers(0, 24 * 60 - 1)


@given(MINUTES, MINUTES, MINUTES, st.sets(st.integers(0, 6)), st.integers(0, 6))
def test_a_rule_against_minute_by_minute_counting(
    start: int, end: int, minute: int, days: set[int], today: int
) -> None:
    if start == end:
        return
    names = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    rule = ScheduleSettings(
        rate=1,
        days=tuple(names[day] for day in sorted(days)),
        start=f"{start // 60:02}:{start % 60:02}",
        end=f"{end // 60:02}:{end % 60:02}",
    )
    length = (end - start) % (24 * 60)
    week = 7 * 24 * 60
    covered = {
        (day * 24 * 60 + start + step) % week
        for day in (days or range(7))
        for step in range(length)
    }
    local = at("2026-11-23T00:00") + timedelta(days=today, minutes=minute)
    expected = (today * 24 * 60 + minute) in covered
    assert schedule(rule).rate_at(local) == int(expected)


def test_daylight_saving_follows_the_wall_clock() -> None:
    """In Berlin 02:30 comes twice on 25 October 2026 and not at all on 29 March 2026."""
    rule = ScheduleSettings(rate=9, start="02:00", end="03:00")
    clock = FakeClock()
    bandwidth = Bandwidth(BandwidthSettings(schedule=(rule,)), clock, zone=BERLIN)

    async def rates(start: datetime, hours: int) -> list[int]:
        found = []
        for step in range(hours * 2):
            clock.set_wall(start + timedelta(minutes=30 * step))
            bandwidth.adjust()
            found.append(bandwidth.rate)
        return found

    autumn = run(rates(datetime(2026, 10, 24, 23, 0, tzinfo=UTC), 5))
    assert autumn == [0, 0, 9, 9, 9, 9, 0, 0, 0, 0]
    spring = run(rates(datetime(2026, 3, 29, 0, 0, tzinfo=UTC), 3))
    assert spring == [0, 0, 0, 0, 0, 0]


# -- the rate ----------------------------------------------------------------------------------


def bandwidth_of(rate: int, *rules: ScheduleSettings) -> Bandwidth:
    return Bandwidth(BandwidthSettings(rate=rate, schedule=rules), FakeClock(), zone=UTC)


async def body(pace: Bandwidth, purpose: Purpose, pieces: int, size: int = 1000) -> float:
    """Receive a body, and return when it was done."""
    PURPOSE.set(purpose)
    for _ in range(pieces):
        await pace.take(size)
    return asyncio.get_running_loop().time()


def spawn(coroutine: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
    return asyncio.get_running_loop().create_task(coroutine)


def test_a_rate_spreads_all_bodies_together() -> None:
    async def main() -> list[float]:
        pace = bandwidth_of(1000)
        pace.adjust()
        start = asyncio.get_running_loop().time()
        tasks = [spawn(body(pace, Purpose(Need.DEMAND), 10)) for _ in range(3)]
        done = [await task - start for task in tasks]
        assert pace.received == 30_000
        assert pace.status()["bandwidth"] == {
            "rate": 1000,
            "received": 30_000,
            "waiting": 0,
            "waited_seconds": pytest.approx(sum(done), abs=0.01),
        }
        return done

    done = run(main())
    assert max(done) == pytest.approx(29, abs=1)
    assert min(done) > 24


def test_what_clients_wait_for_goes_first() -> None:
    async def main() -> tuple[float, float]:
        pace = bandwidth_of(1000)
        pace.adjust()
        start = asyncio.get_running_loop().time()
        ahead = spawn(body(pace, Purpose(Need.AHEAD), 20))
        await asyncio.sleep(3)
        demand = spawn(body(pace, Purpose(Need.DEMAND), 10))
        return await demand - start, await ahead - start

    demand, ahead = run(main())
    assert demand == pytest.approx(13, abs=2)
    assert ahead == pytest.approx(30, abs=2)


def test_a_body_that_somebody_begins_to_wait_for_is_moved_up() -> None:
    async def main() -> tuple[float, float]:
        pace = bandwidth_of(1000)
        pace.adjust()
        start = asyncio.get_running_loop().time()
        purpose = Purpose(Need.AHEAD)
        first = spawn(body(pace, purpose, 10))
        second = spawn(body(pace, Purpose(Need.AHEAD), 10))
        await asyncio.sleep(2)
        purpose.need = Need.DEMAND
        return await first - start, await second - start

    first, second = run(main())
    assert first < 12
    assert second == pytest.approx(20, abs=1.5)


def test_metadata_is_counted_and_never_kept_waiting() -> None:
    async def main() -> None:
        pace = bandwidth_of(1000)
        pace.adjust()
        start = asyncio.get_running_loop().time()
        blob = spawn(body(pace, Purpose(Need.DEMAND), 10))
        await asyncio.sleep(0)
        assert await body(pace, Purpose(Need.METADATA), 5) == start
        assert await blob - start == pytest.approx(14, abs=1.5)

    run(main())


def test_the_rate_changes_while_a_body_waits() -> None:
    """At 08:00 the limit falls away; a body that would have taken an hour goes on at once."""

    async def main() -> None:
        clock = FakeClock()
        clock.set_wall(datetime(2026, 11, 24, 7, 59, 30, tzinfo=UTC))
        night = ScheduleSettings(rate=10, start="00:00", end="08:00")
        pace = Bandwidth(BandwidthSettings(schedule=(night,)), clock, zone=UTC)
        part = spawn(pace.run())
        await asyncio.sleep(0)
        assert pace.rate == 10
        start = asyncio.get_running_loop().time()
        blob = spawn(body(pace, Purpose(Need.DEMAND), 40))
        await asyncio.sleep(31)
        clock.advance(timedelta(seconds=31))
        assert await blob - start <= 41
        assert pace.rate == 0
        part.cancel()

    run(main())


def test_a_body_that_is_given_up_leaves_the_queue() -> None:
    async def main() -> None:
        pace = bandwidth_of(10)
        pace.adjust()
        tasks = [spawn(body(pace, Purpose(Need.DEMAND), 5)) for _ in range(3)]
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not pace._waiters

    run(main())


def test_the_kernel_holds_half_a_second_of_what_upstreams_send() -> None:
    """Of those that are known at the start and of those that appear later; none without a rate."""

    async def main() -> None:
        clock = FakeClock()
        clock.set_wall(datetime(2026, 11, 24, 12, 0, tzinfo=UTC))
        day = ScheduleSettings(rate=1_000_000, start="08:00", end="18:00")
        night = ScheduleSettings(rate=10, start="20:00", end="22:00")
        first, second = (UpstreamClient(Endpoint.upstream(f"http://{n}.test")) for n in "ab")
        pace = Bandwidth(BandwidthSettings(schedule=(day, night)), clock, [first], zone=UTC)
        pace.adjust()
        pace.join(second)
        assert first.pace is second.pace is pace
        assert first.receive_buffer == second.receive_buffer == 500_000
        clock.advance(timedelta(hours=7))
        pace.adjust()
        assert first.receive_buffer == second.receive_buffer == 0
        clock.advance(timedelta(hours=2))
        pace.adjust()
        assert first.receive_buffer == 16 * 1024

    run(main())


PLANS = st.lists(
    st.tuples(st.floats(0, 20), st.integers(1, 8), st.integers(1, 5000), st.sampled_from(Need)),
    min_size=1,
    max_size=6,
)


@given(PLANS, st.integers(500, 20_000))
def test_no_span_gets_more_than_the_rate_the_burst_and_one_piece(
    plans: list[tuple[float, int, int, Need]], rate: int
) -> None:
    """Of blobs; metadata takes its own on top, and blobs make room for it afterwards."""
    granted: list[tuple[float, int]] = []

    async def one(pace: Bandwidth, begin: float, pieces: int, size: int, need: Need) -> None:
        await asyncio.sleep(begin)
        PURPOSE.set(Purpose(need))
        for _ in range(pieces):
            await pace.take(size)
            granted.append((asyncio.get_running_loop().time(), size))

    async def main() -> float:
        pace = bandwidth_of(rate)
        pace.adjust()
        start = asyncio.get_running_loop().time()
        await asyncio.gather(*(spawn(one(pace, *plan)) for plan in plans))
        return start

    start = run(main())
    metadata = sum(pieces * size for _, pieces, size, need in plans if need is Need.METADATA)
    largest = max(size for _, _, size, _ in plans)
    total = 0
    for when, size in sorted(granted):
        total += size
        early = rate * 1e-6 + 1e-3  # a debt that a microsecond pays is none (relay/bucket.py)
        assert total <= rate * (when - start) + rate * 0.25 + largest + metadata + early


# -- downloads at once -------------------------------------------------------------------------


class Downloads:
    """Downloads that hold their turn until the test ends them."""

    def __init__(self, places: int) -> None:
        self.turns = Turns(places)
        self.running: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.purposes: dict[str, Purpose] = {}
        self.ends: dict[str, asyncio.Event] = {}

    async def begin(self, name: str, need: Need = Need.DEMAND) -> None:
        self.purposes[name] = Purpose(need)
        self.ends[name] = asyncio.Event()
        self.tasks[name] = spawn(self._download(name))
        await self.settle()

    async def _download(self, name: str) -> None:
        async with self.turns.turn(self.purposes[name], lambda: self._give_way(name)):
            self.running.append(name)
            try:
                await self.ends[name].wait()
            finally:
                self.running.remove(name)

    def _give_way(self, name: str) -> None:
        self.tasks[name].cancel()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        assert (self.turns.active, self.turns.waiting) == (0, 0)


def test_downloads_wait_for_their_turn_in_order() -> None:
    async def main() -> None:
        downloads = Downloads(2)
        for name in "abcd":
            await downloads.begin(name)
        assert downloads.running == ["a", "b"]
        assert downloads.turns.waiting == 2
        await downloads.end("b")
        assert downloads.running == ["a", "c"]
        await downloads.close()

    run(main())


def test_those_that_clients_wait_for_overtake() -> None:
    async def main() -> None:
        downloads = Downloads(1)
        await downloads.begin("busy")
        await downloads.begin("ahead", Need.AHEAD)
        await downloads.begin("later", Need.AHEAD)
        await downloads.begin("wanted")
        downloads.purposes["later"].need = Need.DEMAND
        await downloads.end("busy")
        assert downloads.running == ["later"]
        await downloads.end("later")
        assert downloads.running == ["wanted"]
        await downloads.end("wanted")
        assert downloads.running == ["ahead"]
        await downloads.close()

    run(main())


def test_a_download_that_nobody_waits_for_gives_way() -> None:
    async def main() -> None:
        downloads = Downloads(2)
        await downloads.begin("ahead", Need.AHEAD)
        await downloads.begin("busy")
        assert downloads.running == ["ahead", "busy"]
        await downloads.begin("wanted")
        assert downloads.running == ["busy", "wanted"]
        assert downloads.tasks["ahead"].cancelled()
        await downloads.begin("more")
        assert downloads.running == ["busy", "wanted"]
        await downloads.close()

    run(main())


@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "ahead", "end", "cancel"]), st.integers(0, 5)),
        max_size=30,
    ),
    st.integers(1, 3),
)
def test_never_more_at_once_than_there_are_places_and_none_is_lost(
    steps: list[tuple[str, int]], places: int
) -> None:
    async def main() -> None:
        downloads = Downloads(places)
        for number, (step, which) in enumerate(steps):
            names = [name for name, task in downloads.tasks.items() if not task.done()]
            if step in {"begin", "ahead"}:
                need = Need.AHEAD if step == "ahead" else Need.DEMAND
                await downloads.begin(str(number), need)
            elif names and step == "end":
                await downloads.end(names[which % len(names)])
            elif names:
                downloads.tasks[names[which % len(names)]].cancel()
                await downloads.settle()
            alive = [name for name, task in downloads.tasks.items() if not task.done()]
            assert len(downloads.running) <= places
            started = len(downloads.running)
            assert started == min(places, started + downloads.turns.waiting)
            assert set(downloads.running) <= set(alive)
        with contextlib.suppress(asyncio.CancelledError):
            await downloads.close()

    run(main())
