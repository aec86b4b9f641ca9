"""Files of one passthrough on disk, bounded in bytes and in number.

    ROOT/ab/KEY          kept: whole, synced before it got this name
    ROOT/partial/KEY     on the way; resumed only by the validator in its head

A file's time of modification is when the upstream last confirmed it. What was used longest ago is
removed first; over a restart, what was confirmed longest ago.

Deliberately not here: digests. Nobody signed these bytes; `unverified` is what they are called.
"""

import contextlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fleetward.adapters.disk import disk_errors
from fleetward.errors import DiskError, DocumentError
from fleetward.relay.passthrough_file import HEAD_BYTES, Kept, Version, Writer, decode_head

_MAX_PARTIALS: Final = 64
"""Files on their way that stay to be resumed; what nobody asks for again must not fill the disk."""

_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(slots=True)
class _Entry:
    length: int
    kept: Kept | None = None


@dataclass(frozen=True, slots=True, order=True)
class _Idle:
    """A file that waits for a resume, by its age."""

    changed: float
    length: int
    path: Path

    def drop(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()


class PassthroughStore:
    """The files of one passthrough, bounded in bytes and in number.

    Attributes:
        stored_bytes: of all bodies.
        evicted: files removed to make room.
    """

    def __init__(
        self,
        root: Path,
        *,
        quota: int,
        max_files: int,
        min_free: int = 0,
        free_bytes: Callable[[Path], int] | None = None,
    ) -> None:
        """Make the folders.

        Args:
            root: the folder; made where it is absent.
            quota: bytes of all bodies, with those on their way and those that broke off.
            max_files: how many; a crawl through tiny files ends here.
            min_free: bytes of the disk that are left to others.
            free_bytes: how much is free; the system's answer unless given.

        Raises:
            DiskError: the folders cannot be made.
        """
        self.stored_bytes = 0
        self.evicted = 0
        self._root = root
        self._quota = quota
        self._max_files = max_files
        self._min_free = min_free
        self._free_bytes = free_bytes or _free_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._writers: dict[str, Writer] = {}
        with disk_errors("create", root):
            (root / "partial").mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        """Return how many files are known."""
        return len(self._entries)

    def _path(self, key: str) -> Path:
        return self._root / key[:2] / key

    def _partial(self, key: str) -> Path:
        return self._root / "partial" / key

    # -- reading -----------------------------------------------------------------------------------

    def find(self, key: str) -> Kept | None:
        """Return a kept file, which counts as used now; None where there is none."""
        entry = self._entries.get(key)
        if entry is None or entry.kept is None:
            entry = self._load(key)
            if entry is None:
                return None
        self._entries.move_to_end(key)
        return entry.kept

    def _load(self, key: str) -> _Entry | None:
        try:
            descriptor = os.open(self._path(key), _READ)
        except OSError:
            self._forget(key)
            return None
        try:
            found = os.fstat(descriptor)
            version = decode_head(os.pread(descriptor, HEAD_BYTES, 0))
        except (DocumentError, OSError):
            self.remove(key)
            return None
        finally:
            os.close(descriptor)
        if version.length is None or found.st_size != HEAD_BYTES + version.length:
            self.remove(key)
            return None
        self._note(key, _Entry(version.length, Kept(key, version, found.st_mtime)))
        return self._entries[key]

    def open(self, kept: Kept) -> int | None:
        """Open a kept file, whose body begins at `HEAD_BYTES`; None where it is gone."""
        try:
            return os.open(self._path(kept.key), _READ)
        except FileNotFoundError:
            self._forget(kept.key)
            return None

    def load_all(self) -> list[tuple[str, int, float]]:
        """Return (key, body's length, time) of each file on disk; slow, so called in a thread."""
        found: list[tuple[str, int, float]] = []
        for folder in self._folders():
            with contextlib.suppress(OSError), os.scandir(folder) as names:
                for name in names:
                    status = name.stat(follow_symlinks=False)
                    length = max(0, status.st_size - HEAD_BYTES)
                    found.append((name.name, length, status.st_mtime))
        return found

    def _folders(self) -> Iterator[Path]:
        with contextlib.suppress(OSError):
            yield from self._root.glob("[0-9a-f][0-9a-f]")

    def adopt(self, found: list[tuple[str, int, float]]) -> None:
        """Count files of an earlier run, those confirmed longest ago as used longest ago."""
        known = self._entries
        self._entries = OrderedDict()
        for key, length, _ in sorted(found, key=lambda row: row[2]):
            if key not in known and self._path(key).exists():
                self._entries[key] = _Entry(length)
                self.stored_bytes += length
        self._entries.update(known)
        self._trim()

    # -- keeping -----------------------------------------------------------------------------------

    def begin(self, key: str, version: Version) -> Writer:
        """Return a writer for a new content; what was on its way under that name is let go.

        Raises:
            DiskError: there is no room for it, even with older files removed.
        """
        self.make_room(version.length or 0)
        writer = Writer(self._partial(key), self._path(key), version)
        self._writers[key] = writer
        return writer

    def resume(self, key: str) -> Writer | None:
        """Return a writer that goes on with what came earlier, where that can be resumed."""
        path = self._partial(key)
        try:
            if path.stat().st_size <= HEAD_BYTES:
                return None
            writer = Writer(path, self._path(key), None)
        except (OSError, DiskError, DocumentError):
            return None
        if writer.version.resume_validator and writer.version.length is not None:
            self._writers[key] = writer
            return writer
        writer.discard()
        return None

    def suspend(self, writer: Writer) -> None:
        """Close a writer whose file may be resumed; only the newest few such files stay."""
        writer.close()
        for one in self._idle()[:-_MAX_PARTIALS]:
            one.drop()

    def _idle(self) -> list["_Idle"]:
        """Return the files that wait for a resume, the oldest first."""
        self._on_their_way()  # forgets those that are closed
        found: list[_Idle] = []
        with contextlib.suppress(OSError):
            for path in (self._root / "partial").iterdir():
                if path.name not in self._writers:
                    status = path.stat()
                    length = max(0, status.st_size - HEAD_BYTES)
                    found.append(_Idle(status.st_mtime, length, path))
        return sorted(found)

    def note_kept(self, key: str, version: Version, now: float) -> None:
        """Count a file that was committed, and remove others for it."""
        self._writers.pop(key, None)
        self._note(key, _Entry(version.length or 0, Kept(key, version, now)))
        self.confirm(key, now)
        self._trim()

    def confirm(self, key: str, now: float) -> None:
        """Note that the upstream says the file is right."""
        entry = self._entries.get(key)
        if entry is not None and entry.kept is not None:
            entry.kept = replace(entry.kept, checked=now)
        with contextlib.suppress(OSError):
            os.utime(self._path(key), (now, now))

    def remove(self, key: str) -> None:
        """Remove a file; nothing where it is absent."""
        self._forget(key)
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def make_room(self, count: int) -> None:
        """Remove files used longest ago until `count` more bytes fit; first those that broke off.

        Raises:
            DiskError: they do not fit with all files removed.
        """
        idle = self._idle()
        while not self._fits(count, sum(one.length for one in idle)):
            if idle:
                idle.pop(0).drop()
                continue
            if not self._entries:
                raise DiskError(
                    f"{self._root} has no room for {count} bytes: raise the quota, or free the disk"
                )
            self._evict_oldest()

    def _trim(self) -> None:
        while self.stored_bytes > self._quota or len(self._entries) > self._max_files:
            self._evict_oldest()

    def _evict_oldest(self) -> None:
        self.remove(next(iter(self._entries)))
        self.evicted += 1

    def _fits(self, count: int, idle_bytes: int) -> bool:
        if self.stored_bytes + self._on_their_way() + idle_bytes + count > self._quota:
            return False
        return not count or self._free_bytes(self._root) - count >= self._min_free

    def _on_their_way(self) -> int:
        self._writers = {key: one for key, one in self._writers.items() if one.descriptor >= 0}
        return sum(max(one.length, one.version.length or 0) for one in self._writers.values())

    def _note(self, key: str, entry: _Entry) -> None:
        self._forget(key)
        self._entries[key] = entry
        self.stored_bytes += entry.length

    def _forget(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.stored_bytes -= entry.length


def _free_bytes(path: Path) -> int:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return 0
