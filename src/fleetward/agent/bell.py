"""The bell that wakes the agent: one thread holds the long poll, the main thread waits.

The main thread alone works, and alone takes signals, which end its wait at once. The threads are
daemons: they hold nothing that must be finished, and the process ends without them.
"""

import threading
from collections.abc import Callable
from datetime import timedelta

from fleetward.adapters.clock import Clock
from fleetward.adapters.entropy import Entropy
from fleetward.agent.longpolls import Ladder
from fleetward.agent.watching import Outlook
from fleetward.wire.watch import Heard

LongPoll = Callable[[Outlook], tuple[Heard, int]]


class ThreadBell:
    """Rung by a long poll in a thread, and by whoever calls `ring`."""

    def __init__(self, poll: LongPoll, clock: Clock, entropy: Entropy) -> None:
        """Take what polls; the thread begins with the first wait.

        Args:
            poll: one long poll; blocks.
            clock: measures it.
            entropy: spreads its pauses.
        """
        self._poll = poll
        self._clock = clock
        self._entropy = entropy
        self._news = threading.Event()
        self._changed = threading.Condition()
        self._outlook = Outlook()
        self._is_watching = False
        self._ladder = Ladder()
        self._thread: threading.Thread | None = None

    @property
    def after(self) -> int:
        """Return the version above which something is news."""
        return self._outlook.after

    def ring(self) -> None:
        """Wake the agent; from any thread."""
        self._news.set()

    def wait(self, outlook: Outlook, pause: timedelta) -> bool:
        """Return whether news came within `pause`; what rang before is over."""
        with self._changed:
            if outlook.source != self._outlook.source:
                self._ladder = Ladder()
            self._outlook = outlook
            self._is_watching = outlook.source is not None
            self._news.clear()
            self._changed.notify_all()
        if self._is_watching and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
            self._thread.start()
        return self._news.wait(max(0.0, pause.total_seconds()))

    def _watch(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_watching)
                outlook, ladder = self._outlook, self._ladder
            began = self._clock.monotonic()
            heard, version = self._poll(outlook)
            pause = ladder.pause(heard, self._clock.monotonic() - began, self._entropy.share())
            with self._changed:
                if heard is Heard.NEWS:
                    self._tell(version)
                elif pause:
                    self._rest(outlook.source, pause)

    def _rest(self, source: str | None, pause: timedelta) -> None:
        """Return after `pause`, or once another source is to be watched."""
        self._changed.wait_for(lambda: self._outlook.source != source, pause.total_seconds())

    def _tell(self, version: int) -> None:
        """Ring, unless a check has found that version meanwhile; then the next poll follows."""
        if version > self._outlook.after:
            self._is_watching = False
            self._news.set()
