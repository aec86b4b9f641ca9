"""Fetching what a new timestamp leads to before hosts ask.

By default only what most hosts take next: of each channel the smallest delta from the previous
release. All deltas and then the packs come only where the administrator asks for them, since a
site's WAN link would carry many times what its hosts need.

One blob at a time, behind every blob that a client waits for: it takes a place of `max_downloads`
only while no client needs it, its bytes come last, and a new timestamp ends it. Nothing is removed
for it: a blob that fits neither the quota nor the free space is passed over.
"""

import asyncio

from fleetward.config.relay import StorageSettings
from fleetward.errors import FleetwardError
from fleetward.relay.blobs import BlobCache
from fleetward.relay.closure import Closure, ClosurePart, NamedBlob, Use
from fleetward.relay.eviction import Storage
from fleetward.relay.part import Kind, Metric, Route
from fleetward.relay.settings import RelayLimits


class PrefetchPart:
    """Fetches ahead; a part of the relay."""

    def __init__(
        self,
        settings: StorageSettings,
        limits: RelayLimits,
        closure: ClosurePart,
        blobs: BlobCache,
        storage: Storage,
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._closure = closure
        self._blobs = blobs
        self._storage = storage
        self._left = 0
        self._fetched = 0
        self._passed_over = 0
        self._failed = 0
        self._news = asyncio.Event()
        closure.subscribe(self._news.set)

    async def run(self) -> None:
        """Fetch what each new closure leads to, until another one comes."""
        if not self._settings.prefetch:
            return
        task: asyncio.Task[None] | None = None
        of: Closure | None = None
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                closure = self._closure.current
                is_busy = task is not None and not task.done()
                if closure is None or (is_busy and of is not None and of.blobs is closure.blobs):
                    continue
                await _ended(task)
                of, task = closure, asyncio.create_task(self._fetch(closure))
        finally:
            await _ended(task)

    async def _fetch(self, closure: Closure) -> None:
        await self._storage.is_ready()
        last = Use.PACK if self._settings.prefetch_all else Use.NEXT_STEP
        wanted = closure.in_order(self._settings.prefetch_products, last)
        for attempt in range(self._limits.prefetch_tries):
            if attempt:
                await asyncio.sleep(self._limits.prefetch_retry.total_seconds())
            wanted = await self._missing_after(wanted)
            if not wanted:
                return

    async def _missing_after(self, wanted: list[NamedBlob]) -> list[NamedBlob]:
        """Fetch the blobs, and return those that are still not here."""
        missing: list[NamedBlob] = []
        self._passed_over = self._failed = 0
        for number, blob in enumerate(wanted):
            self._left = len(wanted) - number
            if blob.digest in self._storage.recency:
                continue
            if not self._storage.would_keep(blob.length):
                self._passed_over += 1
                missing.append(blob)
                continue
            try:
                await self._fetch_one(blob)
            except FleetwardError:
                self._failed += 1
                missing.append(blob)
        self._left = 0
        return missing

    async def _fetch_one(self, blob: NamedBlob) -> None:
        """Fetch one blob, begun again as often as it gives way."""
        while True:
            if await self._blobs.fill_ahead(blob.digest):
                self._fetched += 1
                return
            await asyncio.sleep(self._limits.prefetch_pause.total_seconds())

    # -- as a part -----------------------------------------------------------------------------

    def routes(self) -> tuple[Route, ...]:
        """Answer nothing."""
        return ()

    def status(self) -> dict[str, object]:
        """Tell how far it is."""
        return {
            "prefetch": {
                "left": self._left,
                "fetched": self._fetched,
                "passed_over": self._passed_over,
                "failed": self._failed,
            }
        }

    def metrics(self) -> tuple[Metric, ...]:
        """Tell the same."""
        return (
            Metric("prefetched_total", self._fetched, "Blobs fetched before anybody asked."),
            Metric("prefetch_left", self._left, "Blobs still to be fetched ahead.", Kind.GAUGE),
            Metric(
                "prefetch_passed_over",
                self._passed_over,
                "Blobs that fit neither the quota nor the free space.",
                Kind.GAUGE,
            ),
            Metric(
                "prefetch_failed", self._failed, "Blobs that could not be had ahead.", Kind.GAUGE
            ),
        )


async def _ended(task: "asyncio.Task[None] | None") -> None:
    """Cancel the task, and return once it has ended."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
