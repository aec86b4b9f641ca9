"""Requests to one upstream: kept connections, TLS, an HTTP proxy; no redirects, no cookies.

A status is handed to the caller as it is, 3xx too: nothing is followed, since a redirect would
let one upstream send a relay to any address.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from fleetward.errors import NetworkError, SlowTransferError
from fleetward.httpd.endpoint import Endpoint
from fleetward.httpd.exchange import Exchange, ResponseHead, Traffic
from fleetward.httpd.limits import ClientLimits
from fleetward.httpd.message import encode_headers

_COMMON: Final = (("User-Agent", "fleetward"), ("Accept-Encoding", "identity"))


class Pace(Protocol):
    """What spreads received bytes over time; see `UpstreamClient`."""

    async def take(self, count: int) -> None:
        """Return once `count` more bytes may be received."""
        ...


class Resolver(Protocol):
    """What knows where a name leads."""

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Return at least one address, the best first.

        Raises:
            NetworkError: it has none, or none to which we may connect.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    raw: bytes
    has_body: bool
    seconds: float | None


class UpstreamResponse:
    """A response whose body is still coming; an async context manager.

    Attributes:
        status: the HTTP status.
        headers: by lower-case name.
        length: of the body where it is told.
    """

    def __init__(self, client: "UpstreamClient", exchange: Exchange, head: ResponseHead) -> None:
        self.status = head.status
        self.headers = head.headers
        self.length = head.length
        self._client = client
        self._exchange = exchange

    async def __aenter__(self) -> Self:
        """Return the response."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Keep the connection where the body was read to its end, else close it."""
        self._client.give_back(self._exchange)

    async def next_piece(self) -> bytes:
        """Return the next piece of the body, once the pace allows it; empty at its end.

        Raises:
            NetworkError: the upstream failed in the middle.
            SlowTransferError: it stopped, or fell under the minimum rate.
        """
        piece = await self._exchange.next_piece()
        if piece and self._client.pace is not None:
            await self._client.pace.take(len(piece))
        return piece

    async def read(self, max_bytes: int, seconds: float) -> bytes:
        """Return the whole body.

        Args:
            max_bytes: a byte more is an error (endless data).
            seconds: a body that takes longer is an error, however it trickles.

        Raises:
            NetworkError: as `next_piece`, or too long.
            SlowTransferError: as `next_piece`, or too late.
        """
        body = bytearray()
        try:
            async with asyncio.timeout(seconds):
                while piece := await self.next_piece():
                    body += piece
                    if len(body) > max_bytes:
                        raise NetworkError(f"a body has more than {max_bytes} bytes")
        except TimeoutError as error:
            raise SlowTransferError(f"a body took more than {seconds:g} s") from error
        return bytes(body)


class UpstreamClient:
    """Asks one upstream, directly or through a proxy.

    Attributes:
        endpoint: whom.
        traffic: what went over its connections so far.
        pace: spreads what bodies bring over time; None leaves it to the network.
        receive_buffer: bytes that the kernel may hold of a new connection's body, so that a pace
            is felt by the upstream and not only by our memory; 0 leaves it to the kernel.
        resolver: says where the endpoint's name leads, and may refuse; not asked where a proxy
            connects for us. None leaves it to the system.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        limits: ClientLimits | None = None,
        tls: ssl.SSLContext | None = None,
        proxy: Endpoint | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Take what to connect to; nothing is connected yet.

        Args:
            endpoint: the upstream.
            limits: what it may take.
            tls: for https; None takes the system's certificate authorities.
            proxy: an HTTP proxy to go through.
            pace: see the attribute.
        """
        self.endpoint = endpoint
        self.pace = pace
        self.receive_buffer = 0
        self.resolver: Resolver | None = None
        self.traffic = Traffic()
        self._limits = limits or ClientLimits()
        self._tls = tls
        self._proxy = proxy
        self._idle: list[Exchange] = []

    async def get(
        self, path: str, headers: Iterable[tuple[str, str]] = (), *, method: str = "GET"
    ) -> UpstreamResponse:
        """Send a request without a body; as `request`."""
        return await self.request(method, path, headers)

    async def request(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]] = (),
        *,
        body: bytes = b"",
        seconds: float | None = None,
    ) -> UpstreamResponse:
        """Send a request; use the response in `async with`.

        A request is sent again where a kept connection turns out to be closed, so a POST must be
        one that may arrive twice.

        Args:
            method: GET, HEAD or POST.
            path: absolute, ASCII, without characters that need an escape; may have a query.
            headers: besides Host, User-Agent, Accept-Encoding and Content-Length.
            body: of a POST.
            seconds: how long the response's head may take, in place of `head_timeout` (a long
                poll waits longer).

        Raises:
            NetworkError: no connection, or it failed before the head was whole.
            SlowTransferError: no connection or no head in time.
        """
        if body or method == "POST":
            headers = (*headers, ("Content-Length", str(len(body))))
        asked = _Asked(self._encode(method, path, headers) + body, method != "HEAD", seconds)
        kept = self._take_idle()
        if kept is not None:
            try:
                return await self._ask(kept, asked)
            except SlowTransferError:
                raise
            except NetworkError:
                pass  # It was closed between two requests, which is nobody's failure.
        return await self._ask(await self._connect(), asked)

    async def _ask(self, exchange: Exchange, asked: "_Asked") -> UpstreamResponse:
        try:
            head = await exchange.request(asked.raw, has_body=asked.has_body, seconds=asked.seconds)
            return UpstreamResponse(self, exchange, head)
        except BaseException:
            exchange.close()
            raise

    def _encode(self, method: str, path: str, headers: Iterable[tuple[str, str]]) -> bytes:
        target = self.endpoint.base + path
        own: tuple[tuple[str, str], ...] = (("Host", self.endpoint.host_header), *_COMMON)
        if self._proxy is not None and not self.endpoint.is_tls:
            target = f"http://{self.endpoint.host_header}{target}"
            own += _proxy_headers(self._proxy)
        return f"{method} {target} HTTP/1.1\r\n".encode("ascii") + (
            encode_headers((*own, *headers)) + b"\r\n"
        )

    def _take_idle(self) -> Exchange | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            exchange = self._idle.pop()
            age = now - exchange.idle_since
            if exchange.is_reusable and age < self._limits.idle_timeout.total_seconds():
                return exchange
            exchange.close()
        return None

    def give_back(self, exchange: Exchange) -> None:
        """Keep a connection for the next request, where it may be."""
        if exchange.is_reusable and len(self._idle) < self._limits.max_idle:
            exchange.idle_since = asyncio.get_running_loop().time()
            self._idle.append(exchange)
        else:
            exchange.close()

    def close(self) -> None:
        """Close the kept connections."""
        while self._idle:
            self._idle.pop().close()

    # -- connecting ----------------------------------------------------------------------------

    async def _connect(self) -> Exchange:
        seconds = self._limits.connect_timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                return await self._connect_now()
        except TimeoutError as error:
            raise SlowTransferError(f"{self.endpoint} did not connect in {seconds:g} s") from error
        except (OSError, ssl.SSLError) as error:
            raise NetworkError(f"cannot connect to {self.endpoint}: {error}") from error

    async def _connect_now(self) -> Exchange:
        loop = asyncio.get_running_loop()
        exchange = Exchange(loop, self._limits, self.traffic, str(self.endpoint))
        hop = self._proxy or self.endpoint
        tls = (self._tls or ssl.create_default_context()) if self.endpoint.is_tls else None
        direct_tls = tls if self._proxy is None else None
        transport = await self._reach(exchange, hop, direct_tls)
        if self.receive_buffer:
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer
            )
        if self._proxy is None or tls is None:
            return exchange
        try:
            await self._tunnel(exchange, self._proxy, tls)
        except BaseException:
            exchange.close()
            raise
        return exchange

    async def _reach(
        self, exchange: Exchange, hop: Endpoint, tls: ssl.SSLContext | None
    ) -> asyncio.BaseTransport:
        """Connect `exchange` to where the hop's name leads; TLS expects the name all the same."""
        loop = asyncio.get_running_loop()
        if self.resolver is None or self._proxy is not None:
            transport, _ = await loop.create_connection(
                lambda: exchange, hop.host, hop.port, ssl=tls
            )
            return transport
        *others, last = await self.resolver.addresses(hop.host, hop.port)
        name = hop.host if tls else None
        share = self._limits.connect_timeout.total_seconds() / (len(others) + 1)
        for address in others:
            with contextlib.suppress(OSError):  # a timeout too: then the next address is tried
                async with asyncio.timeout(share):
                    transport, _ = await loop.create_connection(
                        lambda: exchange, address, hop.port, ssl=tls, server_hostname=name
                    )
                    return transport
        transport, _ = await loop.create_connection(
            lambda: exchange, last, hop.port, ssl=tls, server_hostname=name
        )
        return transport

    async def _tunnel(self, exchange: Exchange, proxy: Endpoint, tls: ssl.SSLContext) -> None:
        authority = self.endpoint.authority
        headers = (("Host", authority), *_proxy_headers(proxy))
        raw = f"CONNECT {authority} HTTP/1.1\r\n".encode("ascii") + encode_headers(headers)
        head = await exchange.request(raw + b"\r\n", has_body=False)
        if head.status != 200:
            raise NetworkError(f"the proxy {proxy} refused {authority}: status {head.status}")
        transport = exchange.transport
        loop = asyncio.get_running_loop()
        if transport is None:
            raise NetworkError(f"the proxy {proxy} went away")
        over_tls = await loop.start_tls(
            transport, exchange, tls, server_hostname=self.endpoint.host
        )
        if over_tls is None:
            raise NetworkError(f"the proxy {proxy} went away")
        exchange.connection_made(over_tls)


def _proxy_headers(proxy: Endpoint) -> tuple[tuple[str, str], ...]:
    return (("Proxy-Authorization", proxy.authorization),) if proxy.authorization else ()
