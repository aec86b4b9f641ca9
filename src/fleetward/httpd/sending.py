"""Sending file ranges by the kernel (`sendfile`), or through OpenSSL, as the client reads.

The bytes go to a `Channel`: a line of our own (`httpd.lines`), or a duplicate of the socket that
one of asyncio's transports owns, whose own descriptor may not be given to `add_writer`. A growing
file (`FileBody.growth`) is sent as far as it has come, and further once there is more.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final, Protocol

_MORE_FOLLOWS: Final[int] = getattr(socket, "MSG_MORE", 0)
"""Keeps the head from leaving in a packet of its own; macOS has no such flag."""

_TURN_BYTES: Final = 4 * 1024 * 1024
"""What one client gets before the others have their turn."""


class Channel(Protocol):
    """Where file bytes go; `httpd.lines.Line` is one."""

    @property
    def bytes_at_once(self) -> int:
        """Return how many one call takes at most; less means that the client must read first."""
        ...

    def send_now(self, data: bytes) -> int:
        """Send what is taken of `data`; BlockingIOError where that is nothing."""
        ...

    def send_file_now(self, descriptor: int, offset: int, count: int) -> int:
        """Send what is taken of a file's range; 0 where the file has ended."""
        ...

    def when_writable(self, filler: Callable[[], None] | None) -> None:
        """Call `filler` whenever more may be taken, until told None."""
        ...


class DuplicateSocket:
    """A channel beside a transport that has nothing to send."""

    bytes_at_once = _TURN_BYTES

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        self._loop = loop
        self._socket = socket.socket(fileno=os.dup(descriptor))

    def send_now(self, data: bytes) -> int:
        """Send what the kernel takes of `data` (see `Channel`)."""
        return self._socket.send(data, _MORE_FOLLOWS)

    def send_file_now(self, descriptor: int, offset: int, count: int) -> int:
        """Send what the kernel takes of a file's range (see `Channel`)."""
        return os.sendfile(self._socket.fileno(), descriptor, offset, count)

    def when_writable(self, filler: Callable[[], None] | None) -> None:
        """Call `filler` whenever the kernel takes more, until told None."""
        if filler is None:
            self._loop.remove_writer(self._socket.fileno())
        else:
            self._loop.add_writer(self._socket.fileno(), filler)

    def close(self) -> None:
        """Give the duplicate back."""
        self._socket.close()


class FileSender:
    """Sends to one channel.

    Attributes:
        sent: bytes that were taken so far; the watch for stalled readers compares it.
        waiting: whether the client's side is what keeps the next byte back.
    """

    __slots__ = (
        "_channel",
        "_done",
        "_file",
        "_head",
        "_left",
        "_loop",
        "_offset",
        "sent",
        "waiting",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, channel: Channel) -> None:
        self._loop = loop
        self._channel = channel
        self._done: asyncio.Future[None] | None = None
        self._head = b""
        self._file = -1
        self._offset = 0
        self._left = 0
        self.sent = 0
        self.waiting = False

    async def send(
        self, head: bytes, descriptor: int, offset: int, length: int, *, is_free: bool = True
    ) -> None:
        """Send `head`, then `length` bytes of a file from `offset` on.

        Args:
            head: what goes before.
            descriptor: of the file.
            offset: the first byte.
            length: how many.
            is_free: False where the channel must first say that it takes something.

        Raises:
            OSError: the client is gone.
            EOFError: the file ended before that.
        """
        self._head, self._file, self._offset, self._left = head, descriptor, offset, length
        if is_free and self._step():
            return
        self.waiting = True
        self._done = self._loop.create_future()
        self._channel.when_writable(self._on_writable)
        try:
            await self._done
        finally:
            self.waiting = False
            self._channel.when_writable(None)

    def _on_writable(self) -> None:
        if self._done is None or self._done.done():
            return
        try:
            if self._step():
                self._done.set_result(None)
        except (OSError, EOFError) as error:
            self._done.set_exception(error)

    def _step(self) -> bool:
        """Send what is taken now; return whether that was all."""
        channel = self._channel
        try:
            while self._head:
                taken = channel.send_now(self._head)
                self._head = self._head[taken:]
                self.sent += taken
            return self._send_file(channel)
        except (BlockingIOError, InterruptedError):
            return False

    def _send_file(self, channel: Channel) -> bool:
        budget = _TURN_BYTES
        while (left := self._left) and budget > 0:
            asked = min(channel.bytes_at_once, left)
            taken = channel.send_file_now(self._file, self._offset, asked)
            if taken == 0:
                raise EOFError("a file was cut while it was sent")
            self._offset += taken
            self._left = left - taken
            self.sent += taken
            budget -= taken
            if taken < asked:
                break  # the client's buffer is full: the next call would only say so
        return not self._left
