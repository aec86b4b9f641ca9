"""HTTP requests that end: the only sockets that an agent opens for content and for status.

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
import re
import ssl
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from fleetward.adapters.clock import Clock
from fleetward.adapters.pacing import (
    CURRENT_TRANSFER,
    Pace,
    PacedConnection,
    PacedSecureConnection,
    Traffic,
    Transfer,
)
from fleetward.adapters.proxies import Proxies
from fleetward.core.limits import KIB, TransferLimits
from fleetward.errors import (
    ConfigurationError,
    DigestError,
    NetworkError,
    NotFoundError,
)

_PIECE: Final = 64 * KIB
_MAX_DRAINED: Final = 4 * KIB
"""Bytes of an error page that are read so that the connection can be kept."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How a session connects.

    Attributes:
        user_agent: kept short, it goes with every request.
        proxies: which proxy carries requests.
        ca_bundle: a PEM file of the only authorities to believe (a private CA); None is the
            system's store.
        limits: what a transfer may take.
        bearer: a token that goes with every request, to whoever is asked; a session that has one
            asks one server alone. Redirects are refused, so it goes nowhere else.
    """

    user_agent: str = "fleetward/0.1"
    proxies: Proxies = field(default_factory=Proxies)
    ca_bundle: Path | None = None
    limits: TransferLimits = field(default_factory=TransferLimits)
    bearer: str | None = field(default=None, repr=False)


class _Pool(HTTPConnectionPool):
    ConnectionCls = PacedConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = PacedSecureConnection


class Answer:
    """An answer whose header has arrived.

    Attributes:
        url: what was asked for.
        status: 200 (the whole), 206 (from the offset that was asked for), 204 or 304 (no body);
            to a POST also 202.
        etag: the file's ETag, as the source wrote it, or None.
        length: bytes that the body will have, or None where the source did not say.
    """

    def __init__(
        self, url: str, response: urllib3.BaseHTTPResponse, pace: Pace, max_bytes: int
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


@dataclass(frozen=True, slots=True)
class _Question:
    url: str
    headers: dict[str, str]
    method: str = "GET"
    content: bytes | None = None


@contextmanager
def _closing(response: urllib3.BaseHTTPResponse) -> Generator[None]:
    try:
        yield
    finally:
        if not response.closed:
            response.close()


class HttpSession:
    """Requests over kept connections."""

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
        errors: frozenset[int] = frozenset(),
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
            errors: statuses that are given like any answer, for whoever reads why.

        Raises:
            NotFoundError: the source answered 403, 404 or 410.
            SlowTransferError: the header came under the minimum rate or past the deadline.
            DigestError: the source announces more than `max_bytes`.
            NetworkError: no connection, a redirect, an encoded answer, another status, or a
                range that was not asked for.
            ConfigurationError: `url`, a proxy or the CA bundle cannot be used.
        """
        pace = Pace(self._clock, url, limits or self._settings.limits, deadline)
        response = self._ask(_Question(url, self._headers(offset, etag, fresh=fresh)), pace)
        with _closing(response):
            _refuse(url, response, offset=offset, etag=etag, also=errors)
            answer = Answer(url, response, pace, max_bytes)
            if answer.status in {204, 304}:
                answer.read()
            yield answer

    @contextmanager
    def post(
        self, url: str, content: bytes, *, media_type: str, max_bytes: int, deadline: timedelta
    ) -> Generator[Answer]:
        """Bring `content` to `url` and give the answer once its header has arrived.

        What is brought must bear being brought twice: a kept connection that turns out to be
        closed is replaced once, as for GET.

        Args:
            url: `http:` or `https:`.
            content: the body of the request.
            media_type: its Content-Type.
            max_bytes: longest body of the answer, in bytes.
            deadline: for the whole exchange.

        Raises:
            NotFoundError: the other side answered 403, 404 or 410.
            SlowTransferError: the header came under the minimum rate or past the deadline.
            DigestError: it announces more than `max_bytes`.
            NetworkError: no connection, a redirect, an encoded answer, another status.
            ConfigurationError: `url`, a proxy or the CA bundle cannot be used.
        """
        pace = Pace(self._clock, url, self._settings.limits, deadline)
        headers = self._headers(0, None, fresh=False) | {"Content-Type": media_type}
        response = self._ask(_Question(url, headers, "POST", content), pace)
        with _closing(response):
            _refuse(url, response, offset=0, etag=None, also=frozenset({202}))
            yield Answer(url, response, pace, max_bytes)

    def _headers(self, offset: int, etag: str | None, *, fresh: bool) -> dict[str, str]:
        headers = {"User-Agent": self._settings.user_agent, "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        if etag is not None:
            headers["If-None-Match"] = etag
        if fresh:
            headers["Cache-Control"] = "no-cache"
        if self._settings.bearer is not None:
            headers["Authorization"] = f"Bearer {self._settings.bearer}"
        return headers

    def _ask(self, question: _Question, pace: Pace) -> urllib3.BaseHTTPResponse:
        manager = self._manager(question.url)
        token = CURRENT_TRANSFER.set(Transfer(pace, self.traffic))
        try:
            try:
                return self._send(manager, question, pace)
            except urllib3.exceptions.ProtocolError as error:
                if not _was_kept_too_long(error):
                    raise
                return self._send(manager, question, pace)
        except urllib3.exceptions.HTTPError as error:
            raise _network_error(question.url, error, pace) from error
        finally:
            CURRENT_TRANSFER.reset(token)

    def _send(
        self, manager: urllib3.PoolManager, question: _Question, pace: Pace
    ) -> urllib3.BaseHTTPResponse:
        self.traffic.requests += 1
        return manager.request(
            question.method,
            question.url,
            body=question.content,
            headers=question.headers,
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
        manager = _proxied(proxy, settings) if proxy else urllib3.PoolManager(**settings)
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


def _proxied(proxy: str, settings: dict[str, Any]) -> urllib3.PoolManager:
    """Return what connects through `proxy`, with the name and password that its URL may hold."""
    try:
        auth = urllib3.util.parse_url(proxy).auth
        headers = urllib3.make_headers(proxy_basic_auth=unquote(auth)) if auth else None
        return urllib3.ProxyManager(proxy, proxy_headers=headers, **settings)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        shown = proxy.rpartition("@")[2]
        raise ConfigurationError(
            f"the proxy {shown!r} cannot be used: give http://HOST:PORT or https://HOST:PORT"
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


def _refuse(
    url: str,
    response: urllib3.BaseHTTPResponse,
    *,
    offset: int,
    etag: str | None,
    also: frozenset[int] = frozenset(),
) -> None:
    """Raise unless the answer is one that the request allows."""
    status = response.status
    if status in {403, 404, 410} - also:
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
    if status not in {200, 204, 206, *also}:
        raise NetworkError(f"{url} answered HTTP status {status}: try again, or another source")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise NetworkError(
            f"{url} came encoded as {encoding[:60]!r}, which nobody asked for: turn compression "
            "off at the source or at the proxy on the way"
        )
    if status != 204 and _content_length(response) is None and not _is_chunked(response):
        raise NetworkError(
            f"{url} came without its length, so one that breaks off could not be told from a "
            "whole one: try another source"
        )
    if status == 206 and not _is_range_from(response, offset):
        raise NetworkError(f"{url} answered a range that was not asked for: try another source")


def _is_range_from(response: urllib3.BaseHTTPResponse, offset: int) -> bool:
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return offset > 0 and match is not None and int(match[1]) == offset


def _drain(response: urllib3.BaseHTTPResponse) -> None:
    """Read a short error page, so that its connection can be kept; an error here is no news."""
    length = _content_length(response)
    if length is not None and length <= _MAX_DRAINED:
        with contextlib.suppress(urllib3.exceptions.HTTPError, NetworkError):
            while response.read1(_MAX_DRAINED, decode_content=False):
                pass


def _content_length(response: urllib3.BaseHTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _is_chunked(response: urllib3.BaseHTTPResponse) -> bool:
    return response.headers.get("Transfer-Encoding", "").lower() == "chunked"


def _was_kept_too_long(error: urllib3.exceptions.ProtocolError) -> bool:
    cause = error.args[1] if len(error.args) > 1 else None
    return isinstance(
        cause, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError
    )


def _network_error(url: str, error: urllib3.exceptions.HTTPError, pace: Pace) -> NetworkError:
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
    elif isinstance(error, kinds.TimeoutError) and not isinstance(error, kinds.NewConnectionError):
        advice = "no answer in time: try again, or another source"
    elif isinstance(error, kinds.LocationParseError):
        advice = "it is no URL: give http:// or https://"
    else:
        advice = "the connection failed or broke off: look whether the source runs, and try again"
    reason = re.sub(r"^\w+\(host=.*?\): ", "", str(error))
    return NetworkError(f"{url} cannot be read: {advice} ({reason})")
