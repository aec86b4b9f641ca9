"""What people are told of reasons: a sentence for each id, and what to do next.

A host sends ids alone; its own `fleetward ports show` has sentences that name the file and the user.
"""

from dataclasses import dataclass
from typing import Final

from fleetward.core.ports import next_step_for

SENTENCES: Final = {
    "operator-rule": "a rule of yours decides",
    "symantec-program": "a program of Symantec's, at its place, on a port of Symantec's",
    "fleetward-program": "a program of Fleetward's, by its command line",
    "own-sensor": "this host's agent hears there itself",
    "imitation": "it looks like a known program, and lies at another place",
    "unprintable-name": "its name has control characters",
    "executable-deleted": "the file of the running program is gone",
    "executable-in-memory": "the running program never was a file",
    "writable-by-anyone": "anybody on the host can replace its file",
    "package-altered": "its file is not the one that the package brought",
    "signature-broken": "its signature does not fit its file",
    "no-relay-role": "it holds the relay's port on a host that is stated to be no relay",
    "owner-unseen": "nobody could see which program holds it",
    "shared-port": "programs from different files share the port",
    "interpreter-unpinned": "an interpreter runs it, and no rule pins the script or the unit",
    "nothing-expects-it": "no reason speaks for it",
    "executable-replaced": "its file was replaced since it was started",
    "other-namespace": "it listens in another network namespace, often a container's",
    "socket-activation": "a service manager made the socket",
    "inherited": "several programs hold it",
    "serves-both": "it takes IPv4 too",
    "reachable": "other hosts can reach it",
    "ephemeral-range": "clients get their ports from here",
    "registry": "what the registry says of the port",
}
"""Id -> sentence."""

MEANING: Final = {
    "suspicious": "It looks like an attack, or like something that hides.",
    "unknown": "Nothing speaks for it, or part of it could not be seen.",
    "expected": "A rule or a known program explains it.",
}
"""What each verdict means."""

TONES: Final = {"suspicious": "bad", "unknown": "warn", "expected": "good"}
"""The class of each verdict's badge."""


@dataclass(frozen=True, slots=True)
class ReasonWords:
    """A reason for people.

    Attributes:
        id: as the host said it.
        sentence: what it means; empty for an id of a later version.
        next_step: what to do; empty where there is nothing.
    """

    id: str
    sentence: str
    next_step: str


def words_of(reason: str) -> ReasonWords:
    """Return a reason's words."""
    return ReasonWords(reason, SENTENCES.get(reason, ""), next_step_for(reason))
