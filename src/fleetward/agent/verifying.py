"""Drift: what differs between an installed tree and the signed one.

The signed tree digest decides; the file list that was kept when the tree was verified explains.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fleetward.adapters.disk import Disk, Kind
from fleetward.agent.home import Home
from fleetward.agent.installer import FILES_SCHEMA
from fleetward.agent.records import Installed, Record
from fleetward.agent.slots import Slots, StoredFile
from fleetward.core.digest import Sha256
from fleetward.deltas import tree_digest
from fleetward.errors import DocumentError, UnsafeTreeError
from fleetward.wire.documents import decode_json


@dataclass(frozen=True, slots=True)
class Difference:
    """One path that is not as it was signed."""

    path: str
    kind: Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class Verified:
    """What `verify` found of one product.

    Attributes:
        record: the product's record.
        intact: whether the installed tree is the signed one, and `current` points at it.
        differences: the paths that differ, sorted.
        reason: why it is not intact where no path explains it.
    """

    record: Record
    intact: bool
    differences: tuple[Difference, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _FileList:
    files: tuple[StoredFile, ...]


def verify_product(home: Home, slots: Slots, record: Record) -> Verified:
    """Compare the installed tree of one product with what was signed."""
    current = record.current
    if current is None:
        return Verified(record, intact=True, reason="nothing is installed")
    if slots.current() != current.slot:
        return Verified(record, intact=False, reason="`current` does not point at the release")
    if not slots.holds(current.slot):
        return Verified(record, intact=False, reason=f"the slot {current.slot} is gone")
    try:
        if tree_digest(slots.tree(current.slot)) == current.tree:
            return Verified(record, intact=True)
        reason = None
    except UnsafeTreeError as error:
        reason = str(error)
    found = tuple(sorted(_differences(home, slots, record, current), key=lambda d: d.path))
    return Verified(record, intact=False, differences=found, reason=reason)


def _differences(
    home: Home, slots: Slots, record: Record, current: Installed
) -> Iterator[Difference]:
    path = home.products / f"{record.product}.files" / f"{current.tree}.json"
    try:
        known = decode_json(FILES_SCHEMA, _FileList, home.disk.read(path))
    except (FileNotFoundError, DocumentError):
        return
    expected = {file.path: file for file in known.files}
    root = slots.path(current.slot)
    for name in _walk(home.disk, root, ""):
        file = expected.pop(name, None)
        if file is None:
            yield Difference(name, "added")
        elif not _same(home.disk, root / name, file):
            yield Difference(name, "changed")
    yield from (Difference(name, "removed") for name in expected)


def _walk(disk: Disk, folder: Path, prefix: str) -> Iterator[str]:
    for name in disk.listing(folder):
        if disk.kind(folder / name) is Kind.FOLDER:
            yield from _walk(disk, folder / name, f"{prefix}{name}/")
        else:
            yield prefix + name


def _same(disk: Disk, path: Path, file: StoredFile) -> bool:
    if disk.kind(path) is not Kind.FILE or disk.size(path) != file.length:
        return False
    digest = hashlib.sha256()
    for piece in disk.pieces(path):
        digest.update(piece)
    return (Sha256(digest.hexdigest()), disk.is_executable(path)) == (file.sha256, file.executable)
