"""One file of a passthrough: a head of fixed length, then the body as the upstream sent it.

One file for both parts, so that no power loss can pair a body with another's head: it is whole and
synced before it gets its name. Bytes are only ever appended, since clients may be reading them:
another content is another file.
"""

import contextlib
import os
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fleetward.adapters.disk import disk_errors
from fleetward.errors import DiskError
from fleetward.wire.documents import decode_json, encode_json

HEAD_BYTES: Final = 4096
"""What stands before the body."""

_SCHEMA: Final = "fleetward.passthrough/1"
_WRITE: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One content of one URL, as the upstream described it.

    Attributes:
        target: what was asked for; for people who look at the file.
        tag: the strong ETag that clients are told: the upstream's, or one of our own.
        etag: the upstream's, perhaps weak; empty without one.
        modified: the upstream's Last-Modified; empty without one.
        is_date_strong: whether that date can tell two contents apart (RFC 9110 section 8.8.2.2).
        kind: the upstream's Content-Type.
        length: of the body in bytes; None where only its end will tell.
    """

    target: str
    tag: str
    etag: str = ""
    modified: str = ""
    is_date_strong: bool = False
    kind: str = ""
    length: int | None = None

    @property
    def resume_validator(self) -> str:
        """Return what If-Range may hold; empty where a resume could join two contents."""
        if self.etag.startswith('"'):
            return self.etag
        return self.modified if self.is_date_strong else ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept file.

    Attributes:
        key: its name.
        version: what it holds; its length is known.
        checked: seconds since 1970, when the upstream last confirmed it.
    """

    key: str
    version: Version
    checked: float


def encode_head(version: Version) -> bytes:
    """Return the head of a file that holds `version`. Raises DiskError where it does not fit."""
    head = encode_json(_SCHEMA, version)
    if len(head) > HEAD_BYTES - 1:
        raise DiskError("the head of an answer does not fit its file (a mistake in the filler)")
    return head.ljust(HEAD_BYTES - 1) + b"\n"


def decode_head(head: bytes) -> Version:
    """Return what a head says. Raises DocumentError where it is none."""
    return decode_json(_SCHEMA, Version, head)


@contextlib.contextmanager
def _disk_errors(doing: str, path: Path) -> Generator[None]:
    """Turn every OSError into a DiskError; a file of ours that is absent was removed by others."""
    try:
        with disk_errors(doing, path):
            yield
    except FileNotFoundError as error:
        raise DiskError(
            f"cannot {doing} {path}: somebody removed it, or its folder; restart the relay"
        ) from error


class Writer:
    """One content on its way; bytes are only ever appended."""

    def __init__(self, path: Path, target: Path, version: Version | None) -> None:
        """Open a new file for `version`, or go on with the one at `path` where it is None.

        Raises:
            DiskError: it cannot be opened.
            DocumentError: there is nothing to go on with.
        """
        self._path = path
        self._target = target
        if version is not None:
            with contextlib.suppress(OSError):
                path.unlink()  # clients may still read that one
        with _disk_errors("write", path):
            self._descriptor = os.open(path, _WRITE, 0o644)
            self.length = max(0, os.fstat(self._descriptor).st_size - HEAD_BYTES)
        try:
            self.version = decode_head(self._read_head()) if version is None else version
            if version is not None:
                self._put(encode_head(version), 0)
        except BaseException:
            self.discard()
            raise

    @property
    def descriptor(self) -> int:
        """Return what the file can be read from; -1 once it is closed."""
        return self._descriptor

    def _read_head(self) -> bytes:
        return os.pread(self._descriptor, HEAD_BYTES, 0)

    def write(self, piece: bytes) -> None:
        """Append to the body. Raises DiskError."""
        self._put(piece, HEAD_BYTES + self.length)
        self.length += len(piece)

    def _put(self, piece: bytes, at: int) -> None:
        view = memoryview(piece)
        with _disk_errors("write", self._path):
            while view:
                taken = os.pwrite(self._descriptor, view, at)
                at += taken
                view = view[taken:]

    def commit(self) -> None:
        """Give the whole body its name. Raises DiskError; nothing stays then."""
        try:
            if self.version.length is None:
                self.version = replace(self.version, length=self.length)
                self._put(encode_head(self.version), 0)
            with _disk_errors("write", self._target):
                os.fsync(self._descriptor)
                self._target.parent.mkdir(exist_ok=True)
                os.replace(self._path, self._target)  # noqa: PTH105, TID251 (open for sendfile)
        except BaseException:
            self.discard()
            raise

    def unlink(self) -> None:
        """Leave nothing on disk; who has the file open can read on."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def discard(self) -> None:
        """Leave nothing on disk, and close."""
        self.unlink()
        self.close()

    def close(self) -> None:
        """Give the descriptor back; harmless when called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
