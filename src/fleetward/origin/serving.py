"""`origin serve`: the repository's files over HTTP, read only, and news of each new timestamp.

Holds no key and writes nothing; any HTTP server can take its place (hosts and relays then poll).
Whoever waits in `GET /v1/watch` is answered once `metadata/timestamp.json` has changed on disk,
which one look at the file every fifth of a second finds out for all; so it does not matter which
program wrote it.
"""

import asyncio
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from fleetward.adapters.datagram import interfaces_for, send
from fleetward.adapters.disk import Disk, Kind
from fleetward.adapters.entropy import SystemEntropy
from fleetward.adapters.resolving import resolve
from fleetward.core.limits import MetadataLimits
from fleetward.errors import ConfigurationError, DocumentError
from fleetward.httpd.background import Ready, serve
from fleetward.httpd.files import RepositoryHandler, etag_of, file_headers
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.message import Answer, Request, Response
from fleetward.httpd.server import Server
from fleetward.httpd.watchers import Watchers, WatchLimits
from fleetward.wire.announcement import claimed_version, fits_announcement
from fleetward.wire.layout import TIMESTAMP_PATH, parse_repository_path
from fleetward.wire.watch import WATCH_PATH

LOOK_INTERVAL: Final = timedelta(milliseconds=200)
"""How often is looked whether the timestamp on disk is another one."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """A timestamp on disk.

    Attributes:
        content: its bytes.
        version: what it claims; 0 where it is none.
        response: what a plain GET of it gets.
    """

    content: bytes
    version: int
    response: Response


class TimestampFile:
    """The timestamp in a repository's folder, looked at again and again."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / TIMESTAMP_PATH
        self._identity: tuple[int, int, int] | None = None

    def look(self) -> Stamp | None:
        """Return the timestamp where it is another file than at the last look, else None.

        It is replaced as a whole (`adapters.atomicfile`), so no half of one is ever seen.
        """
        try:
            status = self._file.stat()
            identity = (status.st_ino, status.st_size, status.st_mtime_ns)
            if identity == self._identity:
                return None
            with self._file.open("rb") as stream:
                content = stream.read(MetadataLimits().timestamp_bytes + 1)
        except OSError:
            return None  # not there for a moment, or unreadable: as for any other request
        self._identity = identity
        return _stamp(content)


def _stamp(content: bytes) -> Stamp:
    path = parse_repository_path(TIMESTAMP_PATH)
    assert path is not None  # noqa: S101 (for the type checker)
    try:
        version = claimed_version(content)
    except DocumentError:
        version = 0
    response = Response(200, file_headers(path, etag_of(path, content)), content)
    return Stamp(content, version, response)


class OriginHandler:
    """The `Handler` of an origin: files, and long polls."""

    def __init__(self, folder: Path, watchers: Watchers) -> None:
        self._watchers = watchers
        self._files = RepositoryHandler(folder)

    def max_body(self, method: str, path: str) -> int:
        """Return 0: nothing takes a body."""
        return 0

    def answer(self, request: Request) -> Answer:
        """Return the answer, or a future of it."""
        if request.path == WATCH_PATH and not request.authority:
            return self._watchers.answer(request)
        return self._files.answer(request)


class Origin:
    """Serves one repository, and tells of its new timestamps.

    Attributes:
        watchers: those who wait.
    """

    def __init__(
        self,
        folder: Path,
        address: tuple[str, int],
        announce: Iterable[tuple[str, int]] = (),
        limits: ServerLimits | None = None,
    ) -> None:
        """Take what to serve; nothing is listened on yet.

        Args:
            folder: the repository's.
            address: host and port; port 0 takes a free one.
            announce: hosts and ports that get each new timestamp as a datagram; groups too.
            limits: for clients.
        """
        limits = limits or ServerLimits()
        most = WatchLimits(max_watchers=limits.max_connections * 9 // 10)
        self.watchers = Watchers(SystemEntropy(), most)
        self._server = Server(OriginHandler(folder, self.watchers), limits=limits)
        self._folder = folder
        self._address = address
        self._told = tuple(announce)

    async def run(self, *, ready: Ready, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then let running answers finish.

        Args:
            ready: called once with the URL.
            stop: ends it.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        tasks = (
            asyncio.create_task(self._tell()),
            asyncio.create_task(_close_with(stop, self.watchers)),
        )
        try:
            await serve(self._server, *self._address, ready=ready, stop=stop)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self) -> None:
        """Tell of each new timestamp; the one that is there at the start is no news to announce."""
        file, is_news = TimestampFile(self._folder), False
        while True:
            stamp = file.look()
            if stamp is not None:
                self.watchers.publish(stamp.version, stamp.response)
                if is_news and fits_announcement(stamp.content):
                    await self._announce(stamp.content)
            is_news = True
            await asyncio.sleep(LOOK_INTERVAL.total_seconds())

    async def _announce(self, timestamp: bytes) -> None:
        destinations = await resolve(self._told)
        send(timestamp, destinations, interfaces=interfaces_for(self._address[0]))


async def _close_with(stop: asyncio.Event, watchers: Watchers) -> None:
    await stop.wait()
    watchers.close()


async def serve_repository(
    disk: Disk,
    folder: Path,
    address: tuple[str, int],
    ready: Callable[[str], None],
    announce: Iterable[tuple[str, int]] = (),
) -> None:
    """Serve until SIGTERM or SIGINT, then let running answers finish.

    Args:
        disk: where the repository lies.
        folder: the repository's.
        address: host and port; port 0 takes a free one.
        ready: called once with the URL.
        announce: hosts and ports that get each new timestamp as a datagram.

    Raises:
        ConfigurationError: there is no repository, or the address cannot be listened on.
    """
    if disk.kind(folder / TIMESTAMP_PATH) is not Kind.FILE:
        raise ConfigurationError(
            f"{folder} is no repository: make one with `fleetward origin init`"
        )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for each in signals:
        loop.add_signal_handler(each, stop.set)
    try:
        await Origin(folder, address, announce).run(ready=ready, stop=stop)
    finally:
        for each in signals:
            loop.remove_signal_handler(each)
