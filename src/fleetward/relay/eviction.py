"""What the cache keeps on the disk: quota, free space, retention; the longest unused goes first.

    Recency     blobs by when they were last asked for (pure)
    Storage     makes room before a blob comes, and tidies up now and then; a part of the relay

Never removed: what the current timestamp's closure needs, what is being sent, what is being
filled. Where there is no room without these, a blob is passed through: it fills a file as always,
all who wait are served from it, and the file is removed when it has been verified and nobody has
asked for a while (`RelayLimits.passthrough_linger`). A blob that is kept is counted from the moment
its length is known, so the folder exceeds the quota only by what is passed through.

When a blob was last asked for is kept in memory, and in the file's access time at most once an
hour, so that it survives a restart. While the closure is not known (first start without upstream),
the quota still holds, by age alone, and nothing is removed for its age.
"""

import asyncio
import enum
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol, TypeVar

from fleetward.adapters.clock import Clock
from fleetward.blobs.store import PartialBlob, PruneStore, StoredBlob
from fleetward.config.relay import StorageSettings
from fleetward.core.digest import Sha256
from fleetward.errors import DiskError
from fleetward.relay.counters import RelayCounters
from fleetward.relay.part import Kind, Metric, Route
from fleetward.relay.settings import RelayLimits

_SECONDS_A_DAY: Final = 86_400
_Item = TypeVar("_Item")
FreeSpace = Callable[[], int]
"""Returns the bytes of the disk that are free for this user; may block, may raise OSError."""


class Needed(Protocol):
    """What the current timestamp leads to, as `Storage` asks for it."""

    @property
    def is_settled(self) -> bool:
        """Return whether it was looked for since the start, found or not."""
        ...

    @property
    def is_known(self) -> bool:
        """Return whether it was found, so that what is not needed is known."""
        ...

    def needs(self, digest: Sha256) -> bool:
        """Return whether the current timestamp leads to the blob, as far as known."""
        ...


@dataclass(slots=True)
class _Entry:
    length: int
    used: float
    written: float


class Recency:
    """Blobs in the order in which they were last asked for.

    Attributes:
        total: bytes of all.
    """

    def __init__(self) -> None:
        self.total = 0
        self._entries: OrderedDict[Sha256, _Entry] = OrderedDict()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._entries)

    def __contains__(self, digest: Sha256) -> bool:
        """Return whether the blob is there."""
        return digest in self._entries

    def load(self, blobs: Iterable[StoredBlob]) -> None:
        """Take what was found on the disk, in place of what is known."""
        ordered = sorted(blobs, key=lambda blob: blob.used)
        self._entries = OrderedDict(
            (blob.digest, _Entry(blob.length, blob.used, blob.used)) for blob in ordered
        )
        self.total = sum(entry.length for entry in self._entries.values())

    def add(self, digest: Sha256, length: int, now: float) -> None:
        """Note that the blob is kept, and asked for now."""
        self.remove(digest)
        self._entries[digest] = _Entry(length, now, now)
        self.total += length

    def touch(self, digest: Sha256, now: float) -> None:
        """Note that the blob is asked for now; nothing where it is not there."""
        entry = self._entries.get(digest)
        if entry is not None:
            entry.used = now
            self._entries.move_to_end(digest)

    def remove(self, digest: Sha256) -> int:
        """Forget the blob, and return its length; 0 where it is not there."""
        entry = self._entries.pop(digest, None)
        if entry is None:
            return 0
        self.total -= entry.length
        return entry.length

    def victims(
        self, excess: int, is_spared: Callable[[Sha256], bool], at_most: int | None = None
    ) -> list[Sha256]:
        """Return the longest unused blobs that together have `excess` bytes, or all that may go.

        Args:
            excess: bytes to free.
            is_spared: tells what must stay.
            at_most: how many.
        """
        found: list[Sha256] = []
        for digest, entry in self._entries.items():
            if excess <= 0 or len(found) == at_most:
                break
            if not is_spared(digest):
                found.append(digest)
                excess -= entry.length
        return found

    def length_of(self, digests: list[Sha256]) -> int:
        """Return the bytes of these blobs, which are there."""
        return sum(self._entries[digest].length for digest in digests)

    def unused_since(
        self, when: float, is_spared: Callable[[Sha256], bool], at_most: int | None = None
    ) -> list[Sha256]:
        """Return the blobs that nobody asked for since `when`, without those that must stay."""
        found: list[Sha256] = []
        for digest, entry in self._entries.items():
            if entry.used >= when or len(found) == at_most:
                break
            if not is_spared(digest):
                found.append(digest)
        return found

    def unwritten(self, precision: float) -> list[tuple[Sha256, float]]:
        """Return whose last use must be written down, and note that it is.

        Args:
            precision: seconds that the written time may be behind.
        """
        found: list[tuple[Sha256, float]] = []
        for digest, entry in self._entries.items():
            if entry.used - entry.written >= precision:
                entry.written = entry.used
                found.append((digest, entry.used))
        return found


class Room(enum.Enum):
    """What becomes of a blob that is about to come."""

    KEPT = "kept"
    PASSED_THROUGH = "passed through"
    NONE = "none"


class Storage:
    """The quota of one blob store; a part of the relay.

    Attributes:
        recency: what is kept.
    """

    def __init__(
        self,
        store: PruneStore,
        settings: StorageSettings,
        limits: RelayLimits,
        counters: RelayCounters,
        *,
        clock: Clock,
        free_space: FreeSpace,
    ) -> None:
        """Take what it works on; nothing is read yet."""
        self.recency = Recency()
        self._store = store
        self._settings = settings
        self._limits = limits
        self._counters = counters
        self._clock = clock
        self._free_space = free_space
        self._needed: Needed | None = None
        self._coming: set[Sha256] = set()
        self._reserved: dict[Sha256, int] = {}
        self._passing: dict[Sha256, int] = {}
        self._lent: Counter[Sha256] = Counter()
        self._partial_bytes = 0
        self._landed = 0
        self._free = 0
        self._changing = asyncio.Lock()
        self._is_read = asyncio.Event()
        self._is_due = asyncio.Event()

    def protect(self, needed: Needed) -> None:
        """Spare from now on what the current timestamp needs."""
        self._needed = needed

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _is_spared(self, digest: Sha256) -> bool:
        is_needed = self._needed is not None and self._needed.needs(digest)
        return is_needed or digest in self._lent or digest in self._reserved

    async def is_ready(self) -> None:
        """Return once it is known what the store has."""
        await self._is_read.wait()

    # -- what the cache tells ------------------------------------------------------------------

    def touch(self, digest: Sha256) -> None:
        """Note that a blob is asked for."""
        self.recency.touch(digest, self._now())

    def lend(self, digest: Sha256) -> None:
        """Note that a blob is being sent; `give_back` follows."""
        self._lent[digest] += 1

    def is_lent(self, digest: Sha256) -> bool:
        """Return whether a blob is being sent."""
        return digest in self._lent

    def give_back(self, digest: Sha256) -> None:
        """Note that it was sent, or that the client left."""
        self._lent[digest] -= 1
        if self._lent[digest] <= 0:
            del self._lent[digest]

    async def begin(self, digest: Sha256) -> None:
        """Note that a blob's partial file is about to be written; `end` follows.

        Returns once nobody is removing partial files, so that it is not taken for an idle one.
        """
        await self._is_read.wait()
        async with self._changing:
            self._coming.add(digest)

    def end(self, digest: Sha256) -> None:
        """Note that the blob is not written any more; gives back what was reserved too."""
        self._coming.discard(digest)
        self.release(digest)

    async def reserve(self, digest: Sha256, length: int) -> Room:
        """Make room for a blob that is about to come; `keep` or `release` follows.

        Args:
            digest: of the blob; a second call for it replaces the first.
            length: in bytes.
        """
        await self._is_read.wait()
        async with self._changing:
            self.release(digest)
            await self._look(digest, length)
            room, victims = self._judge(digest, length)
            if room is Room.KEPT:
                self._reserved[digest] = length
                await self._evict(victims)
            elif room is Room.PASSED_THROUGH:
                self._passing[digest] = length
            return room

    def would_keep(self, length: int) -> bool:
        """Return whether a blob of that length would be kept without any other being removed."""
        quota, free = self._settings.quota, self._settings.min_free
        fits = not quota or self._taken + length <= quota
        return fits and (not free or self._free - self._outstanding - length >= free)

    def _judge(self, digest: Sha256, length: int) -> tuple[Room, list[Sha256]]:
        """Return what becomes of the blob, and what must go for it."""
        quota, min_free = self._settings.quota, self._settings.min_free
        over = self._taken + length - quota if quota else 0
        left = self._free - self._outstanding - length
        excess = max(over, min_free - left)
        if excess <= 0:
            return Room.KEPT, []
        victims = self.recency.victims(excess, lambda one: one == digest or self._is_spared(one))
        if self.recency.length_of(victims) >= excess:
            return Room.KEPT, victims
        return (Room.PASSED_THROUGH if left >= min_free // 2 else Room.NONE), []

    @property
    def _taken(self) -> int:
        return self.recency.total + sum(self._reserved.values()) + self._partial_bytes

    @property
    def _outstanding(self) -> int:
        """Return the bytes that blobs on their way will still take of the disk."""
        promised = sum(self._reserved.values()) + sum(self._passing.values())
        return max(0, promised - self._landed)

    def keep(self, digest: Sha256, length: int) -> None:
        """Note that the blob is kept now."""
        self.release(digest)
        self.recency.add(digest, length, self._now())
        self._is_due.set()

    def release(self, digest: Sha256) -> None:
        """Give back what was reserved; nothing where nothing was."""
        self._reserved.pop(digest, None)
        self._passing.pop(digest, None)

    # -- looking and removing ------------------------------------------------------------------

    async def _look(self, coming: Sha256 | None = None, length: int = 0) -> None:
        """Look at the free space and at what waits for a resume.

        Args:
            coming: a blob that is about to come, if one is.
            length: its length.
        """
        active = {*self._coming, *self._reserved, *self._passing, coming}
        try:
            partials = await asyncio.to_thread(lambda: list(self._store.partials()))
            self._free = await asyncio.to_thread(self._free_space)
        except OSError:
            self._counters.disk_errors += 1
            return
        idle = [partial for partial in partials if partial.digest not in active]
        self._partial_bytes = sum(partial.length for partial in idle)
        self._landed = sum(one.length for one in partials if one.digest in active)
        await self._drop_partials(sorted(idle, key=lambda partial: partial.used), length)

    async def _drop_partials(self, idle: list[PartialBlob], coming: int) -> None:
        """Drop beginnings of blobs that are too old or too many, or do not fit the quota."""
        oldest = self._now() - self._limits.partial_lifetime.total_seconds()
        quota = self._settings.quota
        surplus = len(idle) - self._limits.max_partials
        for number, partial in enumerate(idle):
            is_over = bool(quota) and self._taken + coming > quota
            if not (is_over or number < surplus or 0 < partial.used < oldest):
                continue
            self._partial_bytes -= partial.length
            await self._removing(lambda one=partial: self._store.remove_partial(one))  # type: ignore[misc]

    async def _evict(self, victims: list[Sha256]) -> None:
        for batch in _slices(victims, self._limits.eviction_slice):
            gone = [digest for digest in batch if not self._is_spared(digest)]
            for digest in gone:
                self._counters.evicted += 1
                self._counters.evicted_bytes += self.recency.remove(digest)
            self._counters.disk_errors += await asyncio.to_thread(self._remove_all, gone)

    def _remove_all(self, batch: list[Sha256]) -> int:
        """Remove blobs, and return how many could not be; those are found again by a restart."""
        failures = 0
        for digest in batch:
            try:
                self._store.remove(digest)
            except DiskError:
                failures += 1
        return failures

    async def _removing(self, remove: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(remove)
        except DiskError:
            self._counters.disk_errors += 1

    async def tidy(self) -> None:
        """Do what is due: drop what is too old, fit the quota and the disk."""
        while True:
            async with self._changing:
                await self._look()
                victims = self._due()
                await self._evict(victims)
            if not victims:
                return

    def _due(self) -> list[Sha256]:
        """Return what is too old, or too much; a slice of it, so that fills get in between."""
        if self._needed is None or not self._needed.is_settled:
            return []
        at_most = self._limits.eviction_slice
        days, quota = self._settings.retention_days, self._settings.quota
        if days and self._needed.is_known:
            since = self._now() - days * _SECONDS_A_DAY
            if old := self.recency.unused_since(since, self._is_spared, at_most):
                return old
        over = self._taken - quota if quota else 0
        short = self._settings.min_free + self._outstanding - self._free
        return self.recency.victims(max(over, short), self._is_spared, at_most)

    async def _write_uses(self) -> None:
        precision = self._limits.touch_interval.total_seconds()
        for batch in _slices(self.recency.unwritten(precision), self._limits.eviction_slice):
            await asyncio.to_thread(self._touch_all, batch)

    def _touch_all(self, batch: list[tuple[Sha256, float]]) -> None:
        for digest, used in batch:
            self._store.touch(digest, used)

    async def _read(self) -> None:
        """Learn what the store has, in slices, so that nobody waits for a big folder."""
        found: list[StoredBlob] = []
        blobs = self._store.blobs()
        try:
            while batch := await asyncio.to_thread(self._next_slice, blobs):
                found += batch
        except OSError:
            self._counters.disk_errors += 1
        await asyncio.to_thread(self.recency.load, found)
        await self._look()
        self._is_read.set()

    def _next_slice(self, blobs: Iterator[StoredBlob]) -> list[StoredBlob]:
        return list(islice(blobs, self._limits.eviction_slice))

    # -- as a part -----------------------------------------------------------------------------

    def routes(self) -> tuple[Route, ...]:
        """Answer nothing."""
        return ()

    async def run(self) -> None:
        """Read the store, then tidy up now and then, and whenever a blob was kept."""
        await self._read()
        pause = self._limits.storage_interval.total_seconds()
        try:
            while True:
                await self.tidy()
                self._is_due.clear()
                try:
                    async with asyncio.timeout(pause):
                        await self._is_due.wait()
                except TimeoutError:
                    await self._write_uses()
        finally:
            self._write_last_uses()

    def _write_last_uses(self) -> None:
        """Write down all uses: the relay stops, so blocking holds nobody up."""
        self._touch_all(self.recency.unwritten(1.0))

    def tidy_soon(self) -> None:
        """Tidy up at the next opportunity."""
        self._is_due.set()

    def status(self) -> dict[str, object]:
        """Tell what is kept and what is free."""
        return {
            "storage": {
                "blobs": len(self.recency),
                "bytes": self.recency.total,
                "partial_bytes": self._partial_bytes,
                "coming_bytes": sum(self._reserved.values()),
                "passing_bytes": sum(self._passing.values()),
                "free_bytes": self._free,
                "is_read": self._is_read.is_set(),
            }
        }

    def metrics(self) -> tuple[Metric, ...]:
        """Tell the same, beside the quota."""
        gauge = Kind.GAUGE
        return (
            Metric("storage_blobs", len(self.recency), "Blobs that are kept.", gauge),
            Metric("storage_bytes", self.recency.total, "Bytes of blobs that are kept.", gauge),
            Metric(
                "storage_quota_bytes",
                self._settings.quota,
                "What blobs may take; 0 is no quota.",
                gauge,
            ),
            Metric(
                "storage_partial_bytes",
                self._partial_bytes,
                "Bytes of blobs that broke off and wait for a resume.",
                gauge,
            ),
            Metric("storage_free_bytes", self._free, "Bytes of the disk that are free.", gauge),
        )


def _slices(every: list[_Item], size: int) -> Iterator[list[_Item]]:
    for at in range(0, len(every), size):
        yield every[at : at + size]
