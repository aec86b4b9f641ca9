"""Blobs in a folder: `blobs/sha256/ab/<digest>`, and `partial/<digest>.<source>` on the way in.

The promise on power loss: a name under `blobs/` holds the whole verified blob, since the file is
synced before it gets that name and the folder after. A partial file promises nothing: whoever
resumes it reads and hashes all of it again.

This is the data plane's own disk I/O (see `httpd`): `adapters.disk` has no descriptor that can be
read by `sendfile` while it is written.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from fleetward.adapters.disk import disk_errors
from fleetward.blobs.store import BlobWriter, PartialBlob, StoredBlob
from fleetward.blobs.writing import DescriptorWriter
from fleetward.core.digest import Sha256, parse_sha256, sha256_of
from fleetward.errors import DocumentError

_TAG_DIGITS: Final = 16


class FolderStore:
    """A `PruneStore` in a folder, which one process at a time writes."""

    def __init__(self, root: Path) -> None:
        """Make the folders where they are absent.

        Raises:
            DiskError: they cannot be made.
        """
        self._blobs = root / "blobs" / "sha256"
        self._partials = root / "partial"
        with disk_errors("create", root):
            self._blobs.mkdir(parents=True, exist_ok=True)
            self._partials.mkdir(exist_ok=True)

    def has(self, digest: Sha256) -> bool:
        """Return whether the blob is kept."""
        return self._path(digest).is_file()

    def open(self, digest: Sha256) -> BinaryIO:
        """Open a blob for reading."""
        with disk_errors("read", self._path(digest)):
            descriptor = os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        return os.fdopen(descriptor, "rb")

    def writer(self, digest: Sha256, source: str) -> BlobWriter:
        """Return a writer, which goes on where `source` was suspended."""
        return _FileWriter(digest, source, self._path(digest), self._partials)

    def blobs(self) -> Iterator[StoredBlob]:
        """Yield what is kept, in no order; a file that is no blob is passed over."""
        for folder in _entries(self._blobs):
            for entry in _entries(folder.path) if folder.is_dir(follow_symlinks=False) else ():
                with contextlib.suppress(DocumentError, FileNotFoundError):
                    digest = parse_sha256(entry.name)
                    if entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        yield StoredBlob(digest, status.st_size, status.st_atime)

    def remove(self, digest: Sha256) -> None:
        """Remove a blob; nothing where it is not kept."""
        path = self._path(digest)
        with contextlib.suppress(FileNotFoundError), disk_errors("remove", path):
            path.unlink()

    def touch(self, digest: Sha256, used: float) -> None:
        """Remember in the file's access time when a blob was last asked for.

        The modification time stays, since servers compare it to tell whether the file is the same.
        """
        path = self._path(digest)
        with contextlib.suppress(OSError):
            os.utime(path, ns=(int(used * 1e9), path.stat().st_mtime_ns), follow_symlinks=False)

    def partials(self) -> Iterator[PartialBlob]:
        """Yield the beginnings of blobs; a file that is none is passed over."""
        for entry in _entries(self._partials):
            with contextlib.suppress(DocumentError, FileNotFoundError):
                digest = parse_sha256(entry.name.partition(".")[0])
                status = entry.stat(follow_symlinks=False)
                yield PartialBlob(digest, entry.name, status.st_size, status.st_mtime)

    def remove_partial(self, partial: PartialBlob) -> None:
        """Remove the beginning of a blob."""
        path = self._partials / partial.name
        with contextlib.suppress(FileNotFoundError), disk_errors("remove", path):
            path.unlink()

    def _path(self, digest: Sha256) -> Path:
        return self._blobs / digest[:2] / digest


class _FileWriter(DescriptorWriter):
    """The `BlobWriter` of a `FolderStore`."""

    def __init__(self, digest: Sha256, source: str, target: Path, partials: Path) -> None:
        self._digest = digest
        self._target = target
        self._partials = partials
        self._path = self._partial(source)
        self._source = source
        with disk_errors("write", self._path):
            descriptor = os.open(
                self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
            )
        super().__init__(digest, descriptor, self._path)

    def _partial(self, source: str) -> Path:
        return self._partials / f"{self._digest}.{sha256_of(source.encode())[:_TAG_DIGITS]}"

    def _adopt(self) -> None:
        path = self._partial(self._source)
        if path != self._path:
            with disk_errors("rename", path):
                os.replace(self._path, path)  # noqa: PTH105, TID251 (open for sendfile)
            self._path = path

    def restart(self, source: str) -> None:
        """Begin again at offset 0, from `source`."""
        self._source = source
        super().restart(source)

    def commit(self) -> None:
        """Keep the blob: verified, synced, then named."""
        try:
            self.verify()
            with disk_errors("keep", self._target):
                os.fsync(self._descriptor)
                if not self._target.parent.is_dir():
                    self._target.parent.mkdir(exist_ok=True)
                    _sync_folder(self._target.parent.parent)
                os.replace(self._path, self._target)  # noqa: PTH105, TID251 (open for sendfile)
                _sync_folder(self._target.parent)
        except BaseException:
            self.discard()
            raise
        for left in self._partials.glob(f"{self._digest}.*"):
            left.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave nothing."""
        with contextlib.suppress(OSError):
            self._path.unlink()


def _entries(folder: str | os.PathLike[str]) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from entries


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
