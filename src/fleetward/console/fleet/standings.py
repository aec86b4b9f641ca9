"""Where hosts and keys stand: words that rows, rules and pages share; no database."""

from enum import StrEnum


class HostStanding(StrEnum):
    """Where a host record stands with this console."""

    PENDING = "pending"
    ACTIVE = "active"
    RETIRED = "retired"
    REVOKED = "revoked"


class KeyStanding(StrEnum):
    """Where a key stands; a replaced key's events are still taken, its status is not."""

    PENDING = "pending"
    ACTIVE = "active"
    REPLACED = "replaced"
    REFUSED = "refused"
    REVOKED = "revoked"


class DirectiveState(StrEnum):
    """The life of a directive."""

    QUEUED = "queued"
    CARRIED = "carried"
    DONE = "done"
    REFUSED = "refused"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


LIVE_DIRECTIVES = (DirectiveState.QUEUED, DirectiveState.CARRIED)
"""States in which a directive lies in the inbox."""
