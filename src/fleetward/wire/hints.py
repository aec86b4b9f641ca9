"""What UNVERIFIED metadata says: which files belong together, for caches that hold no key.

A relay reads timestamp, snapshot and targets metadata, channels and manifests to learn which
documents and blobs the current timestamp leads to, so that it can fetch them early and keep them
longest. Nothing here verifies a signature: a liar can make it fetch or keep the wrong files, within
the relay's own limits, and nothing else follows from a hint.

Strict in form: bytes that are not what they should be raise DocumentError, and no other error;
every count is bounded by `HintLimits`. A field that it does not know is passed over.

Deliberately not here: expiry, thresholds, versions that go back. Hosts judge those.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

import msgspec

from fleetward.core.digest import Sha256, parse_sha256
from fleetward.core.documents import Channel, Manifest, ReleaseRef
from fleetward.core.limits import MetadataLimits
from fleetward.errors import DocumentError
from fleetward.wire.documents import decode
from fleetward.wire.layout import (
    RepositoryPath,
    channel_target,
    manifest_target,
    metadata_path,
    parse_repository_path,
    target_path,
)
from fleetward.wire.preparing import prepared

_CHANNEL: Final = re.compile(r"channels/[^/]+/[^/]+\.json")
_STANDING: Final = re.compile(r"fleet/[^/]+\.json|releases/[^/]+/(?:floor|policy)\.json")
_Number = Annotated[int, msgspec.Meta(ge=1, le=9_999_999_999)]
_Length = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


@dataclass(frozen=True, slots=True)
class HintLimits:
    """What unverified metadata may make a reader remember.

    Attributes:
        max_roles: roles in one snapshot; a made-up list would be asked for one by one.
        max_delegations: roles that one targets metadata delegates to.
        max_targets: targets in one targets metadata.
    """

    max_roles: int = 4096
    max_delegations: int = 1024
    max_targets: int = 16_384


LIMITS: Final = HintLimits()


@dataclass(frozen=True, slots=True)
class DocumentHint:
    """A document that another one names.

    Attributes:
        path: where it lies.
        length: in bytes, where it is told.
        digest: of its content, where it is told (metadata may leave it out).
    """

    path: RepositoryPath
    length: int | None = None
    digest: Sha256 | None = None


@dataclass(frozen=True, slots=True)
class TimestampHint:
    """What a timestamp says.

    Attributes:
        version: its own.
        snapshot: the snapshot that it names.
    """

    version: int
    snapshot: DocumentHint


@dataclass(frozen=True, slots=True)
class TargetsHint:
    """What a targets metadata says.

    Attributes:
        channels: the channel documents that it names.
        standing: what hosts read beside them at each update: floors, policies, the fleet's lists.
        targets: how many targets it names in all.
        delegations: roles that it delegates to, by name.
    """

    channels: tuple[DocumentHint, ...]
    standing: tuple[DocumentHint, ...]
    targets: int
    delegations: tuple[str, ...]


class _Meta(msgspec.Struct):
    version: _Number
    length: _Length | None = None
    hashes: dict[str, str] = {}


class _Listing(msgspec.Struct):
    kind: str = msgspec.field(name="_type")
    version: _Number
    meta: dict[str, _Meta]


class _Target(msgspec.Struct):
    length: _Length
    hashes: dict[str, str]


class _Role(msgspec.Struct):
    name: str


class _Delegations(msgspec.Struct):
    roles: list[_Role] = []


class _Targets(msgspec.Struct):
    kind: str = msgspec.field(name="_type")
    version: _Number
    targets: dict[str, _Target]
    delegations: _Delegations | None = None


class _SignedListing(msgspec.Struct):
    signed: _Listing


class _SignedTargets(msgspec.Struct):
    signed: _Targets


_Envelope = TypeVar("_Envelope", _SignedListing, _SignedTargets)


def read_timestamp(content: bytes) -> TimestampHint:
    """Return what a timestamp says.

    Raises:
        DocumentError: it is no timestamp, or longer than any may be.
    """
    signed = _decode(_SignedListing, "timestamp", content, MetadataLimits().timestamp_bytes).signed
    meta = signed.meta.get("snapshot.json")
    if meta is None or len(signed.meta) != 1:
        raise DocumentError("a timestamp names exactly one file, snapshot.json")
    return TimestampHint(signed.version, _metadata_hint("snapshot", meta))


def read_snapshot(content: bytes, limits: HintLimits = LIMITS) -> dict[str, DocumentHint]:
    """Return the metadata that a snapshot names, by role.

    Raises:
        DocumentError: it is no snapshot, or names too many roles or impossible ones.
    """
    signed = _decode(_SignedListing, "snapshot", content, MetadataLimits().snapshot_bytes).signed
    if len(signed.meta) > limits.max_roles:
        raise DocumentError(f"a snapshot of {len(signed.meta)} roles")
    hints: dict[str, DocumentHint] = {}
    for name, meta in signed.meta.items():
        role, dot, suffix = name.rpartition(".")
        if not dot or suffix != "json":
            raise DocumentError(f"a snapshot names {name[:80]!r}, which is no metadata")
        hints[role] = _metadata_hint(role, meta)
    return hints


def read_targets(content: bytes, limits: HintLimits = LIMITS) -> TargetsHint:
    """Return what the metadata of targets, or of a role that it delegates to, says.

    Raises:
        DocumentError: it is none, or names too much.
    """
    signed = _decode(_SignedTargets, "targets", content, MetadataLimits().targets_bytes).signed
    delegated = signed.delegations.roles if signed.delegations is not None else []
    if len(signed.targets) > limits.max_targets or len(delegated) > limits.max_delegations:
        raise DocumentError(
            f"targets metadata of {len(signed.targets)} targets and {len(delegated)} roles"
        )
    return TargetsHint(
        _matching(_CHANNEL, signed.targets),
        _matching(_STANDING, signed.targets),
        len(signed.targets),
        tuple(role.name for role in delegated),
    )


def read_channel(hint: DocumentHint, content: bytes) -> Channel:
    """Return a channel document.

    Args:
        hint: what named it: a channel document under another channel's name is refused.
        content: its bytes.

    Raises:
        DocumentError: it is none, or another channel's.
    """
    channel = decode(Channel, content)
    if hint.digest is None or hint.path.path != target_path(
        channel_target(channel.product, channel.channel), hint.digest
    ):
        raise DocumentError(f"{hint.path.path} is the document of another channel")
    return channel


def manifest_hint(channel: Channel, release: ReleaseRef) -> DocumentHint:
    """Return where the manifest of a channel's release lies."""
    name = manifest_target(channel.product, release.release)
    return DocumentHint(_path(target_path(name, release.manifest)), digest=release.manifest)


def read_manifest(channel: Channel, release: ReleaseRef, content: bytes) -> Manifest:
    """Return the manifest of a channel's release.

    Raises:
        DocumentError: it is none, or another release's.
    """
    manifest = decode(Manifest, content)
    if (manifest.product, manifest.release) != (channel.product, release.release):
        raise DocumentError(
            f"the manifest of {channel.product} {release.release} says that it is "
            f"{manifest.product} {manifest.release}"
        )
    return manifest


def _decode(kind: type[_Envelope], role: str, content: bytes, max_bytes: int) -> _Envelope:
    if len(content) > max_bytes:
        raise DocumentError(f"{role} metadata of {len(content)} bytes")
    try:
        decoded = msgspec.json.decode(content, type=prepared(kind))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DocumentError(f"not {role} metadata: {error}") from error
    if decoded.signed.kind != role:
        raise DocumentError(f"not {role} metadata: its type is {decoded.signed.kind[:40]!r}")
    return decoded


def _metadata_hint(role: str, meta: _Meta) -> DocumentHint:
    told = meta.hashes.get("sha256")
    digest = parse_sha256(told) if told is not None else None
    return DocumentHint(_path(metadata_path(role, meta.version)), meta.length, digest)


def _matching(pattern: re.Pattern[str], targets: dict[str, _Target]) -> tuple[DocumentHint, ...]:
    return tuple(
        _target_hint(name, target) for name, target in targets.items() if pattern.fullmatch(name)
    )


def _target_hint(name: str, target: _Target) -> DocumentHint:
    digest = parse_sha256(target.hashes.get("sha256", ""))
    return DocumentHint(_path(target_path(name, digest)), target.length, digest)


def _path(path: str) -> RepositoryPath:
    parsed = parse_repository_path(path)
    if parsed is None:
        raise DocumentError(f"{path[:120]!r} has no place in a repository")
    return parsed
