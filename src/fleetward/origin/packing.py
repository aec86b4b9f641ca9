"""A release's blobs: the pack, and deltas from the releases that the origin keeps.

The tree is read from its folder once, into memory, so that whoever writes into the folder
meanwhile cannot make pack and deltas differ. Beside it at most one base is in memory at a time.

Deliberately not here: names, sequence numbers, signatures (publish).
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from fleetward.adapters.disk import Disk
from fleetward.adapters.treefolder import TreeFolder
from fleetward.core.digest import Sha256
from fleetward.core.documents import Delta, Manifest, Pack, TreeIdentity
from fleetward.core.limits import MANIFEST_BYTES, MIB
from fleetward.deltas import (
    MEMORY_BUDGET,
    EncodedDelta,
    MemoryTree,
    decode_pack,
    encode_deltas,
    pack_pieces,
    tar_pieces,
)
from fleetward.errors import ConfigurationError, DigestError, FleetwardError, UnsafeTreeError
from fleetward.origin.repository import Repository, intact
from fleetward.origin.workshop import Progress
from fleetward.wire.documents import encode
from fleetward.wire.layout import blob_path
from fleetward.wire.tar import tar_length

PACK_CODEC = "zstd"

NEAR_BASES = 3
"""How many of the newest bases get the smallest delta whatever it costs to make; hosts that keep
up are on one of them."""

FAR_BUDGET = 24 * MIB
"""Bytes that applying a delta from an older base may take. A smaller prefix is searched in a fraction
of the time and makes a delta that is about 1 % larger; trees below the budget lose nothing, and a
host far behind may go by several deltas."""


class EmptyTree(Enum):
    """Whether a tree without files may be published."""

    REFUSED = "refused"
    ALLOWED = "allowed"


@dataclass(frozen=True, slots=True)
class Content:
    """A tree that was read, with its identity."""

    tree: MemoryTree
    identity: TreeIdentity


def read_tree(disk: Disk, folder: Path, empty: EmptyTree = EmptyTree.REFUSED) -> Content:
    """Read the folder that shall become a release.

    Raises:
        ConfigurationError: there is no such folder, or it holds no file and may not be empty.
        UnsafeTreeError: something in it has no place in a tree, or changed while it was read.
        DiskError: it cannot be read.
    """
    source = TreeFolder(disk, folder)
    if not source.entries and empty is EmptyTree.REFUSED:
        raise ConfigurationError(
            f"{folder} holds no file: give the right folder, or --allow-empty where hosts shall "
            "really hold nothing"
        )
    try:
        files = {entry.path: source.read(entry.path) for entry in source.entries}
    except FileNotFoundError as error:
        raise UnsafeTreeError(
            f"{error.filename or error} went away while it was read: publish from a folder that "
            "nobody writes to"
        ) from error
    executables = frozenset(entry.path for entry in source.entries if entry.executable)
    return content_of(MemoryTree(files, executables))


def content_of(tree: MemoryTree) -> Content:
    """Return `tree` with its identity."""
    digest = hashlib.sha256()
    for piece in tar_pieces(tree):
        digest.update(piece)
    identity = TreeIdentity(
        sha256=Sha256(digest.hexdigest()),
        length=tar_length(tree.entries),
        files=len(tree.entries),
    )
    return Content(tree, identity)


def add_pack(repository: Repository, content: Content, progress: Progress) -> Pack:
    """Write the whole release as one blob; progress is in MiB.

    Raises:
        DiskError: the disk is full or failing.
    """
    length = content.identity.length
    tar = _watched(tar_pieces(content.tree), length, progress)
    ref = repository.add_blob(pack_pieces(tar, length))
    return Pack(codec=PACK_CODEC, sha256=ref.sha256, length=ref.length)


def _watched(pieces: Iterable[bytes], length: int, progress: Progress) -> Iterator[bytes]:
    """Yield `pieces` and tell how far they are, once for each MiB."""
    done, told = 0, -1
    for piece in pieces:
        if told < done // MIB:
            told = done // MIB
            progress.step("pack", told, length // MIB + 1)
        yield piece
        done += len(piece)
    progress.step("pack", length // MIB + 1, length // MIB + 1)


def open_pack(repository: Repository, manifest: Manifest) -> MemoryTree:
    """Return the tree of a kept release, from its pack.

    Raises:
        DigestError: the pack is missing, or it or its tree is not what was signed.
    """
    pack = manifest.pack
    if not intact(repository, pack.sha256, pack.length):
        raise DigestError(f"the pack of {manifest.release} is missing or damaged")
    pieces = repository.disk.pieces(repository.folder / blob_path(pack.sha256))
    tree = MemoryTree.from_tar(b"".join(decode_pack(pieces, manifest.tree.length)))
    if content_of(tree).identity != manifest.tree:
        raise DigestError(f"the pack of {manifest.release} holds another tree than was signed")
    return tree


@dataclass(frozen=True, slots=True)
class Deltas:
    """The deltas of a release.

    Attributes:
        per_base: for each base, newest first: the smallest, then perhaps a cheap one.
        skipped: bases whose tree could not be had, with the reason.
    """

    per_base: tuple[tuple[Delta, ...], ...]
    skipped: tuple[str, ...]


def add_deltas(
    repository: Repository,
    bases: Sequence[Manifest],
    content: Content,
    pack: Pack,
    progress: Progress,
) -> Deltas:
    """Write the deltas from `bases` (newest first) that are worth having.

    Raises:
        DiskError: the disk is full or failing.
    """
    rows, skipped = [], []
    for done, base in enumerate(bases):
        progress.step("deltas", done, len(bases))
        try:
            tree = open_pack(repository, base)
        except FleetwardError as error:
            skipped.append(f"{base.release}: {error}")
            continue
        budget = MEMORY_BUDGET if done < NEAR_BASES else FAR_BUDGET
        deltas = encode_deltas(tree, content.tree, memory_budget=budget)
        worth = [delta for delta in deltas if len(delta.content) < pack.length]
        rows.append(tuple(_add_delta(repository, base, delta) for delta in worth))
    progress.step("deltas", len(bases), len(bases))
    return Deltas(tuple(rows), tuple(skipped))


def _add_delta(repository: Repository, base: Manifest, delta: EncodedDelta) -> Delta:
    ref = repository.add_blob([delta.content])
    return Delta(
        base=base.release,
        base_tree=base.tree.sha256,
        codec=delta.codec,
        encoder=delta.encoder,
        memory=delta.memory,
        sha256=ref.sha256,
        length=ref.length,
    )


def with_deltas(manifest: Manifest, per_base: Iterable[tuple[Delta, ...]]) -> Manifest:
    """Return `manifest` with as many deltas as it may have room for.

    The cheap second deltas go first, those of the oldest bases before others; then the deltas of
    the oldest bases.

    Args:
        manifest: without deltas.
        per_base: as `Deltas.per_base`.
    """
    rows = [list(row) for row in per_base]
    while True:
        full = replace(manifest, deltas=tuple(delta for row in rows for delta in row))
        if len(encode(full)) <= MANIFEST_BYTES or not rows:
            return full
        doubled = [row for row in rows if len(row) > 1]
        if doubled:
            doubled[-1].pop()
        else:
            rows.pop()
