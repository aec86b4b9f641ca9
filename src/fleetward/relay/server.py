"""A relay, put together from its settings and run until it is told to stop."""

import asyncio
import contextlib
from dataclasses import dataclass

from fleetward.adapters.clock import Clock, SystemClock
from fleetward.adapters.disk import Disk, SystemDisk
from fleetward.blobs.folder import FolderStore
from fleetward.blobs.store import PruneStore
from fleetward.errors import ConfigurationError
from fleetward.httpd.background import LoopThread, Ready, serve
from fleetward.httpd.client import UpstreamClient
from fleetward.httpd.counters import ServerCounters
from fleetward.httpd.endpoint import Endpoint
from fleetward.httpd.files import RepositoryFiles
from fleetward.httpd.server import Server
from fleetward.relay.advertising import Advertising
from fleetward.relay.blobs import BlobCache
from fleetward.relay.budget import DocumentBudget
from fleetward.relay.carrying import carrying
from fleetward.relay.counters import RelayCounters
from fleetward.relay.documents import DocumentCache, DocumentShelf
from fleetward.relay.economy import Economy, upstream_limits
from fleetward.relay.handler import RelayHandler, RelayStatus
from fleetward.relay.lifetime import Lifetime
from fleetward.relay.loops import Loops
from fleetward.relay.metrics import MetricsPart
from fleetward.relay.mirror import MirrorPart
from fleetward.relay.news import News
from fleetward.relay.part import Part
from fleetward.relay.passthrough_part import Network, PassthroughPart, Place
from fleetward.relay.push import push_parts
from fleetward.relay.settings import RelaySettings
from fleetward.relay.sources import Source, Sources
from fleetward.relay.timestamp import TimestampCache
from fleetward.wire.layout import TIMESTAMP_PATH


class Relay:
    """All parts of one relay; made inside the event loop that runs it.

    Attributes:
        server: what listens.
        handler: what answers.
        sources: whom it asks.
        counters: what it has done.
        parts: its services beside the cache.
        economy: what its disk, its WAN link and its clients may take.
    """

    def __init__(
        self,
        settings: RelaySettings,
        *,
        clock: Clock | None = None,
        disk: Disk | None = None,
        store: PruneStore | None = None,
    ) -> None:
        """Put the parts together; nothing is listened on or asked yet.

        Args:
            settings: what the relay is told.
            clock: for Date and the age of a kept timestamp.
            disk: where documents are kept.
            store: where blobs are kept; the cache folder unless given.

        Raises:
            ConfigurationError: an upstream's or proxy's URL is none, or there is no upstream.
            DiskError: the cache folder cannot be made.
        """
        if not settings.upstreams:
            raise ConfigurationError("a relay needs an upstream: give --upstream URL")
        self._settings = settings
        self._clock = clock or SystemClock()
        limits = settings.limits
        self.counters = RelayCounters()
        served = ServerCounters()
        self.sources = Sources(_sources(settings), limits, self.counters)
        store = store or FolderStore(settings.cache)
        files = RepositoryFiles(settings.cache)
        self._disk = disk or SystemDisk()
        shelf = DocumentShelf(self._disk, settings.cache, limits.max_documents_bytes)
        self._timestamp = TimestampCache(shelf, self.sources)
        self._lifetime = Lifetime()
        documents = DocumentCache(
            shelf, files, self.sources, DocumentBudget(settings.clients, limits)
        )
        self.economy = Economy(
            settings, store, self.sources, (documents, shelf, files), clock=self._clock
        )
        blobs = self.economy.blobs
        status = RelayStatus(self.sources, self.counters, served, blobs)
        loops = Loops(self.sources)
        self.sources.send_always(loops.headers)
        self.parts = _parts(
            Ground(
                settings,
                self._clock,
                self._disk,
                store,
                self.sources,
                self._timestamp,
                blobs,
                self.counters,
                served,
                self.sources.news,
                self._lifetime,
                self.economy,
            ),
            loops,
        )
        status.tell_of(self.parts)
        routes = list(status.routes())
        for part in self.parts:
            routes += part.routes()
        self.handler = RelayHandler(self._timestamp, documents, blobs, routes, loops)
        self.server = Server(
            self.economy.guard(self.handler),
            limits=settings.server_limits,
            tls=settings.tls,
            clock=self._clock,
            counters=served,
        )

    async def run(self, *, ready: Ready, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then end gracefully.

        Args:
            ready: called once with the URL.
            stop: ends it.

        Raises:
            ConfigurationError: the address cannot be listened on.
            BusyError: another relay uses the cache folder.
        """
        with self._disk.lock(self._settings.cache / ".lock"):
            self._restore_timestamp()
            try:
                await self._serve(ready, stop)
            finally:
                await self.handler.stop()
                await self.sources.close()

    async def _serve(self, ready: Ready, stop: asyncio.Event) -> None:
        """Serve, with the parts in the background; the failure of one ends the relay."""
        address = (self._settings.host, self._settings.port)
        failures: list[BaseException] = []

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                failures.append(error)
                stop.set()

        def listens(url: str) -> None:
            self._lifetime.listens(url)
            ready(url)

        self._lifetime.begin(stop)
        running = [asyncio.create_task(part.run()) for part in self.parts]
        for task in running:
            task.add_done_callback(ended)
        try:
            await serve(self.server, *address, ready=listens, stop=stop)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        if failures:
            raise failures[0]

    def _restore_timestamp(self) -> None:
        file = self._settings.cache / TIMESTAMP_PATH
        with contextlib.suppress(OSError):
            age = self._clock.now().timestamp() - file.stat().st_mtime
            self._timestamp.restore(file.read_bytes(), age)


@dataclass(frozen=True, slots=True)
class Ground:
    """What parts are built on.

    Attributes:
        settings: of the relay.
        clock: the wall clock.
        disk: where the parts keep what they must not lose.
        store: the blobs.
        sources: the upstreams.
        timestamp: the timestamp's cache.
        blobs: the blobs' cache.
        counters: of the cache.
        served: of the server.
        news: told of each new timestamp.
        lifetime: when the relay listens, and when it stops.
        economy: what the disk, the WAN link and clients may take.
    """

    settings: RelaySettings
    clock: Clock
    disk: Disk
    store: PruneStore
    sources: Sources
    timestamp: TimestampCache
    blobs: BlobCache
    counters: RelayCounters
    served: ServerCounters
    news: News
    lifetime: Lifetime
    economy: Economy


def _parts(ground: Ground, loops: Loops) -> tuple[Part, ...]:
    """Return the relay's services, each where its settings ask for it."""
    settings, sources = ground.settings, ground.sources
    status = carrying(settings, sources, clock=ground.clock, disk=ground.disk)
    take = status.accept_datagram
    push = push_parts(settings, ground.timestamp, sources, ground.lifetime, accept_checkin=take)
    parts: list[Part] = [loops, *status.parts, *push]
    if ground.settings.mirrors:
        parts.append(MirrorPart(ground.settings.mirrors, clock=ground.clock, disk=ground.disk))
    if ground.settings.discovery.mdns:
        parts.append(Advertising(ground.settings))
    if ground.settings.passthroughs:
        parts.append(_passthroughs(ground, loops))
    parts += ground.economy.parts()
    metrics = MetricsPart(ground.settings, ground.sources, ground.counters, ground.served)
    parts.append(metrics)
    metrics.tell_of(parts)
    return tuple(parts)


def _passthroughs(ground: Ground, loops: Loops) -> Part:
    settings = ground.settings
    proxy = Endpoint.proxy(settings.proxy) if settings.proxy else None
    return PassthroughPart(
        settings.passthroughs,
        Place(settings.cache, ground.clock, settings.storage.min_free),
        Network(upstream_limits(settings), settings.upstream_tls, proxy, ground.economy.bandwidth),
        via=loops.headers,
    )


def _sources(settings: RelaySettings) -> tuple[Source, ...]:
    proxy = Endpoint.proxy(settings.proxy) if settings.proxy else None
    return tuple(
        Source(
            UpstreamClient(
                Endpoint.upstream(url),
                limits=upstream_limits(settings),
                tls=settings.upstream_tls,
                proxy=proxy,
            ),
            settings.limits,
        )
        for url in settings.upstreams
    )


async def run_relay(
    settings: RelaySettings, *, ready: Ready, stop: asyncio.Event, clock: Clock | None = None
) -> None:
    """Run a relay until `stop` is set; what `fleetward relay run` calls.

    Args:
        settings: what the relay is told.
        ready: called once with the URL that it listens on.
        stop: ends it: running answers get `ServerLimits.stop_timeout`, fills are suspended.
        clock: the wall clock.

    Raises:
        ConfigurationError: a URL is none, there is no upstream, or the address is taken.
        BusyError: another relay uses the cache folder.
        DiskError: the cache folder cannot be made.
    """
    await Relay(settings, clock=clock).run(ready=ready, stop=stop)


class RelayThread(LoopThread):
    """A relay in a thread of its own: `with RelayThread(settings) as relay: relay.url`."""

    def __init__(self, settings: RelaySettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock
        super().__init__(self._serve)

    async def _serve(self, ready: Ready, stop: asyncio.Event) -> None:
        await run_relay(self._settings, ready=ready, stop=stop, clock=self._clock)
