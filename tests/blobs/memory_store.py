"""A blob store without a folder, which can run out of space when a test says so.

It passes the same contract as the folder (test_store_contract.py). Partial bytes live in unnamed
files, since waiters read them through a descriptor.
"""

import io
import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from fleetward.blobs.store import BlobWriter, PartialBlob, StoredBlob
from fleetward.core.digest import Sha256, sha256_of
from fleetward.errors import DigestError, DiskError


class MemoryStore:
    """A `PruneStore`.

    Attributes:
        room: bytes that may still be written; a write beyond is a full disk.
        fails_to_keep: whether `commit` finds the disk failing.
    """

    def __init__(self, room: int = 1 << 40) -> None:
        self.room = room
        self.fails_to_keep = False
        self.kept: dict[Sha256, bytes] = {}
        self.used: dict[Sha256, float] = {}
        self.left: dict[tuple[Sha256, str], bytes] = {}

    def has(self, digest: Sha256) -> bool:
        return digest in self.kept

    def open(self, digest: Sha256) -> BinaryIO:
        if digest not in self.kept:
            raise FileNotFoundError(digest)
        return io.BytesIO(self.kept[digest])

    def writer(self, digest: Sha256, source: str) -> BlobWriter:
        return _MemoryWriter(self, digest, source)

    def blobs(self) -> Iterator[StoredBlob]:
        for digest, content in tuple(self.kept.items()):
            yield StoredBlob(digest, len(content), self.used.get(digest, 0.0))

    def remove(self, digest: Sha256) -> None:
        self.kept.pop(digest, None)

    def touch(self, digest: Sha256, used: float) -> None:
        if digest in self.kept:
            self.used[digest] = used

    def partials(self) -> Iterator[PartialBlob]:
        for (digest, source), content in tuple(self.left.items()):
            yield PartialBlob(digest, source, len(content))

    def remove_partial(self, partial: PartialBlob) -> None:
        self.left.pop((partial.digest, partial.name), None)


class _MemoryWriter:
    def __init__(self, store: MemoryStore, digest: Sha256, source: str) -> None:
        self._store = store
        self._digest = digest
        self._source = self._owner = source
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (`close` does)
        self._bytes = store.left.get((digest, source), b"")
        self._file.write(self._bytes)
        self._sent = self._bytes
        self._rewrites = 0

    @property
    def descriptor(self) -> int:
        return self._file.fileno()

    @property
    def offset(self) -> int:
        return len(self._sent)

    @property
    def length(self) -> int:
        return len(self._bytes)

    @property
    def rewrites(self) -> int:
        return self._rewrites

    def write(self, piece: bytes) -> None:
        self._store.room -= len(piece)
        if self._store.room < 0:
            raise DiskError("cannot write: No space left on device; free some space")
        self._sent += piece
        common = min(len(self._sent), len(self._bytes))
        if self._sent[:common] != self._bytes[:common]:
            self._rewrites += 1
            self._bytes = self._sent
        elif len(self._sent) >= len(self._bytes):
            self._bytes = self._sent
        if self._bytes is self._sent:
            self._owner = self._source
        os.ftruncate(self.descriptor, len(self._bytes))
        os.pwrite(self.descriptor, self._bytes, 0)

    def restart(self, source: str) -> None:
        self._source = source
        self._sent = b""

    def verify(self) -> None:
        if sha256_of(self._sent) != self._digest:
            raise DigestError("the blob was dropped")
        if len(self._sent) < len(self._bytes):
            self._rewrites += 1
            self._bytes = self._sent

    def commit(self) -> None:
        try:
            self.verify()
        except BaseException:
            self.discard()
            raise
        if self._store.fails_to_keep:
            self.discard()
            raise DiskError("cannot keep: Input/output error; look at the disk")
        self._store.kept[self._digest] = self._bytes
        self.discard()

    def discard(self) -> None:
        for key in [key for key in self._store.left if key[0] == self._digest]:
            del self._store.left[key]
        self._owner = ""

    def close(self) -> None:
        if not self._file.closed and self._owner:
            self._store.left[self._digest, self._owner] = self._bytes
        self._file.close()
