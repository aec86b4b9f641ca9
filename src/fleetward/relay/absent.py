"""Names that no upstream has, remembered for a few seconds, so that a crowd asks once."""

import asyncio
from collections import OrderedDict

from fleetward.relay.settings import RelayLimits


class AbsentNames:
    """Paths that were answered 404, each until its time is over."""

    def __init__(self, limits: RelayLimits) -> None:
        self._lifetime = limits.absent_lifetime.total_seconds()
        self._max = limits.max_absent
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
