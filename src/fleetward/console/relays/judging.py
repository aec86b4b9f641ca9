"""How a relay stands beside the others; pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

INTERVAL: Final = timedelta(minutes=10)
"""How often the origin renews its timestamp, where the repository does not say."""

FROZEN_AFTER: Final = 3
"""Versions of the timestamp by which a relay may stand behind; beyond it freezes (DESIGN, Trust)."""

LOST_AFTER: Final = timedelta(minutes=5)
"""A relay that has not answered for so long is lost (one dropped answer is no news)."""

SPOOL_FULL_SHARE: Final = 0.7
"""Share of its room from which on a spool is called filling."""


class Standing(StrEnum):
    """How a relay stands, worst first."""

    LOST = "lost"
    FROZEN = "frozen"
    BEHIND = "behind"
    FILLING = "filling"
    TROUBLED = "troubled"
    UNKNOWN = "unknown"
    WELL = "well"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a relay.

    Attributes:
        added: when it was first named.
        answered: when it last answered; None for never.
        version: of the timestamp that it serves; 0 unknown.
        newest: the greatest version that any relay serves or the console has verified.
        spool_bytes: what waits in its spool, of `spool_max`.
        problems: how many it names itself.
    """

    added: datetime
    answered: datetime | None
    version: int
    newest: int
    spool_bytes: int = 0
    spool_max: int = 0
    problems: int = 0


def judge(facts: Facts, now: datetime) -> Standing:
    """Return how a relay stands.

    Args:
        facts: what is known of it.
        now: the console's clock.
    """
    if now - (facts.answered or facts.added) > LOST_AFTER:
        return Standing.LOST
    if facts.answered is None:
        return Standing.UNKNOWN
    lag = lag_of(facts.version, facts.newest)
    if lag > FROZEN_AFTER:
        return Standing.FROZEN
    if lag > 1:
        return Standing.BEHIND
    if facts.spool_max and facts.spool_bytes >= SPOOL_FULL_SHARE * facts.spool_max:
        return Standing.FILLING
    return Standing.TROUBLED if facts.problems else Standing.WELL


def lag_of(version: int, newest: int) -> int:
    """Return by how many versions a timestamp stands behind; 0 where its version is unknown."""
    return max(0, newest - version) if version else 0
