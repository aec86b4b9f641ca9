"""The disk, as the programs that must survive power loss see it.

Everything that origin and agent keep goes through `Disk`, so that a simulated disk can forget
what was not synced and stop at every operation (tests/support/simdisk.py, same contract suite).

The promise on power loss, which the simulated disk is as harsh as: content of a file survives
from `sync_file` on; a name (created, replaced, removed, linked) survives from `sync_folder` of its
folder on; before that, either the old or the new name may be there.

Errors: FileNotFoundError where a name is absent; every other OSError becomes DiskError.

Deliberately not here: whole-file writes (adapters.atomicfile), which almost every caller wants.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Protocol

from fleetward.errors import BusyError, DiskError


class Kind(Enum):
    """What a name is."""

    ABSENT = "absent"
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


class OpenFile(Protocol):
    """A file open for writing."""

    def write(self, content: bytes) -> None:
        """Append `content`. Raises DiskError (full disk)."""
        ...

    def sync(self) -> None:
        """Make the content written so far survive power loss."""
        ...


class Disk(Protocol):
    """Names and bytes under absolute paths."""

    def kind(self, path: Path) -> Kind:
        """Return what `path` is, not following a link."""
        ...

    def size(self, path: Path) -> int:
        """Return a file's length in bytes, not following a link."""
        ...

    def is_executable(self, path: Path) -> bool:
        """Return whether the owner may execute the file."""
        ...

    def listing(self, path: Path) -> list[str]:
        """Return the sorted names in a folder. Raises FileNotFoundError."""
        ...

    def read(self, path: Path) -> bytes:
        """Return a whole file, never following a link. Raises FileNotFoundError."""
        ...

    def pieces(self, path: Path) -> Iterator[bytes]:
        """Yield a file in pieces of bounded size. Raises FileNotFoundError."""
        ...

    def make_folder(self, path: Path, *, private: bool = False) -> None:
        """Create a folder and its parents, and sync the folders that got a new name.

        `private` is mode 0700 for the folder itself, where it is created.
        """
        ...

    def create(
        self, path: Path, *, executable: bool = False, private: bool = False
    ) -> contextlib.AbstractContextManager[OpenFile]:
        """Open a new or emptied file for writing; `private` is mode 0600."""
        ...

    def append(self, path: Path) -> contextlib.AbstractContextManager[OpenFile]:
        """Open a file, created where absent, for writing at its end."""
        ...

    def replace(self, source: Path, target: Path) -> None:
        """Give `source` the name `target`, atomically, in place of what had it."""
        ...

    def link(self, content: str, path: Path) -> None:
        """Create a symbolic link at `path`, which must be free."""
        ...

    def read_link(self, path: Path) -> str:
        """Return a link's content. Raises FileNotFoundError where there is no link."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file or a link; nothing where it is absent."""
        ...

    def remove_tree(self, path: Path) -> None:
        """Remove a folder and all in it; nothing where it is absent."""
        ...

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder survive power loss."""
        ...

    def lock(self, path: Path) -> contextlib.AbstractContextManager[None]:
        """Hold the lock file `path`. Raises BusyError where another holder has it."""
        ...


_PIECE = 256 * 1024


@contextmanager
def disk_errors(doing: str, path: Path) -> Generator[None]:
    """Turn every OSError but FileNotFoundError into a DiskError that says what to do."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        advice = {
            errno.ENOSPC: "free some space and run it again",
            errno.EDQUOT: "raise the quota and run it again",
            errno.EROFS: "the file system is read-only",
            errno.EACCES: "give this user access, or run as the user who owns it",
        }.get(error.errno or 0, "look at the disk and run it again")
        raise DiskError(f"cannot {doing} {path}: {error.strerror or error}; {advice}") from error


class _RealFile:
    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream = stream
        self._path = path

    def write(self, content: bytes) -> None:
        with disk_errors("write", self._path):
            self._stream.write(content)

    def sync(self) -> None:
        with disk_errors("sync", self._path):
            self._stream.flush()
            os.fsync(self._stream.fileno())


class SystemDisk:
    """The disk of this machine."""

    def kind(self, path: Path) -> Kind:
        """Return what `path` is, not following a link."""
        try:
            with disk_errors("look at", path):
                mode = path.lstat().st_mode
        except FileNotFoundError:
            return Kind.ABSENT
        if stat.S_ISREG(mode):
            return Kind.FILE
        if stat.S_ISDIR(mode):
            return Kind.FOLDER
        return Kind.LINK if stat.S_ISLNK(mode) else Kind.OTHER

    def size(self, path: Path) -> int:
        """Return a file's length in bytes."""
        with disk_errors("look at", path):
            return path.lstat().st_size

    def is_executable(self, path: Path) -> bool:
        """Return whether the owner may execute the file."""
        with disk_errors("look at", path):
            return bool(path.lstat().st_mode & stat.S_IXUSR)

    def listing(self, path: Path) -> list[str]:
        """Return the sorted names in a folder."""
        with disk_errors("list", path):
            return sorted(os.listdir(path))

    def read(self, path: Path) -> bytes:
        """Return a whole file."""
        with disk_errors("read", path), _open(path, os.O_RDONLY) as stream:
            return stream.read()

    def pieces(self, path: Path) -> Iterator[bytes]:
        """Yield a file in pieces of 256 KiB."""
        with disk_errors("read", path), _open(path, os.O_RDONLY) as stream:
            while piece := stream.read(_PIECE):
                yield piece

    def make_folder(self, path: Path, *, private: bool = False) -> None:
        """Create a folder and its parents, each synced into its parent."""
        missing = [p for p in (path, *path.parents) if self.kind(p) is Kind.ABSENT]
        for folder in reversed(missing):
            with disk_errors("create", folder):
                folder.mkdir(0o700 if private and folder == path else 0o777, exist_ok=True)
            self.sync_folder(folder.parent)
        if not missing and not path.is_dir():
            raise DiskError(f"{path} is not a folder: move it away")

    @contextmanager
    def create(
        self, path: Path, *, executable: bool = False, private: bool = False
    ) -> Generator[OpenFile]:
        """Open a new or emptied file for writing."""
        mode = 0o755 if executable else 0o600 if private else 0o644
        with disk_errors("write", path):
            stream = _open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            os.fchmod(stream.fileno(), mode)
        with _closing(stream, path):
            yield _RealFile(stream, path)

    @contextmanager
    def append(self, path: Path) -> Generator[OpenFile]:
        """Open a file for writing at its end."""
        with disk_errors("write", path):
            stream = _open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        with _closing(stream, path):
            yield _RealFile(stream, path)

    def replace(self, source: Path, target: Path) -> None:
        """Give `source` the name `target`, atomically."""
        with disk_errors("replace", target):
            os.replace(source, target)

    def link(self, content: str, path: Path) -> None:
        """Create a symbolic link at `path`."""
        with disk_errors("link", path):
            path.symlink_to(content)

    def read_link(self, path: Path) -> str:
        """Return a link's content."""
        if self.kind(path) is not Kind.LINK:
            raise FileNotFoundError(path)
        with disk_errors("read", path):
            return os.readlink(path)

    def remove(self, path: Path) -> None:
        """Remove a file or a link; nothing where it is absent."""
        with contextlib.suppress(FileNotFoundError), disk_errors("remove", path):
            path.unlink()

    def remove_tree(self, path: Path) -> None:
        """Remove a folder and all in it; nothing where it is absent."""
        with contextlib.suppress(FileNotFoundError), disk_errors("remove", path):
            shutil.rmtree(path)

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder survive power loss."""
        with disk_errors("sync", path):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    @contextmanager
    def lock(self, path: Path) -> Generator[None]:
        """Hold the lock file `path`; the system gives it back when the process ends."""
        with disk_errors("lock", path):
            stream = _open(path, os.O_RDWR | os.O_CREAT, 0o644)
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BusyError(
                    f"another process works here (it holds {path}): wait for it to end, "
                    "then run this again"
                ) from error
            yield


def _open(path: Path, flags: int, mode: int = 0o644) -> BinaryIO:
    """Open `path`, which is never followed where it is a link; inherited by no child."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    if flags & os.O_ACCMODE == os.O_RDONLY:
        return os.fdopen(descriptor, "rb")
    return os.fdopen(descriptor, "wb")


@contextmanager
def _closing(stream: BinaryIO, path: Path) -> Generator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            stream.close()
        raise
    with disk_errors("write", path):
        stream.close()
