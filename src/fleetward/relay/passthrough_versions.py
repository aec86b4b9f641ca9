"""What an upstream's answer says of the content that it brings (pure).

What is read: Content-Length, Content-Type, ETag, Last-Modified, Date, Content-Range and
Cache-Control. Nothing else of an answer is kept or passed on.
"""

import hashlib
import re
from typing import Final, Protocol

from fleetward.httpd.conditional import parse_http_date
from fleetward.relay.passthrough_file import Version, Writer

_CONTENT_RANGE: Final = re.compile(rb"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_STRONG_TAG: Final = re.compile(r'"[!#-~]*"')
_STRONG_AFTER: Final = 60
"""Seconds between Last-Modified and Date from which a date tells two contents apart."""

_MAX_VALUE: Final = 256
"""Characters of a header that is kept; a longer one is taken as absent."""

_MAX_TARGET: Final = 1024


class Head(Protocol):
    """The head of an answer, as `httpd.client.UpstreamResponse` has it."""

    @property
    def headers(self) -> dict[bytes, bytes]:
        """By lower-case name."""
        ...

    @property
    def length(self) -> int | None:
        """Return the body's length where it is told."""
        ...


def described(head: Head, target: str, now: float) -> Version:
    """Return the version that a 200 brings.

    Args:
        head: of the answer.
        target: what was asked for.
        now: seconds since 1970; makes a tag of our own differ from all others.
    """
    etag, modified = _text(head, b"etag"), _text(head, b"last-modified")
    changed = parse_http_date(modified.encode())
    sent = parse_http_date(head.headers.get(b"date", b""))
    is_strong = changed is not None and sent is not None and sent - changed >= _STRONG_AFTER
    own = f"{target}\0{etag}\0{modified}\0{now}"
    tag = etag if _STRONG_TAG.fullmatch(etag) else ""
    return Version(
        target=target[:_MAX_TARGET],
        tag=tag or f'"{hashlib.sha256(own.encode()).hexdigest()[:32]}"',
        etag=etag if tag or etag.startswith('W/"') else "",
        modified=modified if changed is not None else "",
        is_date_strong=is_strong,
        kind=_text(head, b"content-type"),
        length=head.length,
    )


def continues(head: Head, writer: Writer) -> bool:
    """Return whether a 206 goes on where `writer` stands, with the same content."""
    told = _CONTENT_RANGE.fullmatch(head.headers.get(b"content-range", b""))
    etag = _text(head, b"etag") or writer.version.etag
    if told is None or etag != writer.version.etag:
        return False
    return (int(told[1]), int(told[3])) == (writer.length, writer.version.length)


def is_same(new: Version, old: Version) -> bool:
    """Return whether a 200 brings what is kept: by its tag, else by its strong date and length."""
    if new.etag or old.etag:
        return new.etag == old.etag and new.length in {None, old.length}
    is_dated = old.is_date_strong and new.modified == old.modified
    return is_dated and new.length is not None and new.length == old.length


def may_be_kept(head: Head) -> bool:
    """Return whether the end is certain and the upstream does not forbid it (RFC 9111 section 3)."""
    is_framed = head.length is not None or b"transfer-encoding" in head.headers
    told = head.headers.get(b"cache-control", b"").lower()
    return is_framed and b"no-store" not in told and b"private" not in told


def _text(head: Head, name: bytes) -> str:
    value = head.headers.get(name, b"")
    if len(value) > _MAX_VALUE or not value.isascii():
        return ""
    text = value.decode("ascii")
    return text if text.isprintable() else ""
