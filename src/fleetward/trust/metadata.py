"""What verified TUF metadata says, as values.

Invariant: these functions are given only bytes whose signatures were verified (trust.updating), or
that the ledger knows by their digest as verified before. They read with the same JSON parser as
the verifier, so that no two readings of one file exist.

Deliberately not here: verifying signatures, and rules about what may stand where (trust.rules).
"""

import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeVar

import msgspec

from fleetward.core.digest import Sha256, parse_sha256
from fleetward.errors import DocumentError, MetadataError
from fleetward.wire.preparing import prepared

TOP_LEVEL = ("root", "timestamp", "snapshot", "targets")
"""The roles that root names, in the order in which a client takes them up."""

_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Form = TypeVar("_Form")


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """What every role's metadata says."""

    version: int
    expires: datetime


@dataclass(frozen=True, slots=True)
class RootFacts:
    """Root: who signs the top-level roles.

    Attributes:
        version: its version.
        expires: its expiry.
        keyids: the ids of each role's keys, sorted.
        consistent_snapshot: whether file names carry versions and digests.
        thresholds: how many of its keys must sign each role.
    """

    version: int
    expires: datetime
    keyids: dict[str, tuple[str, ...]]
    consistent_snapshot: bool
    thresholds: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TimestampFacts:
    """Timestamp, with what Fleetward's carries.

    Attributes:
        version: its version.
        issued: when it was signed (`x-issued`).
        interval: how often it is renewed (`x-interval`).
        expires: its expiry.
    """

    version: int
    issued: datetime
    interval: timedelta
    expires: datetime


@dataclass(frozen=True, slots=True)
class Listed:
    """A role as snapshot lists it; the digest of its bytes is None where snapshot has none."""

    version: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """Snapshot: which versions of the targets roles belong together."""

    version: int
    expires: datetime
    roles: dict[str, Listed]


@dataclass(frozen=True, slots=True)
class Delegated:
    """A role that targets delegates to.

    Attributes:
        role: its name.
        paths: the patterns of the targets that it may name.
        is_plain: whether it is delegated by patterns alone (no hash prefixes).
        keyids: the ids of its keys, sorted.
        threshold: how many of them must sign it.
    """

    role: str
    paths: tuple[str, ...]
    is_plain: bool
    keyids: tuple[str, ...] = ()
    threshold: int = 1


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """A target as a role names it: digest and length in bytes."""

    sha256: Sha256
    length: int


@dataclass(frozen=True, slots=True)
class TargetsFacts:
    """Targets metadata, top-level or delegated.

    Attributes:
        version: its version.
        expires: its expiry.
        targets: the targets that it names.
        delegations: the roles that it delegates to, in their order.
        delegates: whether it delegates at all, in any form.
    """

    version: int
    expires: datetime
    targets: dict[str, TargetFacts]
    delegations: tuple[Delegated, ...]
    delegates: bool


class _Head(msgspec.Struct):
    version: _Count
    expires: str


class _Keys(msgspec.Struct):
    keyids: list[str]
    threshold: _Count = 1


class _Root(_Head):
    roles: dict[str, _Keys]
    consistent_snapshot: bool = False


class _Listed(msgspec.Struct):
    version: _Count
    hashes: dict[str, str] = {}


class _Timestamp(_Head):
    issued: str = msgspec.field(name="x-issued")
    interval: Annotated[int, msgspec.Meta(ge=1, le=10**9)] = msgspec.field(name="x-interval")


class _Meta(_Head):
    meta: dict[str, _Listed]


class _Target(msgspec.Struct):
    length: _Count
    hashes: dict[str, str]


class _Delegated(msgspec.Struct):
    name: str
    paths: list[str] | None = None
    path_hash_prefixes: list[str] | None = None
    keyids: list[str] = []
    threshold: _Count = 1


class _Delegations(msgspec.Struct):
    roles: list[_Delegated] = []


class _Targets(_Head):
    targets: dict[str, _Target]
    delegations: _Delegations | None = None


def read_role(content: bytes) -> RoleFacts:
    """Return version and expiry of any role's metadata. Raises MetadataError."""
    head = _read(content, _Head)
    return RoleFacts(head.version, _instant(head.expires))


def read_root(content: bytes) -> RootFacts:
    """Return what root says. Raises MetadataError."""
    root = _read(content, _Root)
    keyids = {role: tuple(sorted(keys.keyids)) for role, keys in root.roles.items()}
    thresholds = {role: keys.threshold for role, keys in root.roles.items()}
    expires = _instant(root.expires)
    return RootFacts(root.version, expires, keyids, root.consistent_snapshot, thresholds)


def read_timestamp(content: bytes) -> TimestampFacts:
    """Return what a timestamp of Fleetward says. Raises MetadataError."""
    stamp = _read(content, _Timestamp)
    return TimestampFacts(
        stamp.version,
        _instant(stamp.issued),
        timedelta(seconds=stamp.interval),
        _instant(stamp.expires),
    )


def read_listing(content: bytes) -> SnapshotFacts:
    """Return what snapshot lists, or timestamp (which lists snapshot). Raises MetadataError."""
    listing = _read(content, _Meta)
    roles = {
        name.removesuffix(".json"): Listed(file.version, file.hashes.get("sha256"))
        for name, file in listing.meta.items()
    }
    return SnapshotFacts(listing.version, _instant(listing.expires), roles)


def is_older(content: bytes, known: bytes) -> bool:
    """Return whether `content` is, or lists, an older version than `known` of the same role."""
    try:
        if read_role(content).version < read_role(known).version:
            return True
        listed = read_listing(content).roles
        return any(
            name in listed and listed[name].version < before.version
            for name, before in read_listing(known).roles.items()
        )
    except MetadataError:
        return False


def read_targets(content: bytes) -> TargetsFacts:
    """Return what targets metadata says.

    Raises:
        MetadataError: it is malformed, or a target has no sha256.
    """
    targets = _read(content, _Targets)
    delegations = targets.delegations
    return TargetsFacts(
        targets.version,
        _instant(targets.expires),
        {name: _target(name, target) for name, target in targets.targets.items()},
        tuple(_delegated(role) for role in (delegations.roles if delegations else [])),
        delegations is not None,
    )


def _delegated(role: _Delegated) -> Delegated:
    is_plain = role.path_hash_prefixes is None
    keyids = tuple(sorted(role.keyids))
    return Delegated(role.name, tuple(role.paths or ()), is_plain, keyids, role.threshold)


def _target(name: str, target: _Target) -> TargetFacts:
    try:
        return TargetFacts(parse_sha256(target.hashes.get("sha256", "")), target.length)
    except DocumentError as error:
        raise MetadataError(f"the target {name[:200]!r} is named without a sha256") from error


def _read(content: bytes, form: type[_Form]) -> _Form:
    try:
        document: Any = json.loads(content)
        return msgspec.convert(document["signed"], prepared(form))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise MetadataError(f"the metadata has not the form that it must have: {error}") from error


def _instant(text: str) -> datetime:
    try:
        if _INSTANT.fullmatch(text):
            return datetime.fromisoformat(text)
    except ValueError as error:
        raise MetadataError(f"the metadata has no such instant: {text}") from error
    raise MetadataError(f"the metadata has no instant in UTC: {text[:60]!r}")
