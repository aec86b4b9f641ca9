"""Verified documents, kept by digest, so that a host asks for each once.

Bounded: when it is full, what this process has not used is removed. Bytes are compared with their
digest at each use, so a damaged file is only asked for again.
"""

from pathlib import Path
from typing import Final

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Disk, Kind
from fleetward.core.digest import sha256_of
from fleetward.trust.view import VerifiedTarget

MAX_KEPT: Final = 256
"""Files; at the longest document that is 16 MiB."""


class TargetCache:
    """A folder of documents named SHA256.json."""

    def __init__(self, disk: Disk, folder: Path, max_kept: int = MAX_KEPT) -> None:
        """Keep at most about `max_kept` documents in `folder`, which may be absent."""
        self._disk = disk
        self._folder = folder
        self._max_kept = max_kept
        self._used: set[str] = set()

    def get(self, target: VerifiedTarget) -> bytes | None:
        """Return the bytes of `target`, or None. Raises DiskError."""
        self._used.add(_name(target))
        try:
            content = self._disk.read(self._folder / _name(target))
        except FileNotFoundError:
            return None
        return content if sha256_of(content) == target.sha256 else None

    def put(self, target: VerifiedTarget, content: bytes) -> None:
        """Keep `content`, the verified bytes of `target`. Raises DiskError."""
        if self._disk.kind(self._folder) is Kind.ABSENT:
            self._disk.make_folder(self._folder)
        names = self._disk.listing(self._folder)
        if len(names) >= self._max_kept:
            for name in set(names) - self._used:
                self._disk.remove(self._folder / name)
        write_file(self._disk, self._folder / _name(target), content)


def _name(target: VerifiedTarget) -> str:
    return f"{target.sha256}.json"
