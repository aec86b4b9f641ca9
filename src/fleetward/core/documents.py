"""The signed documents, as values: manifest, channel, floor, policy.

Invariant: a value that exists is well-formed (names are names, digests are digests, numbers are
not negative, instants are UTC), whoever sent it; so the decisions need no further checks.

Deliberately not here: their JSON (wire.documents) and who signed them (trust).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from fleetward.core.digest import Sha256, parse_sha256
from fleetward.core.names import (
    ChannelName,
    ProductName,
    ReleaseName,
    parse_channel,
    parse_product,
    parse_release,
)
from fleetward.errors import DocumentError, UsageError


def _require(holds: bool, complaint: str) -> None:  # noqa: FBT001 (an assertion with a sentence)
    if not holds:
        raise DocumentError(complaint)


def _names(
    product: str | None = None, release: str | None = None, channel: str | None = None
) -> None:
    try:
        if product is not None:
            parse_product(product)
        if release is not None:
            parse_release(release)
        if channel is not None:
            parse_channel(channel)
    except UsageError as error:
        raise DocumentError(str(error)) from error


def _digests(*digests: str) -> None:
    for digest in digests:
        parse_sha256(digest)


def _counts(**counts: int) -> None:
    for name, count in counts.items():
        _require(count >= 0, f"{name} is negative: {count}")


def _utc(instant: datetime, name: str) -> None:
    _require(instant.utcoffset() == timedelta(0), f"{name} is not in UTC: {instant}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What loads the content, and which of its versions can (None: any)."""

    name: str
    min: str | None = None
    max: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeIdentity:
    """A tree's canonical tar: digest, length in bytes, and the number of its files."""

    sha256: Sha256
    length: int
    files: int

    def __post_init__(self) -> None:
        _digests(self.sha256)
        _counts(length=self.length, files=self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """The tar as one compressed blob: codec, digest and length in bytes."""

    codec: str
    sha256: Sha256
    length: int

    def __post_init__(self) -> None:
        _digests(self.sha256)
        _counts(length=self.length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A blob that turns one release into another.

    Attributes:
        base: the release that it starts from.
        base_tree: the digest of that release's canonical tar.
        codec: who applies it (deltas.registry).
        encoder: the gzip encoder that was proven when the origin made it, or None.
        memory: bytes that applying takes.
        sha256: the blob's digest.
        length: the blob's length in bytes.
    """

    base: ReleaseName
    base_tree: Sha256
    codec: str
    encoder: str | None
    memory: int
    sha256: Sha256
    length: int

    def __post_init__(self) -> None:
        _names(release=self.base)
        _digests(self.base_tree, self.sha256)
        _counts(memory=self.memory, length=self.length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One immutable, signed release.

    Attributes:
        product: what is distributed.
        release: its name.
        seq: its place in the product's order, from 1.
        created: when it was made; ramps count from here.
        engine: what loads it.
        tree: its identity.
        pack: the whole release as one blob.
        deltas: from the releases that the origin keeps.
        urgent: whether it passes the policy's ramp.
    """

    product: ProductName
    release: ReleaseName
    seq: int
    created: datetime
    engine: Engine
    tree: TreeIdentity
    pack: Pack
    deltas: tuple[Delta, ...] = ()
    urgent: bool = False

    def __post_init__(self) -> None:
        _names(product=self.product, release=self.release)
        _require(self.seq >= 1, f"seq is under 1: {self.seq}")
        _utc(self.created, "created")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRef:
    """A release, as a channel points at it: by the digest of its manifest."""

    release: ReleaseName
    seq: int
    manifest: Sha256

    def __post_init__(self) -> None:
        _names(release=self.release)
        _require(self.seq >= 1, f"seq is under 1: {self.seq}")
        _digests(self.manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Hosts that take the release together: rings by name, or the first `percent` of all places."""

    rings: tuple[str, ...] = ()
    percent: float = 0.0

    def __post_init__(self) -> None:
        _require(0 <= self.percent <= 100, f"percent is not in 0..100: {self.percent}")


ChannelState = Literal["running", "paused", "halted", "reverting", "complete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Who runs what: a moving, signed pointer with its rollout.

    Attributes:
        product: of which product.
        channel: its name.
        release: what the channel points at.
        previous: what hosts outside the open waves run; None before the second release.
        salt: what a host's place is computed with (see core.rollout).
        plan: `now` opens to all at once; `waves` follows `waves` and `open`.
        waves: the waves in their order.
        open: how many of them are open.
        state: the rollout's state.
    """

    product: ProductName
    channel: ChannelName
    release: ReleaseRef
    previous: ReleaseRef | None = None
    salt: str
    plan: Literal["now", "waves"] = "now"
    waves: tuple[Wave, ...] = ()
    open: int = 0
    state: ChannelState = "complete"

    def __post_init__(self) -> None:
        _names(product=self.product, channel=self.channel)
        _require(0 <= self.open <= len(self.waves), f"open is not in 0..{len(self.waves)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """A release that no host may run again, with the reason for people."""

    release: ReleaseName
    tree: Sha256
    reason: str = ""

    def __post_init__(self) -> None:
        _names(release=self.release)
        _digests(self.tree)


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The least sequence number that a host may take from the network, and what is revoked."""

    product: ProductName
    seq: int
    revoked: tuple[Revoked, ...] = ()

    def __post_init__(self) -> None:
        _names(product=self.product)
        _counts(seq=self.seq)

    def revocation_of(self, tree: Sha256) -> Revoked | None:
        """Return the revocation of the release whose tree is `tree`, or None."""
        return next((revoked for revoked in self.revoked if revoked.tree == tree), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RampStep:
    """From this age of a release on, in seconds, this share of hosts may take it."""

    age: int
    percent: float

    def __post_init__(self) -> None:
        _counts(age=self.age)
        _require(0 <= self.percent <= 100, f"percent is not in 0..100: {self.percent}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the release keys allow the online keys to do.

    Attributes:
        product: of which product.
        ramp: the fastest ramp, by rising age; empty admits every host at once.
        when_nothing_is_allowed: what a host runs where its release is revoked and no other is
            allowed: `keep` the failed one, or `none`. Either way it reports `unprotected`.
    """

    product: ProductName
    ramp: tuple[RampStep, ...] = ()
    when_nothing_is_allowed: Literal["keep", "none"] = "keep"

    def __post_init__(self) -> None:
        _names(product=self.product)
        ages = [step.age for step in self.ramp]
        shares = [step.percent for step in self.ramp]
        _require(_rising(ages) and _rising(shares), "the ramp's ages and percents must rise")

    def share_at(self, age: timedelta) -> float:
        """Return the percentage of hosts that may take a release of this age."""
        if not self.ramp:
            return 100.0
        reached = [s.percent for s in self.ramp if timedelta(seconds=s.age) <= age]
        return reached[-1] if reached else 0.0


def _rising(numbers: Iterable[float]) -> bool:
    known = list(numbers)
    return known == sorted(known)


def whole_second(instant: datetime) -> datetime:
    """Return `instant` in UTC without its fraction, as documents write it."""
    return instant.astimezone(UTC).replace(microsecond=0)
