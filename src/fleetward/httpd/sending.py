"""Sending file ranges by the kernel (`sendfile`), beside a transport that owns the socket.

The transport's own descriptor may not be given to `add_writer`, so a duplicate is used; bytes go
through it only while the transport has none of its own to send. A growing file (`FileBody.growth`)
is sent as far as it has come, and further once there is more.
"""

import asyncio
import os
import socket
from typing import Final

_MORE_FOLLOWS: Final[int] = getattr(socket, "MSG_MORE", 0)
"""Keeps the head from leaving in a packet of its own; macOS has no such flag."""

_TURN_BYTES: Final = 4 * 1024 * 1024
"""What one client gets before the others have their turn."""


class SocketSender:
    """Sends on a duplicate of a plain socket.

    Attributes:
        sent: bytes that the kernel took so far; the watch for stalled readers compares it.
        waiting: whether the client's side is what keeps the next byte back.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        self._loop = loop
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._done: asyncio.Future[None] | None = None
        self._head = b""
        self._file = -1
        self._offset = 0
        self._left = 0
        self.sent = 0
        self.waiting = False

    async def send(self, head: bytes, descriptor: int, offset: int, length: int) -> None:
        """Send `head`, then `length` bytes of a file from `offset` on.

        Raises:
            OSError: the client is gone.
            EOFError: the file ended before that.
        """
        self._head, self._file, self._offset, self._left = head, descriptor, offset, length
        if self._step():
            return
        self.waiting = True
        self._done = self._loop.create_future()
        self._loop.add_writer(self._socket.fileno(), self._on_writable)
        try:
            await self._done
        finally:
            self.waiting = False
            self._loop.remove_writer(self._socket.fileno())

    def _on_writable(self) -> None:
        if self._done is None or self._done.done():
            return
        try:
            if self._step():
                self._done.set_result(None)
        except (OSError, EOFError) as error:
            self._done.set_exception(error)

    def _step(self) -> bool:
        """Send what the kernel takes now; return whether that was all."""
        budget = _TURN_BYTES
        try:
            while self._head:
                taken = self._socket.send(self._head, _MORE_FOLLOWS if self._left else 0)
                self._head = self._head[taken:]
                self.sent += taken
            while self._left and budget > 0:
                taken = os.sendfile(
                    self._socket.fileno(), self._file, self._offset, min(self._left, budget)
                )
                if taken == 0:
                    raise EOFError("a file was cut while it was sent")
                self._offset += taken
                self._left -= taken
                self.sent += taken
                budget -= taken
        except (BlockingIOError, InterruptedError):
            return False
        return not self._left

    def close(self) -> None:
        """Give the duplicate back; no `send` may be running."""
        self._socket.close()
