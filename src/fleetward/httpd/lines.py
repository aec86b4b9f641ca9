"""Lines: the sockets of a server's clients, as transports that cost little and copy little.

A `Line` is what asyncio calls a transport, on a socket that is ours: reading and writing are one
system call each, long files leave by `sendfile` on the same descriptor, and what the kernel does
not take waits in a queue that is made only then. `TlsLine` is the same over OpenSSL, which reads
and writes the socket itself, so that no byte passes through a buffer of ours (asyncio's own TLS
copies each byte twice, and holds some 30 kB more for each client).

`httpd.pump` watches the sockets and calls `on_events`. Where the system has no epoll, asyncio's
transports serve instead (`httpd.server`), with the same `Connection` on top.
"""

import asyncio
import contextlib
import os
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

EPOLLIN: Final[int] = getattr(select, "EPOLLIN", 1)
EPOLLOUT: Final[int] = getattr(select, "EPOLLOUT", 4)

READ_BYTES: Final = 32 * 1024
"""Read from one client in one turn; more than a TLS record holds, so that none is cut in two."""

HIGH_WATER: Final = 64 * 1024
LOW_WATER: Final = 16 * 1024
"""Bytes that wait for a client: above the first its requests rest, below the second they go on."""

_SCRATCH: Final = memoryview(bytearray(64 * 1024))
"""Where file bytes stand between the disk and OpenSSL; used by one line at a time, within a call.

More would be read in vain whenever the kernel takes less, and leave the processor's cache.
"""

_MORE: Final[int] = getattr(socket, "MSG_MORE", 0)
_NOTHING_YET: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError)
"""Reading that would have to write first is none of these: a client asks for new keys again and
again and reads no answer, and would else be asked in vain in each turn of the loop."""

_WOULD_BLOCK: Final = (BlockingIOError, InterruptedError, ssl.SSLWantWriteError)


def peer_of(address: object) -> str:
    """Return the host of a peer's address, as `accept` gives it; empty where it has none."""
    return str(address[0]) if isinstance(address, tuple) else ""


class Watcher(Protocol):
    """What a line needs of its pump."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop."""
        ...

    def watch(self, descriptor: int, mask: int) -> None:
        """Wait for other events on a descriptor from now on."""
        ...

    def drop(self, descriptor: int) -> None:
        """Watch it no more; it is about to be closed."""
        ...


class Line(asyncio.Transport):
    """One client's plain TCP socket."""

    __slots__ = (
        "_descriptor",
        "_filler",
        "_is_closing",
        "_is_eof_wanted",
        "_is_full",
        "_mask",
        "_peer",
        "_protocol",
        "_pump",
        "_queue",
        "_queued",
        "_receive",
        "_send",
        "_socket",
    )

    _context: ssl.SSLContext | None = None
    bytes_at_once = 4 * 1024 * 1024

    def __init__(self, pump: Watcher, connected: socket.socket, peer: object) -> None:
        """Take an accepted socket that does not block; `start` begins."""
        self._pump = pump
        self._socket = connected
        self._peer = peer
        self._descriptor = connected.fileno()
        self._receive: Callable[[int], bytes] = connected.recv
        self._send: Callable[[bytes | bytearray | memoryview], int] = connected.send
        self._protocol: asyncio.Protocol
        self._mask = EPOLLIN
        self._queue: deque[memoryview] | None = None
        self._queued = 0
        self._filler: Callable[[], None] | None = None
        self._is_full = False
        self._is_closing = False
        self._is_eof_wanted = False

    @property
    def peer(self) -> str:
        """Return the client's address, without port."""
        return peer_of(self._peer)

    @property
    def descriptor(self) -> int:
        """Return the socket's descriptor; -1 once the line is lost."""
        return self._descriptor

    def start(self, protocol: asyncio.Protocol) -> None:
        """Give the line its protocol, which is told at once."""
        self._protocol = protocol
        protocol.connection_made(self)

    # -- events ----------------------------------------------------------------------------------

    def on_events(self, events: int) -> None:
        """Do what the socket is ready for."""
        if events & EPOLLIN:
            self._read()
        elif not events & EPOLLOUT:
            self._lose(None)
        if events & EPOLLOUT and self._descriptor >= 0:
            self._flush()

    def _read(self) -> None:
        try:
            received = self._receive(READ_BYTES)
        except _NOTHING_YET:
            return
        except ssl.SSLEOFError:
            received = b""
        except OSError as error:
            self._lose(error)
            return
        if received:
            self._protocol.data_received(received)
        else:
            self._end_input()

    def _end_input(self) -> None:
        if self._protocol.eof_received():
            self._watch(self._mask & ~EPOLLIN)
        else:
            self.close()

    def _watch(self, mask: int) -> None:
        if mask != self._mask and self._descriptor >= 0:
            self._mask = mask
            self._pump.watch(self._descriptor, mask)

    # -- writing ---------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send now what the kernel takes, and the rest when it takes more; nothing once lost."""
        if self._queue:
            self._keep(memoryview(data))
            return
        try:
            taken = self._send(data)
        except _WOULD_BLOCK:
            taken = 0
        except OSError as error:
            self._lose(error)
            return
        if taken < len(data):
            self._keep(memoryview(data)[taken:])

    def _keep(self, rest: memoryview) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(rest)
        self._queued += len(rest)
        self._watch(self._mask | EPOLLOUT)
        if self._queued > HIGH_WATER and not self._is_full:
            self._is_full = True
            self._protocol.pause_writing()

    def _flush(self) -> None:
        if self._filler is not None and not self._queue:
            self._filler()
            return
        try:
            self._send_queue()
        except _WOULD_BLOCK:
            return
        except OSError as error:
            self._lose(error)
            return
        finally:
            if self._is_full and self._queued <= LOW_WATER and self._descriptor >= 0:
                self._is_full = False
                self._protocol.resume_writing()
        if not self._queued:
            self._flushed_all()

    def _send_queue(self) -> None:
        queue = self._queue
        while queue:
            taken = self._send(queue[0])
            self._queued -= taken
            if taken == len(queue[0]):
                queue.popleft()
            else:
                queue[0] = queue[0][taken:]

    def _flushed_all(self) -> None:
        self._queue = None
        if self._filler is not None:
            self._filler()
            return
        self._watch(self._mask & ~EPOLLOUT)
        if self._is_closing:
            self._lose(None)
        elif self._is_eof_wanted:
            self._shut_down()

    # -- files -----------------------------------------------------------------------------------

    def send_now(self, data: bytes) -> int:
        """Send what the kernel takes of `data`, which file bytes follow.

        Raises:
            BlockingIOError: it takes nothing now.
            OSError: the client is gone.
        """
        return self._socket.send(data, _MORE)

    def send_file_now(self, descriptor: int, offset: int, count: int) -> int:
        """Send what the kernel takes of a file's range; return 0 where the file has ended.

        Raises:
            BlockingIOError: it takes nothing now.
            OSError: the client is gone.
        """
        return os.sendfile(self._descriptor, descriptor, offset, count)

    def when_writable(self, filler: Callable[[], None] | None) -> None:
        """Call `filler` whenever the client takes more and nothing is queued, until told None."""
        self._filler = filler
        if filler is not None:
            self._watch(self._mask | EPOLLOUT)
        elif not self._queued:
            self._watch(self._mask & ~EPOLLOUT)

    # -- what asyncio's transports have ------------------------------------------------------------

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait for the client to read."""
        return self._queued

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 (asyncio's)
        """Return the socket, the peer's address or the TLS context."""
        known = {"socket": self._socket, "peername": self._peer, "sslcontext": self._context}
        found = known.get(name)
        return default if found is None else found

    def pause_reading(self) -> None:
        """Leave what the client sends in the kernel."""
        self._watch(self._mask & ~EPOLLIN)

    def resume_reading(self) -> None:
        """Read again."""
        if not self._is_closing:
            self._watch(self._mask | EPOLLIN)

    def can_write_eof(self) -> bool:
        """Return True: TCP can end one direction alone."""
        return True

    def write_eof(self) -> None:
        """End our direction once all has left."""
        self._is_eof_wanted = True
        if not self._queued:
            self._shut_down()

    def _shut_down(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._lose(error)

    def is_closing(self) -> bool:
        """Return whether the end has begun."""
        return self._is_closing

    def close(self) -> None:
        """Read no more, and end once all has left."""
        if self._is_closing:
            return
        self._is_closing = True
        self._watch(self._mask & ~EPOLLIN)
        if not self._queued:
            self._lose(None)

    def abort(self) -> None:
        """End now; what has not left is lost."""
        self._lose(None)

    def _lose(self, error: OSError | None) -> None:
        if self._descriptor < 0:
            return
        self._is_closing = True
        self._pump.drop(self._descriptor)
        self._descriptor = -1
        self._send = len  # takes all, and gives it to nobody
        self._queue = None
        self._queued = 0
        self._filler = None
        self._pump.loop.call_soon(self._end, error)

    def _end(self, error: OSError | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._socket.close()


class TlsLine(Line):
    """The same over TLS, after the handshake."""

    __slots__ = ("_context",)

    bytes_at_once = len(_SCRATCH)

    _socket: ssl.SSLSocket

    def __init__(self, pump: Watcher, connected: ssl.SSLSocket, peer: object) -> None:
        """Take a socket that has shaken hands; `start` begins."""
        super().__init__(pump, connected, peer)
        self._context = connected.context
        # What SSLSocket's own methods call: two Python frames less for each answer, a twentieth of
        # its cost. It raises where the client leaves without goodbye (see `on_events`).
        inner = getattr(connected, "_sslobj", None) or connected
        self._receive = inner.read
        self._send = inner.write

    def send_now(self, data: bytes) -> int:
        """Send what OpenSSL takes of `data` (see `Line.send_now`)."""
        try:
            return self._send(data)
        except ssl.SSLWantWriteError as error:
            raise BlockingIOError from error

    def send_file_now(self, descriptor: int, offset: int, count: int) -> int:
        """Send what OpenSSL takes of a file's range (see `Line.send_file_now`).

        A record that the kernel did not take is offered again from the file, as OpenSSL wants it.
        """
        read = os.preadv(descriptor, [_SCRATCH[: min(count, len(_SCRATCH))]], offset)
        sent = 0
        try:
            while sent < read:
                sent += self._send(_SCRATCH[sent:read])
        except ssl.SSLWantWriteError as error:
            if not sent:
                raise BlockingIOError from error
        return sent

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send now what OpenSSL and the kernel take: a record at a time."""
        if self._queue:
            self._keep(memoryview(data))
            return
        taken = 0
        try:
            taken = self._send(data)
            while taken < len(data):
                taken += self._send(memoryview(data)[taken:])
        except _WOULD_BLOCK:
            self._keep(memoryview(data)[taken:])
        except OSError as error:
            self._lose(error)

    def can_write_eof(self) -> bool:
        """Return False: TLS closes both directions."""
        return False

    def _end(self, error: OSError | None) -> None:
        if error is None:
            self._say_goodbye()
        super()._end(error)

    def _say_goodbye(self) -> None:
        """Send close_notify; what the client answers is not waited for."""
        with contextlib.suppress(OSError, ValueError):
            self._socket.unwrap()


class Handshake:
    """A TLS client before it is one: shakes hands within a time, then gives way to its line."""

    __slots__ = ("_address", "_begin", "_descriptor", "_mask", "_patience", "_pump", "_socket")

    def __init__(
        self,
        pump: Watcher,
        connected: ssl.SSLSocket,
        address: object,
        begin: Callable[[TlsLine], None],
        timeout: float,
    ) -> None:
        """Take a wrapped socket; `begin` gets the line once it may be used."""
        self._pump = pump
        self._socket = connected
        self._address = address
        self._descriptor = connected.fileno()
        self._begin = begin
        self._mask = EPOLLIN
        self._patience = pump.loop.call_later(timeout, self.abort)

    @property
    def peer(self) -> str:
        """Return the client's address, without port."""
        return peer_of(self._address)

    def on_events(self, events: int) -> None:
        """Go on shaking hands."""
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self._watch(EPOLLIN)
        except (ssl.SSLWantWriteError, BlockingIOError):
            self._watch(EPOLLOUT)
        except (OSError, ValueError):
            self.abort()
        else:
            self._patience.cancel()
            self._watch(EPOLLIN)
            line = TlsLine(self._pump, self._socket, self._address)
            self._begin(line)
            line.on_events(EPOLLIN)

    def _watch(self, mask: int) -> None:
        if mask != self._mask:
            self._mask = mask
            self._pump.watch(self._descriptor, mask)

    def abort(self) -> None:
        """End it."""
        self._patience.cancel()
        if self._descriptor >= 0:
            self._pump.drop(self._descriptor)
            self._descriptor = -1
            self._socket.close()
