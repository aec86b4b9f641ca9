"""Between checks: what wakes the agent early, and when it stops listening to false news.

News (a long poll's answer, an announcement) only make the agent check. A check that finds no newer
verified timestamp says that they were false: a relay forges timestamps, or a box on the way
answers long polls as it likes. Only the host can tell, so the host must not be made to spin:

    after n false news in a row the agent hears nothing for 15 s * 2^(n-1), at most half a pause

So it never stops listening for good, and false news make it check at most about twice as often as
its polls do. News that are withheld delay nothing beyond the ordinary pause (a freezing relay).

Deliberately not here: threads and sockets (`agent.bell`), what a check does (`agent.updating`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

from fleetward.adapters.clock import Clock
from fleetward.adapters.entropy import Entropy
from fleetward.agent.updating import UpdateReport
from fleetward.config.agent import NetworkSettings
from fleetward.errors import FleetwardError

FIRST_DEAFNESS: Final = timedelta(seconds=15)
"""How long the agent hears nothing after its first false news."""

_MAX_DOUBLINGS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What the agent waits for.

    Attributes:
        source: base URL whose long poll to hold; None for none.
        after: the version of the newest verified timestamp; 0 before the first.
        spread: the most that a check waits after news.
        network: how to connect out.
    """

    source: str | None = None
    after: int = 0
    spread: timedelta = timedelta(seconds=1)
    network: NetworkSettings = field(default_factory=NetworkSettings)


class Bell(Protocol):
    """What is rung by news; `agent.bell` has the one with threads."""

    def wait(self, outlook: Outlook, pause: timedelta) -> bool:
        """Return whether news came within `pause`."""
        ...


@dataclass(slots=True)
class Listening:
    """Waits between checks; called by `running.run_loop`.

    Attributes:
        outlook: returns what to wait for after a run, or None where there is nothing to hear.
        bell: rung by news.
        clock: waits.
        entropy: draws the spread.
    """

    outlook: Callable[[UpdateReport], Outlook | None]
    bell: Bell
    clock: Clock
    entropy: Entropy
    _false: int = field(default=0, init=False)
    _woken_at: int | None = field(default=None, init=False)

    def __call__(self, report: UpdateReport | None, pause: timedelta) -> None:
        """Return after `pause`, or soon after news.

        Args:
            report: of the run before; None where it could not even begin.
            pause: the ordinary pause, jittered already.
        """
        outlook = self._look(report)
        if outlook is None:
            self.clock.sleep(pause)
            return
        self._judge(outlook.after)
        deaf = min(self._deafness(), pause / 2)
        if deaf:
            self.clock.sleep(deaf)
        if self.bell.wait(outlook, pause - deaf):
            self._woken_at = outlook.after
            self.clock.sleep(outlook.spread * self.entropy.share())

    def _look(self, report: UpdateReport | None) -> Outlook | None:
        try:
            return None if report is None else self.outlook(report)
        except FleetwardError:
            return None  # the next run will say what is wrong

    def _judge(self, version: int) -> None:
        """Take what the check after the last news found."""
        if self._woken_at is not None:
            self._false = 0 if version > self._woken_at else self._false + 1
        self._woken_at = None

    def _deafness(self) -> timedelta:
        if not self._false:
            return timedelta()
        return FIRST_DEAFNESS * (1 << min(self._false - 1, _MAX_DOUBLINGS))
