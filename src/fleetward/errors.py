"""Every error that Fleetward raises on purpose: one tree, split by who must act.

An error carries a sentence for people (what happened, then what to do) and the exit code that
scripts see. Library errors are wrapped once, at the boundary where they appear (`raise … from`).

Deliberately not here: error classes per module. A caller decides by who must act, so a class
exists only where some caller treats it differently.
"""

from typing import ClassVar


class FleetwardError(Exception):
    """The root of the tree; never raised itself.

    Attributes:
        exit_code: what a command exits with when this error ends it (DESIGN, "Commands").
    """

    exit_code: ClassVar[int] = 1


# -- the operator must act ---------------------------------------------------------------------


class UsageError(FleetwardError):
    """A command line that cannot be carried out as written."""

    exit_code = 2


class ConfigurationError(FleetwardError):
    """A setting, a file or a folder of the operator's that is missing, unreadable or refused."""

    exit_code = 12


class KeyUnavailableError(ConfigurationError):
    """A signing key is absent, or its passphrase is wrong or was not given."""


class BusyError(FleetwardError):
    """Another process holds the lock; the same call succeeds once it has ended."""

    exit_code = 11


# -- try again ---------------------------------------------------------------------------------


class NetworkError(FleetwardError):
    """No source could be reached, or each broke off; nothing on this host has changed."""

    exit_code = 11


class NotFoundError(NetworkError):
    """A source answered that it does not have the file.

    Attributes:
        status: the HTTP status code, or None where the source is not HTTP.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class SlowTransferError(NetworkError):
    """A transfer fell under the minimum rate or passed its deadline (slow retrieval)."""


# -- an attacker, or a mistake that looks like one ----------------------------------------------


class TrustError(FleetwardError):
    """Something that the release keys do not vouch for was refused; the old release stays."""

    exit_code = 10


class MetadataError(TrustError):
    """TUF metadata that does not verify: signatures, threshold, versions, or its form."""


class RollbackError(TrustError):
    """Something older than what this host has already seen, or under the signed floor."""


class ExpiredError(TrustError):
    """Metadata past its expiry: no new decision is made on it, and nothing is removed."""


class ClockError(TrustError):
    """The wall clock stands behind a time that was already proven by a signature."""


class DigestError(TrustError):
    """Bytes whose digest or length is not the signed one."""


class UnsafeTreeError(TrustError):
    """A tree that could write outside its slot or mean two things on two platforms."""


class DocumentError(TrustError):
    """A document that crossed a process boundary and does not have the form its schema says."""


class SignatureError(TrustError):
    """A check-in, an inbox or an enrolment that its sender did not sign, or that nobody can open."""


# -- the disk ------------------------------------------------------------------------------------


class DiskError(FleetwardError):
    """The disk is full, read-only, or failing; what was there before is still there."""

    exit_code = 13


# -- a release that a host refused ----------------------------------------------------------------


class RejectedError(FleetwardError):
    """Preflight rejected the release before it was activated."""

    exit_code = 14


class RolledBackError(FleetwardError):
    """The trial failed and the host went back to the previous release."""

    exit_code = 15
