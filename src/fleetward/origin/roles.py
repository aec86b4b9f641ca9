"""The repository's roles: how long each is valid and who signs it (DESIGN, "Trust")."""

from dataclasses import dataclass
from datetime import timedelta

from fleetward.errors import ConfigurationError

OFFLINE_ROLES = ("root", "targets", "fleet")
ONLINE_ROLES = ("channels", "snapshot", "timestamp")
_YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long a role's metadata is valid, and how often timestamp is renewed."""

    root: timedelta = _YEAR
    targets: timedelta = _YEAR
    fleet: timedelta = _YEAR
    releases: timedelta = timedelta(days=30)
    channels: timedelta = timedelta(days=7)
    snapshot: timedelta = timedelta(days=7)
    timestamp: timedelta = timedelta(days=7)
    interval: timedelta = timedelta(minutes=10)

    def of(self, role: str) -> timedelta:
        """Return the lifetime of `role`, by its name in the repository."""
        lifetime: timedelta = getattr(self, "releases" if role.startswith("releases-") else role)
        return lifetime


@dataclass(frozen=True, slots=True)
class Quorum:
    """How many keys a role has, and how many of them must sign."""

    keys: int = 3
    threshold: int = 2

    def __post_init__(self) -> None:
        """Refuse what could not be signed.

        Raises:
            ConfigurationError: the threshold is under 1 or above the number of keys.
        """
        if not 1 <= self.threshold <= self.keys:
            raise ConfigurationError(
                f"{self.threshold} of {self.keys} keys: the threshold must be 1 to {self.keys}"
            )

    def for_offline_role(self, role: str) -> "Quorum":
        """Return itself where it suits an offline role.

        Raises:
            ConfigurationError: every key would be needed.
        """
        if self.threshold == self.keys:
            raise ConfigurationError(
                f"{role} with {self.threshold} of {self.keys} keys: one lost key would end the "
                f"repository; make {self.keys + 1} keys, or lower the threshold"
            )
        return self
