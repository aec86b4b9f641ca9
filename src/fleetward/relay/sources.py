"""The upstreams, in the order in which they are asked.

A source that fails is left alone for a while, which doubles. A source that sent a wrong digest is
put aside: until its time is over it is asked only where no other is left, and never again for the
blob that it falsified. Statuses have one meaning each:

    200, 206            the content
    304                 what we have is still right
    403, 404, 410       the source does not have it (a private bucket says 403 for absent)
    everything else     the source failed; a redirect too, which is never followed
"""

import asyncio
import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fleetward.core.digest import Sha256, sha256_of
from fleetward.errors import DigestError, NetworkError
from fleetward.httpd.client import UpstreamClient, UpstreamResponse
from fleetward.relay.absent import AbsentNames
from fleetward.relay.counters import RelayCounters
from fleetward.relay.loops import passed_on
from fleetward.relay.news import News
from fleetward.relay.settings import RelayLimits

_MAX_FALSE_DIGESTS = 1024

Headers = tuple[tuple[str, str], ...]


class Verdict(enum.Enum):
    """What a response's status says."""

    CONTENT = "content"
    UNCHANGED = "unchanged"
    ABSENT = "absent"
    FAILED = "failed"


def verdict_of(response: UpstreamResponse) -> Verdict:
    """Return what the status means."""
    if response.status in {200, 206}:
        return Verdict.CONTENT
    if response.status == 304:
        return Verdict.UNCHANGED
    return Verdict.ABSENT if response.status in {403, 404, 410} else Verdict.FAILED


class Source:
    """One upstream, and what is known of how it behaves.

    Attributes:
        client: how it is asked.
        headers: sent with every request (`Via`).
        failures: in a row.
        via: of its last answer; see `relay.loops`.
    """

    def __init__(self, client: UpstreamClient, limits: RelayLimits, headers: Headers = ()) -> None:
        self.client = client
        self.headers = headers
        self.failures = 0
        self.via = b""
        self._limits = limits
        self._paused_until = 0.0
        self._false_until = 0.0
        self._false_digests: dict[Sha256, float] = {}

    @property
    def name(self) -> str:
        """Return its URL, which also names its partial files."""
        return str(self.client.endpoint)

    async def get(
        self, path: str, headers: Iterable[tuple[str, str]] = (), *, method: str = "GET"
    ) -> UpstreamResponse:
        """Ask it, with the headers of every request; as `UpstreamClient.get`.

        Raises:
            NetworkError: as there.
        """
        every = (*(passed_on() or self.headers), *headers)
        response = await self.client.get(path, every, method=method)
        self.note_via(response)
        return response

    def note_via(self, response: UpstreamResponse) -> None:
        """Remember which relays an answer came through (relay.loops)."""
        self.via = response.headers.get(b"via", b"")

    def is_paused(self, now: float) -> bool:
        """Return whether it failed just now."""
        return now < self._paused_until

    def is_false(self, now: float) -> bool:
        """Return whether it is put aside for a wrong digest."""
        return now < self._false_until

    def state(self, now: float) -> str:
        """Return `ready`, `paused` (it failed) or `false` (it sent a wrong digest)."""
        if self.is_paused(now):
            return "paused"
        return "false" if self.is_false(now) else "ready"

    def falsified(self, digest: Sha256, now: float) -> bool:
        """Return whether it sent these bytes wrong a short time ago."""
        return now < self._false_digests.get(digest, 0.0)

    def note_success(self) -> None:
        """Forget its failures."""
        self.failures = 0
        self._paused_until = 0.0

    def note_failure(self, now: float) -> None:
        """Leave it alone for a while."""
        limits = self._limits
        pause = limits.failure_pause * 2 ** min(self.failures, 16)
        self.failures += 1
        self._paused_until = now + min(pause, limits.max_failure_pause).total_seconds()

    def note_false(self, digest: Sha256, now: float) -> None:
        """Put it aside."""
        self._false_until = now + self._limits.false_source_pause.total_seconds()
        if len(self._false_digests) >= _MAX_FALSE_DIGESTS:
            self._false_digests.clear()
        self._false_digests[digest] = self._false_until


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document that an upstream sent.

    Attributes:
        content: all of it.
        etag: as the upstream said; empty where it said none.
    """

    content: bytes
    etag: str


class Unchanged:
    """The upstream says that what we have is right."""


class Absent:
    """No upstream has it."""


Outcome = Fetched | Unchanged | Absent


class Sources:
    """All upstreams of a relay, and what those who ask them share.

    Attributes:
        limits: of the relay.
        counters: of the relay.
        absent: names that no upstream has, as far as known.
        news: told of each new timestamp.
    """

    def __init__(
        self, sources: tuple[Source, ...], limits: RelayLimits, counters: RelayCounters
    ) -> None:
        self._sources = sources
        self.limits = limits
        self.counters = counters
        self.absent = AbsentNames(limits.absent_lifetime, limits.max_absent)
        self.news = News()

    def __iter__(self) -> Iterator[Source]:
        """Yield them in the configured order."""
        return iter(self._sources)

    def candidates(self, digest: Sha256 | None = None) -> tuple[Source, ...]:
        """Return whom to ask now, first the best; empty where all are to be left alone."""
        now = asyncio.get_running_loop().time()
        able = [
            source
            for source in self._sources
            if not source.is_paused(now) and not (digest and source.falsified(digest, now))
        ]
        return tuple(sorted(able, key=lambda source: source.is_false(now)))

    def failed(self, source: Source) -> None:
        """Note that a request to `source` failed."""
        self.counters.upstream_failures += 1
        source.note_failure(asyncio.get_running_loop().time())

    def falsified(self, source: Source, digest: Sha256) -> None:
        """Note that `source` sent other bytes than `digest` names."""
        self.counters.refused_digests += 1
        source.note_false(digest, asyncio.get_running_loop().time())

    async def fetch(
        self, path: str, max_bytes: int, *, digest: Sha256 | None = None, etag: str = ""
    ) -> Outcome:
        """Return a document from the first upstream that answers.

        Args:
            path: absolute.
            max_bytes: a longer one is a failure.
            digest: where the name says it: a source whose bytes differ is put aside and the next
                is asked, as when it does not have them.
            etag: of what we have, for a conditional request.

        Raises:
            NetworkError: no upstream answered.
            DigestError: each that answered sent wrong bytes.
        """
        problem: NetworkError | DigestError = NetworkError("no upstream can be asked just now")
        is_absent = False
        for source in self.candidates(digest):
            try:
                outcome = await self._fetch_from(source, path, max_bytes, etag)
            except NetworkError as error:
                self.failed(source)
                problem = error
                continue
            source.note_success()
            if digest is None or isinstance(outcome, Unchanged):
                return outcome
            if isinstance(outcome, Absent):
                is_absent = True
            elif sha256_of(outcome.content) == digest:
                return outcome
            else:
                self.falsified(source, digest)
                problem = DigestError(f"{source.name} sent other bytes than {path} names")
        if is_absent:
            return Absent()
        raise problem

    async def _fetch_from(self, source: Source, path: str, max_bytes: int, etag: str) -> Outcome:
        headers = (("If-None-Match", etag),) if etag else ()
        async with await source.get(path, headers) as response:
            verdict = verdict_of(response)
            if verdict is Verdict.CONTENT and response.status == 200:
                seconds = self.limits.document_deadline.total_seconds()
                content = await response.read(max_bytes, seconds)
                return Fetched(content, response.headers.get(b"etag", b"").decode("latin-1"))
            await response.read(max_bytes, self.limits.document_deadline.total_seconds())
            if verdict is Verdict.UNCHANGED and etag:
                return Unchanged()
            if verdict is Verdict.ABSENT:
                return Absent()
            raise NetworkError(f"{source.name} answered {response.status} for {path}")

    def send_always(self, headers: Headers) -> None:
        """Send these headers with every request from now on, to every source."""
        for source in self._sources:
            source.headers = headers

    def states(self) -> list[dict[str, str]]:
        """Return each source's URL and whether it is asked: `ready`, `paused` or `false`."""
        now = asyncio.get_running_loop().time()
        return [{"url": source.name, "state": source.state(now)} for source in self._sources]

    async def close(self) -> None:
        """Close the kept connections, and give the loop a turn to end them."""
        for source in self._sources:
            source.client.close()
        await asyncio.sleep(0)
