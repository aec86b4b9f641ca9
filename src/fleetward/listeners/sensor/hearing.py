"""The sensor's sockets: hears a bounded beginning of everything, and answers nothing.

    accepted  -> heard, until: the peer closed | the prefix is full | it fell silent |
                 its patience ended | another needs the room           -> classified, closed

Invariants: at most `SensorLimits.connections` are open, of which each holds at most its prefix; the
oldest makes room for the newest, so that connections which trickle keep nobody out; no byte is sent
but the operator's own banner; nothing that a peer does ends the loop.

Not seen, since the kernel keeps it to itself: a half-open scan, which ends before a connection is
there. A capture shows it (`fleetward ports inspect`).

Deliberately not here: TLS and any other protocol: who speaks first, speaks alone.
"""

import contextlib
import errno
import selectors
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from fleetward.adapters.clock import Clock
from fleetward.core.listeners import Transport
from fleetward.core.portclass import classify_payload
from fleetward.errors import ConfigurationError
from fleetward.listeners.sensor.limits import SENSOR, SensorLimits
from fleetward.listeners.sensor.sightings import Sightings

_TICK: Final = timedelta(milliseconds=200)
_SECOND: Final = timedelta(seconds=1)
_FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_BACKLOG: Final = 128
BOTH: Final = (Transport.TCP, Transport.UDP)
Address = tuple[str, int]
_ROOM_STEP: Final = 8
"""Connections by which the room grows again at each tick, after descriptors were short."""


class Closing(StrEnum):
    """How a connection ends."""

    FIN = "fin"
    RST = "rst"


@dataclass(frozen=True, slots=True)
class Manners:
    """How a sensor behaves.

    Attributes:
        closing: of connections.
        banner: sent before the end; nothing unless the operator gives something neutral.
    """

    closing: Closing = Closing.FIN
    banner: bytes = b""


class _Connection:
    __slots__ = ("began", "content", "deadline", "peer", "port", "socket", "when")

    def __init__(
        self, accepted: socket.socket, peer: tuple[str, int], when: datetime, began: timedelta
    ) -> None:
        self.socket = accepted
        self.port = 0
        self.peer = peer
        self.when = when
        self.began = began
        self.deadline = began
        self.content = b""


class Sensor:
    """Listens by TCP and UDP; on as many addresses as it is told to.

    Args:
        sightings: take what is heard.
        clock: see there.
        manners: how connections end.
        limits: see there.
    """

    def __init__(
        self,
        sightings: Sightings,
        clock: Clock,
        manners: Manners = Manners(),
        limits: SensorLimits = SENSOR,
    ) -> None:
        self._sightings = sightings
        self._clock = clock
        self._manners = manners
        self._limits = limits
        self._most = self._room = _room(limits)
        self._selector = selectors.DefaultSelector()
        self._ears: dict[socket.socket, tuple[Transport, int]] = {}
        self._open: dict[socket.socket, _Connection] = {}
        self._waker, self._wake = socket.socketpair()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._stopped = False
        self._second = timedelta(0)
        self._taken = 0
        self._deaf = False

    def listen(self, host: str, port: int, transports: Sequence[Transport] = BOTH) -> Address:
        """Bind, and return where; what was bound before stays.

        Args:
            host: an address, or a name of this machine; `::` takes IPv4 too, unless an IPv4
                address was bound to the port before.
            port: 0 takes a free one, the same for all of `transports`.
            transports: by which it hears, tcp first.

        Raises:
            ConfigurationError: it cannot be bound: taken, privileged, or no address of this host.
        """
        made: dict[socket.socket, tuple[Transport, int]] = {}
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            name: Any = found[0][4]
            for transport in transports:
                ear = _bound(
                    found[0][0], transport, name, self._limits, alone=self._has_ipv4(name[1])
                )
                name = ear.getsockname()
                made[ear] = transport, name[1]
        except OSError as error:
            for ear in made:
                ear.close()
            advice = ""
            if error.errno == errno.EADDRINUSE:
                advice = f"; something listens there already: fleetward ports show {port}"
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {error.strerror}{advice}"
            ) from error
        for ear in made:
            self._selector.register(ear, selectors.EVENT_READ)
        self._ears |= made
        return str(name[0]), int(name[1])

    def _has_ipv4(self, port: int) -> bool:
        return any(
            ear.family == socket.AF_INET and place[1] == port for ear, place in self._ears.items()
        )

    def stop(self) -> None:
        """End `run`; may be called from a signal's handler or another thread."""
        self._stopped = True
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def run(self, seconds: timedelta | None = None) -> None:
        """Hear until `stop` is called, or for so long; then classify what is still open."""
        end = None if seconds is None else self._clock.monotonic() + seconds
        next_sweep = self._clock.monotonic()
        while not self._stopped:
            now = self._clock.monotonic()
            if end is not None and now >= end:
                break
            if now >= next_sweep:
                self._sweep(now)
                next_sweep = now + _TICK
            wait = _TICK if end is None else min(_TICK, end - now)
            for key, _ in self._selector.select(wait.total_seconds()):
                self._hear(key.fileobj)
        for connection in list(self._open.values()):
            self._finish(connection, "silent")

    def close(self) -> None:
        """Close all sockets."""
        for connection in list(self._open.values()):
            self._finish(connection, "silent")
        for one in (*self._ears, self._waker, self._wake):
            one.close()
        self._selector.close()

    # -- events --------------------------------------------------------------------------------

    def _hear(self, which: object) -> None:
        if not isinstance(which, socket.socket):
            return
        if which in self._open:
            self._read(self._open[which])
        elif which in self._ears:
            transport, port = self._ears[which]
            if transport is Transport.TCP:
                self._accept(which, port)
            else:
                self._take_datagrams(which, port)

    def _accept(self, ear: socket.socket, port: int) -> None:
        for _ in range(self._limits.per_round):
            if not self._may_take():
                return
            try:
                accepted, peer = ear.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _FULL:
                    self._without_descriptors()
                    return
                continue  # the peer left before it was accepted
            self._taken += 1
            if len(self._open) >= self._room:
                self._crowd_out()
            self._begin(accepted, (str(peer[0]), peer[1]), port)

    def _begin(self, accepted: socket.socket, peer: tuple[str, int], port: int) -> None:
        now = self._clock.monotonic()
        connection = _Connection(accepted, peer, self._clock.now(), now)
        connection.port = port
        connection.deadline = now + self._limits.patience
        accepted.settimeout(0.0)
        try:
            self._selector.register(accepted, selectors.EVENT_READ)
        except OSError:  # the kernel watches no more descriptors
            accepted.close()
            self._sightings.crowded_out += 1
            return
        self._open[accepted] = connection

    def _read(self, connection: _Connection) -> None:
        missing = self._limits.prefix_bytes - len(connection.content)
        try:
            piece = connection.socket.recv(missing)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        connection.content += piece
        if not piece:
            self._finish(connection, "closed")
        elif len(connection.content) >= self._limits.prefix_bytes:
            self._finish(connection, "full")
        else:
            now = self._clock.monotonic()
            patience = connection.began + self._limits.patience
            connection.deadline = min(patience, now + self._limits.quiet)

    def _take_datagrams(self, ear: socket.socket, port: int) -> None:
        for _ in range(self._limits.per_round):
            if not self._may_take():
                return
            try:
                content, peer = ear.recvfrom(self._limits.prefix_bytes)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier datagram, or one that is too long
            self._taken += 1
            found = classify_payload(Transport.UDP, content, port)
            source = (_unmapped(str(peer[0])), peer[1])
            read = (len(content), "datagram")
            self._sightings.add(self._clock.now(), (Transport.UDP, port), source, found, read)

    # -- limits --------------------------------------------------------------------------------

    def _may_take(self) -> bool:
        """Return whether one more may be taken; else hear no new ones until the second is over."""
        now = self._clock.monotonic()
        if now - self._second >= _SECOND:
            self._second, self._taken = now, 0
        if self._taken < self._limits.per_second:
            return True
        self._close_ears()
        self._sightings.pauses += 1
        return False

    def _close_ears(self) -> None:
        if not self._deaf:
            self._deaf = True
            for ear in self._ears:
                self._selector.unregister(ear)

    def _sweep(self, now: timedelta) -> None:
        self._room = min(self._most, self._room + _ROOM_STEP)
        for connection in [one for one in self._open.values() if one.deadline <= now]:
            self._finish(connection, "silent")
        if self._deaf and now - self._second >= _SECOND:
            self._deaf = False
            for ear in self._ears:
                self._selector.register(ear, selectors.EVENT_READ)

    def _crowd_out(self) -> None:
        self._sightings.crowded_out += 1
        self._finish(next(iter(self._open.values())), "crowded")

    def _without_descriptors(self) -> None:
        """Make room where the system gives no descriptor; else wait until it may."""
        if self._open:
            self._room = max(1, min(self._room, len(self._open)))
            for _ in range(min(len(self._open), self._limits.spare_descriptors)):
                self._crowd_out()
        else:
            self._second = self._clock.monotonic()
            self._close_ears()

    # -- the end of a connection ---------------------------------------------------------------

    def _finish(self, connection: _Connection, why: str) -> None:
        del self._open[connection.socket]
        self._selector.unregister(connection.socket)
        with contextlib.suppress(OSError):
            self._end(connection.socket)
        connection.socket.close()
        found = classify_payload(Transport.TCP, connection.content, connection.port)
        source = (_unmapped(connection.peer[0]), connection.peer[1])
        read = (len(connection.content), why)
        self._sightings.add(connection.when, (Transport.TCP, connection.port), source, found, read)

    def _end(self, connection: socket.socket) -> None:
        if self._manners.banner:
            connection.send(self._manners.banner)
        if self._manners.closing is Closing.RST:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            return
        connection.shutdown(socket.SHUT_WR)
        drained = 0
        while drained < self._limits.drained_bytes:
            piece = connection.recv(self._limits.prefix_bytes)
            drained += len(piece)
            if not piece:
                return


def _bound(
    family: int, transport: Transport, address: object, limits: SensorLimits, *, alone: bool
) -> socket.socket:
    is_tcp = transport is Transport.TCP
    made = socket.socket(family, socket.SOCK_STREAM if is_tcp else socket.SOCK_DGRAM)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        elif is_tcp:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_tcp:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.receive_buffer)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, alone)
        made.settimeout(0.0)
        made.bind(address)  # type: ignore[arg-type]
        if is_tcp:
            made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _room(limits: SensorLimits) -> int:
    """Return how many connections may be open, of what the system allows."""
    try:
        import resource  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return min(limits.connections, 512 - limits.spare_descriptors)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits.connections
    return max(1, min(limits.connections, soft - limits.spare_descriptors))


def _unmapped(address: str) -> str:
    return address.removeprefix("::ffff:") if "." in address else address
