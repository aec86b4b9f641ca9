"""Metadata and targets through the relay: immutable names, fetched once and kept.

A target is kept only where its bytes have the digest of its name. Metadata (`N.ROLE.json`) cannot
be verified without keys, so a wrong one could be kept: agents refuse it, and where one asks again
with `Cache-Control: no-cache` the relay asks upstream again, so that it heals.
"""

import asyncio
import contextlib
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Disk, Kind
from fleetward.core.digest import sha256_of
from fleetward.errors import DigestError, DiskError, NetworkError, NotFoundError
from fleetward.httpd.conditional import represent, select
from fleetward.httpd.files import RepositoryFiles, etag_of, file_headers, not_found
from fleetward.httpd.message import UNAVAILABLE, Answer, Request, Response
from fleetward.relay.bucket import retry_after
from fleetward.relay.budget import DocumentBudget
from fleetward.relay.flights import Flights
from fleetward.relay.sources import Absent, Fetched, Outcome, Sources
from fleetward.wire.hints import DocumentHint
from fleetward.wire.layout import TIMESTAMP_PATH, RepositoryPath

_FREED_SHARE: Final = 0.1
"""Of all documents' bytes: what is removed at once, so that the folder is not walked each time."""

_NAME_BYTES: Final = 512
"""What a document in memory costs beside its content, so that empty ones are bounded too."""


class DocumentCache:
    """Answers for `N.ROLE.json` and targets."""

    def __init__(
        self,
        shelf: "DocumentShelf",
        files: RepositoryFiles,
        sources: Sources,
        budget: DocumentBudget,
    ) -> None:
        self._shelf = shelf
        self._budget = budget
        self._files = files
        self._sources = sources
        self._limits = sources.limits
        self._counters = sources.counters
        self._absent = sources.absent
        self._flights: Flights[str, Outcome] = Flights()
        self._unkept = Unkept(self._limits.max_unkept_bytes)
        self._asked: dict[str, float] = {}

    def answer(self, request: Request, path: RepositoryPath) -> Answer:
        """Return the answer to GET or HEAD of a document."""
        is_again = wants_revalidation(request) and self._may_ask_again(path.path)
        if not is_again:
            kept = self._known(request, path)
            if kept is not None:
                self._hit()
                if wants_revalidation(request) or self._unkept.get(path.path) is not None:
                    return kept
                return self._files.repeatable(kept, path, self._hit)
            if self._absent.knows(path.path):
                return not_found(path)
        self._counters.misses += 1
        if path.path in self._flights:
            self._counters.coalesced += 1
        elif len(self._flights) >= self._limits.max_upstream_requests:
            self._counters.overloaded += 1
            return UNAVAILABLE
        else:
            wait = self._wait_of(request, path)
            if wait > 0:
                self._counters.overloaded += 1
                self._counters.refused_misses += 1
                return self._known(request, path) or Response(503, (retry_after(wait),))
        flight = self._flights.join(path.path, lambda: self._fetch(path))
        return self._after(flight, request, path)

    def _wait_of(self, request: Request, path: RepositoryPath) -> float:
        """Return 0 where the relay may ask upstream for that client, else how long to wait."""
        if self._shelf.needs(path.path):
            return 0.0
        return self._budget.take(request.peer, asyncio.get_running_loop().time())

    def _hit(self) -> None:
        self._counters.hits += 1

    async def load(self, hint: DocumentHint) -> bytes:
        """Return a document that another one names, from the cache or as a client would get it.

        A kept one that has another digest than the hint tells is asked for again, which heals the
        cache too.

        Raises:
            NotFoundError: no upstream has it.
            NetworkError: no upstream answered.
            DigestError: it has another digest than the hint tells.
            DiskError: the disk is failing.
        """
        path, digest = hint.path, hint.digest
        kept = self._unkept.get(path.path)
        if kept is None:
            kept = await asyncio.to_thread(self._shelf.read, path.path)
        if kept is not None and (digest is None or sha256_of(kept) == digest):
            return kept
        flight = self._flights.join(path.path, lambda: self._fetch(path))
        outcome = await asyncio.shield(flight)
        if not isinstance(outcome, Fetched):
            raise NotFoundError(f"no upstream has {path.path}")
        if digest is not None and sha256_of(outcome.content) != digest:
            raise DigestError(f"{path.path} has another digest than what names it tells")
        return outcome.content

    def _may_ask_again(self, path: str) -> bool:
        now = asyncio.get_running_loop().time()
        interval = self._limits.revalidate_interval.total_seconds()
        if now - self._asked.get(path, -interval) < interval:
            return False
        if len(self._asked) >= self._limits.max_absent:
            self._asked.clear()
        self._asked[path] = now
        return True

    async def _after(
        self, flight: "asyncio.Task[Outcome]", request: Request, path: RepositoryPath
    ) -> Response:
        try:
            outcome = await asyncio.shield(flight)
        except (NetworkError, DigestError):
            return self._known(request, path) or UNAVAILABLE
        if not isinstance(outcome, Fetched):
            return self._known(request, path) or not_found(path)
        return _respond(request, path, outcome.content)

    def _known(self, request: Request, path: RepositoryPath) -> Response | None:
        """Return the answer from disk or memory, where upstream has nothing better."""
        unkept = self._unkept.get(path.path)
        if unkept is not None:
            return _respond(request, path, unkept)
        return self._files.respond(request, path)

    async def _fetch(self, path: RepositoryPath) -> Outcome:
        outcome = await self._sources.fetch(
            "/" + path.path, self._limits.max_document_bytes, digest=path.digest
        )
        if isinstance(outcome, Absent):
            self._absent.note(path.path)
        elif isinstance(outcome, Fetched):
            self._absent.forget(path.path)
            self._unkept.forget(path.path)
            try:
                await asyncio.to_thread(self._shelf.keep, path.path, outcome.content)
            except DiskError:
                self._counters.disk_errors += 1
                self._unkept.put(path.path, outcome.content)
        return outcome

    async def stop(self) -> None:
        """End what is under way."""
        await self._flights.cancel()


def _respond(request: Request, path: RepositoryPath, content: bytes) -> Response:
    etag = etag_of(path, content)
    return represent(
        select(request.method, request.headers, etag, len(content)),
        file_headers(path, etag),
        len(content),
        lambda first, count: content[first : first + count],
    )


def wants_revalidation(request: Request) -> bool:
    """Return whether the client asks not to be answered from a cache."""
    return b"no-cache" in request.headers.get(b"cache-control", b"").lower()


class Unkept:
    """Documents that the disk did not take, in memory; the oldest go first.

    Without them, each host would make the relay fetch them anew as long as the disk is full.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._contents: OrderedDict[str, bytes] = OrderedDict()

    def get(self, path: str) -> bytes | None:
        """Return a document, or None."""
        return self._contents.get(path)

    def put(self, path: str, content: bytes) -> None:
        """Take a document, and let others go for it."""
        self.forget(path)
        self._contents[path] = content
        self._bytes += len(content) + _NAME_BYTES
        while self._bytes > self._max_bytes:
            self.forget(next(iter(self._contents)))

    def forget(self, path: str) -> None:
        """Let a document go; nothing where it is not there."""
        gone = self._contents.pop(path, None)
        if gone is not None:
            self._bytes -= len(gone) + _NAME_BYTES


class DocumentShelf:
    """Documents on disk, under the names they have in a repository; bounded together.

    Where there is no room for another, those go that the current timestamp does not lead to, the
    oldest first, and roots last: a host that was away for long walks all of them.
    """

    def __init__(self, disk: Disk, root: Path, max_bytes: int) -> None:
        self._disk = disk
        self._root = root
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._needed: frozenset[str] = frozenset()
        self._bytes = sum(length for _, length, _ in self._listing())

    @property
    def total(self) -> int:
        """Return the bytes of all documents."""
        return self._bytes

    def _listing(self) -> Iterator[tuple[Path, int, float]]:
        """Yield the documents with their lengths and the time since which they are there."""
        for folder in ("metadata", "targets"):
            for path in (self._root / folder).rglob("*.json"):
                with contextlib.suppress(OSError):
                    status = path.lstat()
                    yield path, status.st_size, status.st_mtime

    def protect(self, needed: frozenset[str]) -> None:
        """Spare from now on what the current timestamp leads to, by path."""
        self._needed = needed

    def needs(self, path: str) -> bool:
        """Return whether the current timestamp leads to that document."""
        return path in self._needed

    def read(self, path: str) -> bytes | None:
        """Return a kept document, or None; blocks.

        Raises:
            DiskError: the disk is failing.
        """
        try:
            return self._disk.read(self._root / path)
        except FileNotFoundError:
            return None

    def keep(self, path: str, content: bytes) -> None:
        """Keep a document, where there is room; blocks, and may be called from any thread.

        Raises:
            DiskError: the disk is full or failing.
        """
        file = self._root / path
        if len(content) > self._max_bytes:
            return
        with self._lock:
            before = self._disk.size(file) if self._disk.kind(file) is Kind.FILE else 0
            more = len(content) - before
            if self._bytes + more > self._max_bytes:
                self._remove(self._bytes + more - self._max_bytes * (1 - _FREED_SHARE), math.inf)
            if self._bytes + more > self._max_bytes:
                return
            self._disk.make_folder(file.parent)
            write_file(self._disk, file, content)
            self._bytes += more

    def prune(self, before: float) -> None:
        """Remove what the current timestamp does not lead to and is there since before that.

        Args:
            before: seconds since 1970; roots stay however old.

        Raises:
            DiskError: the disk is failing.
        """
        with self._lock:
            self._remove(math.inf, before)

    def _remove(self, excess: float, before: float) -> None:
        spared = {self._root / path for path in (*self._needed, TIMESTAMP_PATH)}
        rows = [(_is_root(path), since, path, size) for path, size, since in self._listing()]
        for is_root, since, path, size in sorted(rows):
            if excess <= 0:
                return
            if path in spared or since >= before or (is_root and before < math.inf):
                continue
            self._disk.remove(path)
            self._bytes -= size
            excess -= size


def _is_root(path: Path) -> bool:
    return path.name.endswith(".root.json")
