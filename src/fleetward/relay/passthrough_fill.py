"""One question to a passthrough's upstream, and what comes of it, for all who wait for it.

A retrieval is a task of its own, one per URL at a time. Rules:

1. What is kept is asked for with its validators; `304` confirms it, and so does a `200` with the
   same strong validator, whose body is then not read.
2. A body is sent to waiters as it comes. Nobody signed it: what can be checked is that its length
   is the one that was told, and that a resume (If-Range) continues the very same content.
3. Another content begins another file and cuts those who read the one before it.
4. A body whose length nobody tells reaches waiters once its end is there. Where the end of the
   connection is the only sign of that, or the upstream says no-store, it is passed on and not kept.
"""

import asyncio
import contextlib
import enum
from collections.abc import Callable, Iterator

from fleetward.errors import DiskError, NetworkError, NotFoundError
from fleetward.httpd.client import UpstreamResponse
from fleetward.relay.bandwidth import PURPOSE, Need, Purpose
from fleetward.relay.passthrough_asking import asked, refusal
from fleetward.relay.passthrough_file import HEAD_BYTES, Kept, Writer
from fleetward.relay.passthrough_ground import PassthroughGround, RefusedError
from fleetward.relay.passthrough_rules import Wanted
from fleetward.relay.passthrough_versions import continues, described, is_same, may_be_kept
from fleetward.relay.waking import Waiters


class Outcome(enum.Enum):
    """What a retrieval has come to."""

    ASKING = "the upstream has not answered"
    CONTENT = "a content is coming or has come"
    CONFIRMED = "what is kept is right"
    ABSENT = "the upstream does not have it"
    FAILED = "nothing came of it"


class Retrieval:
    """Asks for one URL; see the module for the rules.

    Attributes:
        wanted: what.
        outcome: so far.
        failure: why it ended without a content, or in the middle of one.
        generation: counts up when the content turns into another.
        writer: the content; None before there is one.
    """

    def __init__(self, wanted: Wanted, kept: Kept | None, ground: PassthroughGround) -> None:
        self.wanted = wanted
        self.outcome = Outcome.ASKING
        self.failure: NetworkError | DiskError | None = None
        self.generation = 0
        self.writer: Writer | None = None
        self._kept = kept
        self._ground = ground
        self._is_whole = False
        self._is_over = False
        self._holders = 0
        self._waiters = Waiters(ground.limits.wake_interval)

    # -- what waiters see ------------------------------------------------------------------------

    @property
    def length(self) -> int | None:
        """Return the body's length, where it is known by now."""
        if self.writer is None:
            return None
        return self.writer.length if self._is_whole else self.writer.version.length

    @property
    def is_let_go(self) -> bool:
        """Return whether the content came and its descriptor was closed: nobody held it."""
        gone = self.writer is not None and self.writer.descriptor < 0
        return self.outcome is Outcome.CONTENT and gone

    async def changed(self) -> None:
        """Return once there is something new to look at."""
        await self._waiters.changed()

    async def known(self) -> None:
        """Return once it is known what clients are to be answered."""
        while not self._is_over and (self.outcome is Outcome.ASKING or self._needs_its_end()):
            await self.changed()

    def _needs_its_end(self) -> bool:
        return self.outcome is Outcome.CONTENT and self.length is None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the content's descriptor open while a waiter makes its answer from it."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            self._let_go()

    def _let_go(self) -> None:
        if self._is_over and not self._holders and self.writer is not None:
            self.writer.close()

    # -- the task ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask, and take what comes; ends without an error whatever happens."""
        PURPOSE.set(Purpose(Need.DEMAND))
        try:
            with self.held():
                await self._ask_until_whole()
        except NotFoundError as error:
            self.failure = error
            self.outcome = Outcome.ABSENT
        except (NetworkError, DiskError) as error:
            self._fail(error)
        finally:
            self._end()

    def _fail(self, error: NetworkError | DiskError) -> None:
        self.failure = error
        self.outcome = Outcome.FAILED
        self.generation += 1

    def _end(self) -> None:
        self._is_over = True
        if self.outcome is Outcome.ASKING or self._is_broken():  # the relay stops
            self.outcome = Outcome.FAILED
            self.generation += 1
        self._waiters.tell()
        self._let_go()

    def _is_broken(self) -> bool:
        return self.outcome is Outcome.CONTENT and not self._is_whole

    async def _ask_until_whole(self) -> None:
        self.writer = self._ground.store.resume(self.wanted.key) if self._kept is None else None
        try:
            for attempts_left in range(self._ground.limits.resumes, -1, -1):
                began = self.writer.length if self.writer else 0
                try:
                    await self._ask()
                    break
                except (RefusedError, NotFoundError):
                    raise
                except NetworkError:
                    if not attempts_left or not self._may_go_on(began):
                        raise
        except DiskError:
            if self.writer is not None:
                self.writer.discard()
            raise
        except BaseException:
            self._suspend()
            raise

    def _may_go_on(self, began: int) -> bool:
        """Return whether the break came after some progress, and a resume can be sure of itself."""
        writer = self.writer
        return writer is not None and writer.length > began and self._can_resume(writer)

    def _can_resume(self, writer: Writer) -> bool:
        return bool(writer.version.resume_validator) and writer.version.length is not None

    def _suspend(self) -> None:
        """Leave what came for a later resume, where there can be one."""
        writer = self.writer
        if writer is None or self._is_whole:
            return
        if writer.length and self._can_resume(writer):
            self._ground.store.suspend(writer)
        else:
            writer.discard()

    # -- one request -------------------------------------------------------------------------------

    async def _ask(self) -> None:
        async with asked(self._ground, self.wanted, self._headers()) as response:
            await self._take(response)

    def _headers(self) -> tuple[tuple[str, str], ...]:
        if self.writer is not None:
            return (
                ("Range", f"bytes={self.writer.length}-"),
                ("If-Range", self.writer.version.resume_validator),
            )
        if self._kept is None:
            return ()
        version = self._kept.version
        conditions = (("If-None-Match", version.etag), ("If-Modified-Since", version.modified))
        return tuple(row for row in conditions if row[1])

    async def _take(self, response: UpstreamResponse) -> None:
        status = response.status
        if status == 200:
            await self._whole(response)
        elif status == 206 and self.writer is not None:
            await self._rest(response, self.writer)
        elif status == 416 and self.writer is not None:
            self._drop()
            await self._ask()
        elif status == 304 and self._kept is not None and self.writer is None:
            self._confirm(self._kept)
        else:
            raise refusal(self._ground, response)

    def _confirm(self, kept: Kept) -> None:
        self._ground.store.confirm(kept.key, self._ground.now())
        self._ground.counters.confirmed += 1
        self.outcome = Outcome.CONFIRMED

    # -- a content ---------------------------------------------------------------------------------

    async def _whole(self, response: UpstreamResponse) -> None:
        version = described(response, self.wanted.target, self._ground.now())
        if self.writer is None and self._kept is not None and is_same(version, self._kept.version):
            self._confirm(self._kept)
            return
        self._refuse_length(version.length)
        if self.writer is not None:
            self._drop()
        self.writer = self._ground.store.begin(self.wanted.key, version)
        self.outcome = Outcome.CONTENT
        self._waiters.tell()
        await self._copy(response, self.writer)
        await self._finish(response, self.writer)

    def _refuse_length(self, length: int | None) -> None:
        if length is not None and length > self._ground.max_file:
            raise RefusedError(f"{length} bytes: longer than max_file ({self._ground.max_file})")

    async def _rest(self, response: UpstreamResponse, writer: Writer) -> None:
        if not continues(response, writer):
            self._drop()
            await self._ask()
            return
        self._ground.counters.resumed += 1
        self.outcome = Outcome.CONTENT
        self._waiters.tell()
        await self._copy(response, writer)
        await self._finish(response, writer)

    def _drop(self) -> None:
        """Let go of what came; who reads it is cut."""
        if self.writer is not None:
            self.writer.discard()
            self.writer = None
            self.generation += 1
            self.outcome = Outcome.ASKING

    async def _copy(self, response: UpstreamResponse, writer: Writer) -> None:
        bound = writer.version.length
        while piece := await response.next_piece():
            self._ground.counters.upstream_bytes += len(piece)
            if bound is None:
                self._refuse_length(writer.length + len(piece))
                self._ground.store.make_room(len(piece))  # nobody told how much will come
            elif writer.length + len(piece) > bound:
                raise RefusedError("the upstream sent more than it told")
            writer.write(piece)
            self._waiters.tell_soon()
        if bound is not None and writer.length != bound:
            raise NetworkError("the upstream sent fewer bytes than it told")

    async def _finish(self, response: UpstreamResponse, writer: Writer) -> None:
        if may_be_kept(response):
            await _in_thread(writer.commit)
            self._ground.store.note_kept(self.wanted.key, writer.version, self._ground.now())
            self._ground.counters.filled += 1
        else:
            writer.unlink()
        self._is_whole = True
        self._waiters.tell()


class RetrievalReader:
    """A content on its way as one waiter's `Growth`; cut where it turns into another."""

    def __init__(self, retrieval: Retrieval, writer: Writer) -> None:
        self._retrieval = retrieval
        self._writer = writer
        self._generation = retrieval.generation

    @property
    def available(self) -> int:
        """Return up to where the file, whose head comes first, may be sent now."""
        return HEAD_BYTES + self._writer.length

    async def beyond(self, offset: int) -> None:
        """Return once there is a byte at `offset` of the file.

        Raises:
            NetworkError: there will be none.
        """
        while self._retrieval.generation == self._generation:
            if self.available > offset:
                return
            await self._retrieval.changed()
        raise NetworkError("the upstream broke off, or changed the file: the answer is cut")


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
