"""HTTP requests that end: the only sockets that an agent opens for content.

What urllib3 leaves open is closed here. A transfer has a deadline or a minimum rate, measured at
every receive, from the first byte of the header on (slow retrieval); a redirect is an error, since
it would let a source name any other; an encoded answer is an error, since a decoder would see
bytes that nobody has verified; a byte past what the caller allows ends the transfer (endless
data); a body that ends early is an error, never a shorter file.

A session keeps connections open between requests. Several threads may share one.

Deliberately not here: verifying what was received (the caller holds the digest), trying another
source, retries. One exception: a kept connection that the other side has closed meanwhile, before
it answered a byte, is replaced once, which every client that keeps connections must do.
"""

import contextlib
import http.client
import io
import ipaddress
import re
import socket
import ssl
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from fleetward.adapters.clock import Clock
from fleetward.core.limits import KIB, TransferLimits
from fleetward.errors import (
    ConfigurationError,
    DigestError,
    NetworkError,
    NotFoundError,
    SlowTransferError,
)

_PIECE: Final = 64 * KIB
_MAX_DRAINED: Final = 4 * KIB
"""Bytes of an error page that are read so that the connection can be kept."""


@dataclass(frozen=True, slots=True)
class Proxies:
    """Which proxy carries requests; the default is none.

    Attributes:
        http: the URL of the proxy for `http:` URLs.
        https: the URL of the proxy for `https:` URLs, reached by CONNECT.
        bypass: hosts, domain suffixes (`.example`) and networks (`10.0.0.0/8`) reached directly;
            `*` is every host.
    """

    http: str | None = None
    https: str | None = None
    bypass: tuple[str, ...] = ()

    @classmethod
    def every(cls, url: str) -> "Proxies":
        """Return settings that send everything through the proxy at `url`."""
        return cls(http=url, https=url)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Proxies":
        """Return what http_proxy, https_proxy, all_proxy and no_proxy say.

        The name `HTTP_PROXY` in capitals is passed over: a CGI program gets it from the client.
        """
        lower = {name: value for name, value in environment.items() if name.islower() and value}
        upper = {n.lower(): v for n, v in environment.items() if n.isupper() and v}
        upper.pop("http_proxy", None)
        known = {**upper, **lower}
        everything = known.get("all_proxy")
        return cls(
            http=known.get("http_proxy", everything),
            https=known.get("https_proxy", everything),
            bypass=tuple(part.strip() for part in known.get("no_proxy", "").split(",") if part),
        )

    def of(self, scheme: str, host: str) -> str | None:
        """Return the proxy's URL for a request to `host`, or None."""
        proxy = self.https if scheme == "https" else self.http
        return None if proxy is None or any(_covers(p, host) for p in self.bypass) else proxy


def _covers(pattern: str, host: str) -> bool:
    if pattern == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        suffix = pattern.lstrip("*").lstrip(".").lower()
        return host.lower() == suffix or host.lower().endswith(f".{suffix}")


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How a session connects.

    Attributes:
        user_agent: kept short, it goes with every request.
        proxies: which proxy carries requests.
        ca_bundle: a PEM file of the only authorities to believe (a private CA); None is the
            system's store.
        limits: what a transfer may take.
    """

    user_agent: str = "fleetward/0.1"
    proxies: Proxies = field(default_factory=Proxies)
    ca_bundle: Path | None = None
    limits: TransferLimits = field(default_factory=TransferLimits)


@dataclass(slots=True)
class Traffic:
    """Bytes that a session moved, headers included; of TLS, what is inside.

    Attributes:
        sent: bytes of requests.
        received: bytes of answers.
        requests: how many requests were made.
    """

    sent: int = 0
    received: int = 0
    requests: int = 0


class _Pace:
    """One transfer's time: a deadline for the whole, and a minimum rate after the first byte.

    The rate is taken over windows of `limits.grace` of time spent *waiting for the source*, so
    neither a fast beginning nor a slow caller hides or causes a slow transfer.
    """

    def __init__(
        self, clock: Clock, url: str, limits: TransferLimits, deadline: timedelta | None
    ) -> None:
        self.url = url
        self.limits = limits
        self._clock = clock
        self._deadline = deadline
        self._end = None if deadline is None else clock.monotonic() + deadline
        self._began = timedelta()
        self._answering = False
        self._waited = timedelta()
        self._count = 0

    def begin_wait(self) -> float:
        """Return how many seconds the next receive may take.

        Raises:
            SlowTransferError: the deadline has passed.
        """
        self._began = self._clock.monotonic()
        allowed = self.limits.read_timeout
        if self._end is not None:
            allowed = min(allowed, self._end - self._began)
        if allowed <= timedelta():
            raise self.too_late()
        return allowed.total_seconds()

    def end_wait(self, count: int) -> None:
        """Record that the receive brought `count` bytes.

        Raises:
            SlowTransferError: a whole window brought less than the minimum rate.
        """
        if self._answering:
            self._waited += self._clock.monotonic() - self._began
        self._answering = True
        self._count += count
        if self._waited < self.limits.grace:
            return
        least = self.limits.min_bytes_per_second * self._waited.total_seconds()
        if self._count < least:
            raise SlowTransferError(
                f"{self.url} came at {self._count} bytes in {self._waited.total_seconds():.0f} s, "
                f"under {self.limits.min_bytes_per_second} bytes/s: it was cut; try another source"
            )
        self._waited, self._count = timedelta(), 0

    def is_over(self) -> bool:
        """Return whether the deadline has passed."""
        return self._end is not None and self._clock.monotonic() >= self._end

    def too_late(self) -> SlowTransferError:
        """Return the error of a transfer past its deadline."""
        seconds = self._deadline.total_seconds() if self._deadline else 0
        return SlowTransferError(
            f"{self.url} did not arrive within {seconds:.0f} s: it was cut; try another source"
        )


@dataclass(slots=True)
class _Transfer:
    pace: _Pace
    traffic: Traffic


_CURRENT: ContextVar[_Transfer] = ContextVar("fleetward_transfer")


class _PacedReader(io.RawIOBase):
    """What http.client reads an answer from: each receive is timed and counted."""

    def __init__(self, connection: socket.socket, transfer: _Transfer) -> None:
        super().__init__()
        self._socket = connection
        self._raw = connection.makefile("rb", buffering=0)
        self._transfer = transfer
        self._timeout: float | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 (a writable buffer, as io says)
        timeout = self._transfer.pace.begin_wait()
        if timeout != self._timeout:
            self._socket.settimeout(timeout)
            self._timeout = timeout
        count = self._raw.readinto(buffer) or 0
        self._transfer.traffic.received += count
        self._transfer.pace.end_wait(count)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _PacedSocket:
    """A socket whose answers are read through `_PacedReader`; otherwise the socket itself."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the socket has)
        return getattr(self._socket, name)

    def sendall(self, content: bytes) -> None:
        _CURRENT.get().traffic.sent += len(content)
        self._socket.sendall(content)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_PacedReader(self._socket, _CURRENT.get()))


class _Connection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        self.sock = cast("socket.socket", _PacedSocket(self.sock))


class _SecureConnection(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        self.sock = cast("socket.socket", _PacedSocket(self.sock))


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class Answer:
    """An answer whose header has arrived.

    Attributes:
        url: what was asked for.
        status: 200 (the whole), 206 (from the offset that was asked for), 204 or 304 (no body).
        etag: the file's ETag, as the source wrote it, or None.
        length: bytes that the body will have, or None where the source did not say.
    """

    def __init__(
        self, url: str, response: urllib3.BaseHTTPResponse, pace: _Pace, max_bytes: int
    ) -> None:
        self.url = url
        self.status = response.status
        self.etag = response.headers.get("ETag")
        self.length = _content_length(response)
        self._response = response
        self._pace = pace
        self._max_bytes = max_bytes
        if (self.length or 0) > max_bytes:
            raise self._too_long(self.length or 0)

    def pieces(self) -> Iterator[bytes]:
        """Yield the body in pieces, as they arrive; once.

        Raises:
            SlowTransferError: under the minimum rate, or past the deadline.
            DigestError: longer than `max_bytes`.
            NetworkError: broken off, or shorter than the source said.
        """
        left = self._max_bytes
        while piece := self._receive(min(_PIECE, left + 1)):
            left -= len(piece)
            if left < 0:
                raise self._too_long(self._max_bytes - left)
            yield piece

    def read(self) -> bytes:
        """Return the whole body. Raises as `pieces`."""
        return b"".join(self.pieces())

    def _receive(self, count: int) -> bytes:
        try:
            return self._response.read1(count, decode_content=False) or b""
        except urllib3.exceptions.HTTPError as error:
            raise _network_error(self.url, error, self._pace) from error

    def _too_long(self, length: int) -> DigestError:
        return DigestError(
            f"{self.url} has at least {length} bytes where {self._max_bytes} are signed or "
            "allowed: it was cut; the source may be hostile (endless data)"
        )


class HttpSession:
    """GET requests over kept connections."""

    def __init__(self, clock: Clock, settings: HttpSettings | None = None) -> None:
        """Prepare a session; nothing connects yet.

        Args:
            clock: what deadlines and rates are measured with.
            settings: how to connect.
        """
        self.traffic = Traffic()
        self._clock = clock
        self._settings = settings or HttpSettings()
        self._managers: dict[tuple[str, str | None], urllib3.PoolManager] = {}

    @property
    def limits(self) -> TransferLimits:
        """What a transfer may take unless `get` is told otherwise."""
        return self._settings.limits

    def close(self) -> None:
        """Close the kept connections."""
        for manager in self._managers.values():
            manager.clear()
        self._managers.clear()

    @contextmanager
    def get(  # noqa: PLR0913 (one argument per header)
        self,
        url: str,
        *,
        max_bytes: int,
        offset: int = 0,
        etag: str | None = None,
        deadline: timedelta | None = None,
        fresh: bool = False,
        limits: TransferLimits | None = None,
    ) -> Generator[Answer]:
        """Ask for `url` and give the answer once its header has arrived.

        Args:
            url: `http:` or `https:`.
            max_bytes: longest body, in bytes; for a signed file what is left of its length.
            offset: the byte to begin at; the answer says by status 206 whether the source does.
            etag: answer 304 where the file still has this ETag.
            deadline: for the whole transfer; None leaves the minimum rate alone.
            fresh: ask caches on the way to look again (`Cache-Control: no-cache`).
            limits: in place of the session's (a long poll waits longer for its first byte).

        Raises:
            NotFoundError: the source answered 403, 404 or 410.
            SlowTransferError: the header came under the minimum rate or past the deadline.
            DigestError: the source announces more than `max_bytes`.
            NetworkError: no connection, a redirect, an encoded answer, another status, or a
                range that was not asked for.
            ConfigurationError: `url`, a proxy or the CA bundle cannot be used.
        """
        pace = _Pace(self._clock, url, limits or self._settings.limits, deadline)
        response = self._ask(url, self._headers(offset, etag, fresh=fresh), pace)
        try:
            _refuse(url, response, offset=offset, etag=etag)
            answer = Answer(url, response, pace, max_bytes)
            if answer.status in {204, 304}:
                answer.read()
            yield answer
        finally:
            if not response.closed:
                response.close()

    def _headers(self, offset: int, etag: str | None, *, fresh: bool) -> dict[str, str]:
        headers = {"User-Agent": self._settings.user_agent, "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        if etag is not None:
            headers["If-None-Match"] = etag
        if fresh:
            headers["Cache-Control"] = "no-cache"
        return headers

    def _ask(self, url: str, headers: dict[str, str], pace: _Pace) -> urllib3.BaseHTTPResponse:
        manager = self._manager(url)
        token = _CURRENT.set(_Transfer(pace, self.traffic))
        try:
            try:
                return self._send(manager, url, headers, pace)
            except urllib3.exceptions.ProtocolError as error:
                if not _was_kept_too_long(error):
                    raise
                return self._send(manager, url, headers, pace)
        except urllib3.exceptions.HTTPError as error:
            raise _network_error(url, error, pace) from error
        finally:
            _CURRENT.reset(token)

    def _send(
        self, manager: urllib3.PoolManager, url: str, headers: dict[str, str], pace: _Pace
    ) -> urllib3.BaseHTTPResponse:
        self.traffic.requests += 1
        return manager.request(
            "GET",
            url,
            headers=headers,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=urllib3.Timeout(
                connect=pace.limits.connect_timeout.total_seconds(),
                read=pace.limits.read_timeout.total_seconds(),
            ),
        )

    def _manager(self, url: str) -> urllib3.PoolManager:
        scheme, host = _scheme_and_host(url)
        key = (scheme, self._settings.proxies.of(scheme, host))
        if key not in self._managers:
            self._managers[key] = self._new_manager(*key)
        return self._managers[key]

    def _new_manager(self, scheme: str, proxy: str | None) -> urllib3.PoolManager:
        settings: dict[str, Any] = {"num_pools": 8, "maxsize": 2}
        if scheme == "https" or (proxy or "").startswith("https:"):
            settings["ssl_context"] = self._tls()
        try:
            manager = (
                urllib3.ProxyManager(proxy, **settings)
                if proxy
                else urllib3.PoolManager(**settings)
            )
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise ConfigurationError(
                f"the proxy {proxy!r} cannot be used: give http://HOST:PORT or https://HOST:PORT"
            ) from error
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager

    def _tls(self) -> ssl.SSLContext:
        bundle = self._settings.ca_bundle
        try:
            return ssl.create_default_context(cafile=None if bundle is None else str(bundle))
        except OSError as error:
            raise ConfigurationError(
                f"the CA bundle {bundle} cannot be read: give a PEM file of certificates"
            ) from error


def _scheme_and_host(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme, parts.hostname
    except ValueError:
        scheme, host = "", None
    if scheme not in {"http", "https"} or not host:
        raise ConfigurationError(f"{url!r} is no URL of a source: give http:// or https://")
    return scheme, host


_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


def _refuse(url: str, response: urllib3.BaseHTTPResponse, *, offset: int, etag: str | None) -> None:
    """Raise unless the answer is one that the request allows."""
    status = response.status
    if status in {403, 404, 410}:
        _drain(response)
        raise NotFoundError(f"{url} is not there (HTTP status {status})", status)
    if status == 304 and etag is not None:
        return
    if 300 <= status < 400:
        target = response.headers.get("Location", "elsewhere")
        raise NetworkError(
            f"{url} redirects to {target[:200]!r}; redirects are refused: give the source's final "
            "URL (a login page on the way does this too)"
        )
    if status not in {200, 204, 206}:
        raise NetworkError(f"{url} answered HTTP status {status}: try again, or another source")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise NetworkError(
            f"{url} came encoded as {encoding[:60]!r}, which nobody asked for: turn compression "
            "off at the source or at the proxy on the way"
        )
    if status == 206 and not _is_range_from(response, offset):
        raise NetworkError(f"{url} answered a range that was not asked for: try another source")


def _is_range_from(response: urllib3.BaseHTTPResponse, offset: int) -> bool:
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return offset > 0 and match is not None and int(match[1]) == offset


def _drain(response: urllib3.BaseHTTPResponse) -> None:
    """Read a short error page, so that its connection can be kept; an error here is no news."""
    if (_content_length(response) or _MAX_DRAINED + 1) <= _MAX_DRAINED:
        with contextlib.suppress(urllib3.exceptions.HTTPError, NetworkError):
            while response.read1(_MAX_DRAINED, decode_content=False):
                pass


def _content_length(response: urllib3.BaseHTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _was_kept_too_long(error: urllib3.exceptions.ProtocolError) -> bool:
    cause = error.args[1] if len(error.args) > 1 else None
    return isinstance(
        cause, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError
    )


def _network_error(url: str, error: urllib3.exceptions.HTTPError, pace: _Pace) -> NetworkError:
    """Return what `error` means to the person who reads it."""
    kinds = urllib3.exceptions
    if isinstance(error, kinds.ReadTimeoutError) and pace.is_over():
        return pace.too_late()
    if isinstance(error, kinds.SSLError):
        advice = "its certificate does not verify: give its CA as a bundle, or look who answers"
    elif isinstance(error, kinds.ProxyError):
        advice = "the proxy did not carry it: look at the proxy setting"
    elif isinstance(error, kinds.NameResolutionError):
        advice = "its name does not resolve: look at the URL and at DNS"
    elif isinstance(error, kinds.TimeoutError):
        advice = "no answer in time: try again, or another source"
    elif isinstance(error, kinds.LocationParseError):
        advice = "it is no URL: give http:// or https://"
    else:
        advice = "the connection failed or broke off: look whether the source runs, and try again"
    return NetworkError(f"{url} cannot be read: {advice} ({error})")
