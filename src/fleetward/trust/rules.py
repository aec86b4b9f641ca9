"""What is asked of verified metadata before a host takes it up, beyond what TUF asks.

`TufRules` asks nothing more than TUF and the clock that was passed in. `FleetRules` adds what
Fleetward's repositories promise (DESIGN, "Trust"), so that each target name has exactly one role
that can answer for it:

1. root asks for consistent snapshots;
2. timestamp says when it was issued, and not in the future;
3. top-level targets names no target, and delegates `fleet/` to fleet, `channels/` to channels,
   `releases/PRODUCT/` to releases-PRODUCT, each once, by patterns under that folder alone;
4. a delegated role delegates no further and names targets in its own folder only.

What the caller still owes: versions that may not go back (trust.ledger), and what the documents
behind the targets say.
"""

import json
from collections import Counter
from datetime import datetime

from fleetward.adapters.clock import Clock
from fleetward.core.limits import CLOCK_BEHIND_TOLERANCE
from fleetward.core.names import parse_product
from fleetward.errors import ClockError, ExpiredError, MetadataError, UsageError
from fleetward.trust.metadata import (
    Delegated,
    read_role,
    read_root,
    read_targets,
    read_timestamp,
)

_FLEET_ROLES = ("fleet", "channels")
_RELEASES = "releases-"


def role_of(target: str) -> str | None:
    """Return the only role that may name `target`, or None where no role may."""
    folder, _, rest = target.partition("/")
    if folder in _FLEET_ROLES and rest:
        return folder
    product, _, name = rest.partition("/")
    if folder != "releases" or not name or "/" in name:
        return None
    try:
        return f"{_RELEASES}{parse_product(product)}"
    except UsageError:
        return None


def folder_of(role: str) -> str | None:
    """Return the folder of targets that belongs to `role`, with its slash, or None."""
    if role in _FLEET_ROLES:
        return f"{role}/"
    product = role.removeprefix(_RELEASES)
    if product != role and role_of(f"releases/{product}/x") == role:
        return f"releases/{product}/"
    return None


class TufRules:
    """Nothing beyond TUF, but expiry by the clock that was passed in."""

    def __init__(self, clock: Clock) -> None:
        """Judge by `clock`."""
        self._clock = clock

    def judge(self, role: str, content: bytes) -> None:
        """Return where `content`, the verified metadata of `role`, may be taken up.

        Raises:
            ExpiredError: it has expired.
        """
        if role != "root":
            self.require_current(role, read_role(content).expires)

    def require_current(self, role: str, expires: datetime) -> None:
        """Return where the metadata of `role`, which expires at `expires`, has not expired.

        Raises:
            ExpiredError: it has.
        """
        if expires <= self._clock.now():
            raise ExpiredError(
                f"the metadata of {role} expired at {expires:%Y-%m-%d %H:%M} UTC: what is "
                "installed stays; the origin must renew it (or the clock of this host is wrong)"
            )


class FleetRules(TufRules):
    """What a repository of Fleetward promises."""

    def judge(self, role: str, content: bytes) -> None:
        """Return where `content`, the verified metadata of `role`, may be taken up.

        Raises:
            ExpiredError: it has expired.
            ClockError: it was issued after what the wall clock says.
            MetadataError: it breaks a rule of this module.
        """
        super().judge(role, content)
        if role == "root":
            _judge_root(content)
        elif role == "timestamp":
            self._judge_timestamp(read_timestamp(content).issued)
        elif role == "targets":
            _judge_targets(content)
        elif role != "snapshot":
            _judge_delegated(role, content)

    def _judge_timestamp(self, issued: datetime) -> None:
        now = self._clock.now()
        if issued > now + CLOCK_BEHIND_TOLERANCE:
            raise ClockError(
                f"timestamp was issued at {issued:%Y-%m-%d %H:%M:%S} UTC and the clock of this "
                f"host says {now:%Y-%m-%d %H:%M:%S}: set the clock, then run this again"
            )


def _judge_root(content: bytes) -> None:
    if not read_root(content).consistent_snapshot:
        raise MetadataError("root does not ask for consistent snapshots: refused")


def _judge_targets(content: bytes) -> None:
    targets = read_targets(content)
    if targets.targets:
        name = next(iter(targets.targets))
        raise MetadataError(
            f"top-level targets names {name[:200]!r} itself; it may only delegate (wrong software)"
        )
    if targets.delegates and "succinct_roles" in json.loads(content)["signed"]["delegations"]:
        raise MetadataError("targets delegates to succinct roles: refused")
    for role, count in Counter(delegated.role for delegated in targets.delegations).items():
        if count > 1:
            raise MetadataError(f"targets delegates twice to {role[:200]!r}: refused")
    for delegated in targets.delegations:
        _judge_delegation(delegated)


def _judge_delegation(delegated: Delegated) -> None:
    folder = folder_of(delegated.role)
    if folder is None:
        raise MetadataError(f"targets delegates to {delegated.role[:200]!r}, which has no folder")
    if not delegated.is_plain or not all(path.startswith(folder) for path in delegated.paths):
        raise MetadataError(
            f"targets lets {delegated.role} name targets outside {folder} (wrong software): refused"
        )


def _judge_delegated(role: str, content: bytes) -> None:
    targets = read_targets(content)
    folder = folder_of(role)
    if folder is None or targets.delegates:
        raise MetadataError(f"{role[:200]!r} is no role of a fleet, or delegates further: refused")
    for name in targets.targets:
        if not name.startswith(folder):
            raise MetadataError(
                f"{role} names {name[:200]!r}, outside {folder} (wrong software): refused"
            )
