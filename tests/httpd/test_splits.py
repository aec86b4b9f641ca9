"""However a client's bytes are cut into pieces, the same bytes come back.

The connection runs on a transport that only records, so that thousands of splits are cheap.
"""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

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


async def _talk(pieces: Sequence[bytes]) -> tuple[bytes, bool]:
    server = Server(Echo(), limits=LIMITS)
    server._loop = asyncio.get_running_loop()
    server._date = (server._loop.time(), b"")
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


def talk(pieces: Sequence[bytes]) -> tuple[bytes, bool]:
    return asyncio.run(_talk(pieces))


REQUESTS = st.sampled_from(
    [
        b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 100 + b"\r\n\r\n",
        b"\r\nGET /later HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\nhello",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /upload HTTP/1.1\r\nHost: a\r\nExpect: nonsense\r\nContent-Length: 2\r\n\r\nhe",
        b"GET /close HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /a HTTP/1.0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET /" + b"a" * 90 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 300 + b"\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /../x HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
)
STREAMS = st.one_of(
    st.lists(REQUESTS, max_size=6).map(b"".join),
    st.tuples(st.lists(REQUESTS, max_size=3).map(b"".join), st.binary(max_size=400)).map(b"".join),
    st.lists(
        st.sampled_from(
            [
                b"\r\n",
                b"\n",
                b"\r",
                b" ",
                b":",
                b"\0",
                b"GET /",
                b"Host: a",
                b" HTTP/1.1",
                b"a" * 70,
            ]
        ),
        max_size=20,
    ).map(b"".join),
)


@given(STREAMS, st.lists(st.integers(0, 700), max_size=12))
@example(b"GET /" + b"a" * 95 + b"\n HTTP/1.1\r\nHost: a\r\n\r\n", [80, 98, 101])
@example(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 9, list(range(1, 200, 7)))
@settings(max_examples=300)
def test_any_split_of_the_bytes_gives_the_same_answer(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(edges) if a < b]
    whole = talk([stream] if stream else [])
    assert talk(pieces) == whole
    assert talk([bytes([byte]) for byte in stream]) == whole
