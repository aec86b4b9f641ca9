"""News from the upstream: one long poll at the preferred one, or polls where it has none.

    the long poll says   then
    news (200)           the upstream is asked, as for any host; a pause where it had nothing new
    nothing yet (204)    the upstream is asked too, and the next long poll begins
    404, 405, 501 …      polls for a while, then a long poll is tried again
    anything else        the upstream is asked, and a pause that doubles up to the polls' own

The answer of a long poll is a hint and nothing more: what the relay then serves is what a plain
conditional GET gives (`TimestampCache.renew`), so a forged answer is no worse than a forged GET, and
one that is repeated costs no more than polls. The GET after each quiet poll mends a relay whose
cached timestamp claims so high a version that no news can be above it (fast-forward).

Deliberately not here: which upstream is asked (`Sources`); a host's own long poll (`agent`).
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fleetward.adapters.entropy import Entropy
from fleetward.config.relay import PushSettings
from fleetward.core.limits import MetadataLimits
from fleetward.errors import DocumentError, NetworkError
from fleetward.relay.part import Kind, Metric, Route
from fleetward.relay.settings import PushLimits
from fleetward.relay.sources import Source, Sources
from fleetward.relay.timestamp import TimestampCache
from fleetward.wire.announcement import claimed_version
from fleetward.wire.watch import LEAST_QUIET, WATCH_DEADLINE, Heard, watch_target

JITTER: Final = 0.2
"""The share of a pause that is drawn anew each time, so that relays do not come all at once."""

_UNABLE: Final = frozenset({403, 404, 405, 410, 501})
_BODY_SECONDS: Final = 10.0


@dataclass(slots=True)
class NewsCounters:
    """Only ever counted up.

    Attributes:
        long_polls: begun.
        polls: upstream requests since a pause was over.
        news: long polls whose news were true.
        false_news: long polls whose news were none when the upstream was asked.
        failures: long polls that failed.
    """

    long_polls: int = 0
    polls: int = 0
    news: int = 0
    false_news: int = 0
    failures: int = 0


class UpstreamNews:
    """Keeps the timestamp's cache as new as the upstream; a `Part`.

    Attributes:
        counters: what was done so far.
    """

    def __init__(
        self,
        timestamp: TimestampCache,
        sources: Sources,
        entropy: Entropy,
        push: PushSettings,
        limits: PushLimits,
    ) -> None:
        self.counters = NewsCounters()
        self._timestamp = timestamp
        self._sources = sources
        self._entropy = entropy
        self._push = push
        self._limits = limits
        self._failures = 0
        self._unable_until: dict[str, float] = {}
        self._watched = ""

    def routes(self) -> Iterable[Route]:
        """Return none."""
        return ()

    async def run(self) -> None:
        """Watch, or poll, until cancelled."""
        while self._push.watch or self._push.poll:
            await self._round()

    async def _round(self) -> None:
        source = next(iter(self._sources.candidates()), None)
        if source is None:
            await self._after(is_true=False)
        elif self._may_watch(source):
            self._watched = source.name
            await self._watch(source)
        else:
            self._watched = ""
            self.counters.polls += 1
            await self._timestamp.renew()
            await self._pause(self._push.poll or self._limits.unable_pause)

    def _may_watch(self, source: Source) -> bool:
        return self._push.watch and _now() >= self._unable_until.get(source.name, 0.0)

    async def _watch(self, source: Source) -> None:
        before, began = self._timestamp.version, _now()
        heard = await self._long_poll(source, before)
        if heard is Heard.UNABLE:
            pause = self._spread(self._limits.unable_pause)
            self._unable_until[source.name] = _now() + pause.total_seconds()
            return
        await self._timestamp.renew()
        if heard is Heard.NEWS:
            is_true = self._timestamp.version > before
            self.counters.news += is_true
            self.counters.false_news += not is_true
        else:
            least = LEAST_QUIET.total_seconds()
            is_true = heard is Heard.QUIET and _now() - began >= least
        await self._after(is_true=is_true)

    async def _after(self, *, is_true: bool) -> None:
        """Go on at once where all is well, else after a pause that doubles."""
        if is_true:
            self._failures = 0
            return
        pause = self._limits.first_pause * 2 ** min(self._failures, 16)
        self._failures += 1
        await self._pause(min(pause, self._push.poll or self._limits.unable_pause))

    async def _long_poll(self, source: Source, after: int) -> Heard:
        self.counters.long_polls += 1
        try:
            heard = await self._ask(source, after)
        except (NetworkError, DocumentError):
            heard = Heard.FAILED
        self.counters.failures += heard is Heard.FAILED
        return heard

    async def _ask(self, source: Source, after: int) -> Heard:
        asking = source.client.request(
            "GET", watch_target(after), source.headers, seconds=WATCH_DEADLINE.total_seconds()
        )
        async with await asking as response:
            source.note_via(response)
            content = await response.read(MetadataLimits().timestamp_bytes, _BODY_SECONDS)
            if response.status == 200:
                return Heard.NEWS if claimed_version(content) > after else Heard.FAILED
            if response.status == 204:
                return Heard.QUIET
            return Heard.UNABLE if response.status in _UNABLE else Heard.FAILED

    def _spread(self, pause: timedelta) -> timedelta:
        return pause * (1 - JITTER + 2 * JITTER * self._entropy.share())

    async def _pause(self, pause: timedelta) -> None:
        await asyncio.sleep(self._spread(pause).total_seconds())

    def status(self) -> Mapping[str, object]:
        """Return whom it watches; empty while it polls."""
        return {"watching": self._watched}

    def metrics(self) -> Iterable[Metric]:
        """Return what was heard."""
        counters = self.counters
        return (
            Metric("upstream_watched", bool(self._watched), "1 in a long poll.", Kind.GAUGE),
            Metric("upstream_long_polls_total", counters.long_polls, "Long polls upstream."),
            Metric("upstream_polls_total", counters.polls, "Polls in place of long polls."),
            Metric("upstream_news_total", counters.news, "Long polls that brought news."),
            Metric("upstream_false_news_total", counters.false_news, "Those whose news were none."),
            Metric("upstream_watch_failures_total", counters.failures, "Long polls that failed."),
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
