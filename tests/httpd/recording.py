"""A connection on a transport that only records: no sockets, so thousands of them are cheap."""

import asyncio
from collections.abc import Sequence
from typing import Any

from fleetward.httpd.connection import Connection
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.server import Server
from httpd.handlers import Echo

LIMITS = ServerLimits(max_head_bytes=300, max_target_bytes=64, requests_per_turn=2)


class RecordingTransport(asyncio.Transport):
    """Takes every byte at once, and remembers it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closed:
            self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 (asyncio's)
        return default

    def is_closing(self) -> bool:
        return self.is_closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_closed = True

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def _talk(pieces: Sequence[bytes], limits: ServerLimits) -> tuple[bytes, bool]:
    server = Server(Echo(), limits=limits)
    server._loop = asyncio.get_running_loop()
    server._date = (server._loop.time() + 1e6, b"")
    transport = RecordingTransport()
    connection = Connection(server, server._loop)
    connection.connection_made(transport)
    for piece in pieces:
        connection.data_received(piece)
    for _ in range(60):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    await asyncio.sleep(0)
    return transport.written, transport.is_closed


def talk(pieces: Sequence[bytes], limits: ServerLimits = LIMITS) -> tuple[bytes, bool]:
    """Send the pieces, and return what came back and whether the server closed."""
    return asyncio.run(_talk(pieces, limits))
