"""One blob on its way from an upstream into the cache, and to all who wait for it.

The filler is a task of its own; waiters send from the file as far as `available`. Rules:

1. No client gets the last `held_back_bytes` before the whole digest is verified, so a wrong blob
   is never a complete answer. (A Range that ends before that may be complete; who asks for parts
   verifies the whole.)
2. A break is resumed with Range at the same source, up to `resumes` times; then the next source
   sends the blob from its first byte, and what waiters have already read is compared with it.
   Where the two differ, the waiters are cut and the fill goes on for whoever comes next.
3. A wrong digest cuts the waiters, drops the blob and puts the source aside.
4. A full disk cuts the waiters and leaves nothing.
5. Each fill takes its turn; one that nobody waits for gives its place back to one that somebody
   does, and is resumed later.
6. Where `Storage` has no room, the blob is passed through: its file loses its name once it is
   verified, and stays readable for all who ask within `passthrough_linger`.
7. Where the disk has no room even for that, or fails, a blob that a client waits for is passed
   through memory, within `max_memory_bytes`; else every host would fetch it over the WAN by itself.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fleetward.blobs.memory import MemoryRoom, MemoryWriter
from fleetward.blobs.store import BlobWriter, PruneStore
from fleetward.core.digest import Sha256
from fleetward.core.limits import MIB
from fleetward.errors import DigestError, DiskError, FleetwardError, NetworkError, NotFoundError
from fleetward.httpd.client import UpstreamResponse
from fleetward.relay.bandwidth import PURPOSE, Need, Purpose, Turns
from fleetward.relay.eviction import Room, Storage
from fleetward.relay.sources import Source, Sources, Verdict, verdict_of
from fleetward.relay.waking import Waiters
from fleetward.wire.layout import blob_path

_CONTENT_RANGE: Final = re.compile(rb"bytes (?:(\d{1,18})-\d{1,18}|\*)/(\d{1,18})")


_UNTOLD_STEP: Final = 16 * MIB
"""What is reserved at once for a blob whose length nobody tells."""


class NoRoomError(DiskError):
    """There is no room for this blob, not even until it was passed through."""


@dataclass(frozen=True, slots=True)
class FillGround:
    """What all fills of a relay share.

    Attributes:
        store: where blobs are kept.
        sources: who is asked.
        storage: makes room.
        turns: so many fills at once.
        memory: where blobs go that the disk has no room for.
    """

    store: PruneStore
    sources: Sources
    storage: Storage
    turns: Turns
    memory: MemoryRoom


class Fill:
    """Fetches one blob; waiters look at it through `FillReader`.

    Attributes:
        digest: of the blob.
        purpose: whether somebody waits for it, or it is fetched ahead.
        length: once an upstream has told it, else None.
        failure: why the fill ended, where it ended badly and not by a cancel.
        generation: counts up whenever bytes that waiters may have read are no longer right.
        is_lingering: whether it has all come, is not kept, and can still be had.
        gave_way: whether it was stopped for something more urgent.
        is_in_memory: whether it goes through memory, and nothing of it to the disk.
    """

    def __init__(
        self,
        digest: Sha256,
        ground: FillGround,
        need: Need = Need.DEMAND,
        *,
        is_in_memory: bool = False,
    ) -> None:
        self.digest = digest
        self.purpose = Purpose(need)
        self.length: int | None = None
        self.failure: FleetwardError | None = None
        self.generation = 0
        self.is_lingering = False
        self.gave_way = False
        self.is_in_memory = is_in_memory
        self._store = ground.store
        self._memory = ground.memory
        self._sources = ground.sources
        self._storage = ground.storage
        self._turns = ground.turns
        self._limits = ground.sources.limits
        self._counters = ground.sources.counters
        self._room: Room | None = None
        self._promised = 0
        self._asked_again = asyncio.Event()
        self._task: asyncio.Task[object] | None = None
        self._writer: BlobWriter | None = None
        self._is_verified = False
        self._is_over = False
        self._waiters = Waiters(self._limits.wake_interval)

    # -- what waiters see ----------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Return whether the filler has ended, well or not."""
        return self._is_over

    @property
    def descriptor(self) -> int:
        """Return what the bytes can be read from; -1 where there is nothing yet or any more."""
        return -1 if self._writer is None or self._is_over else self._writer.descriptor

    @property
    def available(self) -> int:
        """Return how many bytes from the start may be sent now."""
        if self._writer is None or self.length is None:
            return 0
        if self._is_verified:
            return self.length
        return max(0, min(self._writer.length, self.length - self._limits.held_back_bytes))

    @property
    def is_verified(self) -> bool:
        """Return whether the whole digest was verified."""
        return self._is_verified

    async def changed(self) -> None:
        """Return once there is something new to look at."""
        await self._waiters.changed()

    async def known(self) -> None:
        """Return once the length is known, or the fill is over."""
        while self.length is None and not self._is_over:
            await self.changed()

    def want(self) -> None:
        """Note that a client waits for it now."""
        self.purpose.need = Need.DEMAND
        self._asked_again.set()

    # -- the filler ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Fill the blob, to its end; to be run as a task of its own.

        Raises:
            NotFoundError: no source has it.
            NetworkError: no source could send it; what came stays for a resume.
            DigestError: the source sent other bytes; nothing stays.
            NoRoomError: the disk is too full for it; nothing stays.
            DiskError: it could not be kept; nothing stays.
        """
        self._task = asyncio.current_task()
        PURPOSE.set(self.purpose)
        try:
            async with self._turns.turn(self.purpose, self._give_way):
                self._counters.fills += 1
                await self._from_any_source()
            if self._room is Room.PASSED_THROUGH:
                await self._linger()
        except FleetwardError as error:
            self.failure = error
            if self._writer is not None and isinstance(error, DigestError | DiskError):
                self._writer.discard()
            raise
        finally:
            self._end()

    def _give_way(self) -> None:
        """Leave the place to a blob that somebody waits for; what came stays for a resume."""
        if self._task is not None and not self._is_verified:
            self.gave_way = True
            self._task.cancel()

    def stop_unless_wanted(self) -> None:
        """End a fill that nobody waits for; what came stays for a resume."""
        if self.purpose.need is Need.AHEAD:
            self._give_way()

    async def _linger(self) -> None:
        """Stay readable without a name until nobody has asked for a while.

        Memory is taken as long as anybody has it open, so it is counted until all have read it.
        """
        self.is_lingering = True
        limits = self._limits
        linger = limits.memory_linger if self.is_in_memory else limits.passthrough_linger
        is_wanted = True
        while is_wanted or (self.is_in_memory and self._storage.is_lent(self.digest)):
            self._asked_again.clear()
            is_wanted = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(linger.total_seconds()):
                    is_wanted = await self._asked_again.wait()

    def _end(self) -> None:
        self._is_over = True
        if not self._is_verified:
            self.generation += 1
        self._waiters.tell()
        if self._writer is not None:
            self._writer.close()
        self._storage.end(self.digest)
        self._memory.release(self.digest)

    async def _from_any_source(self) -> None:
        problem: NetworkError = NetworkError("no upstream can be asked just now")
        for source in self._sources.candidates(self.digest):
            try:
                await self._from_source(source)
                return
            except DigestError:
                self._sources.falsified(source, self.digest)
                raise
            except NotFoundError as error:
                problem = error if self._writer is None or not self._writer.length else problem
            except NetworkError as error:
                self._sources.failed(source)
                problem = error
        raise problem

    async def _from_source(self, source: Source) -> None:
        await self._begin_writing(source)
        for attempts_left in range(self._limits.resumes, -1, -1):
            began = self._open_writer.offset
            try:
                await self._transfer(source)
                break
            except NotFoundError:
                raise
            except NetworkError:
                if attempts_left == 0 or self._open_writer.offset == began:
                    raise
                self._counters.upstream_failures += 1
        await self._keep(source, self._open_writer)

    @property
    def _open_writer(self) -> BlobWriter:
        """Return the writer; another one once the blob has moved to memory."""
        assert self._writer is not None  # noqa: S101 (for the type checker)
        return self._writer

    async def _begin_writing(self, source: Source) -> None:
        if self._writer is not None:
            self._writer.restart(source.name)
            return

        def begin() -> None:
            self._writer = self._store.writer(self.digest, source.name)

        if not self.is_in_memory:
            await self._storage.begin(self.digest)
            try:
                await _in_thread(begin)
            except DiskError:
                if self.purpose.need is Need.AHEAD:
                    raise
                self._counters.disk_errors += 1
                self.is_in_memory = True
        if self._writer is None:
            self._writer = MemoryWriter(self.digest)

    async def _transfer(self, source: Source) -> None:
        writer = self._open_writer
        start = writer.offset
        headers = (("Range", f"bytes={start}-"),) if start else ()
        path = "/" + blob_path(self.digest)
        async with await source.get(path, headers) as response:
            if self._is_already_whole(source, response, writer):
                await self._note_length(writer.offset)
                return
            verdict = verdict_of(response)
            if verdict is Verdict.ABSENT:
                raise NotFoundError(f"{source.name} does not have {path}", response.status)
            if verdict is not Verdict.CONTENT:
                raise NetworkError(f"{source.name} answered {response.status} for {path}")
            length = self._begin(source, response, writer)
            if length is not None:
                await self._note_length(length)
            await self._copy(response)

    def _is_already_whole(
        self, source: Source, response: UpstreamResponse, writer: BlobWriter
    ) -> bool:
        """Return whether a resume asked past the end since all bytes are there already."""
        if response.status != 416:
            return False
        told = _CONTENT_RANGE.fullmatch(response.headers.get(b"content-range", b""))
        if told is None or int(told[2]) != writer.offset:
            writer.restart(source.name)
            raise NetworkError("the partial blob does not fit the upstream's: begun again")
        return True

    def _begin(self, source: Source, response: UpstreamResponse, writer: BlobWriter) -> int | None:
        """Return the blob's whole length, after setting the writer to where the body begins."""
        if response.status == 200:
            if writer.offset:
                writer.restart(source.name)
            return response.length
        told = _CONTENT_RANGE.fullmatch(response.headers.get(b"content-range", b""))
        if told is None or told[1] is None or int(told[1]) != writer.offset or not writer.offset:
            raise NetworkError(f"{source.name} sent another range than was asked for")
        self._counters.resumed += 1
        return int(told[2])

    async def _note_length(self, length: int) -> None:
        """Take the length that an upstream tells, once it is known what becomes of the blob."""
        if length == self.length:
            return
        if length > self._limits.max_blob_bytes:
            raise NetworkError(f"the blob is longer than {self._limits.max_blob_bytes} bytes")
        await self._make_room(length)
        if self.length is not None:
            self.generation += 1
        self.length = length
        self._waiters.tell()
        await asyncio.sleep(0)  # Those who wait take their places before anything else happens.

    async def _make_room(self, length: int) -> None:
        """Learn what becomes of the blob: kept, passed through, or passed through memory.

        Raises:
            NoRoomError: there is no room for so many bytes, or none that is worth it.
        """
        if not self.is_in_memory:
            self._room = await self._storage.reserve(self.digest, length)
        is_ahead = self.purpose.need is Need.AHEAD
        if self._room is Room.NONE and not is_ahead and not self._open_writer.length:
            self._move_to_memory()
        if self.is_in_memory and self._memory.take(self.digest, length):
            self._room = Room.PASSED_THROUGH
        elif self.is_in_memory or self._room is Room.NONE or (is_ahead and not self._is_kept):
            raise NoRoomError(
                f"there is no room for a blob of {length} bytes; free some space of the disk, or "
                "lower storage.quota"
            )
        self._promised = length

    @property
    def _is_kept(self) -> bool:
        return self._room is Room.KEPT

    def _move_to_memory(self) -> None:
        """Go on without the disk, before the first byte has come."""
        old, self._writer = self._open_writer, MemoryWriter(self.digest)
        self.is_in_memory = True
        old.discard()
        old.close()

    async def _copy(self, response: UpstreamResponse) -> None:
        writer = self._open_writer
        bound = self._limits.max_blob_bytes if self.length is None else self.length
        rewrites = writer.rewrites
        while piece := await response.next_piece():
            if writer.offset + len(piece) > bound:
                raise DigestError(f"the upstream sent more than {bound} bytes: they were dropped")
            self._counters.upstream_blob_bytes += len(piece)
            if self.length is None and writer.offset + len(piece) > self._promised:
                await self._make_room(min(bound, writer.offset + len(piece) + _UNTOLD_STEP))
                writer = self._open_writer
            writer.write(piece)
            if writer.rewrites != rewrites:
                rewrites = writer.rewrites
                self.generation += 1
            self._waiters.tell_soon()
        if self.length is not None and writer.offset != self.length:
            raise NetworkError("the upstream sent fewer bytes than it told")

    async def _keep(self, source: Source, writer: BlobWriter) -> None:
        writer.verify()
        source.note_success()
        await self._note_length(writer.offset)
        self._is_verified = True
        self._waiters.tell()
        if self._room is Room.PASSED_THROUGH:
            writer.discard()
            self._storage.release(self.digest)
            self._counters.passed_through += 1
            self._counters.through_memory += self.is_in_memory
            return
        await _in_thread(writer.commit)
        self._storage.keep(self.digest, writer.offset)
        self._counters.filled += 1


async def _in_thread(blocking: Callable[[], None]) -> None:
    """Run `blocking` in a thread; also a cancel takes effect only once it has ended.

    Otherwise the descriptor would be closed, and its number used again, under the thread's hands.
    """
    task = asyncio.ensure_future(asyncio.to_thread(blocking))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


class FillReader:
    """A filling blob as one waiter's `Growth`; cut where its bytes may have been wrong."""

    def __init__(self, fill: Fill) -> None:
        self._fill = fill
        self._generation = fill.generation

    @property
    def available(self) -> int:
        """Return how many bytes from the start may be sent now."""
        return self._fill.available

    async def beyond(self, offset: int) -> None:
        """Return once there is a byte at `offset`.

        Raises:
            NetworkError: there will be none, or those before it were not the blob's.
        """
        while True:
            if self._fill.generation != self._generation:
                raise NetworkError("the blob broke off or was wrong: the answer is cut")
            if self._fill.available > offset:
                return
            await self._fill.changed()
