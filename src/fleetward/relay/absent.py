"""Names that cannot be had just now, remembered for seconds, so that a crowd asks once."""

import asyncio
from collections import OrderedDict
from datetime import timedelta


class AbsentNames:
    """Names, each until its time is over; the oldest go where there are too many."""

    def __init__(self, lifetime: timedelta, max_names: int) -> None:
        """Take how long each is remembered, and how many."""
        self._lifetime = lifetime.total_seconds()
        self._max = max_names
        self._until: OrderedDict[str, float] = OrderedDict()

    def knows(self, path: str) -> bool:
        """Return whether `path` was absent a short time ago."""
        until = self._until.get(path)
        if until is None:
            return False
        if asyncio.get_running_loop().time() < until:
            return True
        del self._until[path]
        return False

    def note(self, path: str) -> None:
        """Remember that `path` is absent now."""
        self._until[path] = asyncio.get_running_loop().time() + self._lifetime
        self._until.move_to_end(path)
        if len(self._until) > self._max:
            self._until.popitem(last=False)

    def forget(self, path: str) -> None:
        """Forget `path`, which has appeared."""
        self._until.pop(path, None)
