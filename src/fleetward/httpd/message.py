"""Requests and responses as values, and the handler that turns one into the other.

A `Response` is immutable and encodes its headers once, so a handler may keep it and give it to
every client (unless its body holds a descriptor, which belongs to one answer).
"""

import asyncio
import os
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_BREAKS = re.compile(r"[\r\n\0]")
_WITHOUT_LENGTH = frozenset({204, 304})


class RefusedRequestError(Exception):
    """A request that is answered with an error and whose connection is then closed.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """A whole, checked request.

    Attributes:
        method: upper case.
        path: see `httpd.target.Target`.
        query: not decoded.
        headers: by lower-case name; repeated ones joined by `, `.
        body: at most what the handler asked for; empty for most.
        peer: the client's address, without port.
        authority: see `httpd.target.Target`; set where the request is one to a proxy.
    """

    method: str
    path: str
    query: str
    headers: Mapping[bytes, bytes]
    body: bytes = b""
    peer: str = ""
    authority: str = ""


class Growth(Protocol):
    """A file that is still filling, as the one who sends from it sees it."""

    @property
    def available(self) -> int:
        """Return how many bytes from the file's start may be sent now."""
        ...

    async def beyond(self, offset: int) -> None:
        """Return once `available` is more than `offset`.

        Raises:
            NetworkError: it will never be; the connection must be cut.
        """
        ...


@dataclass(slots=True)
class FileBody:
    """Bytes of an open file; `close` is called once by whoever holds it last, usually the server.

    Attributes:
        descriptor: open for reading, owned by this body.
        offset: the first byte to send.
        length: how many.
        growth: set where the file is still filling.
    """

    descriptor: int
    offset: int
    length: int
    growth: Growth | None = None

    def close(self) -> None:
        """Give the descriptor back; harmless when called again."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


Body = bytes | FileBody


@dataclass(frozen=True, slots=True)
class Response:
    """An answer.

    Attributes:
        status: the HTTP status.
        headers: without Date, Connection and Content-Length.
        body: for HEAD, what GET would send; the server then only tells its length.
        close: end the connection after it.
        encoded: the headers as bytes, made once from the above.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: Body = b""
    close: bool = False
    encoded: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Encode the headers."""
        object.__setattr__(self, "encoded", encode_headers(self.headers) + self._framing())

    def _framing(self) -> bytes:
        if self.status in _WITHOUT_LENGTH:
            return b""
        length = len(self.body) if isinstance(self.body, bytes) else self.body.length
        return b"Content-Length: %d\r\n" % length

    @property
    def status_line(self) -> bytes:
        """Return the first line, with its line end."""
        return _STATUS_LINES[self.status]

    def discard(self) -> None:
        """Give back what the body holds, where the answer is never sent."""
        if isinstance(self.body, FileBody):
            self.body.close()


@dataclass(frozen=True, slots=True)
class Repeatable:
    """An answer that may be given again to the very same request bytes (see `httpd.repeats`).

    Attributes:
        response: with a body of bytes; else it is answered once, like any other.
        holds: returns whether the answer is still right; it must be quick, and is asked at most
            once in a turn of the event loop.
        on_repeat: called each time the answer is given again without the handler being asked.
    """

    response: Response
    holds: Callable[[], bool]
    on_repeat: Callable[[], None] | None = None


Answer = Response | Repeatable | Coroutine[Any, Any, Response] | asyncio.Future[Response]
"""What a handler may return.

A `Response` or `Repeatable` is sent at once. A coroutine runs in a task of its own. A future costs
a tenth of that, for the long poll of which thousands wait: it belongs to this one request, and is
cancelled if the client leaves (then `Future.cancelled()` tells its maker to forget it).
"""


class Handler(Protocol):
    """What answers requests; called in the event loop, so it must not block."""

    def max_body(self, method: str, path: str) -> int:
        """Return how many bytes of body this request may bring; 0 for none."""
        ...

    def answer(self, request: Request) -> Answer:
        """Return the answer, or a coroutine that will; it is cancelled if the client leaves."""
        ...


def encode_headers(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return header lines.

    Raises:
        ValueError: a name or value has a line end or NUL (response splitting).
    """
    lines = [f"{name}: {value}" for name, value in headers]
    if any(_BREAKS.search(line) for line in lines):
        raise ValueError(f"a header has a line end or NUL in it: {lines}")
    return "".join(line + "\r\n" for line in lines).encode("latin-1")


NOT_FOUND = Response(404)
METHOD_NOT_ALLOWED = Response(405, (("Allow", "GET, HEAD"),))
UNAVAILABLE = Response(503)
"""Over a limit, or no source: 503 always, never 403 or 429, which put freshclam to sleep."""
