"""The canonical tar: the bytes whose sha256 is a release's identity (docs/formats.md).

Regular files only, sorted by the bytes of their paths; ustar headers, a pax header only where a
name is longer than 100 bytes or not ASCII, or a size does not fit; mode 0644 or 0755; uid, gid and
mtime 0; empty owner names; two zero blocks at the end and no further padding.

Invariant of the reader: it re-encodes each header that it has parsed and compares, so whatever it
accepts is canonical, and two different tars never read as the same tree. Links, devices, folders
and sparse files have no canonical header and are refused by that same comparison.

Deliberately not here: reading or writing files; the reader takes bytes in any cut and gives events.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from fleetward.core.limits import TreeLimits
from fleetward.core.tree import TreeEntry, TreeRules
from fleetward.errors import UnsafeTreeError

BLOCK = 512
END = bytes(2 * BLOCK)
_USTAR_SIZE_LIMIT = 8**11
_MAX_PAX_BYTES = 8 * BLOCK


def padding(length: int) -> int:
    """Return how many zero bytes follow `length` bytes of content."""
    return -length % BLOCK


def tar_length(entries: Iterable[TreeEntry]) -> int:
    """Return the length in bytes of the canonical tar of `entries`."""
    return sum(len(header(e)) + e.length + padding(e.length) for e in entries) + len(END)


def header(entry: TreeEntry) -> bytes:
    """Return the header of one file: 512 bytes, or 1,536 and more where a pax header is needed."""
    records: list[tuple[str, str]] = []
    if not entry.path.isascii() or len(entry.path) > 100:
        records.append(("path", entry.path))
    size = entry.length
    if size >= _USTAR_SIZE_LIMIT:
        records.append(("size", str(size)))
        size = 0
    mode = 0o755 if entry.executable else 0o644
    name = entry.path.encode("ascii", "replace")[:100]
    return _pax(records) + _ustar(name, mode, size, b"0")


def _ustar(name: bytes, mode: int, size: int, kind: bytes) -> bytes:
    before = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, 0, 0, size, 0)
    after = (kind + bytes(100) + b"ustar\x0000").ljust(BLOCK - len(before) - 8, b"\0")
    checksum = sum(before) + sum(after) + 8 * ord(" ")
    return before + b"%06o\0 " % checksum + after


def _pax(records: list[tuple[str, str]]) -> bytes:
    if not records:
        return b""
    body = b"".join(_pax_record(keyword.encode(), value.encode()) for keyword, value in records)
    return _ustar(b"././@PaxHeader", 0, len(body), b"x") + body + bytes(padding(len(body)))


def _pax_record(keyword: bytes, value: bytes) -> bytes:
    rest = len(keyword) + len(value) + 3
    total = rest + len(str(rest))
    total = rest + len(str(total))
    return b"%d %b=%b\n" % (total, keyword, value)


def write_tar(
    entries: Iterable[TreeEntry], read: Callable[[TreeEntry], Iterable[bytes]]
) -> Iterator[bytes]:
    """Yield the canonical tar of `entries`, which are sorted and checked (core.tree.check_tree).

    Args:
        entries: the files of the tree.
        read: gives one file's content in pieces; it must have exactly `entry.length` bytes.

    Raises:
        UnsafeTreeError: a file's content has another length than its entry (it changed meanwhile).
    """
    for entry in entries:
        yield header(entry)
        seen = 0
        for piece in read(entry):
            seen += len(piece)
            yield piece
        if seen != entry.length:
            raise UnsafeTreeError(
                f"{entry.path!r} changed while it was read ({entry.length} bytes, then {seen}): "
                "publish from a folder that nobody writes to"
            )
        yield bytes(padding(entry.length))
    yield END


@dataclass(frozen=True, slots=True)
class FileBegins:
    """A file's header was read; its content follows."""

    entry: TreeEntry


@dataclass(frozen=True, slots=True)
class FileBytes:
    """A piece of the current file's content."""

    content: bytes


@dataclass(frozen=True, slots=True)
class FileEnds:
    """The current file is complete."""


TarEvent = FileBegins | FileBytes | FileEnds


class TarReader:
    """Reads a canonical tar in pieces of any size.

    `feed` as many pieces as there are, then `close`. Keeps at most one header and one cut.
    """

    def __init__(self, limits: TreeLimits | None = None) -> None:
        self._rules = TreeRules(limits or TreeLimits())
        self._buffer = b""
        self._content_left = 0
        self._padding_left = 0
        self._ended = False

    def feed(self, piece: bytes) -> list[TarEvent]:
        """Return what `piece` completes.

        Raises:
            UnsafeTreeError: anything that is not canonical, or that `core.tree` refuses.
        """
        events: list[TarEvent] = []
        data = self._buffer + piece if self._buffer else piece
        at = 0
        while True:
            taken = self._step(data, at, events)
            if not taken:
                break
            at += taken
        self._buffer = data[at:]
        return events

    def close(self) -> None:
        """End the tar.

        Raises:
            UnsafeTreeError: it is not complete, or something follows its end.
        """
        if not self._ended or self._buffer:
            raise UnsafeTreeError("the tar is truncated, or something follows its end")

    def _step(self, data: bytes, at: int, events: list[TarEvent]) -> int:
        left = len(data) - at
        if self._content_left:
            taken = min(left, self._content_left)
            if taken:
                events.append(FileBytes(data[at : at + taken]))
                self._content_left -= taken
                self._end_of_content(events)
            return taken
        if self._padding_left:
            if left < self._padding_left:
                return 0
            taken = self._padding_left
            if data.count(0, at, at + taken) != taken:
                raise UnsafeTreeError("the padding after a file is not zero")
            self._padding_left = 0
            return taken
        if self._ended:
            if left:
                raise UnsafeTreeError("something follows the end of the tar")
            return 0
        return self._header(data, at, events)

    def _end_of_content(self, events: list[TarEvent]) -> None:
        if not self._content_left:
            events.append(FileEnds())

    def _header(self, data: bytes, at: int, events: list[TarEvent]) -> int:
        left = len(data) - at
        if left < 2 * BLOCK:  # the shortest thing that can follow is the end, two blocks
            return 0
        if data[at] == 0:
            if data[at : at + len(END)] != END:
                raise UnsafeTreeError("the end of the tar is not two zero blocks")
            self._ended = True
            return len(END)
        taken = BLOCK
        records: dict[str, str] = {}
        if data[at + 156 : at + 157] == b"x":
            length = _octal(data[at + 124 : at + 136])
            if length > _MAX_PAX_BYTES:
                raise UnsafeTreeError(f"a pax header of {length} bytes")
            taken = BLOCK + length + padding(length) + BLOCK
            if left < taken:
                return 0
            records = _pax_records(data[at + BLOCK : at + BLOCK + length])
        entry = _entry(data[at + taken - BLOCK : at + taken], records)
        if header(entry) != data[at : at + taken]:
            raise UnsafeTreeError(
                f"the header of {entry.path!r} is not canonical (a link, a device, a folder, "
                "an owner, a time, or another form of tar)"
            )
        self._rules.admit(entry)
        events.append(FileBegins(entry))
        self._content_left = entry.length
        self._padding_left = padding(entry.length)
        self._end_of_content(events)
        return taken


def _octal(text: bytes) -> int:
    digits = text.rstrip(b"\0")
    if not digits or not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise UnsafeTreeError(f"a tar number that is not octal: {text!r}")
    return int(digits, 8)


def _pax_records(body: bytes) -> dict[str, str]:
    records: dict[str, str] = {}
    try:
        for line in body.decode().split("\n")[:-1]:
            keyword, _, value = line.partition(" ")[2].partition("=")
            records[keyword] = value
    except UnicodeDecodeError as error:
        raise UnsafeTreeError("a pax header that is not UTF-8") from error
    return records


def _entry(block: bytes, records: dict[str, str]) -> TreeEntry:
    name = block[:100].rstrip(b"\0").decode("ascii", "replace")
    size = records.get("size", "")
    if size and not (size.isascii() and size.isdigit() and len(size) < 20):
        raise UnsafeTreeError(f"a pax size that is no number: {size[:40]!r}")
    return TreeEntry(
        path=records.get("path", name),
        length=int(size) if size else _octal(block[124:136]),
        executable=block[100:108] == b"0000755\0",
    )
