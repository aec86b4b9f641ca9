"""A blocking HTTP client of bare sockets, which sends exactly the bytes that a test says."""

import socket
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

DEADLINE = 10.0
"""Seconds; a test that waits longer fails instead of hanging."""


class CutError(EOFError):
    """The connection ended before the answer did.

    Attributes:
        got: the bytes of the answer (of its body, where it had begun) that came.
    """

    def __init__(self, got: bytes) -> None:
        super().__init__(f"{len(got)} bytes came")
        self.got = got


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes


class Raw:
    """One connection."""

    def __init__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
        source: str = "",
    ) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        plain = socket.socket(socket.AF_INET6 if ":" in parts.hostname else socket.AF_INET)
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(DEADLINE)
        if source:
            plain.bind((source, 0))
        try:
            plain.connect((parts.hostname, parts.port or 80))
            self.socket = tls.wrap_socket(plain, server_hostname=parts.hostname) if tls else plain
        except OSError:
            plain.close()
            raise
        self._left = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, raw: bytes) -> None:
        self.socket.sendall(raw)

    def get(self, path: str, *headers: str, method: str = "GET") -> Answer:
        lines = "".join(f"{header}\r\n" for header in headers)
        self.send(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
        return self.answer(has_body=method != "HEAD")

    def _more(self) -> None:
        piece = self.socket.recv(1 << 20)
        if not piece:
            raise CutError(self._left)
        self._left += piece

    def answer(self, *, has_body: bool = True) -> Answer:
        """Read one answer; CutError where the connection ends before it."""
        while b"\r\n\r\n" not in self._left:
            self._more()
        head, _, rest = self._left.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        status = int(lines[0].split(" ")[1])
        length = int(headers.get("content-length", "0")) if has_body and status != 304 else 0
        chunks = [rest]
        have = len(rest)
        while have < length:
            self._left = b""
            try:
                self._more()
            except CutError as error:
                raise CutError(b"".join(chunks)) from error
            chunks.append(self._left)
            have += len(self._left)
        body = b"".join(chunks)
        self._left = body[length:]
        return Answer(status, headers, body[:length], head)

    def rest(self) -> bytes:
        """Read until the server closes."""
        try:
            while True:
                self._more()
        except CutError:
            return self._left


def send_all(url: str, raw: bytes) -> bytes:
    """Send `raw`, and return everything that comes until the server closes."""
    with Raw(url) as connection:
        connection.send(raw)
        return connection.rest()


def get(url: str, path: str, *headers: str, method: str = "GET") -> Answer:
    """Ask once, on a connection of its own."""
    with Raw(url) as connection:
        return connection.get(path, *headers, method=method)
