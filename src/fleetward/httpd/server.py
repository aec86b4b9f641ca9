"""The server: listens, keeps its connections, looks at their deadlines, and stops gracefully.

Its sockets are watched by `httpd.pump`; where the system has no epoll, or a test asks for it,
asyncio's own transports carry the same connections.
"""

import asyncio
import contextlib
import enum
import itertools
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from email.utils import format_datetime
from functools import lru_cache
from ipaddress import IPv6Network
from typing import Final

from fleetward.adapters.clock import Clock, SystemClock
from fleetward.errors import ConfigurationError
from fleetward.httpd.bodies import Bodies
from fleetward.httpd.connection import Connection
from fleetward.httpd.counters import ServerCounters
from fleetward.httpd.head import HeadReader
from fleetward.httpd.host import Kept
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.message import Handler
from fleetward.httpd.pump import HAS_EPOLL, Pump
from fleetward.httpd.repeats import Repeats
from fleetward.httpd.tls import TlsFiles

_LOG = logging.getLogger(__name__)
_DATE_LIFETIME: Final = 1.0
_ACCEPT_TURNS: Final = 5
"""Turns of the loop after which a connection that was accepted last has its protocol."""

_SPARE_CONNECTIONS: Final = 256
"""Clients over `max_connections` who may be told 503; those over that are dropped."""

_SPARE_PER_PEER: Final = 8
"""The same over `max_connections_per_peer`."""

_SWEPT_AT_ONCE: Final = 500
"""Connections looked at before others have their turn: half a millisecond."""


@lru_cache(maxsize=4096)
def neighbourhood(peer: str) -> str:
    """Return what one client may choose addresses from: an IPv4 address, an IPv6 /64."""
    if ":" not in peer:
        return peer
    return str(IPv6Network((peer.partition("%")[0], 64), strict=False))


class Sockets(enum.Enum):
    """Who reads and writes the sockets."""

    EPOLL = "httpd.pump: cheap in time and memory"
    ASYNCIO = "asyncio's transports: everywhere"


SOCKETS: Final = Sockets.EPOLL if HAS_EPOLL else Sockets.ASYNCIO


class Server:
    """Answers HTTP/1.1 on one address with one handler.

    Attributes:
        handler: what answers.
        limits: what clients may take.
        counters: what was done so far.
        is_stopping: set by `stop`; from then on each answer is its connection's last.
        repeats: the answers that may be given again.
        reader: what reads heads, one at a time.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        limits: ServerLimits | None = None,
        tls: ssl.SSLContext | TlsFiles | None = None,
        clock: Clock | None = None,
        counters: ServerCounters | None = None,
        sockets: Sockets | None = None,
    ) -> None:
        """Put a server together; `start` listens.

        Args:
            handler: what answers.
            limits: what clients may take.
            tls: for https; `TlsFiles` are looked at again while the server runs.
            clock: for the Date header.
            counters: where to count.
            sockets: who reads and writes them; `SOCKETS` unless given.
        """
        self.handler = handler
        self.limits = limits or ServerLimits()
        self.counters = counters or ServerCounters()
        self.is_stopping = False
        self.repeats = Repeats(self.limits, self.date_line)
        self.reader = HeadReader(self.limits)
        self._bodies = Bodies(self.limits)
        self._tls = tls
        self._clock = clock or SystemClock()
        self._sockets = sockets or SOCKETS
        self._connections: set[Kept] = set()
        self._peers: Counter[str] = Counter()
        self._all_gone = asyncio.Event()
        self._listeners: list[asyncio.Server] = []
        self._pump: Pump | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._date = (-_DATE_LIFETIME, b"")

    async def start(self, host: str, port: int) -> str:
        """Listen, and return the URL; port 0 takes a free one.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        self._loop = asyncio.get_running_loop()
        try:
            with contextlib.ExitStack() as opened:
                listening = await self._open(host, port, opened)
                url = self._url(listening[0])
                await self._listen(listening)
                opened.pop_all()
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {error.strerror or error}; "
                "choose another address or end the program that has it"
            ) from error
        self._sweep()
        return url

    async def _open(
        self, host: str, port: int, opened: contextlib.ExitStack
    ) -> list[socket.socket]:
        """Return a listening socket for each address that the host has."""
        found = await self._loop.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listening = []
        for family, _, _, _, address in dict.fromkeys(found):
            one = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(self.limits.backlog)
            listening.append(one)
        return listening

    async def _listen(self, listening: list[socket.socket]) -> None:
        if self._sockets is Sockets.EPOLL:
            self._pump = Pump(self._loop, self)
            self.repeats.counts_turns = True
            for one in listening:
                self._pump.listen(one)
            return
        context = self.tls_context()
        for one in listening:
            server = await self._loop.create_server(
                self.make_protocol,
                sock=one,
                ssl=context,
                ssl_handshake_timeout=self.handshake_timeout if context else None,
                backlog=self.limits.backlog,
            )
            self._listeners.append(server)

    def _url(self, listening: socket.socket) -> str:
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self._tls else 'http'}://{shown}:{port}"

    def _sweep(self) -> None:
        """Look at all deadlines, some connections at a time."""
        if isinstance(self._tls, TlsFiles):
            self._tls.refresh()
        self._sweep_some(iter(tuple(self._connections)))

    def _sweep_some(self, left: Iterator[Kept]) -> None:
        now = self._loop.time()
        for connection in itertools.islice(left, _SWEPT_AT_ONCE):
            try:
                connection.sweep(now)
            except Exception:  # noqa: BLE001 (a bug costs one client, not everybody's deadlines)
                _LOG.exception("a connection could not be looked at")
                connection.abort()
        pause = self.limits.sweep_interval.total_seconds()
        following = next(left, None)
        if following is None:
            self._sweeper = self._loop.call_later(pause, self._sweep)
        else:
            rest = itertools.chain((following,), left)
            pause *= _SWEPT_AT_ONCE / (len(self._connections) + _SWEPT_AT_ONCE)
            self._sweeper = self._loop.call_later(pause, self._sweep_some, rest)

    async def stop(self) -> None:
        """Stop accepting, let running answers finish within `stop_timeout`, then cut the rest."""
        self.is_stopping = True
        self.repeats.close()
        for listener in self._listeners:
            listener.close()
        if self._pump is not None:
            self._pump.stop_listening()
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
        if self._pump is not None:
            self._pump.close()

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

    def admit(self, connection: Kept, peer: str) -> bool:
        """Remember the connection; False where there are too many."""
        self._connections.add(connection)
        near = neighbourhood(peer)
        if self._pump is None:
            self._peers[near] += 1
        self.counters.accepted += 1
        self.counters.connections = len(self._connections)
        is_over = (
            len(self._connections) > self.limits.max_connections
            or self._peers[near] > self.limits.max_connections_per_peer
        )
        self.counters.overloaded += is_over
        return not is_over

    def forget(self, connection: Kept, peer: str) -> None:
        """Forget a connection that is closed."""
        self._connections.discard(connection)
        if self._pump is None:
            self.leave(peer)
        self.counters.connections = len(self._connections)
        if not self._connections:
            self._all_gone.set()

    def hold(self, peer: str, count: int) -> bool:
        """Hold memory for a client's body; False, counted, where there is no more."""
        is_held = self._bodies.take(neighbourhood(peer), count)
        self.counters.bodies_bytes = self._bodies.held_bytes
        self.counters.overloaded += not is_held
        return is_held

    def let_go(self, peer: str, count: int) -> None:
        """Hold it no more."""
        self._bodies.give_back(neighbourhood(peer), count)
        self.counters.bodies_bytes = self._bodies.held_bytes

    def date_line(self) -> bytes:
        """Return the Date header of this second, with its line end."""
        made, line = self._date
        now = self._loop.time()
        if now - made >= _DATE_LIFETIME:
            wall = self._clock.now().replace(microsecond=0)
            line = f"Date: {format_datetime(wall, usegmt=True)}\r\n".encode()
            self._date = (now, line)
        return line

    # -- what the pump needs -------------------------------------------------------------------

    @property
    def handshake_timeout(self) -> float:
        """Return how many seconds a TLS handshake may take."""
        return self.limits.tls_handshake_timeout.total_seconds()

    def begin_turn(self) -> None:
        """Note that sockets which are ready will be read now."""
        self.repeats.begin_turn()

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what new clients shake hands with."""
        return self._tls.context if isinstance(self._tls, TlsFiles) else self._tls

    def make_protocol(self) -> Connection:
        """Return the protocol of a new client."""
        return Connection(self, self._loop)

    def enter(self, peer: str) -> bool:
        """Count a new client; False where even telling it 503 would cost too much."""
        limits = self.limits
        peer = neighbourhood(peer)
        if (
            self._peers[peer] >= limits.max_connections_per_peer + _SPARE_PER_PEER
            or len(self._pump or ()) >= limits.max_connections + _SPARE_CONNECTIONS
        ):
            self.counters.overloaded += 1
            return False
        self._peers[peer] += 1
        return True

    def leave(self, peer: str) -> None:
        """Count a client no more."""
        peer = neighbourhood(peer)
        self._peers[peer] -= 1
        if self._peers[peer] <= 0:
            del self._peers[peer]
