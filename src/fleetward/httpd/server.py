"""The server: listens, keeps its connections, looks at their deadlines, and stops gracefully."""

import asyncio
import socket
import ssl
from email.utils import format_datetime
from typing import Final

from fleetward.adapters.clock import Clock, SystemClock
from fleetward.errors import ConfigurationError
from fleetward.httpd.connection import Connection
from fleetward.httpd.counters import ServerCounters
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.message import Handler

_DATE_LIFETIME: Final = 1.0
_ACCEPT_TURNS: Final = 5
"""Turns of the loop after which a connection that was accepted last has its protocol."""


class Server:
    """Answers HTTP/1.1 on one address with one handler.

    Attributes:
        handler: what answers.
        limits: what clients may take.
        counters: what was done so far.
        is_stopping: set by `stop`; from then on each answer is its connection's last.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        limits: ServerLimits | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        counters: ServerCounters | None = None,
    ) -> None:
        self.handler = handler
        self.limits = limits or ServerLimits()
        self.counters = counters or ServerCounters()
        self.is_stopping = False
        self._tls = tls
        self._clock = clock or SystemClock()
        self._connections: set[Connection] = set()
        self._all_gone = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._date = (-_DATE_LIFETIME, b"")

    async def start(self, host: str, port: int) -> str:
        """Listen, and return the URL; port 0 takes a free one.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        self._loop = asyncio.get_running_loop()
        tls_timeout = self.limits.tls_handshake_timeout.total_seconds() if self._tls else None
        try:
            self._listener = await self._loop.create_server(
                lambda: Connection(self, self._loop),
                host,
                port,
                ssl=self._tls,
                ssl_handshake_timeout=tls_timeout,
                backlog=self.limits.backlog,
                start_serving=True,
            )
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {error.strerror or error}; "
                "choose another address or end the program that has it"
            ) from error
        self._sweep()
        return self._url(self._listener.sockets[0])

    def _url(self, listening: socket.socket) -> str:
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self._tls else 'http'}://{shown}:{port}"

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in tuple(self._connections):
            connection.sweep(now)
        self._sweeper = self._loop.call_later(
            self.limits.sweep_interval.total_seconds(), self._sweep
        )

    async def stop(self) -> None:
        """Stop accepting, let running answers finish within `stop_timeout`, then cut the rest."""
        self.is_stopping = True
        if self._listener is not None:
            self._listener.close()
        for _ in range(_ACCEPT_TURNS):
            await asyncio.sleep(0)
        for connection in tuple(self._connections):
            connection.stop()
        timeout = self.limits.stop_timeout.total_seconds()
        if not await self._gone_within(timeout):
            tasks = [c.task for c in self._connections if c.task is not None]
            for connection in tuple(self._connections):
                connection.abort()
            await self._gone_within(timeout)
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def _gone_within(self, seconds: float) -> bool:
        if not self._connections:
            return True
        self._all_gone.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._all_gone.wait()
        except TimeoutError:
            return False
        return True

    # -- what connections need -----------------------------------------------------------------

    def admit(self, connection: Connection) -> bool:
        """Remember the connection; False where there are too many."""
        self._connections.add(connection)
        self.counters.accepted += 1
        self.counters.connections = len(self._connections)
        if len(self._connections) > self.limits.max_connections:
            self.counters.overloaded += 1
            return False
        return True

    def forget(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._connections.discard(connection)
        self.counters.connections = len(self._connections)
        if not self._connections:
            self._all_gone.set()

    def date_line(self) -> bytes:
        """Return the Date header of this second, with its line end."""
        made, line = self._date
        now = self._loop.time()
        if now - made >= _DATE_LIFETIME:
            wall = self._clock.now().replace(microsecond=0)
            line = f"Date: {format_datetime(wall, usegmt=True)}\r\n".encode()
            self._date = (now, line)
        return line
