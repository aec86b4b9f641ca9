"""Blobs through the relay: from the cache, from a fill under way, or by beginning one."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fleetward.core.digest import Sha256
from fleetward.errors import DiskError, NetworkError, NotFoundError
from fleetward.httpd.conditional import represent, select
from fleetward.httpd.files import RepositoryFiles, etag_of, file_headers
from fleetward.httpd.message import (
    NOT_FOUND,
    UNAVAILABLE,
    Answer,
    FileBody,
    Request,
    Response,
)
from fleetward.relay.absent import AbsentNames
from fleetward.relay.bandwidth import Need
from fleetward.relay.bucket import retry_after
from fleetward.relay.budget import MissBudget
from fleetward.relay.fill import Fill, FillGround, FillReader, NoRoomError
from fleetward.relay.flights import Flights
from fleetward.relay.sources import Verdict, verdict_of
from fleetward.wire.layout import RepositoryPath, blob_path

_LINGERING: Final = 8
"""Times `RelayLimits.max_fills`: what has come, is not kept and can still be had holds a descriptor
each, and must not keep new blobs from coming."""


@dataclass(slots=True)
class LentBody(FileBody):
    """A blob's file that is not evicted while it is sent.

    Attributes:
        give_back: called once, when it was sent or the client left.
    """

    give_back: Callable[[], None] | None = None

    def close(self) -> None:
        """Give the descriptor back, and say so; harmless when called again."""
        FileBody.close(self)
        give_back, self.give_back = self.give_back, None
        if give_back is not None:
            give_back()


class BlobCache:
    """Answers for blobs; one upstream request for each, however many ask."""

    def __init__(self, ground: FillGround, files: RepositoryFiles, budget: MissBudget) -> None:
        """Take what it works with.

        Args:
            ground: what fills share.
            files: the same blobs, as they are served.
            budget: which client may still make the relay fetch what is not needed.
        """
        self._ground = ground
        self._files = files
        self._budget = budget
        self._sources = ground.sources
        self._storage = ground.storage
        self._limits = ground.sources.limits
        self._counters = ground.sources.counters
        self._absent = ground.sources.absent
        self._no_room = AbsentNames(self._limits.absent_lifetime, self._limits.max_absent)
        self._fills: dict[Sha256, Fill] = {}
        self._fillers: Flights[Sha256, None] = Flights()
        self._heads: Flights[Sha256, Response] = Flights()
        self._disk_full_until = 0.0

    @property
    def filling(self) -> int:
        """Return how many blobs are being filled now, or wait for their turn."""
        return sum(not fill.is_lingering for fill in self._fills.values())

    def answer(self, request: Request, path: RepositoryPath, digest: Sha256) -> Answer:
        """Return the answer to GET or HEAD of a blob."""
        kept = self._files.respond(request, path)
        if kept is not None:
            return self._from_kept(kept, path, digest)
        if self._absent.knows(path.path):
            return NOT_FOUND
        self._counters.misses += 1
        fill = self._fills.get(digest)
        if fill is not None:
            self._counters.coalesced += 1
            fill.want()
            return self._from_fill(request, path, fill)
        return self._from_upstream(request, path, digest)

    def _from_kept(self, kept: Response, path: RepositoryPath, digest: Sha256) -> Answer:
        def hit() -> None:
            self._counters.hits += 1
            self._storage.touch(digest)

        hit()
        if isinstance(kept.body, FileBody):
            return Response(kept.status, kept.headers, self._lent(digest, kept.body))
        return self._files.repeatable(kept, path, hit)

    def _lent(self, digest: Sha256, body: FileBody) -> LentBody:
        self._storage.lend(digest)
        return LentBody(
            body.descriptor,
            body.offset,
            body.length,
            body.growth,
            give_back=lambda: self._storage.give_back(digest),
        )

    # -- from upstream -------------------------------------------------------------------------

    def _from_upstream(self, request: Request, path: RepositoryPath, digest: Sha256) -> Answer:
        is_head = request.method == "HEAD"
        may_fill = self._may_fill() and not self._no_room.knows(path.path)
        if not (self._may_ask_heads() if is_head else may_fill):
            self._counters.overloaded += 1
            return UNAVAILABLE
        wait = self._budget.take(request.peer, digest, asyncio.get_running_loop().time())
        if wait > 0:
            self._counters.overloaded += 1
            self._counters.refused_misses += 1
            return Response(503, (retry_after(wait),))
        if is_head:
            return self._head(path, digest)
        return self._from_fill(request, path, self._begin(digest))

    def _may_ask_heads(self) -> bool:
        return len(self._heads) < self._limits.max_upstream_requests

    def _may_fill(self) -> bool:
        most = self._limits.max_fills
        return self.filling < most and len(self._fills) < _LINGERING * most

    @property
    def _is_disk_full(self) -> bool:
        return asyncio.get_running_loop().time() < self._disk_full_until

    def _begin(self, digest: Sha256, need: Need = Need.DEMAND) -> Fill:
        fill = Fill(digest, self._ground, need, is_in_memory=self._is_disk_full)
        self._fills[digest] = fill
        self._fillers.join(digest, lambda: self._run(fill))
        return fill

    async def _run(self, fill: Fill) -> None:
        try:
            await fill.run()
        except DiskError as error:
            self._counters.disk_errors += 1
            if isinstance(error, NoRoomError):
                self._no_room.note(blob_path(fill.digest))
            else:
                pause = self._limits.disk_pause.total_seconds()
                self._disk_full_until = asyncio.get_running_loop().time() + pause
            raise
        finally:
            del self._fills[fill.digest]

    async def _from_fill(self, request: Request, path: RepositoryPath, fill: Fill) -> Response:
        await fill.known()
        if fill.is_over and fill.gave_way and self._may_fill():
            fill = self._fills.get(fill.digest) or self._begin(fill.digest)
            fill.want()
            await fill.known()
        length = fill.length
        if fill.is_over or length is None:
            return self._files.respond(request, path) or self._failure(path, fill)
        reader = FillReader(fill)
        headers = file_headers(path, etag_of(path))
        return represent(
            select(request.method, request.headers, headers[0][1].encode(), length),
            headers,
            length,
            lambda first, count: self._lent(
                fill.digest, FileBody(os.dup(fill.descriptor), first, count, reader)
            ),
        )

    def _failure(self, path: RepositoryPath, fill: Fill) -> Response:
        if isinstance(fill.failure, NotFoundError):
            self._absent.note(path.path)
            return NOT_FOUND
        return UNAVAILABLE

    # -- ahead of any client -------------------------------------------------------------------

    async def fill_ahead(self, digest: Sha256) -> bool:
        """Fetch a blob that nobody has asked for yet; cancelled, it stops unless somebody waits.

        Returns:
            Whether it is here now; not where it gave way to a blob that a client waits for, or
            no fill may begin now.

        Raises:
            FleetwardError: as `Fill.run`.
        """
        if await asyncio.to_thread(self._ground.store.has, digest):
            return True
        fill = self._fills.get(digest)
        if fill is None:
            if not self._may_fill() or self._is_disk_full:
                return False
            fill = self._begin(digest, Need.AHEAD)
        task = self._fillers.join(digest, lambda: self._run(fill))
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            fill.stop_unless_wanted()
            raise
        if fill.is_verified:
            return True
        if fill.gave_way:
            return False
        raise fill.failure or NetworkError("the fill ended: its cause is in the log")

    # -- HEAD ----------------------------------------------------------------------------------

    async def _head(self, path: RepositoryPath, digest: Sha256) -> Response:
        return await asyncio.shield(self._heads.join(digest, lambda: self._ask_head(path, digest)))

    async def _ask_head(self, path: RepositoryPath, digest: Sha256) -> Response:
        """Answer HEAD of a blob that is not here by asking upstream, without filling it."""
        for source in self._sources.candidates(digest):
            try:
                async with await source.get("/" + path.path, method="HEAD") as response:
                    verdict, length = verdict_of(response), response.length
            except NetworkError:
                self._sources.failed(source)
                continue
            if verdict is Verdict.ABSENT:
                self._absent.note(path.path)
                return NOT_FOUND
            if verdict is Verdict.CONTENT and length is not None:
                body = FileBody(-1, 0, length)
                return Response(200, file_headers(path, etag_of(path)), body)
        return UNAVAILABLE

    async def stop(self) -> None:
        """End the fills; what came stays for a resume."""
        await self._heads.cancel()
        await self._fillers.cancel()
