"""Whether a host's inbox has news: those who ask while a query is under way share the next one.

Invariants: a query begins after everybody whom it answers has asked, so an answer is never older
than its question; nothing is kept between queries, so replicas and people's changes need no word.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Final

from fleetward.core.status import HostId
from fleetward.errors import BusyError

MAX_ASKING: Final = 10_000
"""Hosts that wait for a number (a flood); 503 beyond it."""

MAX_AT_ONCE: Final = 500
"""Hosts of one query."""

Numbers = dict[str, int | None]


class Asking:
    """One for each console process; lives in its event loop."""

    def __init__(self, executor: Executor, look: Callable[[Sequence[HostId]], Numbers]) -> None:
        """Prepare.

        Args:
            executor: where `look` runs.
            look: returns the numbers of those that have one, None before the first check-in.
        """
        self._executor = executor
        self._look = look
        self._waiting: list[tuple[HostId, asyncio.Future[int | None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def number(self, host: HostId) -> int | None:
        """Return the number of a host's inbox, None before its first check-in.

        Raises:
            LookupError: no such key, or one whose check-ins are not taken.
            BusyError: too many ask.
            DatabaseError: it could not be looked up.
        """
        if len(self._waiting) >= MAX_ASKING:
            raise BusyError("too many ask for their inbox: ask again later")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int | None] = loop.create_future()
        self._waiting.append((host, answer))
        if self._task is None:
            self._task = loop.create_task(self._answer_all())
        return await answer

    async def _answer_all(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting[:MAX_AT_ONCE], self._waiting[MAX_AT_ONCE:]
                await self._answer(asked)
        finally:
            self._task = None

    async def _answer(self, asked: list[tuple[HostId, "asyncio.Future[int | None]"]]) -> None:
        loop = asyncio.get_running_loop()
        hosts = [host for host, _ in asked]
        waiting = [(host, answer) for host, answer in asked if not answer.done()]
        try:
            numbers = await loop.run_in_executor(self._executor, self._look, hosts)
        except Exception as error:  # noqa: BLE001 (whatever it was, whoever waits is told)
            for _, answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
            return
        for host, answer in waiting:
            if answer.done():
                continue
            if host in numbers:
                answer.set_result(numbers[host])
            else:
                answer.set_exception(LookupError(f"{host} is not enrolled here"))
