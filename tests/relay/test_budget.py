"""Budgets of one client, in virtual time: misses, requests, and bytes that are spread."""

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleetward.config.relay import ClientSettings
from fleetward.core.digest import Sha256, sha256_of
from fleetward.core.limits import KIB
from fleetward.errors import NetworkError
from fleetward.httpd.message import (
    NOT_FOUND,
    Answer,
    FileBody,
    Repeatable,
    Request,
    Response,
)
from fleetward.relay.bucket import Bucket
from fleetward.relay.budget import DocumentBudget, MissBudget, PacedGrowth, RatedHandler, rated
from fleetward.relay.counters import RelayCounters
from fleetward.relay.settings import RelayLimits
from relay.test_eviction import Needs
from relay.virtual import run

BLOB = "/blobs/sha256/aa/" + "a" * 64
DIGEST = sha256_of(b"x")


# -- misses ------------------------------------------------------------------------------------


def test_misses_outside_the_closure_are_budgeted_by_client() -> None:
    needs = Needs(DIGEST)
    budget = MissBudget(ClientSettings(misses_per_minute=3), RelayLimits(), needs)
    other = sha256_of(b"other")
    assert [budget.take("192.0.2.1", other, 0.0) for _ in range(3)] == [0, 0, 0]
    assert budget.take("192.0.2.1", other, 0.0) == pytest.approx(20)
    assert budget.take("192.0.2.1", DIGEST, 0.0) == 0
    assert budget.take("192.0.2.2", other, 0.0) == 0
    assert budget.take("192.0.2.1", other, 21.0) == 0


def test_less_than_one_miss_per_minute_is_still_one_now_and_then() -> None:
    budget = MissBudget(ClientSettings(misses_per_minute=0.5), RelayLimits(), Needs())
    assert budget.take("a", DIGEST, 0.0) == 0
    assert budget.take("a", DIGEST, 60.0) == pytest.approx(60)
    assert budget.take("a", DIGEST, 121.0) == 0


def test_no_limit_of_misses() -> None:
    budget = MissBudget(ClientSettings(misses_per_minute=0), RelayLimits(), Needs())
    assert all(budget.take("a", DIGEST, 0.0) == 0 for _ in range(1000))


def test_documents_are_budgeted_by_client_and_apart_from_blobs() -> None:
    settings = ClientSettings(misses_per_minute=1, document_misses_per_minute=3)
    budget = DocumentBudget(settings, RelayLimits())
    assert [budget.take("192.0.2.1", 0.0) for _ in range(3)] == [0, 0, 0]
    assert budget.take("192.0.2.1", 0.0) == pytest.approx(20)
    assert budget.take("192.0.2.2", 0.0) == 0
    assert budget.take("192.0.2.1", 21.0) == 0
    free = DocumentBudget(ClientSettings(document_misses_per_minute=0), RelayLimits())
    assert all(free.take("a", 0.0) == 0 for _ in range(1000))


def test_an_attacker_with_many_addresses_fills_no_memory() -> None:
    budget = MissBudget(ClientSettings(), RelayLimits(max_clients=10), Needs())
    for number in range(1000):
        budget.take(f"2001:db8:0:{number:x}::1", DIGEST, 0.0)
    assert len(budget._buckets) == 10


# -- bytes -------------------------------------------------------------------------------------


class Filling:
    """A file that grows as a test says."""

    def __init__(self, available: int) -> None:
        self.available = available
        self.is_cut = False
        self.changed = asyncio.Event()

    async def beyond(self, offset: int) -> None:
        while self.available <= offset:
            if self.is_cut:
                raise NetworkError("cut")
            self.changed.clear()
            await self.changed.wait()


async def send(growth: PacedGrowth, offset: int, end: int, log: list[tuple[float, int]]) -> float:
    """What the server does with a growing file."""
    loop = asyncio.get_running_loop()
    while offset < end:
        await growth.beyond(offset)
        upto = min(end, growth.available)
        assert upto > offset
        log.append((loop.time(), upto - offset))
        offset = upto
    return loop.time()


@given(
    st.lists(st.tuples(st.integers(0, 400_000), st.integers(1, 400_000)), min_size=1, max_size=4),
    st.integers(10_000, 5_000_000),
)
@example([(0, 237_859), (0, 262_026), (0, 285_138)], 4_998_829)
def test_all_connections_of_a_client_together_get_its_rate(
    parts: list[tuple[int, int]], rate: int
) -> None:
    async def main() -> None:
        start = asyncio.get_running_loop().time()
        bucket = Bucket(rate, rate * 0.1, start)
        log: list[tuple[float, int]] = []
        await asyncio.gather(
            *(
                send(PacedGrowth(None, first + length, bucket), first, first + length, log)
                for first, length in parts
            )
        )
        assert sum(count for _, count in log) == sum(length for _, length in parts)
        total = 0
        for when, count in sorted(log):
            total += count
            early = rate * 1e-6 + 1  # a debt that a microsecond pays is none (relay/bucket.py)
            assert total <= rate * (when - start) + rate * 0.1 + 256 * KIB + early

    run(main())


def test_a_growing_file_is_paced_and_never_sent_beyond_what_has_come() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        filling = Filling(20_000)
        bucket = Bucket(100_000, 10_000, start)
        log: list[tuple[float, int]] = []
        sending = asyncio.ensure_future(
            send(PacedGrowth(filling, 500_000, bucket), 0, 500_000, log)
        )
        await asyncio.sleep(10)
        assert sum(count for _, count in log) == 20_000
        filling.available = 500_000
        filling.changed.set()
        assert await sending - start == pytest.approx(14.7, abs=0.3)

    run(main())


def test_a_file_that_goes_wrong_while_it_is_paced_is_cut() -> None:
    """The fill breaks while the client waits for its rate: not a byte more is released."""

    async def main() -> None:
        bucket = Bucket(1000, 0, asyncio.get_running_loop().time())
        filling = Filling(4096)
        growth = PacedGrowth(filling, 100_000, bucket)
        await growth.beyond(0)
        assert growth.available == 4096
        waiting = asyncio.ensure_future(growth.beyond(4096))
        await asyncio.sleep(1)
        filling.is_cut = True
        with pytest.raises(NetworkError):
            await waiting

    run(main())


# -- the handler -------------------------------------------------------------------------------


class Answering:
    """A handler that answers as a test says."""

    def __init__(self, make: Any) -> None:  # noqa: ANN401
        self._make = make
        self.asked = 0

    def max_body(self, method: str, path: str) -> int:
        return 5

    def answer(self, request: Request) -> Answer:
        self.asked += 1
        answer: Answer = self._make()
        return answer


def request(path: str = BLOB, peer: str = "192.0.2.1", method: str = "GET") -> Request:
    return Request(method, path, "", {}, peer=peer)


def handler_of(make: Any, **settings: float) -> tuple[RatedHandler, RelayCounters]:  # noqa: ANN401
    counters = RelayCounters()
    made = rated(
        Answering(make),
        ClientSettings(**settings),  # type: ignore[arg-type]
        RelayLimits(),
        counters,
    )
    assert isinstance(made, RatedHandler)
    return made, counters


async def settled(answer: Answer) -> Response:
    if isinstance(answer, Response):
        return answer
    assert not isinstance(answer, Repeatable)
    return await answer


def test_without_rates_the_handler_stays_as_it_is() -> None:
    inner = Answering(lambda: NOT_FOUND)
    assert rated(inner, ClientSettings(), RelayLimits(), RelayCounters()) is inner


def test_requests_beyond_the_rate_are_answered_503_and_recover() -> None:
    async def main() -> None:
        handler, counters = handler_of(lambda: NOT_FOUND, requests_per_second=2)
        assert handler.max_body("POST", "/") == 5
        statuses = [(await settled(handler.answer(request("/v1/x")))).status for _ in range(25)]
        assert statuses == [404] * 20 + [503] * 5
        assert (counters.overloaded, counters.refused_rate) == (5, 5)
        assert (await settled(handler.answer(request(peer="192.0.2.9")))).status == 404
        await asyncio.sleep(1)
        statuses = [(await settled(handler.answer(request()))).status for _ in range(3)]
        assert statuses == [404, 404, 503]

    run(main())


def test_an_answer_that_could_be_repeated_unseen_is_counted_each_time() -> None:
    async def main() -> None:
        repeatable = Repeatable(NOT_FOUND, lambda: True)
        handler, _ = handler_of(lambda: repeatable, requests_per_second=1)
        assert handler.answer(request()) is NOT_FOUND
        paced, _ = handler_of(lambda: repeatable, rate=1000)
        assert await settled(paced.answer(request())) is NOT_FOUND
        assert paced.answer(request("/metadata/1.root.json")) is repeatable

    run(main())


def test_a_proxied_path_that_looks_like_metadata_is_paid_for() -> None:
    """A client asks, as of a proxy, for big files under `/v1/` or `/targets/` of a passthrough.

    Only the repository's own documents are free; else a path would choose its own price.
    """

    async def main() -> None:
        loop = asyncio.get_running_loop()
        handler, _ = handler_of(lambda: Response(200, body=bytes(10_000)), rate=1000)
        start = loop.time()
        for path in ("/targets/a", "/v1/b", "/metadata/c"):
            asked = Request("GET", path, "", {}, peer="a", authority="http://up.example")
            await settled(handler.answer(asked))
        assert loop.time() - start == pytest.approx(19.9)

    run(main())


def test_short_answers_are_paid_for_before_the_next() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        start = loop.time()
        handler, _ = handler_of(lambda: Response(200, body=bytes(10_000)), rate=1000)
        times = []
        for _ in range(3):
            await settled(handler.answer(request()))
            times.append(loop.time() - start)
        await settled(handler.answer(request("/targets/releases/x/y.json")))
        await settled(handler.answer(request(peer="192.0.2.9")))
        assert loop.time() - start == times[-1]
        return times

    assert run(main()) == pytest.approx([0, 9.9, 19.9])


def test_long_answers_are_released_in_pieces_also_from_a_coroutine(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(50_000))

    def body() -> FileBody:
        return FileBody(os.open(file, os.O_RDONLY), 10_000, 40_000)

    async def later() -> Response:
        await asyncio.sleep(1)
        return Response(200, body=body())

    def promised() -> Coroutine[Any, Any, Response]:
        return later()

    async def main() -> None:
        for make in (lambda: Response(200, body=body()), promised):
            handler, _ = handler_of(make, rate=10_000)
            response = await settled(handler.answer(request()))
            assert isinstance(response.body, FileBody)
            assert isinstance(response.body.growth, PacedGrowth)
            log: list[tuple[float, int]] = []
            start = asyncio.get_running_loop().time()
            done = await send(response.body.growth, 10_000, 50_000, log)
            assert done - start == pytest.approx(3.5, abs=0.5)
            response.discard()
            head = await settled(handler.answer(request(method="HEAD")))
            assert isinstance(head.body, FileBody)
            assert head.body.growth is None
            head.discard()

    run(main())


def test_a_client_that_leaves_before_its_turn_leaves_nothing_behind() -> None:
    async def main() -> None:
        handler, _ = handler_of(lambda: Response(200, body=bytes(1000)), rate=10)
        await settled(handler.answer(request()))
        waiting = handler.answer(request())
        assert asyncio.iscoroutine(waiting)
        task = asyncio.ensure_future(waiting)
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert handler._handler.asked == 1  # type: ignore[attr-defined]

    run(main())


def test_a_needed_digest_is_no_string_that_somebody_sent() -> None:
    needs = Needs(Sha256("0" * 64))
    assert MissBudget(ClientSettings(), RelayLimits(), needs).take("a", Sha256("0" * 64), 0.0) == 0
