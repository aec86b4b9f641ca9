"""A server in a thread of its own: for tests, and for the demo that runs whole fleets.

Programs that only serve run `httpd.server.Server` in their own event loop instead.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from fleetward.httpd.counters import ServerCounters
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.message import Handler
from fleetward.httpd.server import Server

Ready = Callable[[str], None]


_CLOSING_TURNS: Final = 5
"""Turns of the loop in which transports that were closed last give their sockets back."""


class LoopThread:
    """Runs one coroutine function in an event loop in a thread, until the `with` block ends.

    Attributes:
        url: what the coroutine said that it listens on; known inside the `with` block.
    """

    def __init__(self, run: Callable[[Ready, asyncio.Event], Awaitable[None]]) -> None:
        """Take what to run.

        Args:
            run: gets a function to call once with the URL, and an event that means stop.
        """
        self.url = ""
        self._run = run
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._main, name="fleetward-loop", daemon=True)

    def __enter__(self) -> Self:
        """Start, and return once it listens.

        Raises:
            FleetwardError: it could not start.
        """
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop gracefully, and wait until it has ended."""
        self.stop()
        if self._failure is not None and error is None:
            raise self._failure

    def stop(self) -> None:
        """Stop now, from any thread; harmless when called again."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _main(self) -> None:
        try:
            asyncio.run(self._main_async())
        except BaseException as error:  # noqa: BLE001 (handed to the thread that waits)
            self._failure = error
        finally:
            self._ready.set()

    async def _main_async(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            await self._run(self._on_ready, self._stop)
        finally:
            for _ in range(_CLOSING_TURNS):
                await asyncio.sleep(0)

    def _on_ready(self, url: str) -> None:
        self.url = url
        self._ready.set()


class ServerThread(LoopThread):
    """`httpd.server.Server` in a thread: `with ServerThread(handler) as server: server.url`."""

    def __init__(
        self,
        handler: Handler,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: ServerLimits | None = None,
    ) -> None:
        self.counters = ServerCounters()
        self._handler = handler
        self._address = (host, port)
        self._limits = limits
        super().__init__(self._serve)

    async def _serve(self, ready: Ready, stop: asyncio.Event) -> None:
        await serve(
            Server(self._handler, limits=self._limits, counters=self.counters),
            *self._address,
            ready=ready,
            stop=stop,
        )


async def serve(server: Server, host: str, port: int, *, ready: Ready, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then stop gracefully.

    Args:
        server: what to run.
        host: address to listen on.
        port: 0 takes a free one.
        ready: called once with the URL.
        stop: ends it.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    ready(await server.start(host, port))
    try:
        await stop.wait()
    finally:
        await server.stop()
