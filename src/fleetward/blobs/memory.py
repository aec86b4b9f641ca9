"""Blobs in memory while they are carried, where the disk has no room for them; bounded together.

A blob here has a descriptor like one on disk, so waiters read it by `sendfile`; it has no name, and
is gone with its last descriptor. Linux alone has such memory (`memfd_create`); elsewhere there is
none, and `take` says so.

Deliberately not here: which blobs are carried so (relay.fill).
"""

import os
from pathlib import Path

from fleetward.blobs.writing import DescriptorWriter
from fleetward.core.digest import Sha256
from fleetward.errors import DiskError

HAS_MEMORY_FILES = hasattr(os, "memfd_create")


class MemoryWriter(DescriptorWriter):
    """The `BlobWriter` of a blob that is never kept."""

    def __init__(self, digest: Sha256) -> None:
        """Open an empty one.

        Raises:
            DiskError: the system has no memory, descriptors or memory files left.
        """
        try:
            descriptor = os.memfd_create("fleetward-blob", os.MFD_CLOEXEC)
        except (AttributeError, OSError) as error:
            raise DiskError(f"no blob can be carried in memory: {error}") from error
        super().__init__(digest, descriptor, Path("memory"))

    def commit(self) -> None:
        """Refuse: memory keeps nothing. Raises DiskError."""
        raise DiskError("a blob in memory cannot be kept (a mistake in the filler)")

    def discard(self) -> None:
        """Return: what has no name leaves nothing."""


class MemoryRoom:
    """How many bytes blobs in memory take together.

    Attributes:
        max_bytes: at most.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes if HAS_MEMORY_FILES else 0
        self._taken: dict[Sha256, int] = {}

    @property
    def taken_bytes(self) -> int:
        """Return how many are taken."""
        return sum(self._taken.values())

    def take(self, digest: Sha256, length: int) -> bool:
        """Reserve room for a blob; False where there is none. A second call replaces the first."""
        before = self._taken.pop(digest, 0)
        if self.taken_bytes + length > self.max_bytes:
            if before:
                self._taken[digest] = before
            return False
        self._taken[digest] = length
        return True

    def release(self, digest: Sha256) -> None:
        """Give back what was reserved; nothing where nothing was."""
        self._taken.pop(digest, None)
