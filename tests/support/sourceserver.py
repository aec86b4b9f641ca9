"""A source on loopback that serves what a test says, byte by byte where the test wants it."""

import socketserver
import ssl
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

from fleetward.core.digest import sha256_of

Script = Callable[["Exchange"], None]


@dataclass
class Exchange:
    """A request, and the way to answer it with any bytes."""

    path: str
    headers: dict[str, str]
    content: bytes | None
    send: Callable[[bytes], None]
    stays: bool = False
    """Whether the connection is kept after the answer that a script gave."""
    method: str = "GET"
    body: bytes = b""

    def answer(
        self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> None:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        named = dict(headers or {})
        if status != HTTPStatus.NOT_MODIFIED:
            named.setdefault("Content-Length", str(len(body)))
        lines += [f"{name}: {value}" for name, value in named.items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def usual(self) -> None:
        """Answer as a dumb file server does: ETag, Range, 404."""
        if self.content is None:
            self.answer(404)
            return
        etag = f'"{sha256_of(self.content)[:16]}"'
        if self.headers.get("if-none-match") == etag:
            self.answer(304, {"ETag": etag})
        elif wanted := self.headers.get("range"):
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            place = f"bytes {begin}-{len(self.content) - 1}/{len(self.content)}"
            self.answer(206, {"ETag": etag, "Content-Range": place}, self.content[begin:])
        else:
            self.answer(200, {"ETag": etag}, self.content)


def gives(body: bytes, status: int = 200) -> Script:
    """Return a script that answers with `body`."""
    return lambda exchange: exchange.answer(status, {}, body)


class SourceServer:
    """What the source serves, and what it was asked.

    Attributes:
        files: what it serves, by path.
        scripts: what it does instead, by path.
        asked: the paths that it was asked for, in order.
        received: bytes of requests.
        sent: bytes of answers.
        connections: how many were opened.
    """

    def __init__(self, url: str, files: Mapping[str, bytes]) -> None:
        self.url = url
        self.files = files
        self.scripts: dict[str, Script] = {}
        self.asked: list[str] = []
        self.received = 0
        self.sent = 0
        self.connections = 0


class _Handler(socketserver.StreamRequestHandler):
    timeout = 20
    server: "_Server"

    def handle(self) -> None:
        self.server.source.connections += 1
        try:
            while self._serve_one():
                pass
        except (OSError, ValueError):
            return

    def _serve_one(self) -> bool:
        source = self.server.source
        head = self._read_head()
        if not head:
            return False
        path = head[0].split(" ")[1].lstrip("/")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:])
        }
        source.asked.append(path)
        exchange = Exchange(path, headers, source.files.get(path), self._send)
        exchange.method = head[0].split(" ")[0]
        exchange.body = self.rfile.read(int(headers.get("content-length", 0)))
        script = source.scripts.get(path)
        if script is None:
            exchange.usual()
            return True
        script(exchange)
        return exchange.stays

    def _read_head(self) -> list[str]:
        lines: list[str] = []
        while line := self.rfile.readline(65536):
            self.server.source.received += len(line)
            if line == b"\r\n":
                return lines
            lines.append(line.decode().rstrip("\r\n"))
        return []

    def _send(self, content: bytes) -> None:
        self.server.source.sent += len(content)
        self.wfile.write(content)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    source: SourceServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay quiet where a client has gone."""


@contextmanager
def source_server(
    files: Mapping[str, bytes], tls: ssl.SSLContext | None = None
) -> Generator[SourceServer]:
    """Serve `files`, which the test may change, on a free port of loopback."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        scheme = "https" if tls else "http"
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.source = SourceServer(f"{scheme}://127.0.0.1:{server.server_address[1]}", files)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server.source
        finally:
            server.shutdown()
            thread.join()
