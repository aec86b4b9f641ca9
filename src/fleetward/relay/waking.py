"""Telling those who wait for a growing file that there is more, at once or a little later.

Waking hundreds of waiters for every packet would cost more than sending to them.
"""

import asyncio
from datetime import timedelta


class Waiters:
    """Whoever waits for the next change of something; lives in one event loop."""

    def __init__(self, interval: timedelta) -> None:
        """Take how often `tell_soon` may wake them."""
        self._interval = interval.total_seconds()
        self._changed = asyncio.Event()
        self._planned: asyncio.TimerHandle | None = None
        self._told = 0.0

    async def changed(self) -> None:
        """Return once there is something new to look at."""
        await self._changed.wait()

    def tell_soon(self) -> None:
        """Wake them, the first time at once and then at most every interval."""
        if self._planned is not None:
            return
        loop = asyncio.get_running_loop()
        due = self._told + self._interval
        if loop.time() >= due:
            self.tell()
        else:
            self._planned = loop.call_at(due, self.tell)

    def tell(self) -> None:
        """Wake them now."""
        if self._planned is not None:
            self._planned.cancel()
            self._planned = None
        self._told = asyncio.get_running_loop().time()
        self._changed.set()
        self._changed = asyncio.Event()
