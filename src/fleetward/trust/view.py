"""What a host may believe of a repository at one moment: one consistent snapshot of it.

Everything that a view gives was verified, belongs to one timestamp, and comes from the one role
that may say it. Metadata of delegated roles and documents are brought when first asked for.

Deliberately not here: the network and the disk (trust.client gives two functions that use them),
and what to do with a channel, a floor or a policy (core.admission).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from fnmatch import fnmatchcase
from typing import TypeVar

from fleetward.core.consoles import Consoles
from fleetward.core.digest import Sha256
from fleetward.core.documents import Channel, Floor, Manifest, Policy, ReleaseRef
from fleetward.core.fleet import Relays
from fleetward.core.names import ChannelName, ProductName, ReleaseName
from fleetward.errors import ConfigurationError, FleetwardError, MetadataError
from fleetward.trust.metadata import (
    TOP_LEVEL,
    RootFacts,
    SnapshotFacts,
    TargetsFacts,
    TimestampFacts,
)
from fleetward.trust.rules import role_of
from fleetward.wire import documents, layout

_RELEASES = layout.releases_role(ProductName(""))

_Document = TypeVar("_Document", Channel, Consoles, Floor, Manifest, Policy, Relays)


@dataclass(frozen=True, slots=True)
class Source:
    """A repository or a relay: its base URL, without a trailing slash."""

    url: str


@dataclass(frozen=True, slots=True)
class VerifiedTarget:
    """A target that its role names: what its bytes must be.

    Attributes:
        name: the target's name.
        role: the role that names it.
        sha256: the digest of its bytes.
        length: their number.
    """

    name: str
    role: str
    sha256: Sha256
    length: int


@dataclass(frozen=True, slots=True)
class RoleStanding:
    """A role of the repository, for people who watch over it.

    Attributes:
        role: its name.
        version: the version that belongs to the view.
        keyids: the ids of the keys that may sign it.
        threshold: how many of them must.
        expires: when it expires; None where its metadata was not needed yet.
    """

    role: str
    version: int
    keyids: tuple[str, ...]
    threshold: int
    expires: datetime | None


class Outcome(Enum):
    """How a source did.

    FRESH and FROZEN serve the newest timestamp that this host knows, FROZEN one that is overdue by
    its own interval. BEHIND serves an authentic one that is older than what the host knows, yet not
    overdue: a relay that lags, or a replay; by itself it gives no view. REFUSED served what was refused, UNREACHABLE nothing.
    """

    FRESH = "fresh"
    BEHIND = "behind"
    FROZEN = "frozen"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What became of asking one source.

    Attributes:
        source: which.
        outcome: how it did.
        error: why it was refused or not reached, or None.
        timestamp_version: of the timestamp that it served, where one was authentic.
        issued: when that was issued.
    """

    source: Source
    outcome: Outcome
    error: FleetwardError | None = None
    timestamp_version: int | None = None
    issued: datetime | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """The verified top-level metadata that belongs together."""

    root: RootFacts
    timestamp: TimestampFacts
    snapshot: SnapshotFacts
    targets: TargetsFacts

    @property
    def expiries(self) -> dict[str, datetime]:
        """When each of them expires, by role."""
        return {
            "root": self.root.expires,
            "timestamp": self.timestamp.expires,
            "snapshot": self.snapshot.expires,
            "targets": self.targets.expires,
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """How a view stands in time and among the sources.

    Attributes:
        source: the source that serves it; None where no source was asked.
        frozen: whether its timestamp is overdue by more than three of its own intervals.
        clock_ahead: how far the wall clock is ahead of it, where that is more than a day.
        expired: the top-level roles that have expired.
    """

    source: Source | None
    frozen: bool
    clock_ahead: timedelta | None
    expired: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """How a view brings what it is asked for.

    Attributes:
        role: gives the metadata of a role (first) that may name a target (second).
        target: gives a target's verified bytes.
        reports: how the sources did; grows while targets are brought.
    """

    role: Callable[[str, str], TargetsFacts]
    target: Callable[[VerifiedTarget], bytes]
    reports: list[SourceReport]


class VerifiedView:
    """One consistent snapshot of a repository, as far as it was verified."""

    def __init__(self, parts: Parts, standing: Standing, reading: Reading) -> None:
        """Give `parts`, and the rest through `reading`."""
        self._parts = parts
        self._standing = standing
        self._reading = reading
        self._roles: dict[str, TargetsFacts] = {}

    @property
    def timestamp(self) -> TimestampFacts:
        """The timestamp that all of this belongs to."""
        return self._parts.timestamp

    @property
    def source(self) -> Source | None:
        """The source that serves it; None where no source was asked."""
        return self._standing.source

    @property
    def frozen(self) -> bool:
        """Whether the timestamp is overdue by more than three of its own intervals."""
        return self._standing.frozen

    @property
    def clock_ahead(self) -> timedelta | None:
        """How far the wall clock is ahead of the timestamp, where that is more than a day."""
        return self._standing.clock_ahead

    @property
    def expired(self) -> tuple[str, ...]:
        """The top-level roles that have expired; empty in a view that `refresh` gave."""
        return self._standing.expired

    @property
    def reports(self) -> tuple[SourceReport, ...]:
        """How the sources did, in the order in which they were asked."""
        return tuple(self._reading.reports)

    @property
    def versions(self) -> dict[str, int]:
        """The version of every role of the repository."""
        parts = self._parts
        listed = {role: entry.version for role, entry in parts.snapshot.roles.items()}
        return {
            "root": parts.root.version,
            "timestamp": parts.timestamp.version,
            "snapshot": parts.snapshot.version,
            **listed,
        }

    @property
    def expiries(self) -> dict[str, datetime]:
        """When each role expires, as far as its metadata was needed."""
        found = {role: facts.expires for role, facts in self._roles.items()}
        return self._parts.expiries | found

    @property
    def roles(self) -> tuple[RoleStanding, ...]:
        """Every role of the repository: the top-level ones, then those that targets delegates to."""
        root, expiries, versions = self._parts.root, self.expiries, self.versions
        keys = {
            role: (root.keyids.get(role, ()), root.thresholds.get(role, 1)) for role in TOP_LEVEL
        }
        keys |= {
            each.role: (each.keyids, each.threshold) for each in self._parts.targets.delegations
        }
        return tuple(
            RoleStanding(role, versions[role], keyids, threshold, expiries.get(role))
            for role, (keyids, threshold) in keys.items()
            if role in versions
        )

    def products(self) -> tuple[ProductName, ...]:
        """Return the products that targets delegates releases of, by name."""
        roles = (each.role for each in self._parts.targets.delegations)
        found = [role.removeprefix(_RELEASES) for role in roles if role.startswith(_RELEASES)]
        return tuple(ProductName(name) for name in sorted(found))

    def releases(self, product: ProductName) -> tuple[ReleaseName, ...]:
        """Return the names of all releases that a product's releases role names. Raises as `find`."""
        folder = layout.manifest_target(product, ReleaseName("")).removesuffix(".json")
        others = {layout.floor_target(product), layout.policy_target(product)}
        names = self._names(layout.floor_target(product), folder)
        return tuple(ReleaseName(n.removeprefix(folder)[:-5]) for n in names if n not in others)

    def channels(self, product: ProductName) -> tuple[ChannelName, ...]:
        """Return the names of a product's channels. Raises as `find`."""
        folder = layout.channel_target(product, ChannelName("")).removesuffix(".json")
        names = self._names(f"{folder}any.json", folder)
        return tuple(ChannelName(name.removeprefix(folder)[:-5]) for name in names)

    def _names(self, sample: str, folder: str) -> list[str]:
        """Return the JSON documents right below `folder` that the role of `sample` may name."""
        self.find(sample)
        role = role_of(sample) or ""
        facts = self._roles.get(role)
        return sorted(
            name
            for name in (facts.targets if facts else ())
            if name.startswith(folder)
            and name.endswith(".json")
            and "/" not in name[len(folder) :]
            and self._may_name(role, name)
        )

    def find(self, name: str) -> VerifiedTarget | None:
        """Return the target called `name`, or None where its role does not name it.

        Raises:
            TrustError: the role's metadata was refused.
            NetworkError: it could not be brought.
        """
        role = role_of(name)
        if role is None or not self._may_name(role, name):
            return None
        if role not in self._roles:
            self._roles[role] = self._reading.role(role, name)
        facts = self._roles[role].targets.get(name)
        return None if facts is None else VerifiedTarget(name, role, facts.sha256, facts.length)

    def fetch(self, target: VerifiedTarget) -> bytes:
        """Return the bytes of `target`, verified by digest and length.

        Raises:
            DigestError: every source that has it gave other bytes.
            NetworkError: no source gave it.
            MetadataError: it is signed as longer than a document may be.
        """
        return self._reading.target(target)

    def channel(self, product: ProductName, channel: ChannelName) -> Channel:
        """Return a product's channel.

        Raises:
            ConfigurationError: the repository has no such channel.
            MetadataError: the document is that of another channel.
            DocumentError: it has not the form of a channel.
            As `find` and `fetch`.
        """
        found = self._document(Channel, layout.channel_target(product, channel))
        if found is None:
            raise ConfigurationError(
                f"the repository has no channel {channel!r} of a product {product!r}: look at the "
                "names in the subscription, or ask who publishes"
            )
        if (found.product, found.channel) != (product, channel):
            raise MetadataError(
                f"the channel {channel} of {product} holds the document of {found.channel} of "
                f"{found.product} (wrong software): refused"
            )
        return found

    def floor(self, product: ProductName) -> Floor:
        """Return a product's floor; 0 where none is signed. Raises as `channel`."""
        found = self._document(Floor, layout.floor_target(product))
        return _of_product(found or Floor(product=product, seq=0), product)

    def policy(self, product: ProductName) -> Policy:
        """Return a product's policy; the default where none is signed. Raises as `channel`."""
        found = self._document(Policy, layout.policy_target(product))
        return _of_product(found or Policy(product=product), product)

    def manifest(self, product: ProductName, ref: ReleaseRef) -> Manifest | None:
        """Return the manifest that `ref` points at, or None.

        None means that the product's releases role does not name exactly that digest: whoever
        signed `ref` points at something that the release keys do not vouch for.

        Raises:
            DocumentError: it has not the form of a manifest.
            As `find` and `fetch`.
        """
        target = self.find(layout.manifest_target(product, ref.release))
        if target is None or target.sha256 != ref.manifest:
            return None
        return documents.decode(Manifest, self.fetch(target))

    def release(self, product: ProductName, release: ReleaseName) -> Manifest | None:
        """Return the manifest of a release by name, or None where the role does not name it.

        Who asks by name alone learns what the release keys vouch for, not what a channel points
        at: enough for a step of a chain of deltas, whose end is verified anyway.

        Raises:
            DocumentError: it has not the form of a manifest.
            As `find` and `fetch`.
        """
        return self._document(Manifest, layout.manifest_target(product, release))

    def relays(self) -> Relays | None:
        """Return the fleet's list of relays, or None where none is signed.

        It says where to ask, and no more: nothing is believed because it came from there.

        Raises:
            DocumentError: it has not the form of a list of relays.
            As `find` and `fetch`.
        """
        return self._document(Relays, layout.RELAYS_TARGET)

    def consoles(self) -> Consoles | None:
        """Return whom the fleet keys name as the console, or None where that is not signed.

        Raises:
            DocumentError: it has not the form of that document.
            As `find` and `fetch`.
        """
        return self._document(Consoles, layout.CONSOLE_TARGET)

    def _document(self, kind: type[_Document], name: str) -> _Document | None:
        target = self.find(name)
        return None if target is None else documents.decode(kind, self.fetch(target))

    def _may_name(self, role: str, name: str) -> bool:
        return any(
            _matches(pattern, name)
            for delegated in self._parts.targets.delegations
            if delegated.role == role
            for pattern in delegated.paths
        )


_ProductDocument = TypeVar("_ProductDocument", Floor, Policy)


def _of_product(found: _ProductDocument, product: ProductName) -> _ProductDocument:
    if found.product != product:
        raise MetadataError(
            f"a document of {product} says that it is of {found.product} (wrong software): refused"
        )
    return found


def _matches(pattern: str, name: str) -> bool:
    """Return whether TUF's path pattern matches: segment by segment, `*` within one segment."""
    patterns, segments = pattern.split("/"), name.split("/")
    return len(patterns) == len(segments) and all(map(fnmatchcase, segments, patterns))
