"""Carrying a repository to a site without internet: `origin export` and `origin import`.

An export is the closure as plain files, which any server can serve as it is. An import verifies
what it was brought against the root that the site trusts already, then adds it, timestamp last.

Deliberately not here: freshness. A site that is updated by hand lives with old timestamps; its
policy for that is in `fleet/console.json`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Kind
from fleetward.core.digest import sha256_of
from fleetward.errors import ConfigurationError, DigestError, RollbackError
from fleetward.origin.contents import NamedFile, blob_files, metadata_files, target_files
from fleetward.origin.repository import Closure, Repository, intact
from fleetward.origin.workshop import Progress
from fleetward.trust.signing import SignedRole
from fleetward.wire.layout import TIMESTAMP_PATH, metadata_path


@dataclass(frozen=True, slots=True)
class Carried:
    """What was copied.

    Attributes:
        timestamp: the version of the timestamp that is there now.
        files: how many files were added.
        length: their bytes together.
    """

    timestamp: int
    files: int
    length: int


def export_closure(source: Repository, to: Repository, progress: Progress) -> Carried:
    """Copy the live closure of `source` into the folder of `to`, which may hold an older one.

    Raises:
        ConfigurationError: there is no repository, or the folder holds another one.
        MetadataError: the metadata does not verify.
        DigestError: a named file is missing or damaged.
        RollbackError: the folder holds a newer closure.
        DiskError: the disk is full or failing.
    """
    closure = source.closure()
    if to.disk.kind(to.folder / metadata_path("root", 1)) is Kind.FILE:
        _refuse_other(source, to.disk.read(to.folder / metadata_path("root", 1)))
    return _copy(source, closure, to, progress)


def import_closure(
    source: Repository, to: Repository, root: bytes | None, progress: Progress
) -> Carried:
    """Add the closure that `source` holds to `to`.

    Args:
        source: what was brought; nothing of it is trusted before it is verified.
        to: the site's folder.
        root: the trust anchor; None where `to` has one already.
        progress: who is told how far it is.

    Raises:
        ConfigurationError: no trust anchor was given, or `source` is of another repository.
        MetadataError: the metadata does not verify.
        DigestError: a named file is missing or damaged.
        RollbackError: `to` holds a newer closure.
        DiskError: the disk is full or failing.
    """
    anchor = to.folder / metadata_path("root", 1)
    known = to.disk.read(anchor) if to.disk.kind(anchor) is Kind.FILE else root
    if known is None:
        raise ConfigurationError(
            f"{to.folder} has no root to trust yet: give the origin's 1.root.json with --root"
        )
    _refuse_other(source, known)
    return _copy(source, source.closure(), to, progress)


def _refuse_other(source: Repository, root: bytes) -> None:
    own = source.role("root", 1)
    if own.content != root:
        raise ConfigurationError(
            f"{source.folder} is not of the repository whose root is trusted there: choose the "
            "right folder"
        )


def _copy(source: Repository, closure: Closure, to: Repository, progress: Progress) -> Carried:
    _refuse_older(closure, to)
    targets = target_files(closure.roles.values())
    named = [*blob_files(source, targets), *targets]
    copied = [0, 0]
    for done, file in enumerate(named):
        progress.step("files", done, len(named))
        _copy_named(source, file, to, copied)
    progress.step("files", len(named), len(named))
    for path in metadata_files(closure)[:-1]:
        content = source.disk.read(source.folder / path)
        _count(copied, to, path, len(content))
        to.add_file(path, content)
    to.disk.make_folder(to.folder / "metadata")
    write_file(to.disk, to.folder / TIMESTAMP_PATH, closure.timestamp.content)
    return Carried(closure.timestamp.version, *copied)


def _refuse_older(closure: Closure, to: Repository) -> None:
    path = to.folder / TIMESTAMP_PATH
    if to.disk.kind(path) is not Kind.FILE:
        return
    known = SignedRole.parse("timestamp", to.disk.read(path))
    if known.version > closure.timestamp.version:
        raise RollbackError(
            f"{to.folder} has timestamp {known.version} already, and this is "
            f"{closure.timestamp.version}: bring a newer one"
        )


def _copy_named(source: Repository, file: NamedFile, to: Repository, copied: list[int]) -> None:
    if file.path.startswith("blobs/"):
        if intact(to, file.ref.sha256, file.ref.length):
            return
        if not intact(source, file.ref.sha256, file.ref.length):
            raise DigestError(f"{source.folder / file.path} is missing or damaged: bring it again")
        to.add_blob(_pieces(source, file))
        copied[0] += 1
        copied[1] += file.ref.length
        return
    content = _content(source, file)
    _count(copied, to, file.path, len(content))
    to.add_file(file.path, content)


def _pieces(source: Repository, file: NamedFile) -> Iterator[bytes]:
    return source.disk.pieces(source.folder / file.path)


def _content(source: Repository, file: NamedFile) -> bytes:
    try:
        content = source.disk.read(source.folder / file.path)
    except FileNotFoundError:
        content = b""
    if sha256_of(content) != file.ref.sha256:
        raise DigestError(f"{source.folder / file.path} is missing or damaged: bring it again")
    return content


def _count(copied: list[int], to: Repository, path: str, length: int) -> None:
    if to.disk.kind(to.folder / path) is Kind.ABSENT:
        copied[0] += 1
        copied[1] += length
