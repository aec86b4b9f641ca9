"""What the current timestamp leads to: the documents and blobs that a whole site may still need.

    timestamp -> snapshot -> targets -> delegated roles -> channels -> releases -> packs and deltas

Read with `wire.hints`, so nothing is verified: a lying upstream can make the relay fetch documents
and keep blobs that nobody needs, within `RelayLimits.max_closure_*` and the quota, and no more.

Invariants: each new timestamp is followed, whatever its version (hosts judge that). Until its
closure is complete, all that the last complete one led to stays protected, together with what was
found so far. A document that is missing or malformed takes only what it leads to out of the
closure, and keeps it incomplete.
"""

import asyncio
import contextlib
import enum
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from fleetward.core.digest import Sha256
from fleetward.core.documents import Channel, Delta, Manifest, Pack, ReleaseRef
from fleetward.errors import DigestError, DiskError, DocumentError, NetworkError, NotFoundError
from fleetward.relay.documents import DocumentShelf
from fleetward.relay.news import News
from fleetward.relay.part import Kind, Metric, Route
from fleetward.relay.settings import RelayLimits
from fleetward.wire.hints import (
    DocumentHint,
    manifest_hint,
    read_channel,
    read_manifest,
    read_snapshot,
    read_targets,
    read_timestamp,
)

Load = Callable[[DocumentHint], Awaitable[bytes]]
"""Returns a document; raises as `DocumentCache.load`."""

_TOP: Final = "targets"


class Use(enum.IntEnum):
    """What a blob is to a channel, in the order in which it is fetched ahead.

    The next step is the smallest delta from the channel's previous release, or the pack where
    there is none.
    """

    NEXT_STEP = 0
    DELTA_FROM_PREVIOUS = 1
    DELTA = 2
    PACK = 3
    OF_PREVIOUS = 4


@dataclass(frozen=True, slots=True)
class NamedBlob:
    """A blob that a manifest names.

    Attributes:
        digest: of its content.
        length: as the manifest tells.
        product: whose.
        use: the most urgent of its uses.
    """

    digest: Sha256
    length: int
    product: str
    use: Use


@dataclass(frozen=True, slots=True)
class Closure:
    """All that one timestamp leads to, as far as it could be read.

    Attributes:
        version: of the timestamp.
        snapshot: the snapshot that it was read from.
        blobs: by digest.
        documents: paths.
        problems: documents that could not be read; the closure is complete where there are none.
    """

    version: int
    snapshot: DocumentHint
    blobs: Mapping[Sha256, NamedBlob]
    documents: frozenset[str]
    problems: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Return the bytes of all blobs."""
        return sum(blob.length for blob in self.blobs.values())

    def in_order(self, products: Iterable[str] = (), last: Use = Use.PACK) -> list[NamedBlob]:
        """Return what is fetched ahead, the most urgent and shortest first.

        Args:
            products: only these; none is all.
            last: the least urgent use that is still fetched.
        """
        wanted = frozenset(products)
        blobs = [
            blob
            for blob in self.blobs.values()
            if blob.use <= last and (not wanted or blob.product in wanted)
        ]
        return sorted(blobs, key=lambda blob: (blob.use, blob.length, blob.digest))


class _TooMuchError(DocumentError):
    """The timestamp leads to more than it may."""


@dataclass(slots=True)
class Tracing:
    """One walk from a timestamp, which stops at the relay's limits.

    Attributes:
        blobs: found so far.
        documents: paths found so far.
        problems: what could not be read.
    """

    load: Load
    limits: RelayLimits
    blobs: dict[Sha256, NamedBlob] = field(default_factory=dict)
    documents: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    _bytes: int = 0
    _roles: set[str] = field(default_factory=set)

    async def follow(self, timestamp: bytes) -> Closure:
        """Return the closure of a timestamp.

        Raises:
            DocumentError: it is no timestamp, or leads to more than it may.
            NetworkError: a document could not be fetched now.
            DiskError: the disk is failing.
        """
        hint = read_timestamp(timestamp)
        requests = asyncio.Semaphore(self.limits.closure_requests)

        async def load(inner: DocumentHint) -> bytes:
            async with requests:
                return await self._load(inner)

        roles: dict[str, DocumentHint] = {}
        with self._noting(hint.snapshot):
            roles = read_snapshot(await load(hint.snapshot))
        await self._follow_role(_TOP, roles, load)
        return Closure(
            hint.version,
            hint.snapshot,
            dict(self.blobs),
            frozenset(self.documents),
            tuple(self.problems),
        )

    async def _load(self, hint: DocumentHint) -> bytes:
        if len(self.documents) >= self.limits.max_closure_documents:
            raise _TooMuchError("the timestamp leads to too many documents")
        self.documents.add(hint.path.path)
        content = await self.load(hint)
        self._bytes += len(content)
        if self._bytes > self.limits.max_closure_bytes:
            raise _TooMuchError("the timestamp leads to too many bytes of documents")
        return content

    @contextlib.contextmanager
    def _noting(self, hint: DocumentHint) -> Iterator[None]:
        """Note a document that is missing or malformed, and go on without it."""
        try:
            yield
        except _TooMuchError:
            raise
        except (NotFoundError, DigestError, DocumentError) as error:
            self.problems.append(f"{hint.path.path}: {error}")

    async def _follow_role(
        self, role: str, roles: Mapping[str, DocumentHint], load: Load, depth: int = 0
    ) -> None:
        hint = roles.get(role)
        if hint is None or role in self._roles:
            return
        if depth > self.limits.max_closure_depth:
            raise _TooMuchError("the timestamp leads to too many roles, each below another")
        self._roles.add(role)
        with self._noting(hint):
            found = read_targets(await load(hint))
            await _all(
                *(self._follow_role(inner, roles, load, depth + 1) for inner in found.delegations),
                *(self._follow_channel(channel, load) for channel in found.channels),
                *(self._follow_standing(standing, load) for standing in found.standing),
            )

    async def _follow_standing(self, hint: DocumentHint, load: Load) -> None:
        with self._noting(hint):
            await load(hint)

    async def _follow_channel(self, hint: DocumentHint, load: Load) -> None:
        with self._noting(hint):
            channel = read_channel(hint, await load(hint))
            releases = [channel.release, *([channel.previous] if channel.previous else [])]
            await _all(*(self._follow_release(channel, release, load) for release in releases))

    async def _follow_release(self, channel: Channel, release: ReleaseRef, load: Load) -> None:
        hint = manifest_hint(channel, release)
        with self._noting(hint):
            manifest = read_manifest(channel, release, await load(hint))
            for blob in _blobs_of(channel, release, manifest):
                self._add(blob)

    def _add(self, blob: NamedBlob) -> None:
        known = self.blobs.get(blob.digest)
        if known is None and len(self.blobs) >= self.limits.max_closure_blobs:
            raise _TooMuchError("the timestamp leads to too many blobs")
        if known is None or blob.use < known.use:
            self.blobs[blob.digest] = blob


async def _all(*steps: Awaitable[None]) -> None:
    """Take all steps at once; where one fails, end the others, then fail as it did."""
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _blobs_of(channel: Channel, release: ReleaseRef, manifest: Manifest) -> Iterator[NamedBlob]:
    product, pack = str(channel.product), manifest.pack
    previous = channel.previous.release if channel.previous is not None else None
    steps = [delta for delta in manifest.deltas if delta.base == previous]
    step = min(steps, key=lambda delta: delta.length, default=pack if previous is None else None)
    uses = {delta.sha256: Use.DELTA for delta in manifest.deltas}
    uses |= {delta.sha256: Use.DELTA_FROM_PREVIOUS for delta in steps}
    uses[pack.sha256] = Use.PACK
    if step is not None:
        uses[step.sha256] = Use.NEXT_STEP
    every: tuple[Pack | Delta, ...] = (pack, *manifest.deltas)
    for blob in every:
        use = uses[blob.sha256] if release == channel.release else Use.OF_PREVIOUS
        yield NamedBlob(blob.sha256, blob.length, product, use)


class ClosurePart:
    """Follows each new timestamp; a part of the relay, and the `Needed` of its storage.

    Attributes:
        current: the newest closure that was read to its end; None before the first.
    """

    def __init__(
        self,
        news: News,
        load: Load,
        shelf: DocumentShelf,
        limits: RelayLimits,
        *,
        oldest: Callable[[], float],
    ) -> None:
        """Take what it follows; nothing is read yet.

        Args:
            news: tells of new timestamps.
            load: returns documents.
            shelf: where they are kept; those that nothing leads to are removed in time.
            limits: of the relay.
            oldest: returns since when such a document may be there; seconds since 1970.
        """
        self.current: Closure | None = None
        self._previous: Closure | None = None
        self._news = news
        self._load = load
        self._shelf = shelf
        self._limits = limits
        self._oldest = oldest
        self._tracing: Tracing | None = None
        self._is_settled = False
        self._problem = ""
        self._listeners: list[Callable[[], None]] = []
        self._arrived = asyncio.Event()
        news.subscribe(lambda _: self._arrived.set())

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever it was tried to read a closure: `current` may have changed."""
        self._listeners.append(callback)

    # -- what others ask -----------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """Return whether a closure was looked for since the start, found or not."""
        return self._is_settled

    @property
    def is_known(self) -> bool:
        """Return whether there is one."""
        return self.current is not None

    def needs(self, digest: Sha256) -> bool:
        """Return whether the current timestamp leads to the blob, as far as known."""
        return any(digest in blobs for blobs in self._known())

    def _known(self) -> Iterator[Mapping[Sha256, NamedBlob]]:
        for closure in (self.current, self._previous):
            if closure is not None:
                yield closure.blobs
        if self._tracing is not None:
            yield self._tracing.blobs

    # -- the work ------------------------------------------------------------------------------

    def routes(self) -> tuple[Route, ...]:
        """Answer nothing."""
        return ()

    async def run(self) -> None:
        """Follow the timestamps."""
        self._is_settled = not self._news.latest
        failures = 0
        while True:
            if self._arrived.is_set() or self._news.latest:
                self._arrived.clear()
                is_done = await self._follow_until_news(self._news.latest)
                if is_done is None:
                    continue
                failures = 0 if is_done else failures + 1
            await self._next_occasion(failures)

    async def _next_occasion(self, failures: int) -> None:
        """Return once there is a new timestamp, or it is time to try the old one again."""
        retry = self._limits.closure_retry * 2 ** min(failures - 1, 16) if failures else None
        seconds = retry and min(retry, self._limits.max_closure_retry).total_seconds()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._arrived.wait()

    async def _follow_until_news(self, timestamp: bytes) -> bool | None:
        """Follow a timestamp, until another one comes.

        Returns:
            Whether its closure is complete; None where another timestamp came.
        """
        following = asyncio.ensure_future(self._follow(timestamp))
        arrival = asyncio.ensure_future(self._arrived.wait())
        try:
            await asyncio.wait([following, arrival], return_when=asyncio.FIRST_COMPLETED)
            return following.result() if following.done() else None
        finally:
            for task in (following, arrival):
                task.cancel()
            await asyncio.gather(following, arrival, return_exceptions=True)

    async def _follow(self, timestamp: bytes) -> bool:
        """Return whether the closure of a timestamp is complete now."""
        try:
            closure = self._renewed(timestamp)
            if closure is None:
                self._tracing = Tracing(self._load, self._limits)
                closure = await self._tracing.follow(timestamp)
            self._problem = "; ".join(closure.problems[:1])
            await self._take(closure)
        except (NetworkError, DocumentError, DiskError) as error:
            self._problem = str(error)
            if isinstance(error, DocumentError):
                self._tracing = None
            return False
        finally:
            self._is_settled = True
            for callback in self._listeners:
                callback()
        return not closure.problems

    def _renewed(self, timestamp: bytes) -> Closure | None:
        """Return the current closure, where the timestamp leads to the very same."""
        hint = read_timestamp(timestamp)
        current = self.current
        if current is None or current.problems or current.snapshot != hint.snapshot:
            return None
        return replace(current, version=hint.version)

    async def _take(self, closure: Closure) -> None:
        """Put a closure in place of the one before, which goes once the new one is complete."""
        if closure.problems:
            is_last_complete = self.current is not None and not self.current.problems
            self._previous = self.current if is_last_complete else self._previous
        else:
            self._previous = None
        self.current = closure
        self._tracing = None
        before = self._previous.documents if self._previous is not None else frozenset()
        self._shelf.protect(closure.documents | before)
        await asyncio.to_thread(self._shelf.prune, self._oldest())

    # -- as a part -----------------------------------------------------------------------------

    def status(self) -> dict[str, object]:
        """Tell what the current timestamp leads to."""
        current = self.current
        return {
            "closure": {
                "version": current.version if current else None,
                "blobs": len(current.blobs) if current else 0,
                "bytes": current.total if current else 0,
                "documents": len(current.documents) if current else 0,
                "is_complete": current is not None and not current.problems,
                "problem": self._problem,
            }
        }

    def metrics(self) -> tuple[Metric, ...]:
        """Tell the same as numbers."""
        current = self.current
        gauge = Kind.GAUGE
        return (
            Metric(
                "closure_bytes",
                current.total if current else 0,
                "Bytes of the blobs that the current timestamp leads to.",
                gauge,
            ),
            Metric("closure_blobs", len(current.blobs) if current else 0, "How many.", gauge),
            Metric(
                "closure_complete",
                int(current is not None and not current.problems),
                "Whether all that the current timestamp leads to is known.",
                gauge,
            ),
            Metric("documents_bytes", self._shelf.total, "Bytes of documents kept.", gauge),
        )
