"""`GET /v1/watch` of a relay: hosts and further relays wait here for the next timestamp.

They are answered in the turn of the loop in which the timestamp's cache takes it up, wherever the
news came from (a long poll upstream, an announcement, a poll, another host's request).
"""

from collections.abc import Iterable, Mapping

from fleetward.adapters.entropy import Entropy
from fleetward.httpd.watchers import Watchers, WatchLimits
from fleetward.relay.lifetime import Lifetime
from fleetward.relay.news import News
from fleetward.relay.part import Kind, Metric, Route
from fleetward.relay.timestamp import TimestampCache
from fleetward.wire.watch import WATCH_PATH


class WatchPart:
    """The long polls; a `Part`."""

    def __init__(
        self,
        timestamp: TimestampCache,
        news: News,
        lifetime: Lifetime,
        entropy: Entropy,
        limits: WatchLimits,
    ) -> None:
        self._timestamp = timestamp
        self._lifetime = lifetime
        self._watchers = Watchers(entropy, limits)
        news.subscribe(self._publish)

    def routes(self) -> Iterable[Route]:
        """Return the one route."""
        return (Route(WATCH_PATH, self._watchers.answer, frozenset({"GET"})),)

    async def run(self) -> None:
        """Send everybody away when the relay stops."""
        try:
            await self._lifetime.stopping.wait()
        finally:
            self._watchers.close()

    def _publish(self, _timestamp: bytes) -> None:
        whole = self._timestamp.whole
        if whole is not None:
            self._watchers.publish(self._timestamp.version, whole)

    def status(self) -> Mapping[str, object]:
        """Return who waits and what was answered."""
        counters = self._watchers.counters
        return {
            "watchers": {
                "waiting": self._watchers.waiting,
                "told": counters.told,
                "expired": counters.expired,
                "overloaded": counters.overloaded,
            }
        }

    def metrics(self) -> Iterable[Metric]:
        """Return the same as numbers."""
        counters = self._watchers.counters
        return (
            Metric("watchers", self._watchers.waiting, "Long polls that wait now.", Kind.GAUGE),
            Metric("watch_told_total", counters.told, "Long polls answered with a timestamp."),
            Metric("watch_expired_total", counters.expired, "Long polls that ended without news."),
            Metric(
                "watch_overloaded_total",
                counters.overloaded,
                "Long polls refused since too many waited.",
            ),
        )
