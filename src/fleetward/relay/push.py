"""How news travel, put together from the settings: long polls both ways, and datagrams."""

import asyncio
from collections.abc import Iterator

from fleetward.adapters.entropy import Entropy, SystemEntropy
from fleetward.httpd.watchers import WatchLimits
from fleetward.relay.announcing import AnnouncingPart
from fleetward.relay.datagrams import AcceptCheckIn, DatagramPart
from fleetward.relay.hints import Hints
from fleetward.relay.lifetime import Lifetime
from fleetward.relay.part import Part
from fleetward.relay.settings import RelaySettings
from fleetward.relay.sources import Sources
from fleetward.relay.timestamp import TimestampCache
from fleetward.relay.upstreamnews import UpstreamNews
from fleetward.relay.watch import WatchPart


def push_parts(
    settings: RelaySettings,
    timestamp: TimestampCache,
    sources: Sources,
    lifetime: Lifetime,
    *,
    accept_checkin: AcceptCheckIn | None = None,
    entropy: Entropy | None = None,
) -> Iterator[Part]:
    """Yield the parts; call it inside the event loop.

    Args:
        settings: of the relay.
        timestamp: what the news are of.
        sources: whom the relay asks.
        lifetime: of the relay.
        accept_checkin: takes check-ins that came as datagrams; see `relay.datagrams`.
        entropy: spreads waits.
    """
    entropy = entropy or SystemEntropy()
    push, limits = settings.push, settings.push_limits
    most = min(push.max_watchers, settings.server_limits.max_connections * 9 // 10)
    yield WatchPart(timestamp, sources.news, lifetime, entropy, WatchLimits(max_watchers=most))
    if push.watch or push.poll:
        yield UpstreamNews(timestamp, sources, entropy, push, limits)
    if push.udp:
        loop = asyncio.get_running_loop()
        hints = Hints(timestamp, limits, loop.call_later, loop.time)
        address = (settings.host, settings.port)
        yield DatagramPart(
            address, push, limits, lifetime, hints=hints, accept_checkin=accept_checkin
        )
    if push.announce:
        yield AnnouncingPart(settings.host, push, limits, lifetime, sources.news)
