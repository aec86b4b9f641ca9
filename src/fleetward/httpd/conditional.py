"""Conditional and range requests: what of a file a request gets (RFC 9110 sections 13 and 14).

Instants are whole seconds since 1970, as HTTP dates have no finer ones.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache

from fleetward.httpd.message import Body, Response

_RANGE = re.compile(rb"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)
_TAG = re.compile(rb'(?:W/)?("[^"]*")')


@dataclass(frozen=True, slots=True)
class Whole:
    """Send all of it: 200."""


@dataclass(frozen=True, slots=True)
class Part:
    """Send a part: 206.

    Attributes:
        first: offset of the first byte.
        length: at least 1.
    """

    first: int
    length: int


@dataclass(frozen=True, slots=True)
class NotModified:
    """The client has it: 304."""


@dataclass(frozen=True, slots=True)
class NotSatisfiable:
    """No byte of the range exists: 416."""


Selection = Whole | Part | NotModified | NotSatisfiable
WHOLE = Whole()
NOT_MODIFIED = NotModified()


@lru_cache(maxsize=256)
def http_date(seconds: int) -> str:
    """Return an instant as an HTTP date (RFC 9110 section 5.6.7), for Last-Modified."""
    return formatdate(seconds, usegmt=True)


@lru_cache(maxsize=256)
def parse_http_date(text: bytes) -> int | None:
    """Return the instant of an HTTP date in any of its three forms; None where it is none."""
    try:
        instant = parsedate_to_datetime(text.decode("ascii").strip())
        if instant.tzinfo is None:  # asctime's form has no zone, and means UTC
            instant = instant.replace(tzinfo=UTC)
        return int(instant.timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


def select(
    method: str,
    headers: Mapping[bytes, bytes],
    etag: bytes,
    length: int,
    modified: int | None = None,
) -> Selection:
    """Return what the client gets of a file; the order is RFC 9110 section 13.2.2's.

    Args:
        method: GET or HEAD.
        headers: by lower-case name.
        etag: strong, with its quotes.
        length: of the whole file, in bytes.
        modified: what Last-Modified says; give it only where no two contents of the name share
            one second, since a date is then a strong validator (section 8.8.2.2).
    """
    known = headers.get(b"if-none-match")
    if known is not None:
        if _matches(known, etag):
            return NOT_MODIFIED
    elif modified is not None and _is_unmodified_since(headers, modified):
        return NOT_MODIFIED
    wanted = headers.get(b"range")
    if wanted is None or method != "GET":
        return WHOLE
    condition = headers.get(b"if-range")
    if condition is not None and not _is_in_range(condition, etag, modified):
        return WHOLE
    return select_range(wanted, length)


def _is_unmodified_since(headers: Mapping[bytes, bytes], modified: int) -> bool:
    since = parse_http_date(headers.get(b"if-modified-since", b""))
    return since is not None and modified <= since


def _is_in_range(condition: bytes, etag: bytes, modified: int | None) -> bool:
    """Return whether If-Range names this very content: by its tag, or by its exact date."""
    if condition == etag:
        return True
    return modified is not None and parse_http_date(condition) == modified


def _matches(condition: bytes, etag: bytes) -> bool:
    return condition.strip() == b"*" or etag in _TAG.findall(condition)


def select_range(wanted: bytes, length: int) -> Selection:
    """Return the part that a Range header asks for; several parts, or nonsense, give the whole."""
    match = _RANGE.fullmatch(wanted)
    if match is None or wanted.count(b"-") != 1:
        return WHOLE
    first, last = match[1], match[2]
    if not first:
        return _suffix(last, length)
    start = int(first)
    if last and int(last) < start:
        return WHOLE
    if start >= length:
        return NotSatisfiable()
    end = min(int(last) + 1, length) if last else length
    return Part(start, end - start)


def _suffix(last: bytes, length: int) -> Selection:
    if not last:
        return WHOLE
    count = min(int(last), length)
    return Part(length - count, count) if count else NotSatisfiable()


def represent(
    selection: Selection,
    headers: tuple[tuple[str, str], ...],
    length: int,
    body_of: Callable[[int, int], Body],
) -> Response:
    """Return the response for what `select` decided.

    Args:
        selection: what the client gets.
        headers: ETag and Cache-Control.
        length: of the whole file.
        body_of: gives the body from (first byte, length); called at most once.
    """
    if isinstance(selection, NotModified):
        return Response(304, headers)
    if isinstance(selection, NotSatisfiable):
        return Response(416, (("Content-Range", f"bytes */{length}"),))
    if isinstance(selection, Whole):
        return Response(200, headers, body_of(0, length))
    last = selection.first + selection.length - 1
    told = (*headers, ("Content-Range", f"bytes {selection.first}-{last}/{length}"))
    return Response(206, told, body_of(selection.first, selection.length))
