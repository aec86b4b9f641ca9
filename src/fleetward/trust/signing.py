"""TUF metadata as the origin writes it: roles that are made, revised, signed and judged.

Written on `tuf.api` (the stable part of python-tuf). A `SignedRole` is a value: every change gives
a new one, and a changed one has no signatures. What was read keeps its exact bytes, since other
metadata names their digest.

Invariant: what `require_signatures` lets pass carries a threshold of valid signatures of the keys
that its delegator names for it.

Deliberately not here: which version comes next, when a role expires, and files (origin).
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from fleetward.core.digest import Sha256, parse_sha256, sha256_of
from fleetward.core.documents import whole_second
from fleetward.core.names import ProductName
from fleetward.errors import MetadataError
from fleetward.trust.keys import PublicKey, SigningKey
from fleetward.wire.layout import releases_role

TOP_LEVEL = ("root", "targets", "snapshot", "timestamp")
ISSUED_FIELD = "x-issued"
INTERVAL_FIELD = "x-interval"
ENGINE_FIELD = "x-engine"
_INSTANT = "%Y-%m-%dT%H:%M:%SZ"
_KINDS: dict[str, type[Signed]] = {"root": Root, "snapshot": Snapshot, "timestamp": Timestamp}


@dataclass(frozen=True, slots=True)
class RoleKeys:
    """Who signs a role: its keys, and how many of them must."""

    keys: tuple[PublicKey, ...]
    threshold: int

    @property
    def keyids(self) -> list[str]:
        """The keys' ids, in their order."""
        return [key.keyid for key in self.keys]


@dataclass(frozen=True, slots=True)
class Delegation:
    """A role that targets delegates to: its name, its keys, and which targets it may name."""

    role: str
    keys: RoleKeys
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TargetRef:
    """A target file as metadata names it: length in bytes and digest."""

    length: int
    sha256: Sha256

    @classmethod
    def of(cls, content: bytes) -> "TargetRef":
        """Return the reference to `content`."""
        return cls(len(content), sha256_of(content))

    def matches(self, content: bytes) -> bool:
        """Return whether `content` is what is named."""
        return self == TargetRef.of(content)


@dataclass(frozen=True, slots=True)
class Listed:
    """A role's metadata as snapshot or timestamp lists it."""

    version: int
    length: int | None
    sha256: Sha256 | None


@dataclass(frozen=True, slots=True)
class Shortfall:
    """How far a role is from its threshold.

    Attributes:
        missing: signatures that lack; 0 where the role is complete.
        unsigned: ids of the keys that may still sign.
    """

    missing: int
    unsigned: tuple[str, ...]


class SignedRole:
    """One version of one role's metadata, with the signatures that it has so far.

    Attributes:
        role: its name.
        content: its bytes, compact JSON.
    """

    def __init__(self, role: str, metadata: "Metadata[Any]", content: bytes | None = None) -> None:
        """Wrap `metadata`, which nobody may change from now on."""
        self.role = role
        self._metadata = metadata
        self.content = content or metadata.to_bytes(JSONSerializer(compact=True))

    @classmethod
    def parse(cls, role: str, content: bytes) -> "SignedRole":
        """Return the metadata in `content`; nothing about its signatures is said by that.

        Raises:
            MetadataError: it is not TUF metadata of the role's type.
        """
        try:
            metadata = Metadata[Any].from_bytes(content)
        except (DeserializationError, RecursionError) as error:
            raise MetadataError(f"the metadata of {role} is malformed: {error}") from error
        if type(metadata.signed) is not _KINDS.get(role, Targets):
            raise MetadataError(f"the metadata of {role} is of the type {metadata.signed.type}")
        return cls(role, metadata, content)

    def __repr__(self) -> str:
        return f"<SignedRole {self.version}.{self.role}>"

    # -- what it says ----------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Its version, from 1."""
        return int(self._metadata.signed.version)

    @property
    def expires(self) -> datetime:
        """When it expires, in UTC."""
        return cast("datetime", self._metadata.signed.expires)

    @property
    def keyids(self) -> frozenset[str]:
        """Ids of the keys that signed it, as the file claims."""
        return frozenset(self._metadata.signatures)

    @property
    def targets(self) -> dict[str, TargetRef]:
        """What it names as targets.

        Raises:
            MetadataError: it is no targets metadata, or a target has no sha256.
        """
        return {
            name: TargetRef(file.length, parse_sha256(file.hashes.get("sha256", "")))
            for name, file in self._targets().targets.items()
        }

    @property
    def listed(self) -> dict[str, Listed]:
        """What snapshot or timestamp lists: roles and their versions.

        Raises:
            MetadataError: it is neither.
        """
        signed = self._metadata.signed
        if isinstance(signed, Snapshot):
            return {name.removesuffix(".json"): _listed(f) for name, f in signed.meta.items()}
        if isinstance(signed, Timestamp):
            return {"snapshot": _listed(signed.snapshot_meta)}
        raise MetadataError(f"{self.role} lists no metadata")

    @property
    def delegates(self) -> dict[str, RoleKeys]:
        """Whom it delegates to, in its order: the roles of root, or those under targets."""
        signed = self._metadata.signed
        if isinstance(signed, Root):
            return {name: _role_keys(role, signed.keys) for name, role in signed.roles.items()}
        delegations = signed.delegations if isinstance(signed, Targets) else None
        if delegations is None or delegations.roles is None:
            return {}
        return {
            name: _role_keys(role, delegations.keys) for name, role in delegations.roles.items()
        }

    @property
    def issued(self) -> datetime | None:
        """When a timestamp says it was made, or None."""
        text = self._metadata.signed.unrecognized_fields.get(ISSUED_FIELD)
        try:
            return datetime.strptime(text, _INSTANT).replace(tzinfo=UTC)
        except (TypeError, ValueError):
            return None

    @property
    def interval(self) -> timedelta | None:
        """How often a timestamp says it is renewed, or None."""
        seconds = self._metadata.signed.unrecognized_fields.get(INTERVAL_FIELD)
        return timedelta(seconds=seconds) if isinstance(seconds, int) else None

    @property
    def engine(self) -> str | None:
        """The engine that a releases role gives its product's releases, or None."""
        name = self._metadata.signed.unrecognized_fields.get(ENGINE_FIELD)
        return name if isinstance(name, str) else None

    # -- what can be made of it ------------------------------------------------------------------

    def revised(self, version: int, expires: datetime) -> "SignedRole":
        """Return the same with another version and expiry, unsigned."""
        metadata = self._unsigned()
        metadata.signed.version = version
        metadata.signed.expires = whole_second(expires)
        return SignedRole(self.role, metadata)

    def with_targets(self, targets: Mapping[str, TargetRef]) -> "SignedRole":
        """Return the same with other targets, unsigned."""
        metadata = self._unsigned()
        metadata.signed.targets = {
            name: TargetFile(ref.length, {"sha256": ref.sha256}, name)
            for name, ref in sorted(targets.items())
        }
        return SignedRole(self.role, metadata)

    def with_engine(self, engine: str) -> "SignedRole":
        """Return the same with the engine of a product's releases, unsigned."""
        metadata = self._unsigned()
        metadata.signed.unrecognized_fields[ENGINE_FIELD] = engine
        return SignedRole(self.role, metadata)

    def with_delegation(self, delegation: Delegation) -> "SignedRole":
        """Return targets that delegates to one more role, or to the same with other keys, unsigned.

        Every delegation terminates the search: one path has one role that may answer for it.
        """
        metadata = self._unsigned()
        targets = cast("Targets", metadata.signed)
        known = targets.delegations or Delegations({}, roles={})
        roles = dict(known.roles or {})
        keys = delegation.keys
        roles[delegation.role] = DelegatedRole(
            delegation.role,
            keys.keyids,
            keys.threshold,
            terminating=True,
            paths=list(delegation.paths),
        )
        named = {keyid for role in roles.values() for keyid in role.keyids}
        every = {**known.keys, **{key.keyid: key.as_tuf() for key in keys.keys}}
        targets.delegations = Delegations({k: v for k, v in every.items() if k in named}, roles)
        return SignedRole(self.role, metadata)

    def with_role_keys(self, role: str, keys: RoleKeys) -> "SignedRole":
        """Return root with other keys for one of its roles, unsigned."""
        metadata = self._unsigned()
        root = cast("Root", metadata.signed)
        root.roles[role] = Role(keys.keyids, keys.threshold)
        named = {keyid for each in root.roles.values() for keyid in each.keyids}
        every = {**root.keys, **{key.keyid: key.as_tuf() for key in keys.keys}}
        root.keys = {keyid: key for keyid, key in every.items() if keyid in named}
        return SignedRole(self.role, metadata)

    def signed_by(self, keys: Iterable[SigningKey]) -> "SignedRole":
        """Return the same with the signatures of `keys` added."""
        metadata = copy.deepcopy(self._metadata)
        payload = metadata.signed_bytes
        for key in keys:
            metadata.signatures[key.public.keyid] = key.sign(payload)
        return SignedRole(self.role, metadata)

    # -- what it is worth ------------------------------------------------------------------------

    def shortfall(self, delegator: "SignedRole") -> Shortfall:
        """Return how many signatures lack, by what `delegator` says of this role.

        Root is judged by the root before it and by itself; give itself for the first one.

        Raises:
            MetadataError: `delegator` does not name this role, or root skips a version.
        """
        payload, signatures = self._metadata.signed_bytes, self._metadata.signatures
        judge, own = delegator._metadata.signed, self._metadata.signed  # noqa: SLF001 (same class)
        try:
            if isinstance(judge, Root) and isinstance(own, Root):
                before = None if delegator is self else judge
                root = own.get_root_verification_result(before, payload, signatures)
                missing = max(root.first.missing, root.second.missing)
                return Shortfall(missing, tuple(root.unsigned))
            result = judge.get_verification_result(self.role, payload, signatures)
        except (ValueError, AttributeError) as error:
            raise MetadataError(f"{delegator.role} does not vouch for {self}: {error}") from error
        return Shortfall(result.missing, tuple(result.unsigned))

    def require_signatures(self, delegator: "SignedRole") -> None:
        """Return where the role carries enough valid signatures.

        Raises:
            MetadataError: it does not, or `delegator` does not name it.
        """
        missing = self.shortfall(delegator).missing
        if missing:
            raise MetadataError(
                f"{self.version}.{self.role}.json lacks {missing} valid signature(s)"
            )

    def _targets(self) -> Targets:
        if not isinstance(self._metadata.signed, Targets):
            raise MetadataError(f"{self.role} names no targets")
        return self._metadata.signed

    def _unsigned(self) -> "Metadata[Any]":
        metadata = copy.deepcopy(self._metadata)
        metadata.signatures.clear()
        return metadata


def first_root(roles: Mapping[str, RoleKeys], expires: datetime) -> SignedRole:
    """Return root, version 1, unsigned; consistent snapshots always.

    Args:
        roles: the keys of root, targets, snapshot and timestamp.
        expires: when it expires.
    """
    every: dict[str, Key] = {
        key.keyid: key.as_tuf() for keys in roles.values() for key in keys.keys
    }
    named = {name: Role(keys.keyids, keys.threshold) for name, keys in roles.items()}
    root = Root(expires=whole_second(expires), keys=every, roles=named, consistent_snapshot=True)
    return SignedRole("root", Metadata(root))


def first_targets(role: str, expires: datetime) -> SignedRole:
    """Return empty targets metadata for `role`, version 1, unsigned."""
    return SignedRole(role, Metadata(Targets(expires=whole_second(expires))))


def snapshot_of(roles: Iterable[SignedRole], version: int, expires: datetime) -> SignedRole:
    """Return the snapshot that lists `roles` with version, length and digest, unsigned."""
    meta = {f"{role.role}.json": _meta_file(role) for role in roles}
    snapshot = Snapshot(version=version, expires=whole_second(expires), meta=meta)
    return SignedRole("snapshot", Metadata(snapshot))


def timestamp_of(
    snapshot: SignedRole, version: int, expires: datetime, issued: datetime, interval: timedelta
) -> SignedRole:
    """Return the timestamp that names `snapshot`, unsigned.

    Args:
        snapshot: complete; its bytes are named by length and digest.
        version: its own version.
        expires: when it expires.
        issued: now; what hosts take as the proven time.
        interval: how often the steward renews it.
    """
    fields = {
        ISSUED_FIELD: whole_second(issued).strftime(_INSTANT),
        INTERVAL_FIELD: int(interval.total_seconds()),
    }
    timestamp = Timestamp(
        version=version,
        expires=whole_second(expires),
        snapshot_meta=_meta_file(snapshot),
        unrecognized_fields=fields,
    )
    return SignedRole("timestamp", Metadata(timestamp))


def releases_delegation(product: ProductName, keys: RoleKeys) -> Delegation:
    """Return the delegation to a product's releases role."""
    return Delegation(releases_role(product), keys, (f"releases/{product}/*",))


def _meta_file(role: SignedRole) -> MetaFile:
    return MetaFile(role.version, len(role.content), {"sha256": sha256_of(role.content)})


def _listed(file: MetaFile) -> Listed:
    digest = (file.hashes or {}).get("sha256")
    return Listed(file.version, file.length, parse_sha256(digest) if digest else None)


def _role_keys(role: Role, keys: Mapping[str, Any]) -> RoleKeys:
    named = [keys[keyid] for keyid in role.keyids if isinstance(keys.get(keyid), SSlibKey)]
    return RoleKeys(
        tuple(PublicKey(key.keyid, str(key.keyval.get("public"))) for key in named),
        role.threshold,
    )
