"""The timestamp through the relay: asked for at most every few seconds, however many hosts poll.

A relay may only delay, so where no upstream answers it serves the last timestamp that it knows,
with its age in `Age`; hosts judge freshness by what is signed inside, and go elsewhere when it is
old (`frozen`). The last one is kept on disk, so that a relay which restarts behind a dead WAN link
still answers.

**What the upstream says now is what is served**, also where it claims a lower version than before.
A relay holds no key, so it cannot tell a rollback from a repair, and must choose what an attacker
on the way gets:

- To keep the greatest version ever seen would make one forged answer last: a timestamp that claims
  version 2^63 (fast-forward) would be served for ever, every host would refuse it, and somebody
  would have to empty the cache by hand.
- To serve what is said now makes a replay visible to hosts for as long as it goes on. Each host
  refuses it by its own memory (rollback), reports the source as behind or refused, and asks
  another. When the attack ends, the next request mends the relay.

So the relay forgets, and hosts remember. For the same reason a forged version can blind the long
poll towards the upstream for one poll at most: `renew` is called after each.
"""

import asyncio
import hashlib
from dataclasses import dataclass, replace
from functools import partial

from fleetward.core.limits import MetadataLimits
from fleetward.errors import DiskError, DocumentError
from fleetward.httpd.conditional import NotModified, Whole, represent, select
from fleetward.httpd.files import NOT_FOUND_METADATA
from fleetward.httpd.message import UNAVAILABLE, Answer, Repeatable, Request, Response
from fleetward.relay.documents import DocumentShelf, wants_revalidation
from fleetward.relay.flights import Flights
from fleetward.relay.sources import Absent, Fetched, Sources, Unchanged
from fleetward.wire.announcement import claimed_version
from fleetward.wire.layout import TIMESTAMP_PATH

_CACHE_CONTROL = ("Cache-Control", "no-store")


@dataclass(frozen=True, slots=True)
class _Known:
    whole: Response
    unchanged: Response
    etag: str
    version: int
    upstream_etag: str
    confirmed: float

    @property
    def content(self) -> bytes:
        assert isinstance(self.whole.body, bytes)  # noqa: S101 (for the type checker)
        return self.whole.body

    def age(self, now: float) -> float:
        return now - self.confirmed


class TimestampCache:
    """Answers for `/metadata/timestamp.json`."""

    def __init__(self, shelf: DocumentShelf, sources: Sources) -> None:
        self._shelf = shelf
        self._sources = sources
        self._limits = sources.limits
        self._counters = sources.counters
        self._known: _Known | None = None
        self._is_absent = False
        self._flights: Flights[None, None] = Flights()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def version(self) -> int:
        """Return what the present timestamp claims; 0 without one, or where it says nothing."""
        return 0 if self._known is None else self._known.version

    @property
    def whole(self) -> Response | None:
        """Return the answer to a plain GET, prepared; None without a timestamp."""
        return None if self._known is None else self._known.whole

    def restore(self, content: bytes, age: float) -> None:
        """Take the timestamp that an earlier run kept, `age` seconds old; call it in the loop."""
        confirmed = asyncio.get_running_loop().time() - max(age, self._lifetime)
        self._known = _known(content, "", confirmed)
        self._sources.news.publish(content)

    async def renew(self) -> None:
        """Ask the upstreams now, and return once what they say is served.

        One request serves all who call meanwhile, but for one that had begun before the call: it
        may have missed what the caller heard of.
        """
        if None in self._flights:
            await asyncio.wait([self._flights.join(None, self._refresh)])
        await asyncio.wait([self._flights.join(None, self._refresh)])

    @property
    def _lifetime(self) -> float:
        return self._limits.timestamp_lifetime.total_seconds()

    def answer(self, request: Request) -> Answer:
        """Return the answer to GET or HEAD."""
        now = asyncio.get_running_loop().time()
        known = self._known
        lifetime = self._lifetime
        if wants_revalidation(request):
            lifetime = min(lifetime, self._limits.revalidate_interval.total_seconds())
        if known is not None and known.age(now) < lifetime:
            self._count_hit()
            response = _respond(request, known, age=None)
            return Repeatable(response, partial(self._holds, known, lifetime), self._count_hit)
        self._counters.misses += 1
        if None in self._flights:
            self._counters.coalesced += 1
        flight = self._flights.join(None, self._refresh)
        return self._after(flight, request, now)

    def _count_hit(self) -> None:
        self._counters.hits += 1

    def _holds(self, answered: _Known, lifetime: float) -> bool:
        """Return whether what was answered may be answered again without a look upstream."""
        known = self._known
        if known is None or known.whole is not answered.whole:
            return False
        return known.age(asyncio.get_running_loop().time()) < lifetime

    async def _after(
        self, flight: "asyncio.Task[None]", request: Request, asked: float
    ) -> Response:
        patience = None if self._known is None else self._limits.patience.total_seconds()
        await asyncio.wait([flight], timeout=patience)
        known = self._known
        if known is None:
            return NOT_FOUND_METADATA if self._is_absent else UNAVAILABLE
        age = known.age(asyncio.get_running_loop().time())
        if known.confirmed >= asked or age < self._lifetime:
            return _respond(request, known, age=None)
        self._counters.stale += 1
        return _respond(request, known, age=age)

    async def _refresh(self) -> None:
        known = self._known
        outcome = await self._sources.fetch(
            f"/{TIMESTAMP_PATH}",
            MetadataLimits().timestamp_bytes,
            etag=known.upstream_etag if known else "",
        )
        now = asyncio.get_running_loop().time()
        self._is_absent = isinstance(outcome, Absent)
        if isinstance(outcome, Fetched):
            content = outcome.content
            self._known = _known(content, outcome.etag, now)
            if known is None or known.content != content:
                self._sources.news.publish(content)
                self._keep_soon()
        elif isinstance(outcome, Unchanged) and known is not None:
            self._known = replace(known, confirmed=now)

    def _keep_soon(self) -> None:
        """Write the newest timestamp to disk, while those who wait for it are answered."""
        if self._keeping is None:
            self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def _keep(self) -> None:
        kept: bytes | None = None
        try:
            while self._known is not None and self._known.content != kept:
                kept = self._known.content
                await asyncio.to_thread(self._shelf.keep, TIMESTAMP_PATH, kept)
        except DiskError:
            self._counters.disk_errors += 1
        finally:
            self._keeping = None

    async def stop(self) -> None:
        """End what is under way; what is being written is written to its end."""
        await self._flights.cancel()
        if self._keeping is not None:
            await asyncio.wait([self._keeping])


def _known(content: bytes, upstream_etag: str, confirmed: float) -> _Known:
    etag = _etag(content)
    try:
        version = claimed_version(content)
    except DocumentError:
        version = 0
    headers = (("ETag", etag), _CACHE_CONTROL)
    whole, unchanged = Response(200, headers, content), Response(304, headers)
    return _Known(whole, unchanged, etag, version, upstream_etag, confirmed)


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def _respond(request: Request, known: _Known, *, age: float | None) -> Response:
    content = known.content
    selection = select(request.method, request.headers, known.etag.encode(), len(content))
    if age is None and isinstance(selection, Whole):
        return known.whole
    if age is None and isinstance(selection, NotModified):
        return known.unchanged
    headers: tuple[tuple[str, str], ...] = (("ETag", known.etag), _CACHE_CONTROL)
    if age is not None:
        headers += (("Age", str(int(age))),)
    return represent(
        selection,
        headers,
        len(content),
        lambda first, count: content[first : first + count],
    )
