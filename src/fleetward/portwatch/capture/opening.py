"""From a stream of bytes to a reader: compression and format are known by their first bytes.

Invariants: whatever the bytes are, at most a few blocks of them are in memory; a compressed stream
that ends early or is damaged gives what came before, and a note. A bomb costs time alone: nothing is
kept of what is read.

Deliberately not here: files (the caller passes something that reads), formats (pcap, pcapng).
"""

import gzip
import importlib
import sys
import zlib
from collections.abc import Iterator
from types import ModuleType
from typing import Final, Protocol

from fleetward.errors import UsageError
from fleetward.portwatch.capture import pcap, pcapng
from fleetward.portwatch.capture.frames import CaptureReader, Frame, ReadBytes
from fleetward.portwatch.limits import CAPTURES, CaptureLimits

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_WINDOW_LOG: Final = 25
"""32 MiB: a frame that wants more memory to be opened is refused."""


class Stream(Protocol):
    """Something that reads; a file opened for reading is one."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end."""
        ...


def open_capture(
    stream: Stream, ports: frozenset[int], limits: CaptureLimits = CAPTURES
) -> CaptureReader:
    """Return a reader of a capture; pcap or pcapng, plain, gzip or zstd.

    Args:
        stream: at its beginning; need not be able to seek.
        ports: that are looked for.
        limits: see there.

    Raises:
        UsageError: it is no capture of these formats.
    """
    plain = _Plain(stream)
    start = plain.peek(4)
    if start.startswith(_GZIP):
        return _reader(_Opened(_gunzip(plain)), ports, limits, "gzip")
    if start == _ZSTD:
        return _reader(_Opened(_unzstd(plain)), ports, limits, "zstd")
    return _reader(plain, ports, limits, "")


class _Plain:
    """A stream whose first bytes can be looked at."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._start = b""
        self.problem = ""

    def peek(self, size: int) -> bytes:
        while len(self._start) < size:
            piece = self._stream.read(size - len(self._start))
            if not piece:
                break
            self._start += piece
        return self._start[:size]

    def read(self, size: int = -1, /) -> bytes:
        if not self._start:
            return self._stream.read(size)
        piece, self._start = self._start[:size], self._start[size:]
        return piece if len(piece) == size else piece + self._stream.read(size - len(piece))


class _Opened:
    """A decompressed stream whose end may be a damage."""

    def __init__(self, stream: Stream) -> None:
        self._plain = _Plain(stream)
        self.problem = ""

    def peek(self, size: int) -> bytes:
        return self._guarded(self._plain.peek, size)

    def read(self, size: int, /) -> bytes:
        return self._guarded(self._plain.read, size)

    def _guarded(self, read: ReadBytes, size: int) -> bytes:
        if self.problem:
            return b""
        try:
            return read(size)
        except _damages() as error:
            self.problem = f"the compressed file is damaged or ends early ({error})"
            return b""


def _gunzip(stream: _Plain) -> Stream:
    opened: Stream = gzip.GzipFile(fileobj=stream)  # type: ignore[call-overload]
    return opened


def _unzstd(stream: _Plain) -> Stream:
    zstd = _zstd()
    window = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    opened: Stream = zstd.ZstdFile(stream, options=window)
    return opened


def _zstd() -> ModuleType:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return importlib.import_module(name)


def _damages() -> tuple[type[Exception], ...]:
    zstd_error: type[Exception] = _zstd().ZstdError
    return (EOFError, OSError, zlib.error, zstd_error)


def _reader(
    source: "_Plain | _Opened", ports: frozenset[int], limits: CaptureLimits, codec: str
) -> CaptureReader:
    magic = source.peek(4)
    read: ReadBytes = source.read
    if magic in pcap.MAGICS:
        return _Noting(pcap.PcapReader(read, ports, limits), source)
    if magic == pcapng.MAGIC:
        return _Noting(pcapng.PcapngReader(read, ports, limits), source)
    inside = f" inside the {codec} file" if codec else ""
    problem = f": {source.problem}" if source.problem else ""
    raise UsageError(
        f"no capture{inside}: it begins with {magic.hex(' ') or 'nothing'}{problem}; pcap and "
        "pcapng are read (editcap turns other formats into them)"
    )


class _Noting:
    """A reader that adds what was wrong with the compression to its notes."""

    def __init__(self, reader: CaptureReader, source: "_Plain | _Opened") -> None:
        self._reader = reader
        self._source = source
        self.log = reader.log

    def frames(self) -> Iterator[Frame]:
        """Give the frames that may concern the ports."""
        yield from self._reader.frames()
        if self._source.problem:
            self.log.cut(self._source.problem)
