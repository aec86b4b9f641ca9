"""Announcing: each new timestamp of the relay goes out as one datagram, to groups and by name.

It saves polls where long polls are not held, and is a convenience elsewhere: nothing depends on a
datagram's arrival. At most one goes out in an interval, the newest; one that does not fit 1,200
bytes does not go out at all. Relays on one network that hear each other each announce a timestamp
once, since none asks for what it already has.
"""

import asyncio
from collections.abc import Iterable, Mapping

from fleetward.adapters.datagram import Destination, interfaces_for, require_interfaces, send
from fleetward.adapters.resolving import resolve
from fleetward.config.addresses import split_host_and_port
from fleetward.config.relay import PushSettings
from fleetward.relay.lifetime import Lifetime
from fleetward.relay.news import News
from fleetward.relay.part import Metric, Route
from fleetward.relay.settings import PushLimits
from fleetward.wire.announcement import fits_announcement


class AnnouncingPart:
    """Sends announcements; a `Part`."""

    def __init__(
        self, host: str, push: PushSettings, limits: PushLimits, lifetime: Lifetime, news: News
    ) -> None:
        """Take where to; nothing is sent yet.

        Args:
            host: what the relay listens on, which says on which interfaces groups are sent to.
            push: groups and unicast list.
            limits: how often.
            lifetime: tells the port, which is also the groups' one.
            news: what is announced.
        """
        self._host = host
        self._push = push
        self._limits = limits
        self._lifetime = lifetime
        self._news = news
        self._waiting = asyncio.Event()
        self._announced = 0
        self._sent = 0
        self._too_long = 0
        news.subscribe(self._note)

    def routes(self) -> Iterable[Route]:
        """Return none."""
        return ()

    async def run(self) -> None:
        """Announce until cancelled.

        Raises:
            ConfigurationError: an interface does not exist.
        """
        require_interfaces(self._push.interfaces)
        self._waiting.clear()  # what an earlier run had kept is news to nobody
        port = await self._lifetime.port()
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            await self._announce(port)
            await asyncio.sleep(self._limits.announce_interval.total_seconds())

    def _note(self, timestamp: bytes) -> None:
        if fits_announcement(timestamp):
            self._waiting.set()
        else:
            self._too_long += 1

    async def _announce(self, port: int) -> None:
        told = await resolve(map(split_host_and_port, self._push.unicast))
        groups = [Destination(group, port) for group in self._push.group]
        timestamp = self._news.latest
        if not fits_announcement(timestamp):
            return
        interfaces = interfaces_for(self._host, self._push.interfaces)
        sent = send(timestamp, (*groups, *told), interfaces=interfaces, hops=self._push.ttl)
        self._announced += sent > 0
        self._sent += sent

    def status(self) -> Mapping[str, object]:
        """Return what was announced."""
        return {
            "announcements": {
                "announced": self._announced,
                "datagrams": self._sent,
                "too_long": self._too_long,
            }
        }

    def metrics(self) -> Iterable[Metric]:
        """Return the same as numbers."""
        return (
            Metric("announcements_total", self._announced, "Timestamps that were announced."),
            Metric(
                "announcement_datagrams_total", self._sent, "Announcements that the kernel took."
            ),
            Metric("announcements_too_long_total", self._too_long, "Timestamps over 1,200 bytes."),
        )
