"""How a host stands in a rollout: pure.

Silence is told in two kinds, since a release that stops hosts may do so before they say that they
took it: `silent` took it and was not heard from since, `vanished` was there when its wave opened and
fell silent before it said so. A host that was away before (`away`) is evidence of nothing.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from fleetward.console.fleet.queries import SILENT_AFTER
from fleetward.core.install import State
from fleetward.core.status import EventKind


class Standing(StrEnum):
    """How a host stands with a channel's release."""

    CONFIRMED = "confirmed"
    TRYING = "trying"
    FAILED = "failed"
    SILENT = "silent"
    VANISHED = "vanished"
    BEHIND = "behind"
    AWAY = "away"
    WAITING = "waiting"


MEANING: Final = {
    Standing.CONFIRMED: "runs it, and its engine has tried it",
    Standing.TRYING: "is taking it up",
    Standing.FAILED: "refused it, or went back",
    Standing.SILENT: "took it, and was not heard from since",
    Standing.VANISHED: "was there when its wave opened, and fell silent before it said that it took it",
    Standing.BEHIND: "its wave is open, and it has not taken it",
    Standing.AWAY: "was away before its wave opened",
    Standing.WAITING: "its wave is not open",
}
"""What each means, for people."""

TOOK: Final = frozenset({Standing.CONFIRMED, Standing.TRYING, Standing.FAILED, Standing.SILENT})
"""Who took the release, whatever came of it."""

WRONG: Final = (Standing.FAILED, Standing.SILENT, Standing.VANISHED)
"""Standings whose hosts need a look, the worst first; all are behind as a wave opens."""

FAILURES: Final = (EventKind.ROLLED_BACK, EventKind.REJECTED, EventKind.UNPROTECTED)
"""Events by which a host says that a release failed on it."""

_HELD: Final = frozenset({State.ROLLED_BACK, State.REJECTED, State.UNPROTECTED})
_MOVING: Final = frozenset({State.STAGING, State.PREFLIGHT, State.ACTIVATING, State.TRIAL})


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a host.

    Attributes:
        has_it: whether it runs the release.
        state: of its installation.
        since: when that was first reported.
        heard: when it was last heard from; None for never.
        said_failed: whether an event says that this release failed on it.
    """

    has_it: bool
    state: State
    since: datetime
    heard: datetime | None
    said_failed: bool = False


def stands(seen: Seen, opened: datetime | None, pointed: datetime, now: datetime) -> Standing:
    """Return how a host stands.

    Args:
        seen: what is known of it.
        opened: when its wave was opened; None where it is not open.
        pointed: since when the channel points at the release.
        now: the console's clock.
    """
    is_silent = seen.heard is None or now - seen.heard > SILENT_AFTER
    if _has_failed(seen, pointed):
        return Standing.FAILED
    if seen.has_it:
        return _after_taking(seen, is_silent=is_silent)
    if opened is None:
        return Standing.WAITING
    if is_silent:
        was_there = seen.heard is not None and seen.heard >= opened - SILENT_AFTER
        return Standing.VANISHED if was_there else Standing.AWAY
    return Standing.TRYING if seen.state in _MOVING else Standing.BEHIND


def _has_failed(seen: Seen, pointed: datetime) -> bool:
    if seen.state is State.ROLLING_BACK:
        return seen.has_it or seen.said_failed or seen.since >= pointed
    if seen.state is State.UNPROTECTED:  # also where an older release was revoked
        return seen.said_failed
    # An event may come later than the state; a state that is older speaks of another release.
    return seen.state in _HELD and (seen.said_failed or seen.since >= pointed)


def _after_taking(seen: Seen, *, is_silent: bool) -> Standing:
    if seen.state is not State.CONFIRMED:
        return Standing.SILENT if is_silent else Standing.TRYING
    # Whoever was heard for a while after taking it, and is off now, has gone home.
    was_heard_after = seen.heard is not None and seen.heard - seen.since > SILENT_AFTER
    return Standing.SILENT if is_silent and not was_heard_after else Standing.CONFIRMED
