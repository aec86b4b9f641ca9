"""An upstream that a test writes the script of: good, slow, lying, or gone.

A script gets what was asked and where to send; when it returns True the connection is kept for
the next request, else it is closed. Events let a test decide when a script goes on, so that
nothing sleeps.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from fleetward.httpd.background import LoopThread, Ready


@dataclass(frozen=True)
class Asked:
    """A request as the upstream saw it."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def start(self) -> int:
        """Where a Range header wants to begin; 0 without one."""
        wanted = self.headers.get("range", "bytes=0-")
        return int(wanted.removeprefix("bytes=").split("-")[0])


class Out:
    """Where a script sends."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    def cut(self) -> None:
        self.writer.transport.abort()


Script = Callable[[Asked, Out], Awaitable[bool | None]]


class Upstream(LoopThread):
    """A scripted HTTP server in a thread; `asked` lists the requests in their order."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self._events: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        super().__init__(self._serve)

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def event(self, name: str) -> asyncio.Event:
        """The event that a script awaits; `go` sets it."""
        return self._events.setdefault(name, asyncio.Event())

    def go(self, name: str) -> None:
        """Let the scripts that await `name` go on; called from the test's thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(lambda: self.event(name).set())

    async def _serve(self, ready: Ready, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        ready(f"http://{host}:{port}")
        await stop.wait()
        server.close()
        for _ in range(5):
            await asyncio.sleep(0)  # what was accepted last gets its task
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._client(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                pass
            writer.close()
            await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip().split("\r\n")
        method, path, _ = line.split(" ")
        headers = dict(one.lower().split(": ", 1) for one in lines)
        asked = Asked(method, path, headers)
        self.asked.append(asked)
        return bool(await self.script(asked, Out(writer)))


def head(length: int | None, *headers: str, status: str = "200 OK") -> bytes:
    lines = list(headers)
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


NOT_FOUND = head(0, status="404 Not Found")


def part_head(content: bytes, start: int) -> bytes:
    """The head for `content` from `start`: 200 from the beginning, else 206."""
    if not start:
        return head(len(content))
    told = f"Content-Range: bytes {start}-{len(content) - 1}/{len(content)}"
    return head(len(content) - start, told, status="206 Partial Content")


def serving(files: dict[str, bytes]) -> Script:
    """A script that serves `files` as they should be: Range, ETag, 304, 404, HEAD."""

    async def script(asked: Asked, out: Out) -> bool:
        content = files.get(asked.path)
        if content is None:
            await out.send(NOT_FOUND)
            return True
        etag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        if asked.headers.get("if-none-match") == etag:
            await out.send(head(None, status="304 Not Modified"))
        elif asked.method == "HEAD":
            await out.send(head(len(content)))
        elif asked.start:
            await out.send(part_head(content, asked.start), content[asked.start :])
        else:
            await out.send(head(len(content), f"ETag: {etag}"), content)
        return True

    return script
