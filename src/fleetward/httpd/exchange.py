"""One connection to an upstream: a request out, its response in, bounded in size and in time.

Refused (NetworkError): compressed bodies, a head over its limit, bytes that nobody asked for, a
body that ends before its length. Slow retrieval ends by `read_timeout` and by the minimum rate,
which counts only the time spent waiting for the upstream, never that of a slow consumer.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final, cast

import httptools

from fleetward.errors import NetworkError, SlowTransferError
from fleetward.httpd.limits import ClientLimits

_IDENTITY: Final = frozenset({b"", b"identity"})


@dataclass(slots=True)
class Traffic:
    """What went over the connections to one upstream (under TLS, if there is any).

    Attributes:
        requests: sent.
        sent_bytes: of requests.
        received_bytes: of responses, heads included.
    """

    requests: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """What an upstream answered, before the body.

    Attributes:
        status: the HTTP status; never 1xx.
        headers: by lower-case name; repeated ones joined by `, `.
        length: of the body where it is told; None where it ends with a chunk or the connection.
    """

    status: int
    headers: dict[bytes, bytes]
    length: int | None


class Exchange(asyncio.Protocol):
    """The protocol object of one upstream connection; one response at a time."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limits: ClientLimits, traffic: Traffic, name: str
    ) -> None:
        self._loop = loop
        self._traffic = traffic
        self._limits = limits
        self._name = name
        self._transport: asyncio.Transport | None = None
        self._wakened: asyncio.Future[None] | None = None
        self._error: NetworkError | None = None
        self._is_closed = False
        self._is_reading = True
        self.idle_since = 0.0
        self._renew(has_body=True)

    def _renew(self, *, has_body: bool) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._head: ResponseHead | None = None
        self._head_bytes = 0
        self._field_bytes = 0
        self._has_body = has_body
        self._is_complete = False
        self._is_kept = False
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._waited = 0.0
        self._taken = 0

    # -- what asyncio calls ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; also again, once TLS has begun."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the response."""
        self._traffic.received_bytes += len(data)
        if self._is_complete:
            self._fail("sent bytes that nobody asked for")
            return
        if self._head is None:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("wants another protocol")
        except httptools.HttpParserError as error:
            own = error.__context__
            self._fail(str(own) if isinstance(own, NetworkError) else f"broke HTTP: {error}")
        if self._head is None and self._head_bytes > self._limits.max_head_bytes:
            self._fail("sent an endless head")
        if self._held > self._limits.read_ahead_bytes:
            self._set_reading(is_reading=False)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end: of a body without a length, else a failure."""
        self._is_closed = True
        head = self._head
        ends_here = head is not None and head.length is None and exc is None
        if ends_here and head is not None and b"transfer-encoding" not in head.headers:
            self._is_complete = True
        if not self._is_complete:
            self._fail("ended the connection early")
        self._wake()

    # -- what httptools calls ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Refuse a response to nothing: it would be taken for the next one's answer."""
        if self._is_complete:
            raise NetworkError("sent bytes that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a head of any length may come in one read, so its fields are counted."""
        self._field_bytes += len(name) + len(value)
        if self._field_bytes > self._limits.max_head_bytes:
            raise NetworkError("sent an endless head")
        name = name.lower()
        known = self._headers.get(name)
        self._headers[name] = value if known is None else known + b", " + value

    def on_headers_complete(self) -> None:
        """Judge the head."""
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, {}
        if status < 200:
            return
        if headers.get(b"content-encoding", b"").lower() not in _IDENTITY:
            raise NetworkError("sent a compressed body")
        told = headers.get(b"content-length")
        self._head = ResponseHead(status, headers, int(told) if told is not None else None)
        self._is_complete = not self._has_body

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        if self._has_body:
            self._pieces.append(piece)
            self._held += len(piece)

    def on_message_complete(self) -> None:
        """Note the end of the response; a 1xx is none."""
        if self._head is not None and self._has_body:
            self._is_complete = True
            self._is_kept = self._parser.should_keep_alive()

    # -- what the client calls ---------------------------------------------------------------

    async def request(
        self, raw: bytes, *, has_body: bool = True, seconds: float | None = None
    ) -> ResponseHead:
        """Send a request and return the response's head.

        Args:
            raw: the whole request.
            has_body: False for HEAD and CONNECT, whose responses have none whatever they say.
            seconds: how long the head may take, in place of `head_timeout`.

        Raises:
            NetworkError: the upstream failed or broke a rule.
            SlowTransferError: no head within `head_timeout`.
        """
        self._renew(has_body=has_body)
        if self._error is None and self._is_closed:
            self._fail("ended the connection")
        if self._transport is not None:
            self._traffic.requests += 1
            self._traffic.sent_bytes += len(raw)
            self._transport.write(raw)
        if seconds is None:
            seconds = self._limits.head_timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                while self._head is None:
                    await self._wait()
        except TimeoutError as error:
            self.close()
            raise SlowTransferError(f"{self._name} did not answer in time") from error
        return self._head

    async def next_piece(self) -> bytes:
        """Return the next piece of the body; empty at its end.

        Raises:
            NetworkError: the upstream failed or broke a rule.
            SlowTransferError: `read_timeout`, or under the minimum rate.
        """
        while not self._pieces:
            if self._is_complete:
                return b""
            await self._wait_for_body()
        piece = self._pieces.popleft()
        self._held -= len(piece)
        self._taken += len(piece)
        if self._held <= self._limits.read_ahead_bytes // 2:
            self._set_reading(is_reading=True)
        return piece

    async def _wait_for_body(self) -> None:
        began = self._loop.time()
        try:
            async with asyncio.timeout(self._limits.read_timeout.total_seconds()):
                await self._wait()
        except TimeoutError as error:
            self.close()
            raise SlowTransferError(f"{self._name} stopped in the middle of a body") from error
        self._waited += self._loop.time() - began
        if self._waited < self._limits.rate_window.total_seconds():
            return
        if self._taken + self._held < self._limits.min_bytes_per_second * self._waited:
            self.close()
            raise SlowTransferError(f"{self._name} sends under the minimum rate")
        self._waited, self._taken = 0.0, 0

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._wakened = self._loop.create_future()
        await self._wakened

    def _wake(self) -> None:
        if self._wakened is not None and not self._wakened.done():
            self._wakened.set_result(None)

    def _fail(self, reason: str) -> None:
        if self._error is None:
            self._error = NetworkError(f"{self._name} {reason}")
        self._is_complete = False
        self.close()

    def _set_reading(self, *, is_reading: bool) -> None:
        if self._is_reading is is_reading or self._transport is None or self._is_closed:
            return
        self._is_reading = is_reading
        if is_reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    @property
    def transport(self) -> asyncio.Transport | None:
        """Return the transport, for `start_tls`."""
        return self._transport

    @property
    def is_reusable(self) -> bool:
        """Return whether another request may be sent on this connection."""
        return self._is_complete and self._is_kept and not self._is_closed and not self._pieces

    def close(self) -> None:
        """End the connection now."""
        self._is_kept = False
        if self._transport is not None:
            self._transport.abort()
