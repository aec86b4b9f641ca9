"""Who asks whether his inbox has news: one query for all, never older than the question."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from django.db import OperationalError
from hypothesis import given
from hypothesis import strategies as st

from console.hosts import InlineExecutor
from fleetward.console.ingest import asking as module
from fleetward.console.ingest.asking import Asking, Numbers
from fleetward.core.status import HostId
from fleetward.errors import BusyError


class Book:
    """What is known, and which questions were looked up together."""

    def __init__(self, known: Numbers) -> None:
        self.known = known
        self.looks: list[list[HostId]] = []
        self.error: Exception | None = None

    def __call__(self, hosts: Sequence[HostId]) -> Numbers:
        self.looks.append(list(hosts))
        if self.error is not None:
            raise self.error
        return {host: self.known[host] for host in hosts if host in self.known}


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=40))
def test_everybody_gets_his_own(hosts: list[str]) -> None:
    book = Book({"a": 1, "b": 2, "c": None, "d": 4})

    async def story() -> list[int | BaseException | None]:
        asking = Asking(InlineExecutor(), book)
        return await asyncio.gather(
            *[asking.number(HostId(host)) for host in hosts], return_exceptions=True
        )

    for host, found in zip(hosts, asyncio.run(story()), strict=True):
        if host in book.known:
            assert found == book.known[host]
        else:
            assert isinstance(found, LookupError)
    assert len(book.looks) == 1


def test_who_asks_while_a_query_is_under_way_gets_the_next() -> None:
    """A number that rose after a query began is seen by whoever asks after that."""
    gate, began = Event(), Event()
    book = Book({"a": 1})

    def look(hosts: Sequence[HostId]) -> Numbers:
        found = book(hosts)
        began.set()
        assert gate.wait(20)
        return found

    async def story() -> list[int | None]:
        asking = Asking(executor, look)
        first = asyncio.create_task(asking.number(HostId("a")))
        await asyncio.get_running_loop().run_in_executor(None, began.wait, 20)
        book.known["a"] = 2
        rest = [asyncio.create_task(asking.number(HostId("a"))) for _ in range(3)]
        await asyncio.sleep(0)
        gate.set()
        return list(await asyncio.gather(first, *rest))

    with ThreadPoolExecutor(1) as executor:
        assert asyncio.run(story()) == [1, 2, 2, 2]
    assert [len(look) for look in book.looks] == [1, 3]


def test_a_query_is_for_so_many() -> None:
    book = Book({str(n): n for n in range(1201)})

    async def story() -> list[int | None]:
        asking = Asking(InlineExecutor(), book)
        return list(await asyncio.gather(*[asking.number(HostId(str(n))) for n in range(1201)]))

    assert asyncio.run(story()) == list(range(1201))
    assert [len(look) for look in book.looks] == [500, 500, 201]


def test_a_flood_is_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ASKING", 2)

    async def story() -> None:
        asking = Asking(InlineExecutor(), Book({"a": 1}))
        waiting = [asyncio.create_task(asking.number(HostId("a"))) for _ in range(2)]
        crowd = asyncio.create_task(asking.number(HostId("a")))
        with pytest.raises(BusyError):
            await crowd
        assert await asyncio.gather(*waiting) == [1, 1]

    asyncio.run(story())


def test_a_database_that_fails_fails_those_who_asked_and_nobody_after() -> None:
    book = Book({"a": 1})

    async def story() -> None:
        asking = Asking(InlineExecutor(), book)
        book.error = OperationalError("gone")
        for found in await asyncio.gather(
            asking.number(HostId("a")), asking.number(HostId("b")), return_exceptions=True
        ):
            assert isinstance(found, OperationalError)
        book.error = None
        assert await asking.number(HostId("a")) == 1

    asyncio.run(story())


def test_who_went_away_holds_nobody_up() -> None:
    async def story() -> None:
        asking = Asking(InlineExecutor(), Book({"a": 1, "b": 2}))
        gone = asyncio.create_task(asking.number(HostId("a")))
        stays = asyncio.create_task(asking.number(HostId("b")))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays == 2
        assert gone.cancelled()

    asyncio.run(story())
