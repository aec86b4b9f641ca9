"""Which files a repository's metadata names: what must be there, and what may not be removed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fleetward.core.digest import Sha256
from fleetward.core.documents import Manifest
from fleetward.errors import DocumentError
from fleetward.origin.repository import Closure, Repository, require_layout
from fleetward.trust.signing import SignedRole, TargetRef
from fleetward.wire.documents import decode
from fleetward.wire.layout import TIMESTAMP_PATH, blob_path, metadata_path, target_path

_BESIDE_MANIFESTS = ("floor.json", "policy.json")


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that metadata names.

    Attributes:
        path: where it lies in the repository.
        ref: its length and digest.
        named_by: the role or target that names it, for people.
    """

    path: str
    ref: TargetRef
    named_by: str


def metadata_files(closure: Closure) -> list[str]:
    """Return the closure's metadata files, timestamp last; all roots belong to it."""
    roots = [metadata_path("root", version) for version in range(1, closure.root.version + 1)]
    roles = [metadata_path(role.role, role.version) for role in closure.roles.values()]
    snapshot = metadata_path("snapshot", closure.snapshot.version)
    return [*roots, *roles, snapshot, TIMESTAMP_PATH]


def target_files(roles: Iterable[SignedRole]) -> list[NamedFile]:
    """Return the target files that `roles` name.

    Raises:
        MetadataError: one of them has a name that could lead out of the repository.
    """
    return [
        NamedFile(
            require_layout(target_path(name, ref.sha256)), ref, f"{role.version}.{role.role}.json"
        )
        for role in roles
        for name, ref in role.targets.items()
    ]


def blob_files(repository: Repository, targets: Iterable[NamedFile]) -> Iterator[NamedFile]:
    """Yield the blobs that the manifests among `targets` name, each once.

    Raises:
        DocumentError: a manifest is missing or malformed.
    """
    seen: set[Sha256] = set()
    for target in targets:
        if not is_manifest(target):
            continue
        try:
            manifest = decode(Manifest, repository.disk.read(repository.folder / target.path))
        except FileNotFoundError:
            raise DocumentError(f"{repository.folder / target.path} is missing") from None
        for ref in blobs_of(manifest):
            if ref.sha256 not in seen:
                seen.add(ref.sha256)
                yield NamedFile(blob_path(ref.sha256), ref, target.path)


def blobs_of(manifest: Manifest) -> list[TargetRef]:
    """Return a release's blobs: the pack, then its deltas."""
    deltas = [TargetRef(delta.length, delta.sha256) for delta in manifest.deltas]
    return [TargetRef(manifest.pack.length, manifest.pack.sha256), *deltas]


def is_manifest(target: NamedFile) -> bool:
    """Return whether a target file is a release's manifest."""
    name = target.path.rpartition("/")[2].partition(".")[2]
    return target.path.startswith("targets/releases/") and name not in _BESIDE_MANIFESTS
