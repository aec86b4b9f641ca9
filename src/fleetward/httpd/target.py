"""The request target: decoded once, normalised once, before anything looks at it (pure).

Source: RFC 9112 section 3.2, RFC 3986 section 5.2.4. Nothing downstream decodes or normalises
again, so no second reading of a path can differ from the checked one.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from fleetward.httpd.message import RefusedRequestError

_ABSOLUTE = re.compile(rb"(https?)://([^/?#@]+)", re.IGNORECASE)
_ESCAPE = re.compile(rb"%(?:([0-9A-Fa-f]{2})|)")
_PLAIN = re.compile(rb"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")


class Target(NamedTuple):
    """Where a request points.

    Attributes:
        path: absolute, decoded, without `.`, `..` or empty segments (one may end it).
        query: what follows `?`, not decoded; empty where there is none.
        authority: `scheme://host[:port]`, lower case, of a target in absolute form (a request to
            a proxy); empty in origin form.
    """

    path: str
    query: str
    authority: str = ""


@lru_cache(maxsize=4096)
def parse_target(raw: bytes) -> Target:
    """Return what the bytes of a request target mean; origin form or absolute form.

    Raises:
        RefusedRequestError: 400: another form, a user in the authority, a fragment, a broken
            escape, a control character, not UTF-8, or `..` above the root.
    """
    if _PLAIN.fullmatch(raw):
        return Target(raw.decode("ascii"), "")
    absolute = _ABSOLUTE.match(raw)
    authority = ""
    if absolute:
        authority = _authority(absolute)
        raw = raw[absolute.end() :] or b"/"
        if raw.startswith(b"?"):
            raw = b"/" + raw
    if not raw.startswith(b"/") or b"#" in raw:
        raise RefusedRequestError(400, "the request target is neither a path nor a URL")
    path, _, query = raw.partition(b"?")
    return Target(_normalise(_decode(path)), query.decode("latin-1"), authority)


def _authority(match: re.Match[bytes]) -> str:
    try:
        return f"{match[1].decode('ascii')}://{match[2].decode('ascii')}".lower()
    except UnicodeDecodeError as error:
        raise RefusedRequestError(400, "the authority is not ASCII") from error


def _decode(path: bytes) -> str:
    try:
        text = _ESCAPE.sub(_decode_one, path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedRequestError(400, "the path is not UTF-8") from error
    if not text.isprintable():
        raise RefusedRequestError(400, "the path has a control character")
    return text


def _decode_one(match: re.Match[bytes]) -> bytes:
    if match[1] is None:
        raise RefusedRequestError(400, "the path has a broken escape")
    return bytes.fromhex(match[1].decode("ascii"))


def _normalise(path: str) -> str:
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            if not kept:
                raise RefusedRequestError(400, "the path leads above the root")
            kept.pop()
        elif segment not in {"", "."}:
            kept.append(segment)
    ends_as_folder = segments[-1] in {"", ".", ".."}
    return "/" + "/".join(kept) + ("/" if kept and ends_as_folder else "")
