"""Those who wait for a newer timestamp: thousands of long polls, a few hundred bytes each.

Each waits as one bare future, in two sets: by the version that it knows, and by the moment at which
it is sent away. One timer serves all. News are one prepared response for everybody, handed out in
slices, so that other clients are answered in between.

Invariants: every future is answered or cancelled once; who leaves is forgotten at once; nobody is
told of a version that is not above the one that he named.

What is published may be forged (a relay holds no key), with a version that is above everybody's.
Then each long poll is answered at once, as long as it stands. This does not freeze those who
watch, and costs what any GET costs; that they do not ask again and again is theirs to see to (see
`agent.watching`), since only they can tell a forged timestamp from a true one.
"""

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fleetward.adapters.entropy import Entropy
from fleetward.errors import DocumentError
from fleetward.httpd.message import UNAVAILABLE, Answer, Request, Response
from fleetward.wire.watch import WATCH_TIME, parse_after

_NOTHING: Final = Response(204, (("Cache-Control", "no-store"),))
_NONSENSE: Final = Response(400)
_ONLY_GET: Final = Response(405, (("Allow", "GET"),))

_Future = asyncio.Future[Response]


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """What those who wait may take.

    Attributes:
        max_watchers: who may wait at once; one more is answered 503, and polls instead.
        time: the longest wait without news.
        spread: the share of `time` by which waits are shortened at random, so that thousands
            who came in one instant do not come back in one.
        slice: answers in one turn of the loop, so that news do not keep others waiting.
        tick: how often is looked whose wait is over; its precision.
    """

    max_watchers: int = 9_000
    time: timedelta = WATCH_TIME
    spread: float = 0.1
    slice: int = 250
    tick: timedelta = timedelta(milliseconds=250)


@dataclass(slots=True)
class WatchCounters:
    """Only ever counted up.

    Attributes:
        told: long polls answered with a timestamp.
        expired: long polls answered without news.
        overloaded: long polls answered 503 since too many waited.
    """

    told: int = 0
    expired: int = 0
    overloaded: int = 0


class Watchers:
    """Answers `GET /v1/watch` (see `wire.watch`); lives in one event loop.

    Attributes:
        counters: what was done so far.
    """

    def __init__(self, entropy: Entropy, limits: WatchLimits | None = None) -> None:
        self.counters = WatchCounters()
        self._entropy = entropy
        self._limits = limits or WatchLimits()
        self._version = 0
        self._news: Response | None = None
        self._places: dict[_Future, tuple[int, int]] = {}
        self._by_version: dict[int, dict[_Future, None]] = {}
        self._by_tick: dict[int, dict[_Future, None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Return how many wait now."""
        return len(self._places)

    def publish(self, version: int, response: Response) -> None:
        """Take the present timestamp, and answer all who know an older one.

        Args:
            version: what it claims; it may be lower than the last one (an upstream went back).
            response: 200 with its bytes, as a plain GET has them.
        """
        self._version, self._news = version, response
        due = [one for known, group in self._by_version.items() if known < version for one in group]
        self._answer_all(due, response)

    def answer(self, request: Request) -> Answer:
        """Return the answer to a long poll, or a future of it."""
        if request.method != "GET":
            return _ONLY_GET
        try:
            after = parse_after(request.query)
        except DocumentError:
            return _NONSENSE
        if self._news is not None and self._version > after:
            self.counters.told += 1
            return self._news
        if self._is_closed:
            return _NOTHING
        if len(self._places) >= self._limits.max_watchers:
            self.counters.overloaded += 1
            return UNAVAILABLE
        return self._wait(after)

    def close(self) -> None:
        """Send everybody away, and let nobody wait any more: the server stops."""
        self._is_closed = True
        self._answer_all(list(self._places), _NOTHING)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- who waits -----------------------------------------------------------------------------

    def _wait(self, after: int) -> _Future:
        loop = asyncio.get_running_loop()
        future: _Future = loop.create_future()
        wait = self._limits.time * (1 - self._limits.spread * self._entropy.share())
        tick = math.ceil((loop.time() + wait.total_seconds()) / self._tick_seconds)
        self._places[future] = (after, tick)
        self._by_version.setdefault(after, {})[future] = None  # in the order of their coming
        self._by_tick.setdefault(tick, {})[future] = None
        future.add_done_callback(self._forget)
        if self._timer is None:
            self._timer = loop.call_later(self._tick_seconds, self._send_away)
        return future

    def _forget(self, future: _Future) -> None:
        if not future.cancelled():
            is_told = future.result() is not _NOTHING
            self.counters.told += is_told
            self.counters.expired += not is_told
        after, tick = self._places.pop(future)
        for groups, key in ((self._by_version, after), (self._by_tick, tick)):
            group = groups[key]
            del group[future]
            if not group:
                del groups[key]

    @property
    def _tick_seconds(self) -> float:
        return self._limits.tick.total_seconds()

    def _send_away(self) -> None:
        """Answer those whose wait is over."""
        self._timer = None
        if not self._places:
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._tick_seconds, self._send_away)
        now = loop.time() / self._tick_seconds
        due = [one for tick, group in self._by_tick.items() if tick <= now for one in group]
        self._answer_all(due, _NOTHING)

    def _answer_all(self, due: list[_Future], response: Response) -> None:
        """Answer a slice now, and the others when the loop has been round."""
        first, rest = due[: self._limits.slice], due[self._limits.slice :]
        _settle(first, response)
        if rest:
            asyncio.get_running_loop().call_soon(self._answer_all, rest, response)


def _settle(futures: Iterable[_Future], response: Response) -> None:
    for future in futures:
        if not future.done():
            future.set_result(response)
