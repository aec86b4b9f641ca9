"""Who waits for a growing file is woken at once, and then at most every interval."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from fleetward.relay.waking import Waiters
from relay.virtual import run

INTERVAL = timedelta(seconds=10)


class Crowd:
    """Some who wait again and again; when each was woken, by the loop's time."""

    def __init__(self, count: int) -> None:
        self.waiters = Waiters(INTERVAL)
        self.woken: list[float] = []
        self._tasks = [asyncio.create_task(self._wait()) for _ in range(count)]

    async def _wait(self) -> None:
        while True:
            await self.waiters.changed()
            self.woken.append(asyncio.get_running_loop().time())

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def telling(story: Callable[[Crowd], Awaitable[None]]) -> None:
    async def main() -> None:
        crowd = Crowd(3)
        await asyncio.sleep(20)  # the loop's clock stands at least an interval after its beginning
        await story(crowd)
        await crowd.leave()

    run(main())


def test_the_first_news_wake_all_at_once() -> None:
    async def story(crowd: Crowd) -> None:
        now = asyncio.get_running_loop().time()
        crowd.waiters.tell_soon()
        await asyncio.sleep(1)
        assert crowd.woken == [now] * 3

    telling(story)


def test_a_hundred_news_within_an_interval_wake_them_once_more() -> None:
    async def story(crowd: Crowd) -> None:
        now = asyncio.get_running_loop().time()
        for _ in range(100):
            crowd.waiters.tell_soon()
            await asyncio.sleep(0.05)
        await asyncio.sleep(30)
        assert len(crowd.woken) == 6
        assert max(crowd.woken) == now + INTERVAL.total_seconds()

    telling(story)


def test_an_end_is_told_now_and_not_a_second_time() -> None:
    async def story(crowd: Crowd) -> None:
        now = asyncio.get_running_loop().time()
        crowd.waiters.tell_soon()
        await asyncio.sleep(1)
        crowd.waiters.tell_soon()
        crowd.waiters.tell()
        await asyncio.sleep(30)
        assert crowd.woken == [now] * 3 + [now + 1] * 3

    telling(story)
