"""The pump: accepts clients, and tells their lines what their sockets are ready for.

All sockets of one server stand in an epoll set of its own, and the event loop watches that set as
one descriptor. So the loop wakes once for all clients that are ready, each costs one entry in a
table while it is idle, and any event loop will do (uvloop's is the quicker one).

Linux alone has epoll; `httpd.server` falls back to asyncio's own transports elsewhere.
"""

import asyncio
import errno
import logging
import select
import socket
import ssl
from typing import Final, Protocol

from fleetward.httpd.lines import EPOLLIN, Handshake, Line, TlsLine, peer_of

_LOG = logging.getLogger(__name__)
HAS_EPOLL: Final = hasattr(select, "epoll")

_EVENTS_PER_TURN: Final = 256
"""Clients served before timers and other callbacks have their turn."""

_ACCEPTS_PER_TURN: Final = 64
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_ACCEPT_PAUSE: Final = 1.0
"""Seconds without accepting where descriptors or memory ran out, instead of spinning."""


class Gate(Protocol):
    """Who decides about new clients, and makes their protocols."""

    def enter(self, peer: str) -> bool:
        """Count a new client; False where it is to be dropped without a word."""
        ...

    def leave(self, peer: str) -> None:
        """Count a client no more."""
        ...

    def begin_turn(self) -> None:
        """Note that sockets which are ready will be read now."""
        ...

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what new clients shake hands with; None for plain TCP."""
        ...

    @property
    def handshake_timeout(self) -> float:
        """Return how many seconds a handshake may take."""
        ...

    def make_protocol(self) -> asyncio.Protocol:
        """Return the protocol of a new client."""
        ...


class Pump:
    """The epoll set of one server.

    Attributes:
        loop: the event loop that watches it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, gate: Gate) -> None:
        self.loop = loop
        self._gate = gate
        self._begin_turn = gate.begin_turn
        self._epoll = select.epoll()
        self._lines: dict[int, Line | Handshake] = {}
        self._listeners: list[socket.socket] = []
        self._pause: asyncio.TimerHandle | None = None
        loop.add_reader(self._epoll.fileno(), self._turn)

    def __len__(self) -> int:
        """Return how many clients there are, those that shake hands among them."""
        return len(self._lines)

    def _turn(self) -> None:
        lines = self._lines
        ready = self._epoll.poll(0, _EVENTS_PER_TURN)
        self._begin_turn()
        for descriptor, events in ready:
            line = lines.get(descriptor)
            if line is None:
                continue
            try:
                line.on_events(events)
            except Exception:  # noqa: BLE001 (a bug costs one client, not all)
                _LOG.exception("a connection failed")
                line.abort()

    def watch(self, descriptor: int, mask: int) -> None:
        """Wait for other events on a descriptor from now on."""
        self._epoll.modify(descriptor, mask)

    def drop(self, descriptor: int) -> None:
        """Watch it no more; it is about to be closed."""
        line = self._lines.pop(descriptor, None)
        if line is not None:
            self._epoll.unregister(descriptor)
            self._gate.leave(line.peer)

    # -- accepting -------------------------------------------------------------------------------

    def listen(self, listening: socket.socket) -> None:
        """Accept clients of a listening socket; it is owned from now on."""
        listening.setblocking(False)  # noqa: FBT003 (the socket's own interface)
        self._listeners.append(listening)
        self.loop.add_reader(listening.fileno(), self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                connected, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    raise
                self._rest(error)
                return
            self._take(connected, address)

    def _rest(self, error: OSError) -> None:
        _LOG.warning("no client is accepted for a second: %s; raise the limit of open files", error)
        for listening in self._listeners:
            self.loop.remove_reader(listening.fileno())
        self._pause = self.loop.call_later(_ACCEPT_PAUSE, self._go_on)

    def _go_on(self) -> None:
        for listening in self._listeners:
            self.loop.add_reader(listening.fileno(), self._accept, listening)

    def _take(self, connected: socket.socket, address: object) -> None:
        if not self._gate.enter(peer_of(address)):
            connected.close()
            return
        connected.setblocking(False)  # noqa: FBT003 (the socket's own interface)
        context = self._gate.tls_context()
        if context is not None:
            self._shake_hands(connected, address, context)
            return
        line = Line(self, connected, address)
        self._lines[connected.fileno()] = line
        self._epoll.register(connected.fileno(), EPOLLIN)
        line.start(self._gate.make_protocol())

    def _shake_hands(
        self, connected: socket.socket, address: object, context: ssl.SSLContext
    ) -> None:
        try:
            wrapped = context.wrap_socket(
                connected, server_side=True, do_handshake_on_connect=False
            )
        except (OSError, ValueError):
            connected.close()
            self._gate.leave(peer_of(address))
            return
        timeout = self._gate.handshake_timeout
        shaking = Handshake(self, wrapped, address, self._begin, timeout)
        self._lines[wrapped.fileno()] = shaking
        self._epoll.register(wrapped.fileno(), EPOLLIN)

    def _begin(self, line: TlsLine) -> None:
        self._lines[line.descriptor] = line
        line.start(self._gate.make_protocol())

    # -- the end ---------------------------------------------------------------------------------

    def stop_listening(self) -> None:
        """Accept nobody more."""
        if self._pause is not None:
            self._pause.cancel()
        for listening in self._listeners:
            self.loop.remove_reader(listening.fileno())
            listening.close()
        self._listeners.clear()

    def close(self) -> None:
        """Cut who is left, and give the epoll set back; harmless when called again."""
        if self._epoll.closed:
            return
        for line in tuple(self._lines.values()):
            line.abort()
        self.loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
