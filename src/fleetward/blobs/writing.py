"""Writing one blob to a descriptor: hashed as it comes, and compared where bytes are there already.

What the descriptor is (a file that gets a name in the end, memory that gets none) is for those who
inherit; see `blobs.folder` and `blobs.memory`.
"""

import hashlib
import os
from pathlib import Path
from typing import Final

from fleetward.adapters.disk import disk_errors
from fleetward.core.digest import Sha256
from fleetward.errors import DigestError

_PIECE: Final = 1024 * 1024


class DescriptorWriter:
    """What every `BlobWriter` on a descriptor has in common."""

    def __init__(self, digest: Sha256, descriptor: int, path: Path) -> None:
        """Take a descriptor, open for reading and writing, and hash what it has.

        Args:
            digest: of the whole blob.
            descriptor: owned from now on.
            path: named in errors.
        """
        self._digest = digest
        self._descriptor = descriptor
        self._path = path
        self._hash = hashlib.sha256()
        self._offset = 0
        self._rewrites = 0
        self._length = os.fstat(descriptor).st_size
        while piece := os.pread(descriptor, _PIECE, self._offset):
            self._hash.update(piece)
            self._offset += len(piece)

    @property
    def descriptor(self) -> int:
        """Return a descriptor from which the bytes so far can be read."""
        return self._descriptor

    @property
    def offset(self) -> int:
        """Return how many bytes the current source has sent."""
        return self._offset

    @property
    def length(self) -> int:
        """Return how many bytes can be read."""
        return self._length

    @property
    def rewrites(self) -> int:
        """Return how often bytes that could be read have changed."""
        return self._rewrites

    def write(self, piece: bytes) -> None:
        """Take the next bytes: compare them where bytes are, append the rest.

        Raises:
            DiskError: there is no room, or the disk is failing.
        """
        view = memoryview(piece)
        if self._offset < self._length:
            view = view[self._compare(view) :]
        with disk_errors("write", self._path):
            at = self._length
            while view:
                taken = os.pwrite(self._descriptor, view, at)
                at += taken
                view = view[taken:]
        self._hash.update(piece)
        self._offset += len(piece)
        if self._offset >= self._length:
            self._length = self._offset
            self._adopt()

    def _compare(self, view: memoryview) -> int:
        """Return how many bytes of `view` are there already; cut the file where they differ."""
        overlap = min(len(view), self._length - self._offset)
        if os.pread(self._descriptor, overlap, self._offset) == view[:overlap]:
            return overlap
        self._cut_here()
        return 0

    def _cut_here(self) -> None:
        self._rewrites += 1
        self._length = self._offset
        with disk_errors("write", self._path):
            os.ftruncate(self._descriptor, self._offset)

    def _adopt(self) -> None:
        """Note that the current source has sent all bytes that are there."""

    def restart(self, source: str) -> None:
        """Begin again at offset 0, from `source`."""
        del source
        self._offset = 0
        self._hash = hashlib.sha256()

    def verify(self) -> None:
        """Return where the bytes of the current source are the whole blob.

        Raises:
            DigestError: they are not.
        """
        found = self._hash.hexdigest()
        if found != self._digest:
            raise DigestError(f"expected the blob {self._digest}, got {found}: it was dropped")
        if self._offset < self._length:
            self._cut_here()

    def close(self) -> None:
        """Give the descriptor back; harmless when called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
