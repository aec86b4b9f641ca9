"""Many appends, one fsync: whoever comes while a commit is under way shares the next one.

A check-in is promised (202) only once its commit has ended. The disk is waited for in a thread, so
an fsync of some milliseconds costs other clients nothing.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from fleetward.errors import DiskError
from fleetward.relay.segments import Record
from fleetward.relay.settings import CarryLimits
from fleetward.relay.shares import Fate
from fleetward.relay.spool import Spool


@dataclass(frozen=True, slots=True)
class _Waiting:
    records: Sequence[Record]
    done: asyncio.Future[list[Fate]]


class Commits:
    """The spool, for callers in the event loop.

    Attributes:
        spool: where the check-ins go.
        opened: set once the spool is open.
        kept: set when something was kept; the one who forwards clears it.
    """

    def __init__(self, spool: Spool, limits: CarryLimits) -> None:
        self.spool = spool
        self.opened = asyncio.Event()
        self.kept = asyncio.Event()
        self._limits = limits
        self._wanted = asyncio.Event()
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._is_failing = False

    async def append(self, records: Sequence[Record]) -> list[Fate]:
        """Keep check-ins; return what became of each, once that is durable."""
        size = sum(record.size for record in records)
        if self._is_failing:
            return [Fate.DISK] * len(records)
        if self._bytes + size > self._limits.max_waiting_bytes:
            return [Fate.FULL] * len(records)
        done: asyncio.Future[list[Fate]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(records, done))
        self._bytes += size
        self._wanted.set()
        return await done

    async def run(self) -> None:
        """Open the spool, then commit until cancelled."""
        try:
            await self._open()
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                await self._commit()
        finally:
            self._refuse_waiting()
            self.spool.close()

    async def _open(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.spool.open)
            except DiskError:
                self.spool.counters.disk_errors += 1
                self._is_failing = True
                self._refuse_waiting()
                await asyncio.sleep(self._limits.first_pause.total_seconds())
            else:
                self._is_failing = False
                self.opened.set()
                return

    def _refuse_waiting(self) -> None:
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        for one in waiting:
            _tell(one.done, [Fate.DISK] * len(one.records))

    async def _commit(self) -> None:
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        records = [record for one in waiting for record in one.records]
        fates = await asyncio.to_thread(self.spool.append, records)
        if Fate.KEPT in fates:
            self.kept.set()
        at = 0
        for one in waiting:
            end = at + len(one.records)
            _tell(one.done, fates[at:end])
            at = end


def _tell(done: asyncio.Future[list[Fate]], fates: list[Fate]) -> None:
    if not done.done():
        done.set_result(fates)
