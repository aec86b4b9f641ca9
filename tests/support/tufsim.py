"""Repositories that tests publish, and make lie: TUF metadata in memory, with all its keys.

`SimRepository` is any TUF repository; `SimFleet` has Fleetward's roles, documents and extra
fields. Whatever a test changes in `roles` becomes public, signed, by `publish`. Expiry counts from
the clock that is given, which should begin at the real time: python-tuf reads the wall clock.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, cast
from urllib.parse import quote

from securesystemslib.signer import CryptoSigner
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
from tuf.api.serialization.json import JSONSerializer

from fleetward.adapters.clock import Clock
from fleetward.core.digest import sha256_of
from fleetward.core.documents import (
    Channel,
    Engine,
    Floor,
    Manifest,
    Pack,
    Policy,
    ReleaseRef,
    TreeIdentity,
    whole_second,
)
from fleetward.core.names import ChannelName, ProductName, ReleaseName
from fleetward.wire import documents, layout

INTERVAL = timedelta(minutes=10)
_LIFETIMES = {"timestamp": 7, "snapshot": 7, "channels": 7}
"""Days until a role expires; the others have 365."""


class SimRepository:
    """A TUF repository with consistent snapshots.

    Attributes:
        roles: what will be published next, by role.
        signers: who signs each role.
        files: what is public, by path.
        with_digests: whether snapshot and timestamp name length and digest of what they list.
    """

    def __init__(self, clock: Clock, thresholds: Mapping[str, tuple[int, int]]) -> None:
        """Publish version 1 of the top-level roles; `thresholds` gives threshold and keys."""
        self.clock = clock
        self.files: dict[str, bytes] = {}
        self.with_digests = True
        self.signers: dict[str, list[CryptoSigner]] = {}
        root = Root(consistent_snapshot=True)
        self.roles: dict[str, Signed] = {
            "root": root,
            "targets": Targets(),
            "snapshot": Snapshot(),
            "timestamp": Timestamp(),
        }
        for role in self.roles:
            self.roles[role].version = 0
            threshold, count = thresholds.get(role, (1, 1))
            root.roles[role] = Role([], threshold)
            self.signers[role] = new_signers(count)
            for signer in self.signers[role]:
                root.add_key(signer.public_key, role)
        for role in self.roles:
            self.renew_expiry(role)
        self.publish("root", "targets")

    @property
    def root(self) -> Root:
        return cast("Root", self.roles["root"])

    @property
    def anchor(self) -> bytes:
        return self.files["metadata/1.root.json"]

    def targets(self, role: str = "targets") -> Targets:
        return cast("Targets", self.roles[role])

    def renew_expiry(self, role: str, days: float | None = None) -> None:
        days = _LIFETIMES.get(role, 365) if days is None else days
        self.roles[role].expires = whole_second(self.clock.now() + timedelta(days=days))

    def sign(self, role: str, signers: Iterable[CryptoSigner] | None = None) -> bytes:
        """Return the metadata of `role` as it stands, signed by `signers` (its own)."""
        metadata = Metadata[Any](self.roles[role])
        for signer in self.signers[role] if signers is None else signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes(JSONSerializer(compact=True))

    def publish(self, *roles: str) -> None:
        """Make `roles` public, each with its next version, then snapshot and timestamp."""
        for role in roles:
            if role not in {"snapshot", "timestamp"}:
                self.publish_role(role)
        if set(roles) - {"root", "timestamp"}:
            self.publish_role("snapshot")
        self.publish_role("timestamp")

    def publish_role(self, role: str) -> None:
        """Make the next version of one role public, and list it in what will list it."""
        self.roles[role].version += 1
        self.republish(role)

    def republish(self, role: str) -> None:
        """Make one role public in the version that it has, and list it in what will list it."""
        self.files[self.path(role)] = content = self.sign(role)
        version = self.roles[role].version
        named = (
            (len(content), {"sha256": sha256_of(content)}) if self.with_digests else (None, None)
        )
        if role == "snapshot":
            cast("Timestamp", self.roles["timestamp"]).snapshot_meta = MetaFile(version, *named)
        elif role not in {"root", "timestamp"}:
            snapshot = cast("Snapshot", self.roles["snapshot"])
            snapshot.meta[f"{role}.json"] = MetaFile(version, *named)

    def path(self, role: str) -> str:
        name = quote(role, safe="")
        if role == "timestamp":
            return "metadata/timestamp.json"
        return f"metadata/{self.roles[role].version}.{name}.json"

    def delegate(
        self, role: str, paths: list[str], *, threshold: int = 1, keys: int = 1, by: str = "targets"
    ) -> None:
        """Let `by` delegate to `role`, which is empty and not yet public."""
        parent = self.targets(by)
        parent.delegations = parent.delegations or Delegations({}, roles={})
        roles = cast("dict[str, DelegatedRole]", parent.delegations.roles)
        roles[role] = DelegatedRole(role, [], threshold, terminating=True, paths=paths)
        self.signers[role] = new_signers(keys)
        for signer in self.signers[role]:
            parent.add_key(signer.public_key, role)
        self.roles[role] = Targets()
        self.roles[role].version = 0
        self.renew_expiry(role)

    def add_target(self, role: str, name: str, content: bytes) -> TargetFile:
        """Let `role` name a target, whose bytes are public at once."""
        found = TargetFile.from_data(name, content, ["sha256"])
        self.targets(role).targets[name] = found
        self.files[layout.target_path(name, sha256_of(content)).replace("//", "/")] = content
        return found

    def rotate(self, role: str) -> None:
        """Replace the keys of a top-level role in root; `publish("root")` makes it public."""
        threshold, count = self.root.roles[role].threshold, len(self.signers[role])
        old, self.signers[role] = self.signers[role], new_signers(count)
        for signer in old:
            self.root.revoke_key(signer.public_key.keyid, role)
        for signer in self.signers[role]:
            self.root.add_key(signer.public_key, role)
        assert self.root.roles[role].threshold == threshold

    def rotate_root(self) -> None:
        """Publish a root with new root keys, signed by the old and by the new ones."""
        old = self.signers["root"]
        self.rotate("root")
        new = self.signers["root"]
        self.signers["root"] = [*old, *new]
        self.publish_role("root")
        self.signers["root"] = new


class SimFleet(SimRepository):
    """A repository of Fleetward's."""

    def __init__(self, clock: Clock, *, build_and_qa: bool = False) -> None:
        """Publish the product yara, with nothing released; `build_and_qa` is two keys of two."""
        super().__init__(clock, {"root": (2, 3), "targets": (2, 3)})
        self.delegate("fleet", ["fleet/*"], threshold=2, keys=3)
        self.delegate("channels", ["channels/*/*"])
        self.add_product("yara", keys=2 if build_and_qa else 1)
        self.publish("targets", "fleet", "channels", "releases-yara")

    def add_product(self, product: str, keys: int = 1) -> None:
        self.delegate(f"releases-{product}", [f"releases/{product}/*"], threshold=keys, keys=keys)

    def publish_role(self, role: str) -> None:
        if role == "timestamp":
            fields = self.roles[role].unrecognized_fields
            fields["x-issued"] = whole_second(self.clock.now()).strftime("%Y-%m-%dT%H:%M:%SZ")
            fields["x-interval"] = int(INTERVAL.total_seconds())
        super().publish_role(role)

    def add_document(self, role: str, name: str, document: Any) -> ReleaseRef | None:  # noqa: ANN401
        content = documents.encode(document)
        self.add_target(role, name, content)
        if not isinstance(document, Manifest):
            return None
        return ReleaseRef(release=document.release, seq=document.seq, manifest=sha256_of(content))

    def add_release(self, seq: int, product: str = "yara") -> ReleaseRef:
        """Let the product's releases role name a release; not yet public."""
        digest = sha256_of(f"{product} {seq}".encode())
        manifest = Manifest(
            product=ProductName(product),
            release=ReleaseName(f"r{seq}"),
            seq=seq,
            created=whole_second(self.clock.now()),
            engine=Engine(name="files"),
            tree=TreeIdentity(sha256=digest, length=10 * seq, files=1),
            pack=Pack(codec="zstd", sha256=digest, length=seq),
        )
        name = layout.manifest_target(manifest.product, manifest.release)
        ref = self.add_document(f"releases-{product}", name, manifest)
        assert ref is not None
        return ref

    def point(
        self, ref: ReleaseRef, product: str = "yara", previous: ReleaseRef | None = None
    ) -> None:
        """Let the channel stable point at a release; not yet public."""
        channel = Channel(
            product=ProductName(product),
            channel=ChannelName("stable"),
            release=ref,
            previous=previous,
            salt="s",
        )
        name = layout.channel_target(channel.product, channel.channel)
        self.add_document("channels", name, channel)

    def release(self, seq: int, product: str = "yara") -> ReleaseRef:
        """Publish a release, and the channel that points at it."""
        ref = self.add_release(seq, product)
        self.point(ref, product)
        self.publish(f"releases-{product}", "channels")
        return ref

    def set_floor(self, seq: int, product: str = "yara") -> None:
        floor = Floor(product=ProductName(product), seq=seq)
        self.add_document(f"releases-{product}", layout.floor_target(floor.product), floor)

    def set_policy(self, policy: Policy) -> None:
        name = layout.policy_target(policy.product)
        self.add_document(f"releases-{policy.product}", name, policy)


def new_signers(count: int) -> list[CryptoSigner]:
    """Return new keys."""
    return [CryptoSigner.generate_ed25519() for _ in range(count)]
