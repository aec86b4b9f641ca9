"""A folder, read as a tree: what `origin publish` packs and `agent verify` compares.

Follows no link. A link, a device, a socket or a name that is not safe on every platform is an
error that names it; folders appear only through the files in them.
"""

from collections.abc import Iterator
from pathlib import Path

from fleetward.adapters.disk import Disk, Kind
from fleetward.core.limits import TreeLimits
from fleetward.core.tree import TreeEntry, check_tree
from fleetward.errors import ConfigurationError, UnsafeTreeError


class TreeFolder:
    """A folder as a sorted, checked tree; satisfies `deltas.TreeSource`.

    Attributes:
        entries: the regular files, sorted by the bytes of their paths.
    """

    def __init__(self, disk: Disk, folder: Path, limits: TreeLimits | None = None) -> None:
        """Walk `folder`.

        Raises:
            ConfigurationError: there is no such folder.
            UnsafeTreeError: something in it has no place in a tree.
            DiskError: it cannot be read.
        """
        if disk.kind(folder) is not Kind.FOLDER:
            raise ConfigurationError(f"{folder} is not a folder: give the folder to publish")
        self._disk = disk
        self._folder = folder
        limits = limits or TreeLimits()
        self.entries = check_tree(list(_walk(disk, folder, "", limits.max_depth)), limits)

    def read(self, path: str) -> bytes:
        """Return one file's content."""
        return self._disk.read(self._folder / path)

    def pieces(self, entry: TreeEntry) -> Iterator[bytes]:
        """Yield one file's content in pieces of bounded size."""
        return self._disk.pieces(self._folder / entry.path)


def _walk(disk: Disk, folder: Path, prefix: str, depth: int) -> Iterator[TreeEntry]:
    if depth < 0:
        raise UnsafeTreeError(f"{folder} is deeper than {prefix.count('/') - 1} folders")
    for name in disk.listing(folder):
        path = folder / name
        kind = disk.kind(path)
        if kind is Kind.FOLDER:
            yield from _walk(disk, path, f"{prefix}{name}/", depth - 1)
        elif kind is Kind.FILE:
            yield TreeEntry(f"{prefix}{name}", disk.size(path), disk.is_executable(path))
        else:
            raise UnsafeTreeError(
                f"{path} is {_WORDS[kind]}: a tree holds regular files only; remove it, or "
                "replace a link by what it points to"
            )


_WORDS = {Kind.LINK: "a link", Kind.OTHER: "no regular file", Kind.ABSENT: "gone"}
