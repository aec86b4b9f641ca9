"""What a relay spends, put together: its disk, its WAN link, and what clients may take of both."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fleetward.adapters.clock import Clock
from fleetward.blobs.memory import MemoryRoom
from fleetward.blobs.store import PruneStore
from fleetward.httpd.files import RepositoryFiles
from fleetward.httpd.limits import ClientLimits
from fleetward.httpd.message import Handler
from fleetward.relay.bandwidth import PACED_READ_AHEAD, Bandwidth, Turns
from fleetward.relay.blobs import BlobCache
from fleetward.relay.budget import MissBudget, rated
from fleetward.relay.closure import ClosurePart
from fleetward.relay.documents import DocumentCache, DocumentShelf
from fleetward.relay.eviction import FreeSpace, Storage
from fleetward.relay.fill import FillGround
from fleetward.relay.part import Kind, Metric, Part, Route
from fleetward.relay.prefetch import PrefetchPart
from fleetward.relay.settings import RelaySettings
from fleetward.relay.sources import Sources

_SECONDS_A_DAY = 86_400


def free_space_of(folder: Path) -> FreeSpace:
    """Return what looks at the bytes that this user may still write on the folder's disk."""

    def look() -> int:
        status = os.statvfs(folder)
        return status.f_bavail * status.f_frsize

    return look


def upstream_limits(settings: RelaySettings) -> ClientLimits:
    """Return the limits of upstream connections: with less read ahead where a rate is set.

    What was read ahead came as a burst, and while it is paid for the upstream sees a client that
    does not read, and would cut it.
    """
    rates = (settings.bandwidth.rate, *(rule.rate for rule in settings.bandwidth.schedule))
    limits = settings.client_limits
    if not any(rates):
        return limits
    return replace(limits, read_ahead_bytes=min(limits.read_ahead_bytes, PACED_READ_AHEAD))


class Economy:
    """The blobs' cache with its limits; made inside the event loop that runs it.

    Attributes:
        blobs: answers for blobs.
        closure: what the current timestamp leads to.
        storage: what the disk keeps.
        bandwidth: what the upstreams may send.
        turns: how many fills run at once.
    """

    def __init__(
        self,
        settings: RelaySettings,
        store: PruneStore,
        sources: Sources,
        documents: tuple[DocumentCache, DocumentShelf, RepositoryFiles],
        *,
        clock: Clock,
        free_space: FreeSpace | None = None,
    ) -> None:
        """Put it together; nothing is read or asked yet.

        Args:
            settings: what the relay is told.
            store: the blobs.
            sources: the upstreams.
            documents: their cache, where it keeps them, and the same files as they are served.
            clock: the wall clock.
            free_space: looks at the disk; the cache folder's unless given.
        """
        limits, counters = settings.limits, sources.counters
        cache, shelf, files = documents
        self._settings = settings
        self._sources = sources
        self.bandwidth = Bandwidth(settings.bandwidth, clock, [source.client for source in sources])
        self.turns = Turns(settings.bandwidth.max_downloads)
        self.storage = Storage(
            store,
            settings.storage,
            limits,
            counters,
            clock=clock,
            free_space=free_space or free_space_of(settings.cache),
        )
        self.closure = ClosurePart(
            sources.news, cache.load, shelf, limits, oldest=_oldest(settings, clock)
        )
        self.storage.protect(self.closure)
        self.closure.subscribe(self.storage.tidy_soon)
        memory = MemoryRoom(limits.max_memory_bytes)
        ground = FillGround(store, sources, self.storage, self.turns, memory)
        self.blobs = BlobCache(ground, files, MissBudget(settings.clients, limits, self.closure))
        self._prefetch = PrefetchPart(
            settings.storage, limits, self.closure, self.blobs, self.storage
        )

    def parts(self) -> tuple[Part, ...]:
        """Return what runs in the background and tells of itself."""
        return (
            self.closure,
            self.storage,
            self.bandwidth,
            self._prefetch,
            DownloadsPart(self.turns, self.blobs, self._settings),
        )

    def guard(self, handler: Handler) -> Handler:
        """Return the handler with each client's rates, where there are any."""
        return rated(handler, self._settings.clients, self._settings.limits, self._sources.counters)


def _oldest(settings: RelaySettings, clock: Clock) -> Callable[[], float]:
    days = settings.storage.retention_days
    return lambda: clock.now().timestamp() - days * _SECONDS_A_DAY if days else 0.0


class DownloadsPart:
    """Tells how many blobs are on their way; a part of the relay."""

    def __init__(self, turns: Turns, blobs: BlobCache, settings: RelaySettings) -> None:
        self._turns = turns
        self._blobs = blobs
        self._places = settings.bandwidth.max_downloads

    def routes(self) -> tuple[Route, ...]:
        """Answer nothing."""
        return ()

    async def run(self) -> None:
        """Do nothing."""

    def status(self) -> dict[str, object]:
        """Tell how many run and wait."""
        return {"downloads": {"active": self._turns.active, "waiting": self._turns.waiting}}

    def metrics(self) -> tuple[Metric, ...]:
        """Tell the same, beside the limit."""
        gauge = Kind.GAUGE
        return (
            Metric("downloads_active", self._turns.active, "Blobs being fetched now.", gauge),
            Metric("downloads_waiting", self._turns.waiting, "Blobs waiting for a turn.", gauge),
            Metric("downloads_limit", self._places, "Blobs fetched at once, at most.", gauge),
            Metric("filling", self._blobs.filling, "Both together.", gauge),
        )
