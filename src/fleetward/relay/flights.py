"""Single flight: however many ask for one thing, it is done once, by a task of its own.

The task outlives whoever asked first, and is held here, so that it is neither cancelled with a
client nor collected while it runs.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Result = TypeVar("Result")


class Flights(Generic[Key, Result]):
    """Tasks by what they fetch."""

    def __init__(self) -> None:
        self._tasks: dict[Key, asyncio.Task[Result]] = {}

    def __len__(self) -> int:
        """Return how many are under way."""
        return len(self._tasks)

    def __contains__(self, key: Key) -> bool:
        """Return whether `key` is under way."""
        task = self._tasks.get(key)
        return task is not None and not task.done()

    def join(
        self, key: Key, start: Callable[[], Coroutine[Any, Any, Result]]
    ) -> "asyncio.Task[Result]":
        """Return the task for `key`, begun now where there is none.

        Wait for it with `asyncio.shield` or `asyncio.wait`: a client that leaves must not end it.
        """
        task = self._tasks.get(key)
        if task is None or task.done():
            task = asyncio.get_running_loop().create_task(start())
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        return task

    def _landed(self, key: Key, task: "asyncio.Task[Result]") -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled():
            task.exception()

    async def cancel(self) -> None:
        """End all of them, and wait until they have ended."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
