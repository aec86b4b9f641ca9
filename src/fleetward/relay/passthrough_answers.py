"""What a client gets of a passthrough's file, kept or on its way."""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from fleetward.httpd.conditional import (
    Selection,
    http_date,
    parse_http_date,
    represent,
    select,
)
from fleetward.httpd.message import FileBody, Request, Response
from fleetward.relay.passthrough_file import HEAD_BYTES, Kept, Version
from fleetward.relay.passthrough_fill import Outcome, Retrieval, RetrievalReader

UNVERIFIED: Final = ("X-Fleetward-Verified", "no")

_VIA: Final = ("Via", "1.1 fleetward")
_STALE: Final = ("Warning", '111 fleetward "Revalidation Failed"')
_MAX_AGE: Final = re.compile(rb"(?:^|[,\s])max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_NO_CACHE: Final = re.compile(rb"(?:^|[,\s])no-cache(?:$|[,\s])", re.IGNORECASE)


def client_max_age(request: Request) -> float | None:
    """Return how old an answer the client wants at most, in seconds; None where it says nothing.

    apt asks for its indexes with `max-age=0`, so that they fit each other.
    """
    told = request.headers.get(b"cache-control", b"")
    if _NO_CACHE.search(told) or (not told and b"no-cache" in request.headers.get(b"pragma", b"")):
        return 0
    found = _MAX_AGE.search(told)
    return float(found[1]) if found else None


def answer_kept(
    request: Request, kept: Kept, descriptor: int, now: float, *, is_stale: bool = False
) -> Response:
    """Return the answer from a kept file.

    Args:
        request: what the client asks.
        kept: the file.
        descriptor: open for reading; the answer owns it from now on.
        now: seconds since 1970, for Age.
        is_stale: whether the upstream could not be asked, so that the answer carries a warning.
    """
    age = ("Age", str(max(0, int(now - kept.checked))))
    more = (age, _STALE) if is_stale else (age,)
    length = kept.version.length or 0
    selection, headers = _selected(request, kept.version, length)
    body = FileBody(descriptor, HEAD_BYTES, length)
    return _represent(selection, headers + more, body)


def answer_retrieved(request: Request, retrieval: Retrieval) -> Response | None:
    """Return the answer from a content that is coming or has come; None where there is none.

    The caller holds the retrieval (`Retrieval.held`).
    """
    writer, length = retrieval.writer, retrieval.length
    if retrieval.outcome is not Outcome.CONTENT or writer is None or length is None:
        return None
    selection, headers = _selected(request, writer.version, length)
    reader = RetrievalReader(retrieval, writer) if length else None  # no byte to wait for
    body = FileBody(os.dup(writer.descriptor), HEAD_BYTES, length, reader)
    return _represent(selection, headers, body)


def answer_described(request: Request, version: Version) -> Response | None:
    """Return the answer to HEAD from what the upstream said of a file that is not here.

    None where it did not tell the length, which only the file itself can tell then.
    """
    if version.length is None:
        return None
    selection, headers = _selected(request, version, version.length)
    return _represent(selection, headers, FileBody(-1, HEAD_BYTES, version.length))


def _selected(
    request: Request, version: Version, length: int
) -> tuple[Selection, tuple[tuple[str, str], ...]]:
    """Return what the client gets, and the headers that describe the content."""
    modified = parse_http_date(version.modified.encode())
    conditions = _conditions(request.headers, version)
    selection = select(request.method, conditions, version.tag.encode(), length, modified)
    return selection, _headers(version, modified)


def _represent(
    selection: Selection, headers: tuple[tuple[str, str], ...], whole: FileBody
) -> Response:
    """Return the answer from `whole`, which is closed where the answer has no body."""
    response = represent(
        selection,
        headers,
        whole.length,
        lambda first, count: replace(whole, offset=HEAD_BYTES + first, length=count),
    )
    if not isinstance(response.body, FileBody):
        whole.close()
    return response


def _headers(version: Version, modified: int | None) -> tuple[tuple[str, str], ...]:
    dated = () if modified is None else (("Last-Modified", http_date(modified)),)
    return (
        ("Content-Type", version.kind or "application/octet-stream"),
        ("ETag", version.tag),
        *dated,
        ("Accept-Ranges", "bytes"),
        _VIA,
        UNVERIFIED,
    )


def _conditions(headers: Mapping[bytes, bytes], version: Version) -> Mapping[bytes, bytes]:
    """Return the headers without a Range that a weak date is to make safe: the whole is sent."""
    condition = headers.get(b"if-range")
    if condition is None or version.is_date_strong or condition.startswith(b'"'):
        return headers
    return {name: value for name, value in headers.items() if name != b"range"}
