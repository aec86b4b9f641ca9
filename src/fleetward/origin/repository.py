"""The repository's files, and what its timestamp makes of them.

Invariants: what is served is never changed, only added (timestamp.json excepted); truth is the
closure that timestamp.json names, so a file that it does not name is as if it were not there.

Deliberately not here: signing (workshop), and when files may go (collect).
"""

import hashlib
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.clock import Clock
from fleetward.adapters.disk import Disk, Kind
from fleetward.core.consoles import Consoles
from fleetward.core.digest import Sha256, sha256_of
from fleetward.core.documents import Channel, Floor, Manifest, Policy
from fleetward.core.fleet import Relays
from fleetward.errors import (
    BusyError,
    ConfigurationError,
    DiskError,
    DocumentError,
    MetadataError,
)
from fleetward.trust.signing import TOP_LEVEL, Listed, SignedRole, TargetRef
from fleetward.wire.documents import decode
from fleetward.wire.layout import (
    TIMESTAMP_PATH,
    blob_path,
    metadata_path,
    parse_repository_path,
    target_path,
)

METADATA = "metadata"
TARGETS = "targets"
BLOBS = "blobs"
PENDING = "pending"
ARCHIVE = "archive"
_POLL = timedelta(milliseconds=200)
_Document = TypeVar("_Document", Channel, Floor, Manifest, Policy, Relays, Consoles)


@dataclass(frozen=True, slots=True)
class Closure:
    """What timestamp.json names: verified signatures, digests and versions.

    Attributes:
        root: the newest root.
        timestamp: as it lies there.
        snapshot: as timestamp names it.
        roles: all that snapshot lists: targets and the roles under it.
    """

    root: SignedRole
    timestamp: SignedRole
    snapshot: SignedRole
    roles: Mapping[str, SignedRole]

    def delegator(self, role: str) -> SignedRole:
        """Return who vouches for `role`."""
        return self.root if role in TOP_LEVEL else self.roles["targets"]


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository's folder on a disk."""

    disk: Disk
    folder: Path

    # -- writing ---------------------------------------------------------------------------------

    def add_file(self, path: str, content: bytes) -> None:
        """Write a file that is never changed again; nothing where it is there already.

        Raises:
            ConfigurationError: it is there with other bytes.
            DiskError: the disk is full or failing.
        """
        full = self.folder / path
        if self.disk.kind(full) is Kind.FILE:
            if self.disk.read(full) != content:
                raise ConfigurationError(
                    f"{full} exists with other bytes, and caches keep it for ever: move it away"
                )
            self.disk.sync_folder(full.parent)
            return
        self.disk.make_folder(full.parent)
        write_file(self.disk, full, content)

    def add_target(self, name: str, content: bytes) -> TargetRef:
        """Write a target file under its digest and return how metadata names it."""
        ref = TargetRef.of(content)
        self.add_file(target_path(name, ref.sha256), content)
        return ref

    def add_blob(self, pieces: Iterable[bytes]) -> TargetRef:
        """Write a blob under its digest, in place of one that is there (it may be damaged).

        Only one process at a time may add blobs (see `lock`).

        Raises:
            DiskError: the disk is full or failing.
        """
        folder = self.folder / BLOBS
        self.disk.make_folder(folder)
        temporary = folder / ".incoming"
        digest, length = hashlib.sha256(), 0
        with self.disk.create(temporary) as file:
            for piece in pieces:
                digest.update(piece)
                length += len(piece)
                file.write(piece)
            file.sync()
        ref = TargetRef(length, Sha256(digest.hexdigest()))
        full = self.folder / blob_path(ref.sha256)
        self.disk.make_folder(full.parent)
        self.disk.replace(temporary, full)
        self.disk.sync_folder(full.parent)
        return ref

    # -- reading ---------------------------------------------------------------------------------

    def holds(self, path: str) -> bool:
        """Return whether there is a file at `path` of the repository."""
        return self.disk.kind(self.folder / path) is Kind.FILE

    def versions(self, role: str) -> list[int]:
        """Return the versions of a role's metadata that lie on the disk, rising."""
        suffix = f".{role}.json"
        names = self.disk.listing(self.folder / METADATA)
        numbers = [name.removesuffix(suffix) for name in names if name.endswith(suffix)]
        return sorted(int(number) for number in numbers if number.isdecimal())

    def next_version(self, role: str, live: int) -> int:
        """Return a version that no file has yet, above `live`."""
        return max([live, *self.versions(role)]) + 1

    def role(self, role: str, version: int) -> SignedRole:
        """Return one version of a role's metadata, unverified.

        Raises:
            MetadataError: it is absent or malformed.
        """
        return SignedRole.parse(role, self._metadata(metadata_path(role, version)))

    def document(self, kind: type[_Document], name: str, ref: TargetRef) -> _Document:
        """Return the signed document that metadata names as target `name`.

        Raises:
            MetadataError: the name is no name of the layout.
            DocumentError: it is absent, damaged or malformed.
        """
        path = self.folder / require_layout(target_path(name, ref.sha256))
        try:
            content = self.disk.read(path)
        except FileNotFoundError:
            raise DocumentError(f"{path} is missing: restore it from a copy") from None
        if sha256_of(content) != ref.sha256:
            raise DocumentError(f"{path} is damaged: restore it from a copy")
        return decode(kind, content)

    def closure(self) -> Closure:
        """Return what timestamp.json names, verified; expiry does not count here.

        Raises:
            ConfigurationError: there is no repository.
            MetadataError: a part is missing, damaged or not signed as it must be.
        """
        if self.disk.kind(self.folder / TIMESTAMP_PATH) is not Kind.FILE:
            raise ConfigurationError(
                f"{self.folder} is no repository: make one with `fleetward origin init`"
            )
        root = self._root()
        timestamp = SignedRole.parse("timestamp", self._metadata(TIMESTAMP_PATH))
        timestamp.require_signatures(root)
        snapshot = self._listed("snapshot", timestamp.listed["snapshot"])
        snapshot.require_signatures(root)
        roles = {name: self._listed(name, entry) for name, entry in snapshot.listed.items()}
        if "targets" not in roles:
            raise MetadataError("snapshot does not list targets: restore the repository")
        closure = Closure(root, timestamp, snapshot, roles)
        for role in roles.values():
            role.require_signatures(closure.delegator(role.role))
        return closure

    def _root(self) -> SignedRole:
        versions = self.versions("root")
        if not versions or versions != list(range(1, versions[-1] + 1)):
            raise MetadataError(
                f"{self.folder}: the roots {versions} have a gap: hosts walk from each to the "
                "next, so restore the missing one from a copy"
            )
        root = self.role("root", 1)
        root.require_signatures(root)
        for version in versions[1:]:
            after = self.role("root", version)
            after.require_signatures(root)
            root = after
        return root

    def _listed(self, role: str, entry: Listed) -> SignedRole:
        path = metadata_path(role, entry.version)
        require_layout(path)
        content = self._metadata(path)
        if entry.sha256 not in {None, sha256_of(content)}:
            raise MetadataError(f"{self.folder / path} is damaged: restore it from a copy")
        found = SignedRole.parse(role, content)
        if found.version != entry.version:
            raise MetadataError(f"{self.folder / path} says that it is version {found.version}")
        return found

    def _metadata(self, path: str) -> bytes:
        try:
            return self.disk.read(self.folder / path)
        except FileNotFoundError:
            raise MetadataError(
                f"{self.folder / path} is missing: restore it from a copy"
            ) from None

    # -- one at a time ---------------------------------------------------------------------------

    @contextmanager
    def lock(self, name: str, clock: Clock, wait: timedelta) -> Generator[None]:
        """Hold one of the repository's locks, waiting for it up to `wait`.

        Raises:
            ConfigurationError: there is no repository.
            BusyError: another process still holds it.
        """
        if self.disk.kind(self.folder / METADATA) is not Kind.FOLDER:
            raise ConfigurationError(
                f"{self.folder} is no repository: make one with `fleetward origin init`"
            )
        deadline = clock.monotonic() + wait
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(self.disk.lock(self.folder / name))
                    break
                except BusyError:
                    if clock.monotonic() >= deadline:
                        raise
                clock.sleep(_POLL)
            yield


def require_layout(path: str) -> str:
    """Return `path`, which metadata names, where the layout has it.

    Raises:
        MetadataError: it could lead out of the repository (a stolen key wrote it).
    """
    if parse_repository_path(path) is None:
        raise MetadataError(f"the metadata names {path[:200]!r}, which no repository has")
    return path


def intact(repository: Repository, digest: Sha256, length: int) -> bool:
    """Return whether a blob is there, has its length and its digest."""
    path = repository.folder / blob_path(digest)
    try:
        if repository.disk.kind(path) is not Kind.FILE or repository.disk.size(path) != length:
            return False
        found = hashlib.sha256()
        for piece in repository.disk.pieces(path):
            found.update(piece)
    except (FileNotFoundError, DiskError):
        return False
    return found.hexdigest() == digest
