"""How check-ins are gathered: calls that grow with the load, verdicts only once durable."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from console.hosts import InlineExecutor
from fleetward.console.ingest.batching import Batcher, BatchLimits
from fleetward.console.ingest.opening import Opened, Results
from fleetward.console.ingest.rows import Delivery, Verdict
from fleetward.errors import BusyError, DiskError
from support.fakes import START

Batch = list[tuple[Delivery, Opened | None]]


def deliveries(*names: str) -> list[Delivery]:
    return [Delivery(name.encode(), START, "") for name in names]


class HeldOpener:
    """Opens when it is let go; remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[list[bytes]] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, envelopes: Sequence[bytes]) -> Results:
        self.calls.append(list(envelopes))
        await self.gate.wait()
        if self.error:
            raise self.error
        return [None] * len(envelopes)


class Ledger:
    """Stores: STORED for each, in the order in which they came."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.error: Exception | None = None

    def __call__(self, batch: Batch) -> list[Verdict]:
        if self.error:
            raise self.error
        self.batches.append([delivery.envelope for delivery, _ in batch])
        return [
            Verdict.MALFORMED if d.envelope.startswith(b"bad") else Verdict.STORED for d, _ in batch
        ]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_what_comes_while_a_call_is_under_way_makes_up_the_next() -> None:
    async def story() -> None:
        opener, ledger = HeldOpener(), Ledger()
        batcher = Batcher(opener, ledger, InlineExecutor(), BatchLimits(calls=1))
        takes = [asyncio.create_task(batcher.take(deliveries(f"{n}"))) for n in range(5)]
        await settle()
        assert opener.calls == [[b"0"]]
        assert batcher.waiting == 5
        opener.gate.set()
        assert await asyncio.gather(*takes) == [[Verdict.STORED]] * 5
        assert opener.calls == [[b"0"], [b"1", b"2", b"3", b"4"]]
        assert ledger.batches == [[b"0"], [b"1", b"2", b"3", b"4"]]
        assert batcher.waiting == 0

    asyncio.run(story())


def test_what_comes_soon_after_a_call_waits_for_company() -> None:
    """An hour apart: the first goes at once, the next only when there are as many as go together."""

    async def story() -> None:
        opener, ledger = HeldOpener(), Ledger()
        opener.gate.set()
        limits = BatchLimits(open_at_once=3, apart=timedelta(hours=1))
        batcher = Batcher(opener, ledger, InlineExecutor(), limits)
        assert await batcher.take(deliveries("a")) == [Verdict.STORED]
        takes = [asyncio.create_task(batcher.take(deliveries(name))) for name in "bc"]
        await settle()
        assert opener.calls == [[b"a"]]
        assert batcher.waiting == 2
        takes.append(asyncio.create_task(batcher.take(deliveries("d"))))
        assert await asyncio.gather(*takes) == [[Verdict.STORED]] * 3
        assert opener.calls == [[b"a"], [b"b", b"c", b"d"]]

    asyncio.run(story())


def test_company_is_waited_for_only_so_long() -> None:
    async def story() -> None:
        opener, ledger = HeldOpener(), Ledger()
        opener.gate.set()
        apart = timedelta(milliseconds=30)
        batcher = Batcher(opener, ledger, InlineExecutor(), BatchLimits(apart=apart))
        clock = asyncio.get_running_loop().time
        began = clock()
        for name in ("a", "b", "c"):
            assert await batcher.take(deliveries(name)) == [Verdict.STORED]
        assert clock() - began >= 2 * apart.total_seconds()
        assert ledger.batches == [[b"a"], [b"b"], [b"c"]]

    asyncio.run(story())


def test_a_large_batch_is_split_and_its_verdicts_keep_their_order() -> None:
    async def story() -> None:
        opener, ledger = HeldOpener(), Ledger()
        opener.gate.set()
        limits = BatchLimits(open_at_once=2, store_at_once=3)
        batcher = Batcher(opener, ledger, InlineExecutor(), limits)
        verdicts = await batcher.take(deliveries("a", "bad1", "b", "c", "bad2"))
        good, bad = Verdict.STORED, Verdict.MALFORMED
        assert verdicts == [good, bad, good, good, bad]
        assert [len(call) for call in opener.calls] == [2, 2, 1]
        assert all(len(batch) <= 3 for batch in ledger.batches)

    asyncio.run(story())


def test_nothing_is_taken_at_once() -> None:
    batcher = Batcher(HeldOpener.__new__(HeldOpener), Ledger(), InlineExecutor())
    assert asyncio.run(batcher.take([])) == []


def test_a_flood_is_refused_and_the_sender_keeps_it() -> None:
    async def story() -> None:
        opener = HeldOpener()
        batcher = Batcher(opener, Ledger(), InlineExecutor(), BatchLimits(waiting=3))
        first = asyncio.create_task(batcher.take(deliveries("a", "b")))
        await settle()
        with pytest.raises(BusyError):
            await batcher.take(deliveries("c", "d"))
        opener.gate.set()
        await first
        assert await batcher.take(deliveries("c", "d")) == [Verdict.STORED] * 2

    asyncio.run(story())


def test_whoever_waits_is_told_that_storing_failed_and_the_next_goes_on() -> None:
    async def story() -> None:
        opener, ledger = HeldOpener(), Ledger()
        opener.gate.set()
        batcher = Batcher(opener, ledger, InlineExecutor())
        ledger.error = DiskError("the disk is full")
        with pytest.raises(DiskError):
            await batcher.take(deliveries("a"))
        ledger.error = None
        assert await batcher.take(deliveries("a")) == [Verdict.STORED]
        assert batcher.waiting == 0

    asyncio.run(story())


def test_whoever_waits_is_told_that_opening_failed() -> None:
    async def story() -> None:
        opener = HeldOpener()
        opener.gate.set()
        opener.error = RuntimeError("the pool is broken")
        batcher = Batcher(opener, Ledger(), InlineExecutor())
        with pytest.raises(RuntimeError):
            await batcher.take(deliveries("a"))

    asyncio.run(story())


def test_a_sender_that_goes_away_harms_nobody() -> None:
    async def story() -> None:
        opener, ledger = HeldOpener(), Ledger()
        batcher = Batcher(opener, ledger, InlineExecutor(), BatchLimits(calls=1))
        gone = asyncio.create_task(batcher.take(deliveries("gone")))
        stays = asyncio.create_task(batcher.take(deliveries("stays")))
        await settle()
        gone.cancel()
        await settle()
        opener.gate.set()
        assert await stays == [Verdict.STORED]
        ledger.error = DiskError("full")
        opener.gate.clear()
        gone = asyncio.create_task(batcher.take(deliveries("gone")))
        await settle()
        gone.cancel()
        opener.gate.set()
        await settle()

    asyncio.run(story())


def test_there_is_one_writer() -> None:
    """Under any load the store is called from one thread, one call at a time."""
    inside = 0

    def store(batch: Batch) -> list[Verdict]:
        nonlocal inside
        inside += 1
        assert inside == 1
        inside -= 1
        return [Verdict.STORED] * len(batch)

    async def story() -> None:
        opener = HeldOpener()
        opener.gate.set()
        with ThreadPoolExecutor(4) as pool:
            batcher = Batcher(opener, store, pool, BatchLimits(store_at_once=2))
            takes = [batcher.take(deliveries(f"{n}")) for n in range(200)]
            assert len(await asyncio.gather(*takes)) == 200

    asyncio.run(story())
