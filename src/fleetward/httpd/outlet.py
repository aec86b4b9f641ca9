"""The bytes that leave one connection: through the transport, or file ranges by the kernel.

Small bodies go through the transport with their head in one write. Long ones go from the file by
`sendfile` on a duplicate of the socket (httpd.sending), or in pieces where TLS needs the bytes.
"""

import asyncio
import os
from typing import Final

from fleetward.httpd.counters import ServerCounters
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.message import FileBody
from fleetward.httpd.sending import SocketSender

_PIECE: Final = 256 * 1024


class Outlet:
    """Writes for one connection.

    Attributes:
        can_write: False while the client has more to read than the transport likes to hold.
    """

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
        self._is_plain = transport.get_extra_info("sslcontext") is None
        self._sender: SocketSender | None = None
        self._drained: asyncio.Future[None] | None = None
        self._written = 0
        self._mark = (0, loop.time())
        self.can_write = True

    def write(self, pieces: list[bytes]) -> None:
        """Give `pieces` to the transport and empty the list."""
        if pieces:
            joined = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._written += len(joined)
            self._transport.write(joined)

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
        if self._is_plain:
            await self._empty()
            if self._sender is None:
                descriptor_of_socket = self._transport.get_extra_info("socket").fileno()
                self._sender = SocketSender(self._loop, descriptor_of_socket)
            await self._sender.send(head, descriptor, offset, length)
            return
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
        sent, is_waiting = self._written - pending, pending > 0
        if self._sender is not None:
            sent += self._sender.sent
            is_waiting = is_waiting or self._sender.waiting
        mark_sent, mark_time = self._mark
        if not is_waiting or sent - mark_sent >= self._limits.min_stall_bytes:
            self._mark = (sent, now)
            return False
        return now - mark_time > self._limits.stall_timeout.total_seconds()

    def close(self) -> None:
        """Give back what the outlet opened; nothing may be under way."""
        if self._sender is not None:
            self._sender.close()
