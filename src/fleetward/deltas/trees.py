"""Trees that deltas read: the base on a host, base and result at the origin.

Invariant: a `MemoryTree` is checked (core.tree), so its canonical tar exists and is unique.

Deliberately not here: trees on disk; an adapter's slot or staged result is a `TreeSource` already.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Protocol

from fleetward.core.digest import Sha256
from fleetward.core.tree import TreeEntry, check_tree
from fleetward.wire.tar import FileBegins, FileBytes, FileEnds, TarReader, write_tar


class TreeSource(Protocol):
    """A tree that can be read: an installed slot, a staged result, or memory."""

    @property
    def entries(self) -> tuple[TreeEntry, ...]:
        """The files, sorted and checked (core.tree.check_tree)."""
        ...

    def read(self, path: str) -> bytes:
        """Return the content of the file at `path`, one of `entries`."""
        ...


class MemoryTree:
    """A small tree held in memory."""

    def __init__(
        self, files: Mapping[str, bytes], executables: frozenset[str] = frozenset()
    ) -> None:
        """Hold `files` (path to content); those in `executables` have mode 0755.

        Raises:
            UnsafeTreeError: a path that core.tree refuses.
        """
        self._files = dict(files)
        self.entries = check_tree(
            [
                TreeEntry(path, len(content), path in executables)
                for path, content in self._files.items()
            ]
        )

    @classmethod
    def from_tar(cls, tar: bytes) -> "MemoryTree":
        """Return the tree whose canonical tar is `tar`.

        Raises:
            UnsafeTreeError: `tar` is not canonical.
        """
        reader = TarReader()
        files: dict[str, bytes] = {}
        executables: set[str] = set()
        path, pieces = "", list[bytes]()
        for event in reader.feed(tar):
            match event:
                case FileBegins(entry):
                    path, pieces = entry.path, []
                    if entry.executable:
                        executables.add(path)
                case FileBytes(content):
                    pieces.append(content)
                case FileEnds():
                    files[path] = b"".join(pieces)
        reader.close()
        return cls(files, frozenset(executables))

    def read(self, path: str) -> bytes:
        """Return the content of the file at `path`."""
        return self._files[path]


def tar_pieces(tree: TreeSource) -> Iterator[bytes]:
    """Yield the canonical tar of `tree`, one file in memory at a time."""
    return write_tar(tree.entries, lambda entry: [tree.read(entry.path)])


def tar_bytes(tree: TreeSource) -> bytes:
    """Return the canonical tar of `tree`."""
    return b"".join(tar_pieces(tree))


def tree_digest(tree: TreeSource) -> Sha256:
    """Return the digest that is the identity of `tree`: that of its canonical tar."""
    digest = hashlib.sha256()
    for piece in tar_pieces(tree):
        digest.update(piece)
    return Sha256(digest.hexdigest())
