"""What a connection waits for, and how long."""

import enum
from functools import lru_cache

from fleetward.httpd.limits import ServerLimits


class Phase(enum.Enum):
    """What a connection waits for."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    ANSWERING = "answering"
    LINGERING = "lingering"


@lru_cache(maxsize=8)
def timeouts(limits: ServerLimits) -> dict[Phase, float]:
    """Return for each phase how many seconds it may last."""
    return {
        Phase.IDLE: limits.idle_timeout.total_seconds(),
        Phase.HEAD: limits.head_timeout.total_seconds(),
        Phase.BODY: limits.body_timeout.total_seconds(),
        Phase.LINGERING: limits.linger.total_seconds(),
    }
