"""An upstream for the herd: one blob, at a rate, with a stall; counts what it sends.

    python -m bench.slowupstream PORT BYTES [RATE] [STALL_AT STALL_SECONDS]

`GET /count` answers the body bytes given to sockets so far and the requests for the blob;
`GET /reset` sets both to 0. Every other path is the blob. Range is understood.
"""

import asyncio
import hashlib
import re
import sys
import time
from dataclasses import dataclass

PIECE = 64 * 1024
TICK = 0.005


@dataclass
class Sent:
    """What was sent since the last reset."""

    bytes: int = 0
    requests: int = 0


def content_of(length: int) -> bytes:
    """Return the blob: repeatable, and not compressible by a guess."""
    block = b"".join(hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(32 * 1024))
    return (block * (length // len(block) + 1))[:length]


class Upstream:
    """The upstream."""

    def __init__(self, length: int, rate: float, stall: tuple[int, float] | None) -> None:
        self.content = content_of(length)
        self.rate = rate
        self.stall = stall
        self.sent = Sent()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await self._answer(head, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        method, path, _ = head.split(b" ", 2)
        if path.startswith((b"/count", b"/reset")):
            text = f"{self.sent.bytes} {self.sent.requests}".encode()
            if path.startswith(b"/reset"):
                self.sent = Sent()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
            await writer.drain()
        elif path.startswith(b"/blobs/"):
            await self._blob(head, method, writer)
        else:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()

    async def _blob(self, head: bytes, method: bytes, writer: asyncio.StreamWriter) -> None:
        self.sent.requests += 1
        wanted = re.search(rb"(?i)range: *bytes=(\d+)-", head)
        start, total = int(wanted[1]) if wanted else 0, len(self.content)
        status = b"206 Partial Content" if wanted else b"200 OK"
        more = b"Content-Range: bytes %d-%d/%d\r\n" % (start, total - 1, total) if wanted else b""
        writer.write(
            b"HTTP/1.1 %s\r\nContent-Length: %d\r\nAccept-Ranges: bytes\r\n"
            b"Cache-Control: public, max-age=31536000, immutable\r\n%s\r\n"
            % (status, total - start, more)
        )
        if method != b"HEAD":
            await self._send(start, writer)

    async def _send(self, start: int, writer: asyncio.StreamWriter) -> None:
        began, at, stalled = time.monotonic(), start, 0.0
        while at < len(self.content):
            if self.stall and at >= self.stall[0] and not stalled:
                stalled = self.stall[1]
                await asyncio.sleep(stalled)
            piece = self.content[at : at + PIECE]
            writer.write(piece)
            await writer.drain()
            at += len(piece)
            self.sent.bytes += len(piece)
            if self.rate:
                due = began + stalled + (at - start) / self.rate
                ahead = due - time.monotonic()
                if ahead > TICK:
                    await asyncio.sleep(ahead)


async def main() -> None:
    """Serve until killed."""
    port, length = int(sys.argv[1]), int(sys.argv[2])
    rate = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    stall = (int(sys.argv[4]), float(sys.argv[5])) if len(sys.argv) > 5 else None
    server = await asyncio.start_server(
        Upstream(length, rate, stall).serve, "127.0.0.1", port, backlog=1024
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
