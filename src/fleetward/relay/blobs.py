"""Blobs through the relay: from the cache, from a fill under way, or by beginning one."""

import asyncio
import os

from fleetward.blobs.store import WriteStore
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
from fleetward.relay.fill import Fill, FillReader
from fleetward.relay.flights import Flights
from fleetward.relay.sources import Sources, Verdict, verdict_of
from fleetward.wire.layout import RepositoryPath


class BlobCache:
    """Answers for blobs; one upstream request for each, however many ask."""

    def __init__(self, store: WriteStore, files: RepositoryFiles, sources: Sources) -> None:
        self._store = store
        self._files = files
        self._sources = sources
        self._limits = sources.limits
        self._counters = sources.counters
        self._absent = sources.absent
        self._fills: dict[Sha256, Fill] = {}
        self._fillers: Flights[Sha256, None] = Flights()
        self._disk_full_until = 0.0

    @property
    def filling(self) -> int:
        """Return how many blobs are being filled now."""
        return len(self._fills)

    def answer(self, request: Request, path: RepositoryPath, digest: Sha256) -> Answer:
        """Return the answer to GET or HEAD of a blob."""
        kept = self._files.respond(request, path)
        if kept is not None:
            self._counters.hits += 1
            return kept
        if self._absent.knows(path.path):
            return NOT_FOUND
        fill = self._fills.get(digest)
        self._counters.misses += 1
        if fill is not None:
            self._counters.coalesced += 1
            return self._from_fill(request, path, fill)
        if request.method == "HEAD":
            return self._ask_head(path, digest)
        if not self._may_fill():
            self._counters.overloaded += 1
            return UNAVAILABLE
        return self._from_fill(request, path, self._begin(digest))

    def _may_fill(self) -> bool:
        now = asyncio.get_running_loop().time()
        return len(self._fills) < self._limits.max_fills and now >= self._disk_full_until

    def _begin(self, digest: Sha256) -> Fill:
        fill = Fill(digest, self._store, self._sources)
        self._fills[digest] = fill
        self._fillers.join(digest, lambda: self._run(fill))
        return fill

    async def _run(self, fill: Fill) -> None:
        try:
            await fill.run()
        except DiskError:
            self._counters.disk_errors += 1
            pause = self._limits.disk_pause.total_seconds()
            self._disk_full_until = asyncio.get_running_loop().time() + pause
            raise
        finally:
            del self._fills[fill.digest]

    async def _from_fill(self, request: Request, path: RepositoryPath, fill: Fill) -> Response:
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
            lambda first, count: FileBody(os.dup(fill.descriptor), first, count, reader),
        )

    def _failure(self, path: RepositoryPath, fill: Fill) -> Response:
        if isinstance(fill.failure, NotFoundError):
            self._absent.note(path.path)
            return NOT_FOUND
        return UNAVAILABLE

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
        await self._fillers.cancel()
