"""Asking a passthrough's upstream, through redirects that the rules allow, and what refusals mean."""

import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from fleetward.errors import NetworkError, NotFoundError
from fleetward.httpd.client import UpstreamResponse
from fleetward.relay.loops import passed_on
from fleetward.relay.passthrough_ground import PassthroughGround, RefusedError
from fleetward.relay.passthrough_rules import Wanted

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_ABSENT: Final = frozenset({404, 410})


@asynccontextmanager
async def asked(
    ground: PassthroughGround,
    wanted: Wanted,
    headers: Iterable[tuple[str, str]] = (),
    *,
    method: str = "GET",
) -> AsyncGenerator[UpstreamResponse]:
    """Ask for a file, and give the first answer that is no redirect.

    Args:
        ground: whom and how.
        wanted: what; each redirect leads to another such value, or is refused.
        headers: conditions and Range; nothing of a client's.
        method: GET or HEAD.

    Raises:
        NetworkError: the upstream failed.
        RefusedError: a redirect out of the rules, in a circle, or one too many.
    """
    place = wanted
    seen: set[str] = set()
    told = (*headers, *(passed_on() or ground.via))
    while place.target not in seen and len(seen) <= ground.limits.max_redirects:
        seen.add(place.target)
        ground.counters.upstream_requests += 1
        async with await ground.client.get(place.target, told, method=method) as response:
            if response.status not in _REDIRECTS:
                yield response
                return
            place = _redirected(ground, place, response)
    ground.counters.refused_redirects += 1
    raise RefusedError(f"{ground.client.endpoint} redirects in a circle, or without end")


def _redirected(ground: PassthroughGround, place: Wanted, response: UpstreamResponse) -> Wanted:
    try:
        return ground.rules.redirected(place, response.headers.get(b"location", b""))
    except NetworkError as error:
        ground.counters.refused_redirects += 1
        raise RefusedError(str(error)) from error


def refusal(ground: PassthroughGround, response: UpstreamResponse) -> NetworkError:
    """Return what a status means that brings no content: an error to raise."""
    status = response.status
    if status in _ABSENT:
        return NotFoundError(f"{ground.client.endpoint} does not have it", status)
    told = response.headers.get(b"retry-after", b"")
    return RefusedError(
        f"{ground.client.endpoint} answered {status}",
        is_of_upstream=status == 429 or status >= 500,
        pause=int(told) if re.fullmatch(rb"\d{1,6}", told) else 0,
    )
