"""Those who wait: answered once, forgotten at once, sent away in time, and never too many."""

import asyncio
import itertools
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.httpd.message import Answer, Request, Response
from fleetward.httpd.watchers import Watchers, WatchLimits
from support.fakes import SeededEntropy
from support.timestamps import timestamp

PATIENT = WatchLimits(time=timedelta(minutes=5), slice=3)


def news(version: int) -> Response:
    return Response(200, (("ETag", f'"{version}"'),), timestamp(version))


def ask(watchers: Watchers, after: object, method: str = "GET") -> Answer:
    return watchers.answer(Request(method, "/v1/watch", f"after={after}", {}))


def wait(watchers: Watchers, after: int) -> asyncio.Future[Response]:
    answer = ask(watchers, after)
    assert isinstance(answer, asyncio.Future)
    return answer


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def make(limits: WatchLimits = PATIENT) -> Watchers:
    return Watchers(SeededEntropy(), limits)


def leftovers(watchers: Watchers) -> int:
    return len(watchers._places) + len(watchers._by_version) + len(watchers._by_tick)


def timer_of(watchers: Watchers) -> asyncio.TimerHandle | None:
    return watchers._timer


@pytest.mark.parametrize("query", ["", "after=", "after=-1", "after=x", "after=1&x=2"])
def test_nonsense_is_400(query: str) -> None:
    answer = make().answer(Request("GET", "/v1/watch", query, {}))
    assert isinstance(answer, Response)
    assert answer.status == 400


def test_only_get_waits() -> None:
    answer = ask(make(), 1, method="HEAD")
    assert isinstance(answer, Response)
    assert (answer.status, answer.headers) == (405, (("Allow", "GET"),))


def test_what_is_new_already_is_answered_at_once() -> None:
    watchers, response = make(), news(7)
    watchers.publish(7, response)
    assert ask(watchers, 6) is response
    assert ask(watchers, 0) is response
    assert watchers.counters.told == 2


def test_everybody_gets_the_one_prepared_answer() -> None:
    async def main() -> None:
        watchers, response = make(), news(8)
        watchers.publish(7, news(7))
        waits = [wait(watchers, 7) for _ in range(10)]
        assert watchers.waiting == 10
        watchers.publish(8, response)
        assert all(one is response for one in await asyncio.gather(*waits))
        await asyncio.sleep(0)
        assert leftovers(watchers) == 0
        assert watchers.counters.told == 10

    run(main())


def test_the_loop_breathes_while_thousands_are_answered() -> None:
    """Another client's turn comes after every slice, not after everybody."""

    async def main() -> None:
        watchers = make(WatchLimits(slice=100))
        waits = [wait(watchers, 1) for _ in range(1000)]
        done_at_turn: list[int] = []
        watchers.publish(2, news(2))
        while not all(one.done() for one in waits):
            done_at_turn.append(sum(one.done() for one in waits))
            await asyncio.sleep(0)
        steps = [b - a for a, b in itertools.pairwise(done_at_turn)]
        assert done_at_turn[0] == 100
        assert max(steps) <= 200
        assert len(done_at_turn) >= 5

    run(main())


def test_who_knows_it_already_goes_on_waiting() -> None:
    async def main() -> None:
        watchers = make()
        older, newer = wait(watchers, 1), wait(watchers, 5)
        watchers.publish(5, news(5))
        assert (await older).body == timestamp(5)
        assert not newer.done()
        watchers.publish(6, news(6))
        assert (await newer).body == timestamp(6)

    run(main())


def test_an_upstream_that_goes_back_tells_nobody_and_forgets_its_news() -> None:
    async def main() -> None:
        watchers = make()
        watchers.publish(9, news(9))
        waits = wait(watchers, 9)
        watchers.publish(3, news(3))
        assert not waits.done()
        assert isinstance(ask(watchers, 5), asyncio.Future)
        watchers.close()

    run(main())


def test_who_leaves_is_forgotten() -> None:
    async def main() -> None:
        watchers = make()
        waits = [wait(watchers, n % 3) for n in range(30)]
        for one in waits:
            one.cancel()
        await asyncio.sleep(0)
        assert leftovers(watchers) == 0
        watchers.publish(9, news(9))
        assert watchers.counters.told == 0

    run(main())


def test_who_leaves_while_the_others_are_answered() -> None:
    async def main() -> None:
        watchers = make()
        waits = [wait(watchers, 0) for _ in range(10)]
        watchers.publish(1, news(1))
        waits[-1].cancel()
        await asyncio.gather(*waits[:-1])
        await asyncio.sleep(0)
        assert leftovers(watchers) == 0
        assert watchers.counters.told == 9

    run(main())


def test_one_too_many_is_told_to_poll() -> None:
    async def main() -> None:
        watchers = make(WatchLimits(max_watchers=2))
        first, _ = wait(watchers, 0), wait(watchers, 0)
        refused = ask(watchers, 0)
        assert isinstance(refused, Response)
        assert refused.status == 503
        assert watchers.counters.overloaded == 1
        first.cancel()
        await asyncio.sleep(0)
        wait(watchers, 0)
        watchers.close()

    run(main())


def test_without_news_they_are_sent_away_not_all_in_one_instant() -> None:
    async def main() -> None:
        limits = WatchLimits(
            time=timedelta(milliseconds=60), spread=0.9, tick=timedelta(milliseconds=1)
        )
        watchers = make(limits)
        waits = [wait(watchers, 0) for _ in range(50)]
        ticks = {tick for _, tick in watchers._places.values()}
        assert len(ticks) > 10
        answers = await asyncio.gather(*waits)
        assert {one.status for one in answers} == {204}
        assert answers[0].headers == (("Cache-Control", "no-store"),)
        await asyncio.sleep(0)
        assert watchers.counters.expired == 50
        assert leftovers(watchers) == 0

    run(main())


def test_the_timer_rests_when_nobody_waits() -> None:
    async def main() -> None:
        watchers = make(WatchLimits(time=timedelta(milliseconds=5), tick=timedelta(milliseconds=1)))
        await wait(watchers, 0)
        await asyncio.sleep(0)
        timer = timer_of(watchers)
        assert timer is not None
        timer.cancel()
        watchers._send_away()
        assert timer_of(watchers) is None
        assert (await wait(watchers, 0)).status == 204
        watchers.close()

    run(main())


def test_closing_sends_everybody_away_and_lets_nobody_wait() -> None:
    async def main() -> None:
        watchers = make()
        waits = [wait(watchers, 0) for _ in range(7)]
        watchers.close()
        assert {one.status for one in await asyncio.gather(*waits)} == {204}
        late = ask(watchers, 0)
        assert isinstance(late, Response)
        assert late.status == 204
        watchers.close()

    run(main())


@given(st.lists(st.tuples(st.sampled_from(["wait", "leave", "news"]), st.integers(0, 6))))
def test_whatever_happens_nobody_is_told_of_what_he_knows(steps: list[tuple[str, int]]) -> None:
    async def main() -> None:
        watchers = make()
        waits: list[tuple[int, asyncio.Future[Response]]] = []
        for step, number in steps:
            if step == "wait":
                answer = ask(watchers, number)
                if isinstance(answer, asyncio.Future):
                    waits.append((number, answer))
                else:
                    assert answer == news(watchers._version)
                    assert watchers._version > number
            elif step == "leave" and waits:
                waits[number % len(waits)][1].cancel()
            elif step == "news":
                watchers.publish(number, news(number))
                await asyncio.sleep(0)
        for _ in range(len(waits) + 1):
            await asyncio.sleep(0)
        for known, one in waits:
            if one.done() and not one.cancelled():
                told = [n for n in range(7) if one.result() == news(n)]
                assert told[0] > known
        assert watchers.waiting == sum(not one.done() for _, one in waits)
        watchers.close()

    run(main())
