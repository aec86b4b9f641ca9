"""Gathers what comes at once: opened aside in few large calls, stored in one transaction.

For check-ins, and for requests for enrolment; what they become is the opener's and the store's.

    take ──> waiting to be opened ──> executor (threads or processes) ──> waiting to be stored
                                                                              │ one at a time
         <────────────────── verdicts, once durable ──────────────────────────┘

A check-in that comes alone goes straight through. What arrives while a call is under way, or within
`BatchLimits.apart` of its beginning, makes up the next one: so calls grow with the load, and a fleet
that reports all the time costs a hundred transactions a second instead of one for each host.

Invariants: there is one writer; a verdict is given only after its transaction is durable; what does
not fit the queue is refused at once (`BusyError`), and the sender keeps it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from fleetward.console.ingest.rows import Delivery
from fleetward.errors import BusyError


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much goes at once.

    Attributes:
        open_at_once: envelopes of one call to the executor; about 40 ms of work.
        calls: calls under way; more than there are cores only makes everybody wait longer.
        store_at_once: check-ins of one transaction; larger ones keep the others waiting.
        waiting: envelopes that wait in all (a flood); a minute's worth at full speed is not kept.
        apart: from the beginning of a call to the next one, unless as many wait as go at once. A
            transaction costs as much as opening five check-ins, however few are in it.
    """

    open_at_once: int = 200
    calls: int = 2
    store_at_once: int = 500
    waiting: int = 20_000
    apart: timedelta = timedelta(milliseconds=10)


_Opened = TypeVar("_Opened")
_Opened_co = TypeVar("_Opened_co", covariant=True)
_Result = TypeVar("_Result")


class Opener(Protocol[_Opened_co]):
    """Opens envelopes aside; `opening.open_envelopes` in threads or processes."""

    async def __call__(self, envelopes: Sequence[bytes]) -> Sequence[_Opened_co]:
        """Return each envelope's content, or what stands for one that is malformed."""
        ...


Store = Callable[[list[tuple[Delivery, _Opened]]], Sequence[_Result]]
"""Stores a batch durably; called in the executor, one call at a time."""


@dataclass(slots=True)
class _Submission(Generic[_Opened, _Result]):
    deliveries: Sequence[Delivery]
    done: "asyncio.Future[Sequence[_Result]]"
    opened: Sequence[_Opened] = ()


class Batcher(Generic[_Opened, _Result]):
    """One for each console process; lives in its event loop."""

    def __init__(
        self,
        opener: Opener[_Opened],
        store: Store[_Opened, _Result],
        writer: Executor,
        limits: BatchLimits | None = None,
    ) -> None:
        """Prepare; nothing runs before the first `take`.

        Args:
            opener: opens envelopes.
            store: stores batches.
            writer: where `store` runs; with one thread, since there is one writer.
            limits: how much goes at once.
        """
        self._opener = opener
        self._store = store
        self._writer = writer
        self._limits = limits or BatchLimits()
        self._to_open: deque[_Submission[_Opened, _Result]] = deque()
        self._to_store: deque[_Submission[_Opened, _Result]] = deque()
        self._calls = 0
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._storing = False
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Envelopes that were taken and are not stored."""
        return self._waiting

    async def take(self, deliveries: Sequence[Delivery]) -> list[_Result]:
        """Return what became of each envelope, once all that was taken is durable.

        Raises:
            BusyError: too much waits already.
            FleetwardError, DatabaseError: the batch could not be stored; nothing of it was.
        """
        if not deliveries:
            return []
        if self._waiting + len(deliveries) > self._limits.waiting:
            raise BusyError(f"{self._waiting} check-ins wait to be stored: send this again later")
        size = self._limits.open_at_once
        parts = [deliveries[at : at + size] for at in range(0, len(deliveries), size)]
        self._waiting += len(deliveries)
        try:
            verdicts = await asyncio.gather(*[self._submit(part) for part in parts])
        finally:
            self._waiting -= len(deliveries)
        return [verdict for part in verdicts for verdict in part]

    async def _submit(self, deliveries: Sequence[Delivery]) -> Sequence[_Result]:
        done: asyncio.Future[Sequence[_Result]] = asyncio.get_running_loop().create_future()
        submission: _Submission[_Opened, _Result] = _Submission(deliveries, done)
        self._to_open.append(submission)
        self._open_more()
        return await submission.done

    # -- inside --------------------------------------------------------------------------------

    def _open_more(self) -> None:
        while self._to_open and self._calls < self._limits.calls and self._is_due():
            self._calls += 1
            self._start(self._open(_several(self._to_open, self._limits.open_at_once)))

    def _is_due(self) -> bool:
        """Return whether the next call may begin; look again by itself where not yet."""
        loop = asyncio.get_running_loop()
        now, many = loop.time(), self._limits.open_at_once
        if now < self._not_before and sum(len(one.deliveries) for one in self._to_open) < many:
            if self._timer is None:
                self._timer = loop.call_at(self._not_before, self._look_again)
            return False
        self._not_before = now + self._limits.apart.total_seconds()
        return True

    def _look_again(self) -> None:
        self._timer = None
        self._open_more()

    async def _open(self, submissions: list[_Submission[_Opened, _Result]]) -> None:
        envelopes = [d.envelope for one in submissions for d in one.deliveries]
        try:
            results = await self._opener(envelopes)
        except BaseException as error:  # noqa: BLE001 (whatever it was, whoever waits is told)
            _fail(submissions, error)
        else:
            place = 0
            for one in submissions:
                one.opened = results[place : place + len(one.deliveries)]
                place += len(one.deliveries)
            self._to_store.extend(submissions)
            self._store_more()
        finally:
            self._calls -= 1
            self._open_more()

    def _store_more(self) -> None:
        if self._to_store and not self._storing:
            self._storing = True
            self._start(self._write(_several(self._to_store, self._limits.store_at_once)))

    async def _write(self, submissions: list[_Submission[_Opened, _Result]]) -> None:
        batch = [
            pair for one in submissions for pair in zip(one.deliveries, one.opened, strict=True)
        ]
        loop = asyncio.get_running_loop()
        try:
            verdicts = await loop.run_in_executor(self._writer, self._store, batch)
        except BaseException as error:  # noqa: BLE001 (whatever it was, whoever waits is told)
            _fail(submissions, error)
        else:
            place = 0
            for one in submissions:
                if not one.done.done():
                    one.done.set_result(verdicts[place : place + len(one.deliveries)])
                place += len(one.deliveries)
        finally:
            self._storing = False
            self._store_more()

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop keeps none of them alive
        task.add_done_callback(self._tasks.discard)


def _several(
    queue: deque[_Submission[_Opened, _Result]], most: int
) -> list[_Submission[_Opened, _Result]]:
    """Take submissions off the queue: one at least, then as many as stay under `most` envelopes."""
    taken = [queue.popleft()]
    count = len(taken[0].deliveries)
    while queue and count + len(queue[0].deliveries) <= most:
        count += len(queue[0].deliveries)
        taken.append(queue.popleft())
    return taken


def _fail(submissions: list[_Submission[_Opened, _Result]], error: BaseException) -> None:
    for one in submissions:
        if not one.done.done():
            one.done.set_exception(error)
