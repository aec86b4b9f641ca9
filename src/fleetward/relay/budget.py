"""What one client may take: misses outside the closure, requests per second, bytes per second.

    MissBudget   blobs that the current timestamp does not need, which a client makes the relay fetch
    DocumentBudget  names of documents likewise, which a client makes the relay ask for
    RatedHandler answers 503 beyond a client's requests per second, and spreads what is sent to it

A client is an IPv4 address or the /64 of an IPv6 one, so all hosts behind one NAT share a budget;
the defaults limit misses only. Over a limit the answer is 503 with Retry-After, never 403 or 429.

Each client's bytes are spread over all its connections together. Short answers, which leave in one
piece, are counted and paid for before the next; long ones are released in pieces. Documents of a
repository (metadata, targets) are neither counted nor kept waiting.
"""

import asyncio
from typing import Final

from fleetward.config.relay import ClientSettings
from fleetward.core.digest import Sha256
from fleetward.core.limits import KIB
from fleetward.httpd.message import (
    Answer,
    FileBody,
    Growth,
    Handler,
    Repeatable,
    Request,
    Response,
)
from fleetward.relay.bucket import Bucket, Buckets, retry_after
from fleetward.relay.counters import RelayCounters
from fleetward.relay.eviction import Needed
from fleetward.relay.settings import RelayLimits

_BURST_SECONDS: Final = 10
"""Requests may come in bursts of so many seconds' worth: an update is a dozen at once."""

_MIN_PIECE: Final = 4 * KIB
_MAX_PIECE: Final = 256 * KIB
_PIECE_SECONDS: Final = 0.1
"""Bytes are released so often; more often costs more turns than it smooths."""

_FREE_PATHS: Final = ("/metadata/", "/targets/", "/v1/", "/metrics")


class MissBudget:
    """Which client may make the relay fetch a blob that the current timestamp does not need."""

    def __init__(self, settings: ClientSettings, limits: RelayLimits, needed: Needed) -> None:
        per_minute = settings.misses_per_minute
        self._buckets = Buckets(per_minute / 60, max(1.0, per_minute), limits.max_clients)
        self._needed = needed
        self._unknown_cost = 1 / limits.unknown_closure_factor

    def take(self, peer: str, digest: Sha256, now: float) -> float:
        """Return 0 where the relay may fetch the blob for that client, else how long to wait.

        While the closure is not known, every blob costs a fraction of a miss, since most will be
        needed: `RelayLimits.unknown_closure_factor`.

        Args:
            peer: the client's address.
            digest: of the blob.
            now: loop time.
        """
        if self._needed.needs(digest):
            return 0.0
        cost = 1.0 if self._needed.is_known else self._unknown_cost
        return self._buckets.of(peer, now).take(cost, now)


class DocumentBudget:
    """Which client may make the relay ask upstream for a document that nothing leads to.

    Without it a client that counts names up (`/metadata/1.x.json`, `/metadata/2.x.json`, …) fills
    a thin link with questions, each of which is a miss.
    """

    def __init__(self, settings: ClientSettings, limits: RelayLimits) -> None:
        per_minute = settings.document_misses_per_minute
        self._buckets = Buckets(per_minute / 60, max(1.0, per_minute), limits.max_clients)

    def take(self, peer: str, now: float) -> float:
        """Return 0 where the relay may ask for one more for that client, else how long to wait.

        Args:
            peer: the client's address.
            now: loop time.
        """
        return self._buckets.of(peer, now).take(1.0, now)


async def _paid(bucket: Bucket) -> None:
    """Return once there is no debt."""
    while True:
        wait = bucket.wait(asyncio.get_running_loop().time())
        if wait <= 0:
            return
        await asyncio.sleep(wait)


class PacedGrowth:
    """Releases a file to one client at the client's rate; a `Growth` around another, or none."""

    def __init__(self, inner: Growth | None, end: int, bucket: Bucket) -> None:
        """Take what to release.

        Args:
            inner: how far the file has come; None where it is whole.
            end: offset after the last byte that is sent.
            bucket: the client's.
        """
        self._inner = inner
        self._end = end
        self._bucket = bucket
        self._released = 0
        self._piece = min(_MAX_PIECE, max(_MIN_PIECE, int(bucket.rate * _PIECE_SECONDS)))

    @property
    def available(self) -> int:
        """Return how many bytes from the file's start may be sent now."""
        inner = self._end if self._inner is None else self._inner.available
        return min(inner, self._released)

    async def beyond(self, offset: int) -> None:
        """Return once `available` is more than `offset`.

        Raises:
            NetworkError: as the inner one.
        """
        if self._released > offset and self._inner is None:
            return
        await _paid(self._bucket)
        inner = self._end
        if self._inner is not None:
            await self._inner.beyond(offset)
            inner = min(self._end, self._inner.available)
        self._released = min(offset + self._piece, inner)
        self._bucket.spend(self._released - offset, asyncio.get_running_loop().time())


class RatedHandler:
    """A handler whose clients each have their rates."""

    def __init__(
        self,
        handler: Handler,
        settings: ClientSettings,
        limits: RelayLimits,
        counters: RelayCounters,
    ) -> None:
        per_second, rate = settings.requests_per_second, settings.rate
        self._handler = handler
        self._counters = counters
        self._requests = Buckets(per_second, per_second * _BURST_SECONDS, limits.max_clients)
        self._bytes = Buckets(rate, rate * _PIECE_SECONDS, limits.max_clients)
        self._is_counting = per_second > 0
        self._is_pacing = rate > 0

    def max_body(self, method: str, path: str) -> int:
        """Return what the handler says."""
        return self._handler.max_body(method, path)

    def answer(self, request: Request) -> Answer:
        """Return the handler's answer, at the client's rate; 503 beyond its requests per second."""
        now = asyncio.get_running_loop().time()
        if self._is_counting:
            wait = self._requests.of(request.peer, now).take(1.0, now)
            if wait > 0:
                self._counters.overloaded += 1
                self._counters.refused_rate += 1
                return Response(503, (retry_after(wait),))
        is_free = request.path.startswith(_FREE_PATHS) and not request.authority
        if self._is_pacing and not is_free:
            return self._paced(request, self._bytes.of(request.peer, now))
        answer = self._handler.answer(request)
        if self._is_counting and isinstance(answer, Repeatable):
            return answer.response
        return answer

    async def _paced(self, request: Request, bucket: Bucket) -> Response:
        await _paid(bucket)
        answer = self._handler.answer(request)
        if isinstance(answer, Repeatable):
            response = answer.response
        elif isinstance(answer, Response):
            response = answer
        else:
            response = await answer
        body = response.body
        if request.method == "HEAD":
            return response
        if isinstance(body, FileBody):
            body.growth = PacedGrowth(body.growth, body.offset + body.length, bucket)
        else:
            bucket.spend(len(body), asyncio.get_running_loop().time())
        return response


def rated(
    handler: Handler, settings: ClientSettings, limits: RelayLimits, counters: RelayCounters
) -> Handler:
    """Return the handler with each client's rates, or as it is where there are none."""
    if settings.rate > 0 or settings.requests_per_second > 0:
        return RatedHandler(handler, settings, limits, counters)
    return handler
