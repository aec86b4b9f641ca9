"""The spool: check-ins on disk, on their way to the console.

    CACHE/spool/N.segment     records in the order of receipt (relay.segments)
    CACHE/spool/cursor.json   up to where the console has taken them
    CACHE/spool/aside/        what the console refused for good, for people to look at

Invariants:

- `append` returns KEPT only for what was fsync'd: content, then the folder with the segment's name.
- No segment is written to after a start, an error of the disk, or its length: a torn tail stays
  where it is, and what follows begins in a new file.
- Only `remove` moves the cursor, and the cursor moves before a segment goes. After power loss the
  cursor may stand earlier, so a check-in may be sent twice, never not at all.
- A host's check-ins leave in the order in which they came.

Blocking, and safe to call from several threads. One process at a time (the relay's lock).

Deliberately not here: signatures (relay.checkins), waiting for a shared fsync (relay.commits).
"""

import contextlib
import hashlib
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.clock import Clock
from fleetward.adapters.disk import Disk, Kind, OpenFile
from fleetward.config.relay import SpoolSettings
from fleetward.errors import DiskError, DocumentError
from fleetward.relay.segments import Record, encode_record, read_records
from fleetward.relay.settings import CarryLimits
from fleetward.relay.shares import Fate, Shares
from fleetward.wire.checkins import milliseconds_of
from fleetward.wire.documents import decode_json, encode_json

_CURSOR_SCHEMA: Final = "fleetward.spool-cursor/1"
_SUFFIX: Final = ".segment"
_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the spool.

    Attributes:
        segment: the number of the segment.
        offset: bytes in it.
    """

    segment: int
    offset: int

    def __post_init__(self) -> None:
        if min(self.segment, self.offset) < 0:
            raise DocumentError("a position has no negative numbers")


@dataclass(frozen=True, slots=True)
class Taken:
    """The oldest check-ins, which stay in the spool until they are removed.

    Attributes:
        records: to be sent; those that were too old are not among them.
        expired: those.
        damaged: stretches between them that could not be read.
        end: where the next ones begin.
    """

    records: tuple[Record, ...]
    expired: tuple[Record, ...]
    damaged: int
    end: Position


@dataclass(slots=True)
class SpoolCounters:
    """Only ever counted up.

    Attributes:
        damaged: stretches of segments that could not be read.
        expired: check-ins dropped because of their age.
        aside: check-ins that the console refused for good.
        disk_errors: writes and reads that failed.
    """

    damaged: int = 0
    expired: int = 0
    aside: int = 0
    disk_errors: int = 0


class Spool:
    """See the module's docstring; `open` comes first.

    Attributes:
        counters: what happened so far.
        is_open: whether `open` has ended.
    """

    def __init__(
        self, disk: Disk, folder: Path, settings: SpoolSettings, limits: CarryLimits, clock: Clock
    ) -> None:
        """Take where and how much; nothing is touched yet."""
        self.counters = SpoolCounters()
        self.is_open = False
        self._disk = disk
        self._folder = folder
        self._settings = settings
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._shares = Shares(self._settings)
        self._segments: list[int] = []
        self._cursor = Position(0, 0)
        self._next = 1
        self._active = contextlib.ExitStack()
        self._file: OpenFile | None = None
        self._length = 0
        self._cached: tuple[int, bytes] = (0, b"")
        self._failed_reads = 0

    @property
    def waiting_bytes(self) -> int:
        """Return how many bytes wait."""
        return self._shares.bytes

    @property
    def waiting(self) -> int:
        """Return how many check-ins wait."""
        return self._shares.count

    # -- starting and stopping ---------------------------------------------------------------------

    def open(self) -> None:
        """Take up what an earlier process left; all of it is read once.

        Raises:
            DiskError: the folder cannot be made or read.
        """
        with self._lock, _absent_is_an_error():
            self._shares = Shares(self._settings)
            self._disk.make_folder(self._folder)
            self._cursor = self._read_cursor()
            numbers = sorted(filter(None, map(_number_of, self._disk.listing(self._folder))))
            self._next = max([self._cursor.segment, *numbers]) + 1
            self._segments = [number for number in numbers if number >= self._cursor.segment]
            for number in self._segments:
                self._count_segment(number)
            for number in set(numbers) - set(self._segments):
                self._disk.remove(self._path(number))
            self.is_open = True

    def _count_segment(self, number: int) -> None:
        at = self._cursor.offset if number == self._cursor.segment else 0
        content = self._disk.read(self._path(number))
        reading = read_records(content, at, len(content), len(content))
        for record in reading.records:
            self._shares.add(record)

    def _read_cursor(self) -> Position:
        """Return the cursor; the spool's beginning where there is none that can be read."""
        path = self._folder / "cursor.json"
        if self._disk.kind(path) is not Kind.FILE:
            return Position(0, 0)
        try:
            return decode_json(_CURSOR_SCHEMA, Position, self._disk.read(path))
        except DocumentError:
            self.counters.damaged += 1
            return Position(0, 0)

    def close(self) -> None:
        """Close the segment that is being written, once whoever writes has ended."""
        with self._lock:
            self._end_segment()
            self.is_open = False

    # -- writing ------------------------------------------------------------------------------------

    def append(self, records: Iterable[Record]) -> list[Fate]:
        """Keep check-ins, all with one fsync.

        Returns:
            For each, what became of it; with KEPT and REPEATED it survives power loss.
        """
        with self._lock:
            fates, taken = self._admit(records)
            try:
                if taken:
                    self._write(b"".join(map(encode_record, taken)))
            except (DiskError, FileNotFoundError):
                self.counters.disk_errors += 1
                for record in taken:
                    self._shares.drop(record)
                return [Fate.DISK if fate.is_durable else fate for fate in fates]
            return fates

    def _admit(self, records: Iterable[Record]) -> tuple[list[Fate], list[Record]]:
        fates: list[Fate] = []
        taken: list[Record] = []
        for record in records:
            fate = self._shares.fate_of(record) if self.is_open else Fate.DISK
            fates.append(fate)
            if fate is Fate.KEPT:
                self._shares.add(record)
                taken.append(record)
        return fates, taken

    def _write(self, content: bytes) -> None:
        """Write and sync; after an error nothing more goes into that segment."""
        if self._file is not None and self._length + len(content) > self._limits.segment_bytes:
            self._end_segment()
        is_new = self._file is None
        try:
            self._disk.make_folder(self._folder)
            file = self._file or self._begin_segment()
            file.write(content)
            file.sync()
            if is_new:
                self._disk.sync_folder(self._folder)
        except (DiskError, FileNotFoundError):
            self._abandon_segment(is_empty=is_new)
            raise
        self._length += len(content)

    def _begin_segment(self) -> OpenFile:
        number = self._next
        self._next += 1
        self._file = self._active.enter_context(self._disk.append(self._path(number)))
        self._length = 0
        self._segments.append(number)
        return self._file

    def _end_segment(self) -> None:
        with contextlib.suppress(DiskError):
            self._active.close()
        self._file = None

    def _abandon_segment(self, *, is_empty: bool) -> None:
        """Leave the segment; one that holds nothing that was promised is removed."""
        self._end_segment()
        self._cached = (0, b"")
        if is_empty and self._segments and self._segments[-1] == self._next - 1:
            with contextlib.suppress(DiskError):
                self._disk.remove(self._path(self._segments[-1]))
                self._segments.pop()

    # -- reading ------------------------------------------------------------------------------------

    def take(self, max_count: int, max_bytes: int) -> Taken | None:
        """Return the oldest check-ins; None where none wait.

        Args:
            max_count: at most so many.
            max_bytes: at most so long together, as a batch counts them; one always is taken.

        Raises:
            DiskError: a segment cannot be read.
        """
        with self._lock:
            oldest = milliseconds_of(self._oldest_allowed())
            while self._segments:
                taken = self._take_from(self._segments[0], oldest, max_count, max_bytes)
                if taken is not None:
                    return taken
                if self._is_active(self._segments[0]):
                    return None
                self._pass_segment()
            return None

    def _oldest_allowed(self) -> datetime:
        return self._clock.now() - self._settings.max_age

    def _take_from(self, number: int, oldest: int, max_count: int, max_bytes: int) -> Taken | None:
        at = self._cursor.offset if number == self._cursor.segment else 0
        reading = read_records(self._content(number), at, max_count, max_bytes)
        if not reading.records:
            self.counters.damaged += reading.damaged
            return None
        live = tuple(r for r in reading.records if r.since >= oldest)
        expired = tuple(r for r in reading.records if r.since < oldest)
        return Taken(live, expired, reading.damaged, Position(number, reading.end))

    def _content(self, number: int) -> bytes:
        """Return a segment; the one read last is held, until it has grown.

        One that cannot be read time and again counts as damaged, and is empty.
        """
        known, content = self._cached
        if known == number and len(content) == self._size(number):
            return content
        try:
            content = self._disk.read(self._path(number))
        except FileNotFoundError:
            content = b""
        except DiskError:
            self.counters.disk_errors += 1
            self._failed_reads += 1
            if self._failed_reads < self._limits.read_attempts:
                raise
            self.counters.damaged += 1
            content = b""
        self._failed_reads = 0
        self._cached = (number, content)
        return content

    def _size(self, number: int) -> int:
        try:
            return self._disk.size(self._path(number))
        except FileNotFoundError:
            return 0

    def _is_active(self, number: int) -> bool:
        return self._file is not None and number == self._next - 1

    def remove(self, taken: Taken) -> None:
        """Forget check-ins that the console has, or that are too old.

        Raises:
            DiskError: the cursor cannot be written; they may be sent again.
        """
        with self._lock:
            for record in (*taken.records, *taken.expired):
                self._shares.drop(record)
            self.counters.expired += len(taken.expired)
            self.counters.damaged += taken.damaged
            self._cursor = taken.end
            if taken.end.offset < self._size(taken.end.segment):
                self._write_cursor()
                return
            if self._is_active(taken.end.segment):
                if self._length < self._limits.worth_removing_bytes:
                    self._write_cursor()
                    return
                self._end_segment()
            self._pass_segment()

    def _pass_segment(self) -> None:
        """Go on to the next segment, durably, then remove the one that is done."""
        done = self._segments.pop(0)
        self._cursor = Position(done + 1, 0)
        self._cached = (0, b"")
        self._write_cursor()
        self._disk.remove(self._path(done))

    def _write_cursor(self) -> None:
        content = encode_json(_CURSOR_SCHEMA, self._cursor)
        self._disk.make_folder(self._folder)
        write_file(self._disk, self._folder / "cursor.json", content)

    def set_aside(self, records: Sequence[Record]) -> None:
        """Keep a copy of what the console refused for good, for people; then it may be removed.

        Raises:
            DiskError: it cannot be written.
        """
        with self._lock:
            folder = self._folder / "aside"
            self._disk.make_folder(folder)
            room = self._limits.max_aside - len(self._disk.listing(folder))
            for record in records[: max(room, 0)]:
                name = hashlib.sha256(record.carried.envelope).hexdigest()
                write_file(self._disk, folder / f"{name}.json", record.carried.envelope)
            self.counters.aside += len(records)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:0{_DIGITS}}{_SUFFIX}"

    def summary(self) -> Mapping[str, object]:
        """Return what waits, for `GET /v1/relay`."""
        return {
            "bytes": self.waiting_bytes,
            "check_ins": self.waiting,
            "hosts": len(self._shares.hosts),
            "max_bytes": self._settings.max_bytes,
            "damaged": self.counters.damaged,
            "expired": self.counters.expired,
            "aside": self.counters.aside,
            "disk_errors": self.counters.disk_errors,
        }


@contextlib.contextmanager
def _absent_is_an_error() -> Generator[None]:
    """Turn the absence of what was there a moment ago into a DiskError."""
    try:
        yield
    except FileNotFoundError as error:
        raise DiskError(f"the spool changed while it was read: {error}; try again") from error


def _number_of(name: str) -> int:
    """Return the number of a segment's name; 0 for every other name."""
    stem = name.removesuffix(_SUFFIX)
    is_segment = name.endswith(_SUFFIX) and len(stem) == _DIGITS and stem.isdecimal()
    return int(stem) if is_segment else 0
