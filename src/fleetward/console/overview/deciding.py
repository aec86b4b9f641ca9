"""How fresh a host is with a product, and how long a release takes to reach a share: pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from fleetward.core.install import State


class Freshness(StrEnum):
    """How a host stands with a product, the best first."""

    CURRENT = "current"
    INSTALLING = "installing"
    WAITING = "waiting"
    BEHIND = "behind"
    FAILED = "failed"
    FROZEN = "frozen"
    EXPIRED = "expired"
    SILENT = "silent"
    UNPROTECTED = "unprotected"


PROTECTED: Final = frozenset({Freshness.CURRENT, Freshness.INSTALLING, Freshness.WAITING})
"""What counts as protected: the newest release, on the way to it, or as the rollout plans."""

MEANING: Final = {
    Freshness.CURRENT: "runs the newest release",
    Freshness.INSTALLING: "is taking it up",
    Freshness.WAITING: "its wave is not open yet",
    Freshness.BEHIND: "runs an older release than it should",
    Freshness.FAILED: "went back, or refused the release",
    Freshness.FROZEN: "reports, and is not told what is new",
    Freshness.EXPIRED: "what it knows of the repository has expired",
    Freshness.SILENT: "has not reported for 15 minutes",
    Freshness.UNPROTECTED: "has no release that may run",
}
"""What each means, for people."""

MOVING: Final = frozenset(
    {State.STAGING, State.PREFLIGHT, State.ACTIVATING, State.TRIAL, State.ROLLING_BACK}
)
"""States of an installation under way."""

FAILED_STATES: Final = frozenset({State.ROLLED_BACK, State.REJECTED})


class Lag(StrEnum):
    """How old the timestamp is that a host knows."""

    FRESH = "fresh"
    FROZEN = "frozen"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Pointer:
    """What hosts of a channel should run.

    Attributes:
        current: the name of the release that the channel points at; empty where none is known.
        waiting: releases that hosts outside the open waves run as planned.
        read: the greatest sequence number of the product that this console has read; None where it
            reads none. Hosts hear of a release within seconds, the console with its next poll: one
            that runs a later release than the console has read is not behind.
    """

    current: str
    waiting: frozenset[str] = frozenset()
    read: int | None = None


def freshness(
    state: State, release: str, pointer: Pointer, *, silent: bool, lag: Lag, seq: int = 0
) -> Freshness:
    """Return how a host stands with a product; the first that holds, from the worst on.

    Args:
        state: of its installation.
        release: that is installed; empty for none.
        pointer: what its channel says.
        silent: whether the host was not heard of lately.
        lag: how old its timestamp is.
        seq: the sequence number of what is installed.
    """
    if state is State.UNPROTECTED or (not release and state not in MOVING):
        return Freshness.UNPROTECTED
    if silent:
        return Freshness.SILENT
    if lag is not Lag.FRESH:
        return Freshness.EXPIRED if lag is Lag.EXPIRED else Freshness.FROZEN
    if state in MOVING:
        return Freshness.INSTALLING
    if release == pointer.current:
        return Freshness.CURRENT
    if state in FAILED_STATES:
        return Freshness.FAILED
    if pointer.read is not None and seq > pointer.read:
        return Freshness.CURRENT
    return Freshness.WAITING if release in pointer.waiting else Freshness.BEHIND


# -- time to protect ---------------------------------------------------------------------------------

_MINUTE: Final = 60
_STEPS: Final = ((60, 1), (24 * 60, 10), (7 * 24 * 60, 60))
"""Up to so many minutes, buckets of so many."""

_DAY: Final = 24 * 60


def bucket(age: timedelta) -> int:
    """Return the end, in minutes, of the bucket that an age lies in; coarser the older."""
    minutes = max(0.0, age.total_seconds() / _MINUTE)
    for end, width in _STEPS:
        if minutes <= end:
            return width * -int(-minutes // width)
    return _DAY * -int(-minutes // _DAY)


def reached(arrivals: Mapping[int, int], hosts: int, share: float) -> timedelta | None:
    """Return how long it took until `share` of the hosts had a release; None if not yet.

    Args:
        arrivals: end of a bucket in minutes -> hosts that arrived in it.
        hosts: of how many.
        share: from 0 to 1.
    """
    wanted, count = share * hosts, 0
    for minutes, arrived in sorted(arrivals.items()):
        count += arrived
        if count >= wanted:
            return timedelta(minutes=minutes)
    return None


STOPS: Final = (0, 10, 60, 6 * 60, _DAY, 3 * _DAY, 7 * _DAY, 30 * _DAY)
"""Minutes at which the axis of a curve has a mark; between two it is even."""

STOP_WORDS: Final = ("0", "10 min", "1 h", "6 h", "1 d", "3 d", "7 d", "30 d")


def stops_for(minutes: int) -> int:
    """Return how many stops an axis needs to show `minutes`; at least three."""
    return next((i + 1 for i, stop in enumerate(STOPS) if stop >= minutes and i > 1), len(STOPS))


def place(minutes: float, stops: int) -> float:
    """Return where `minutes` lies on an axis of `stops` stops, from 0 to 1."""
    for index in range(1, stops):
        if minutes <= STOPS[index]:
            begin, end = STOPS[index - 1], STOPS[index]
            return (index - 1 + (minutes - begin) / (end - begin)) / (stops - 1)
    return 1.0


def climb(
    arrivals: Mapping[int, int], hosts: int, age: int, stops: int
) -> Sequence[tuple[float, float]]:
    """Return a release's curve: points from (0, 0) on, to `age`, in parts of 1.

    Args:
        arrivals: end of a bucket in minutes -> hosts that arrived in it.
        hosts: of how many.
        age: minutes up to which the curve is known.
        stops: of the axis.
    """
    points, count = [(0.0, 0.0)], 0
    for minutes, arrived in sorted(arrivals.items()):
        count += arrived
        points.append((place(minutes, stops), min(1.0, count / max(1, hosts))))
    if age > max(arrivals, default=0):
        points.append((place(age, stops), points[-1][1]))
    return points
