"""News of a new timestamp, told to the parts of a relay that wait for it.

Invariants: only a timestamp that differs from the last one is told; who listens is told in the
order of `subscribe`, in the event loop, and must neither block nor raise.

Deliberately not here: whether a timestamp is right. The bytes are what an upstream sent, and a
relay holds no key.
"""

from collections.abc import Callable

Listener = Callable[[bytes], None]


class News:
    """Who wants to know of a new timestamp, and the last one that was told.

    Attributes:
        latest: the last timestamp that was published; empty before the first.
    """

    def __init__(self) -> None:
        self.latest = b""
        self._listeners: list[Listener] = []

    def subscribe(self, callback: Listener) -> None:
        """Call `callback` with each new timestamp from now on; see `latest` for the present one.

        Args:
            callback: called in the event loop with the timestamp's bytes.
        """
        self._listeners.append(callback)

    def publish(self, timestamp: bytes) -> None:
        """Tell all that the relay's cached timestamp is now `timestamp`; once for each content.

        Args:
            timestamp: its bytes, as an upstream sent them.
        """
        if timestamp == self.latest:
            return
        self.latest = timestamp
        for callback in tuple(self._listeners):
            callback(timestamp)
