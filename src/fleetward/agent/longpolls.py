"""The agent's long polls: what one says, and what is done after it.

    what came                       then
    a version above ours            the agent is woken, and this rests until it waits again
    nothing within a minute (204)   the next one, at once
    404, 403, 410                   a source without long polls: one is tried again in half an hour
    anything else, or too soon      a pause that doubles from 15 s up to 10 minutes

The pauses are jittered, so that hosts whose relay restarts do not come back in one instant. Until
a long poll holds again, the agent's ordinary polls are all there is.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from fleetward.adapters.http import HttpSession
from fleetward.agent.watching import Outlook
from fleetward.config.agent import NetworkSettings
from fleetward.core.limits import MetadataLimits, TransferLimits
from fleetward.errors import FleetwardError, NotFoundError
from fleetward.wire.announcement import claimed_version
from fleetward.wire.watch import LEAST_QUIET, WATCH_DEADLINE, Heard, watch_target

FIRST_PAUSE: Final = timedelta(seconds=15)
MAX_PAUSE: Final = timedelta(minutes=10)
UNABLE_PAUSE: Final = timedelta(minutes=30)
JITTER: Final = 0.2
"""The share by which each pause is longer or shorter."""

_PATIENT: Final = TransferLimits(read_timeout=WATCH_DEADLINE)


@dataclass(slots=True)
class LongPolls:
    """Holds one long poll at a time.

    Attributes:
        connect: makes what connects out.
    """

    connect: Callable[[NetworkSettings], HttpSession]
    _network: NetworkSettings | None = field(default=None, init=False)
    _session: HttpSession | None = field(default=None, init=False)

    def __call__(self, outlook: Outlook) -> tuple[Heard, int]:
        """Return what came, and the version that it claims; blocks up to 75 s."""
        target = f"{outlook.source}{watch_target(outlook.after)}"
        try:
            with self._connected(outlook.network).get(
                target,
                max_bytes=MetadataLimits().timestamp_bytes,
                deadline=WATCH_DEADLINE,
                limits=_PATIENT,
            ) as answer:
                if answer.status == 204:
                    return Heard.QUIET, 0
                version = claimed_version(answer.read())
        except NotFoundError:
            return Heard.UNABLE, 0
        except FleetwardError:
            return Heard.FAILED, 0
        return (Heard.NEWS, version) if version > outlook.after else (Heard.FAILED, 0)

    def _connected(self, network: NetworkSettings) -> HttpSession:
        if self._session is None or network != self._network:
            if self._session is not None:
                self._session.close()
            self._session, self._network = self.connect(network), network
        return self._session


@dataclass(slots=True)
class Ladder:
    """The pauses after long polls.

    Attributes:
        failures: in a row.
    """

    failures: int = 0

    def pause(self, heard: Heard, lasted: timedelta, share: float) -> timedelta:
        """Return how long to wait before the next long poll.

        Args:
            heard: what came of this one.
            lasted: how long it took.
            share: a number in [0, 1) that spreads the pause by a fifth to both sides.
        """
        if heard is Heard.NEWS or (heard is Heard.QUIET and lasted >= LEAST_QUIET):
            self.failures = 0
            return timedelta()
        if heard is Heard.UNABLE:
            pause = UNABLE_PAUSE
        else:
            pause = min(FIRST_PAUSE * 2 ** min(self.failures, 16), MAX_PAUSE)
            self.failures += 1
        return pause * (1 - JITTER + 2 * JITTER * share)
