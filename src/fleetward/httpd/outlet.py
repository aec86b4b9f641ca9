"""The bytes that leave one connection: through the transport, or file ranges by the kernel.

Small bodies go through the transport with their head in one write. Long ones go from the file
(`httpd.sending`) into the line itself, or into a duplicate of the socket where asyncio owns it;
its TLS gets them in pieces.
"""

import asyncio
import os
from typing import Final

from fleetward.httpd.counters import ServerCounters
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.lines import Line
from fleetward.httpd.message import FileBody
from fleetward.httpd.sending import DuplicateSocket, FileSender

_PIECE: Final = 256 * 1024

_APART_BYTES: Final = 16 * 1024
"""A longer body is not copied behind its head: clients that read it slowly then share one copy, as
many as they are, in place of one each (a thousand connections and one big document)."""


class Outlet:
    """Writes for one connection.

    Attributes:
        can_write: False while the client has more to read than the transport likes to hold.
        written: bytes given to the transport so far.
    """

    __slots__ = (
        "_counters",
        "_drained",
        "_duplicate",
        "_limits",
        "_loop",
        "_mark_sent",
        "_mark_time",
        "_sender",
        "_transport",
        "can_write",
        "written",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        limits: ServerLimits,
        counters: ServerCounters,
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._limits = limits
        self._counters = counters
        self._sender: FileSender | None = None
        self._duplicate: DuplicateSocket | None = None
        self._drained: asyncio.Future[None] | None = None
        self._mark_sent = 0
        self._mark_time = loop.time()
        self.written = 0
        self.can_write = True

    def write(self, pieces: list[bytes]) -> None:
        """Give `pieces` to the transport and empty the list."""
        if not pieces:
            return
        apart = pieces.pop() if len(pieces) > 1 and len(pieces[-1]) > _APART_BYTES else b""
        for data in (pieces[0] if len(pieces) == 1 else b"".join(pieces), apart):
            if data:
                self.written += len(data)
                self._transport.write(data)
        pieces.clear()

    def pause(self) -> None:
        """Note that the transport holds enough (asyncio's `pause_writing`)."""
        self.can_write = False

    def resume(self) -> None:
        """Note that it has room again."""
        self.can_write = True
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    async def drained(self) -> None:
        """Return once the transport has room."""
        if not self.can_write:
            self._drained = self._loop.create_future()
            await self._drained

    async def send_file(self, head: bytes, body: FileBody) -> None:
        """Send `head` and then the body, as far as it has come, until all of it is sent.

        Raises:
            OSError: the client is gone.
            EOFError: the file ended before its length.
            NetworkError: a growing file will not be whole.
        """
        at, end = body.offset, body.offset + body.length
        while at < end or head:
            upto = end
            if body.growth is not None:
                await body.growth.beyond(at)
                upto = min(end, body.growth.available)
            await self._send_range(head, body.descriptor, at, upto - at)
            self._counters.delivered_bytes += upto - at
            head = b""
            at = upto

    async def _send_range(self, head: bytes, descriptor: int, offset: int, length: int) -> None:
        transport = self._transport
        if isinstance(transport, Line):
            if transport.is_closing():
                raise ConnectionAbortedError("the client is gone")
            self._sender = self._sender or FileSender(self._loop, transport)
            is_free = not transport.get_write_buffer_size()
            await self._sender.send(head, descriptor, offset, length, is_free=is_free)
        elif transport.get_extra_info("sslcontext") is None:
            await self._empty()
            if self._sender is None:
                owned = transport.get_extra_info("socket").fileno()
                self._duplicate = DuplicateSocket(self._loop, owned)
                self._sender = FileSender(self._loop, self._duplicate)
            await self._sender.send(head, descriptor, offset, length)
        else:
            await self._send_pieces(head, descriptor, offset, length)

    async def _send_pieces(self, head: bytes, descriptor: int, offset: int, length: int) -> None:
        self.write([head] if head else [])
        end = offset + length
        while offset < end:
            piece = os.pread(descriptor, min(_PIECE, end - offset), offset)
            if not piece:
                raise EOFError("a file was cut while it was sent")
            offset += len(piece)
            self.write([piece])
            await self.drained()

    async def _empty(self) -> None:
        """Return once the transport holds nothing, so that the socket is ours to write to."""
        if self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(high=0)
            await self.drained()
            self._transport.set_write_buffer_limits()

    def is_stalled(self, now: float) -> bool:
        """Return whether the client has read too little for too long; `now` is loop time."""
        pending = self._transport.get_write_buffer_size()
        sender = self._sender
        if not pending and (sender is None or not sender.waiting):
            self._mark_time = now
            return False
        sent = self.written - pending + (sender.sent if sender is not None else 0)
        if sent - self._mark_sent >= self._limits.min_stall_bytes:
            self._mark_sent, self._mark_time = sent, now
            return False
        return now - self._mark_time > self._limits.stall_timeout.total_seconds()

    def close(self) -> None:
        """Give back what the outlet opened; nothing may be under way."""
        if self._duplicate is not None:
            self._duplicate.close()
