"""The closed list of what an alert may be about, with how bad it is and what to do next."""

from enum import IntEnum, StrEnum


class Severity(IntEnum):
    """How bad; the numbers are those of the notices' levels."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3


class Kind(StrEnum):
    """What an alert may be about."""

    UNPROTECTED = "unprotected"
    REPOSITORY_TRUST = "repository-trust"
    ROLE_EXPIRED = "role-expired"
    RELAY_FROZEN = "relay-frozen"
    HOST_FROZEN = "host-frozen"
    REPOSITORY_FROZEN = "repository-frozen"
    HOST_CLONED = "host-cloned"
    ROLLOUT_HALTED = "rollout-halted"
    ROLLED_BACK = "rolled-back"
    REJECTED = "rejected"
    REFUSED_SOURCE = "refused-source"
    SUSPICIOUS_LISTENER = "suspicious-listener"
    LISTENER = "unexpected-listener"
    DRIFT = "drift"
    SILENT = "silent"
    EVENTS_DROPPED = "events-dropped"
    RELAY_LOST = "relay-lost"
    RELAY_BEHIND = "relay-behind"
    SPOOL_FILLING = "spool-filling"
    REPOSITORY_PROBLEM = "repository-problem"
    ROLE_EXPIRING = "role-expiring"


SEVERITY: dict[Kind, Severity] = {
    Kind.UNPROTECTED: Severity.CRITICAL,
    Kind.REPOSITORY_TRUST: Severity.CRITICAL,
    Kind.ROLE_EXPIRED: Severity.CRITICAL,
    Kind.RELAY_FROZEN: Severity.CRITICAL,
    Kind.HOST_FROZEN: Severity.CRITICAL,
    Kind.REPOSITORY_FROZEN: Severity.CRITICAL,
    Kind.HOST_CLONED: Severity.CRITICAL,
    Kind.ROLLOUT_HALTED: Severity.CRITICAL,
    Kind.ROLLED_BACK: Severity.WARNING,
    Kind.REJECTED: Severity.WARNING,
    Kind.REFUSED_SOURCE: Severity.CRITICAL,
    Kind.SUSPICIOUS_LISTENER: Severity.CRITICAL,
    Kind.LISTENER: Severity.WARNING,
    Kind.DRIFT: Severity.WARNING,
    Kind.SILENT: Severity.WARNING,
    Kind.EVENTS_DROPPED: Severity.WARNING,
    Kind.RELAY_LOST: Severity.WARNING,
    Kind.RELAY_BEHIND: Severity.INFO,
    Kind.SPOOL_FILLING: Severity.WARNING,
    Kind.REPOSITORY_PROBLEM: Severity.WARNING,
    Kind.ROLE_EXPIRING: Severity.WARNING,
}
"""How bad each kind is; `tests` prove that none is missing, here and below."""

STEP: dict[Kind, str] = {
    Kind.UNPROTECTED: (
        "Nothing may run on these hosts: see in their timelines why, then publish a release that "
        "passes or lower the floor; they take it up by themselves."
    ),
    Kind.REPOSITORY_TRUST: (
        "Somebody serves metadata that the keys did not sign, or the origin was restored from a "
        "backup. Nothing was changed here. Compare the origin with its backup before anything else."
    ),
    Kind.ROLE_EXPIRED: "Hosts decide nothing new until it is signed again: renew the role now.",
    Kind.RELAY_FROZEN: (
        "Its hosts are not told what is new. Look at its upstreams; if others at the same upstream "
        "are fresh, take it out of the list."
    ),
    Kind.HOST_FROZEN: (
        "They check in, and nobody tells them what is new. Look which relay they use and whether it "
        "freezes; then tell them to update now."
    ),
    Kind.REPOSITORY_FROZEN: (
        "The origin's steward no longer renews the timestamp, or something on the way holds it "
        "back. Look at the steward first."
    ),
    Kind.HOST_CLONED: (
        "Two machines report with one key: enrol one of them anew, or find out who copied it."
    ),
    Kind.ROLLOUT_HALTED: (
        "Look at the gate that stopped it; then revert it, or go on once the cause is gone."
    ),
    Kind.ROLLED_BACK: (
        "The trial failed and the hosts went back by themselves. Pause the rollout and try the "
        "release on one of them."
    ),
    Kind.REJECTED: (
        "Preflight refused it before anything read it. Open a host's timeline for the engine's "
        "words, and withdraw the release if others do the same."
    ),
    Kind.REFUSED_SOURCE: (
        "A source sent bytes that the keys did not sign. Find out which relay or proxy it was, and "
        "take it off the network."
    ),
    Kind.SUSPICIOUS_LISTENER: (
        "It looks like an attack, or hides: open it for the reasons and the steps of each, and keep "
        "the host apart until its program is explained."
    ),
    Kind.LISTENER: "Look at each host's ports; accept what belongs there, and remove the rest.",
    Kind.DRIFT: (
        "Something else changed installed files. Find out what writes there; then run `fleetward "
        "agent update HOME --repair` on the hosts, or ask them to verify once more."
    ),
    Kind.SILENT: (
        "See whether they share a site or a relay; a whole site points to its network, single hosts "
        "to the agent or the machine."
    ),
    Kind.EVENTS_DROPPED: (
        "These hosts had more to tell than their spool holds: what happened meanwhile is lost. See "
        "why they could not reach the console."
    ),
    Kind.RELAY_LOST: "Look whether it runs; its hosts use other relays or the origin meanwhile.",
    Kind.RELAY_BEHIND: "If this stays, look at its upstreams and its rate limit.",
    Kind.SPOOL_FILLING: "It cannot forward check-ins: look at its way to this console.",
    Kind.REPOSITORY_PROBLEM: "The catalogue here is old; what hosts run is not affected.",
    Kind.ROLE_EXPIRING: "Renew it; offline roles need their key holders together.",
}
"""What to do next about each kind."""

TITLE: dict[Kind, str] = {
    Kind.UNPROTECTED: "Unprotected hosts",
    Kind.REPOSITORY_TRUST: "Repository cannot be trusted",
    Kind.ROLE_EXPIRED: "Role has expired",
    Kind.RELAY_FROZEN: "Relay freezes",
    Kind.HOST_FROZEN: "Frozen hosts",
    Kind.REPOSITORY_FROZEN: "Repository freezes",
    Kind.HOST_CLONED: "Cloned host",
    Kind.ROLLOUT_HALTED: "Rollout halted",
    Kind.ROLLED_BACK: "Release rolled back",
    Kind.REJECTED: "Release rejected",
    Kind.REFUSED_SOURCE: "Source refused",
    Kind.SUSPICIOUS_LISTENER: "Suspicious listeners",
    Kind.LISTENER: "Unexpected listeners",
    Kind.DRIFT: "Files changed",
    Kind.SILENT: "Silent hosts",
    Kind.EVENTS_DROPPED: "Events lost",
    Kind.RELAY_LOST: "Relay does not answer",
    Kind.RELAY_BEHIND: "Relay is behind",
    Kind.SPOOL_FILLING: "Spool fills",
    Kind.REPOSITORY_PROBLEM: "Repository cannot be followed",
    Kind.ROLE_EXPIRING: "Role expires soon",
}
"""What filters call each kind."""
