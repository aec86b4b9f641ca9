"""Request heads: from bytes to a checked value; httptools reads, this decides what is refused.

Invariants: what is read depends on the bytes alone, never on how they were split, since a head is
parsed only once it is whole; every framing that two readers could understand differently ends the
connection (RFC 9112 sections 2.2, 5.1, 6.1 and 11.2).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import httptools

from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.message import RefusedRequestError
from fleetward.httpd.target import Target, parse_target

END: Final = b"\r\n\r\n"
_BARE = re.compile(rb"(?:^|[^\r])\n|\r[^\n]|\0", re.DOTALL)
_LINE_OVERHEAD: Final = 32
"""Bytes of a request line beside its target: the longest method, two spaces and the version."""


@dataclass(frozen=True, slots=True)
class Head:
    """A whole request head.

    Attributes:
        method: as sent; httptools knows upper-case methods only.
        target: decoded and normalised.
        headers: by lower-case name; read-only.
        keep_alive: whether the client wants another request on this connection.
        is_http_1_0: such a client must be told that the connection stays.
        body_bytes: what Content-Length says; 0 without one.
    """

    method: str
    target: Target
    headers: Mapping[bytes, bytes]
    keep_alive: bool
    is_http_1_0: bool
    body_bytes: int

    @property
    def may_repeat(self) -> bool:
        """Return whether its bytes alone make a request that may come again on the connection."""
        return self.keep_alive and not self.is_http_1_0 and not self.body_bytes

    def waits_to_go_on(self) -> bool:
        """Return whether the client sends its body only once it was told 100.

        Raises:
            RefusedRequestError: 417: it expects something else.
        """
        expectation = self.headers.get(b"expect")
        if expectation is None or self.is_http_1_0:
            return False
        if expectation.lower() != b"100-continue":
            raise RefusedRequestError(417, "unknown expectation")
        return True


_KNOWN_HEADS: Final = 2048
_KNOWN_BYTES: Final = 512


@lru_cache(maxsize=8)
def _known_heads(limits: ServerLimits) -> dict[bytes, Head]:
    """Return the heads read before, by their bytes: a client that polls sends the same again.

    Bounded in number and size, so that made-up heads cost a megabyte at most.
    """
    del limits
    return {}


class HeadReader:
    """Reads one head after another; one for a whole server, since each head is read in one call."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._known = _known_heads(limits)
        self._longest_line = limits.max_target_bytes + _LINE_OVERHEAD
        self._renew()

    def _renew(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._hosts = 0
        self._keep_alive = False

    def on_url(self, target: bytes) -> None:
        """Take a piece of the target (httptools calls it)."""
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header (httptools calls it)."""
        name = name.lower()
        value = value.rstrip(b" \t")
        if name == b"host":
            self._hosts += 1
        known = self._headers.get(name)
        self._headers[name] = value if known is None else known + b", " + value

    def on_headers_complete(self) -> None:
        """Note what the parser knows only now (httptools calls it)."""
        self._keep_alive = self._parser.should_keep_alive()

    def judge_partial(self, received: bytes) -> None:
        """Refuse what can no longer become a head, before its end has come.

        Args:
            received: everything since the last request.

        Raises:
            RefusedRequestError: 400 for a bare CR, LF or NUL; 414 or 431 where it is too long.
        """
        prefix = received[: self._limits.max_head_bytes]
        bare = _BARE.search(prefix)
        is_long = len(prefix) >= self._longest_line and b"\r\n" not in prefix[: self._longest_line]
        if is_long and not (bare and bare.end() <= self._longest_line):
            raise RefusedRequestError(414, "the request target is too long")
        if bare:
            raise RefusedRequestError(400, "the head has a bare line end or NUL")
        if len(received) >= self._limits.max_head_bytes:
            raise RefusedRequestError(431, "the head is too long")

    def read(self, raw: bytes) -> Head:
        """Return the head whose bytes are `raw`, which ends in an empty line.

        Raises:
            RefusedRequestError: 400 (smuggling shapes, Host, bad syntax), 411 (chunked body), 414
                or 431.
        """
        known = self._known.get(raw)
        if known is not None:
            return known
        try:
            head = self._read(raw)
        except BaseException:
            self._renew()  # what one client sent must not colour what the next one sends
            raise
        if len(raw) <= _KNOWN_BYTES and head.keep_alive and not head.body_bytes:
            if len(self._known) >= _KNOWN_HEADS:
                self._known.clear()
            self._known[raw] = head
        return head

    def _read(self, raw: bytes) -> Head:
        if len(raw) > self._limits.max_head_bytes or b"\r\n" not in raw[: self._longest_line]:
            self.judge_partial(raw)
        try:
            self._parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            head = self._judge(raw)
            self._renew()
            return head
        except httptools.HttpParserError as error:
            raise RefusedRequestError(400, f"not HTTP: {error}") from error
        return self._judge(raw)

    def _judge(self, raw: bytes) -> Head:
        target, headers, hosts = self._target, self._headers, self._hosts
        self._target, self._headers, self._hosts = b"", {}, 0
        line_end = raw.find(b"\r\n")
        # The parser forgives bare line ends before the method, and more than one space.
        is_strict = raw[:1].isalpha() and raw.count(b" ", 0, line_end) == 2
        if not is_strict or not raw.endswith((b" HTTP/1.1", b" HTTP/1.0"), 0, line_end):
            raise RefusedRequestError(400, "not an HTTP/1.1 request")
        is_1_0 = self._parser.get_http_version() == "1.0"
        if hosts != 1 and not (is_1_0 and hosts == 0):
            raise RefusedRequestError(400, "the request has no Host header, or two")
        if b"transfer-encoding" in headers:
            raise RefusedRequestError(411, "send the body with Content-Length")
        keep_alive = self._keep_alive
        body_bytes = int(headers.get(b"content-length", 0))
        method = self._parser.get_method().decode("ascii")
        if body_bytes or not keep_alive:
            self._renew()
        return Head(
            method, parse_target(target), MappingProxyType(headers), keep_alive, is_1_0, body_bytes
        )
