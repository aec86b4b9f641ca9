"""The file behind a running program: its digest, whether it is still there, who may replace it.

The bytes are read through the running program (`/proc/PID/exe` on Linux), so that a deleted file
still has a digest, and a file that was put at the old path has not.

Deliberately not here: packages (dpkg, rpm).
"""

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from fleetward.core.limits import MIB
from fleetward.core.listeners import FileState

MAX_HASHED_BYTES: Final = 512 * MIB
"""Of an executable; a sparse file of terabytes would keep a survey busy for days."""

MAX_KEPT_DIGESTS: Final = 4_096
"""Digests that are remembered by file identity."""

_DELETED: Final = " (deleted)"

_Stamp = tuple[int, int, int, int, int]


@dataclass(slots=True)
class Digests:
    """Digests of files, remembered while a file's identity, size and times are the same.

    Whoever can set times and write the file without a trace is root, and needs no trick.
    """

    _known: dict[tuple[_Stamp, str], str] = field(default_factory=dict)

    def of(self, path: Path, algorithm: str = "sha256") -> str | None:
        """Return a file's digest as hex; None where it cannot be read, or is too long."""
        try:
            with path.open("rb") as stream:
                facts = os.fstat(stream.fileno())
                if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_HASHED_BYTES:
                    return None
                key = (_stamp(facts), algorithm)
                if key not in self._known:
                    self._make_room()
                    make: Callable[[], hashlib._Hash] = _MAKERS[algorithm]
                    self._known[key] = hashlib.file_digest(stream, make).hexdigest()
                return self._known[key]
        except OSError:
            return None

    def _make_room(self) -> None:
        if len(self._known) >= MAX_KEPT_DIGESTS:
            self._known.clear()


def _md5() -> "hashlib._Hash":
    return hashlib.md5(usedforsecurity=False)  # what Debian's package database has


_MAKERS: Final[dict[str, Callable[[], "hashlib._Hash"]]] = {"sha256": hashlib.sha256, "md5": _md5}


def _stamp(facts: os.stat_result) -> _Stamp:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def state_of(link: str, running: os.stat_result, root: Path = Path("/")) -> tuple[str, FileState]:
    """Return the path that a program was started from, and what became of the file.

    Args:
        link: what `/proc/PID/exe` says.
        running: the facts of the file behind it.
        root: the root folder of the program.
    """
    if link.startswith("/memfd:"):
        return link.removesuffix(_DELETED), FileState.NEVER_A_FILE
    if _is_same(inside(root, link), running):
        return link, FileState.PRESENT
    if not link.endswith(_DELETED):  # the name lives, and is hidden from us by mounts or rights
        return link, FileState.PRESENT
    path = link.removesuffix(_DELETED)
    return path, FileState.REPLACED if inside(root, path).exists() else FileState.DELETED


def _is_same(path: Path, running: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), running)
    except OSError:
        return False


def inside(root: Path, path: str) -> Path:
    """Return an absolute path of a program as this process can open it."""
    return Path(path) if root == Path("/") else root / path.lstrip("/")


def writable_by_anyone(path: str, root: Path = Path("/")) -> str | None:
    """Return the file or folder by which anybody can replace the file at `path`; None for none.

    A folder further up does not count where it is sticky (/tmp): only owners may rename in it. The
    file's own folder counts in any case: honest programs do not run from there.
    """
    file = PurePosixPath(path)
    for one in (file, *file.parents):
        try:
            mode = inside(root, str(one)).stat().st_mode
        except OSError:
            continue
        is_sticky = bool(mode & stat.S_ISVTX) and one not in {file, file.parent}
        if mode & stat.S_IWOTH and not is_sticky:
            return str(one)
    return None
