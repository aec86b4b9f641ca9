"""Where envelopes are opened: threads of this process, or processes beside it.

PyNaCl gives the interpreter's lock back while it computes, so threads share the cores for what is
curve arithmetic (two thirds); processes share them for all of it, at about 30 MiB each. What comes
one by one is opened in a thread, since the way to another process and back costs more than it.
"""

import asyncio
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleetward.console.ingest import opening
from fleetward.console.ingest.opening import Results
from fleetward.errors import BusyError
from fleetward.identity.consoles import ConsoleKeys

FEW: Final = 8
"""Envelopes that are opened in a thread: to hand them to another process costs as much as opening two."""


@dataclass(frozen=True, slots=True)
class ThreadOpener:
    """Opens in threads of this process."""

    executor: Executor
    consoles: tuple[ConsoleKeys, ...]

    async def __call__(self, envelopes: Sequence[bytes]) -> Results:
        """Return each envelope's content, or None."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self.executor, opening.open_envelopes, envelopes, self.consoles
        )


class ProcessOpener:
    """Opens in processes that have loaded the keys themselves."""

    def __init__(self, make: Callable[[], Executor]) -> None:
        """Take what makes the pool; it is made again where one of its processes was killed."""
        self._make = make
        self.executor = make()

    async def __call__(self, envelopes: Sequence[bytes]) -> Results:
        """Return each envelope's content, or None.

        Raises:
            BusyError: a process was killed; there are new ones for the next call.
        """
        loop = asyncio.get_running_loop()
        executor = self.executor
        try:
            packed = await loop.run_in_executor(executor, opening.open_in_process, list(envelopes))
        except BrokenExecutor as error:
            if self.executor is executor:  # of several calls that failed, the first mends
                self.executor = self._make()
            raise BusyError("a process that opens check-ins has ended: send this again") from error
        return opening.unpack(packed)


@dataclass(frozen=True, slots=True)
class SharedOpener:
    """Opens few in a thread of this process, many in the processes beside it."""

    few: ThreadOpener
    many: ProcessOpener

    async def __call__(self, envelopes: Sequence[bytes]) -> Results:
        """Return each envelope's content, or None.

        Raises:
            BusyError: as `ProcessOpener`.
        """
        opener = self.few if len(envelopes) <= FEW else self.many
        return await opener(envelopes)


def threads(count: int, consoles: tuple[ConsoleKeys, ...]) -> ThreadOpener:
    """Return what opens in `count` threads."""
    return ThreadOpener(ThreadPoolExecutor(count, thread_name_prefix="open"), consoles)


def processes(count: int, paths: Sequence[Path]) -> ProcessOpener:
    """Return what opens in `count` processes, which start with the first call."""
    context = multiprocessing.get_context("spawn")

    def make() -> Executor:
        return ProcessPoolExecutor(
            count, mp_context=context, initializer=opening.begin, initargs=(tuple(paths),)
        )

    return ProcessOpener(make)
