"""The `Part` of all passthroughs: their routes, and what they tell of themselves."""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from pathlib import Path

from fleetward.adapters.clock import Clock
from fleetward.config.relay import PassthroughSettings
from fleetward.errors import ConfigurationError
from fleetward.httpd.client import UpstreamClient
from fleetward.httpd.endpoint import Endpoint
from fleetward.httpd.limits import ClientLimits
from fleetward.httpd.message import Answer, Request
from fleetward.relay.addresses import ALSO_PRIVATE, PUBLIC_ONLY, CheckedResolver, Reach, reach_of
from fleetward.relay.bandwidth import Bandwidth
from fleetward.relay.loops import Headers
from fleetward.relay.part import Kind, Metric, Route
from fleetward.relay.passthrough import Passthrough
from fleetward.relay.passthrough_ground import PassthroughGround, PassthroughLimits
from fleetward.relay.passthrough_rules import PREFIX, Rules
from fleetward.relay.passthrough_store import PassthroughStore

_HELP = {
    "requests": "Requests of clients.",
    "hits": "Answered from the disk without asking the upstream.",
    "coalesced": "That joined a question to the upstream which was under way.",
    "stale": "Answered with something older, since the upstream failed.",
    "unavailable": "Answered 503.",
    "unverified_bytes": "Bytes of bodies given to clients, which nobody verified.",
    "upstream_requests": "Requests to the upstream, redirects included.",
    "upstream_bytes": "Bytes of bodies that came from the upstream.",
    "confirmed": "Kept files that the upstream said are still right.",
    "filled": "Files fetched and kept.",
    "resumed": "Upstream requests that went on in the middle of a file.",
    "refused_redirects": "Redirects out of the allow-list, or in a circle.",
    "failures": "Questions to the upstream that ended badly.",
}


@dataclass(frozen=True, slots=True)
class Network:
    """How passthroughs connect out.

    Attributes:
        limits: of the connections.
        tls: for https upstreams; None takes the system's certificate authorities.
        proxy: an HTTP proxy to go through. It resolves the upstreams' names then, so what they
            lead to is for the proxy to judge.
        bandwidth: the rate that all upstreams of the relay share; None is no limit.
    """

    limits: ClientLimits = field(default_factory=ClientLimits)
    tls: ssl.SSLContext | None = None
    proxy: Endpoint | None = None
    bandwidth: Bandwidth | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where passthroughs keep their files.

    Attributes:
        cache: the relay's cache folder; the files lie in `passthrough/NAME` below it.
        clock: dates what is kept.
        min_free: bytes of the disk that are left to others.
    """

    cache: Path
    clock: Clock
    min_free: int = 0


class PassthroughPart:
    """Answers for all passthroughs of a relay."""

    def __init__(
        self,
        passthroughs: Iterable[PassthroughSettings],
        place: Place,
        network: Network,
        *,
        limits: PassthroughLimits | None = None,
        via: Headers = (),
    ) -> None:
        """Put them together; nothing is asked yet.

        Args:
            passthroughs: the settings of each.
            place: where files are kept.
            network: how to connect out.
            limits: what clients and upstreams may take.
            via: what every question says of this relay (`relay.loops.Loops.headers`).

        Raises:
            ConfigurationError: an upstream's URL cannot be used, or is an address that is not
                allowed.
            DiskError: a folder cannot be made.
        """
        limits = limits or PassthroughLimits()
        self._passthroughs = tuple(_open(one, place, network, limits, via) for one in passthroughs)

    def routes(self) -> Iterable[Route]:
        """Answer under `/passthrough/NAME/`, the mounts, and for the upstreams as a proxy."""
        for one in self._passthroughs:
            yield _route(one, f"{PREFIX}{one.settings.name}/", f"{PREFIX}{one.settings.name}")
            if one.settings.mount:
                yield _route(one, one.settings.mount, "")
            if one.settings.proxy_requests:
                base = one.ground.rules.endpoint.base
                for authority in one.ground.rules.authorities():
                    yield _route(one, base + "/", base, authority)

    async def run(self) -> None:
        """Run all of them until cancelled."""
        await asyncio.gather(*(one.run() for one in self._passthroughs))

    def status(self) -> Mapping[str, object]:
        """Return what each has and has done."""
        return {"passthroughs": [_state(one) for one in self._passthroughs]}

    def metrics(self) -> Iterable[Metric]:
        """Yield what each has and has done."""
        for one in self._passthroughs:
            labels = (("passthrough", one.settings.name),)
            for name, value in asdict(one.ground.counters).items():
                full = (
                    f"{name}_total" if name == "unverified_bytes" else f"passthrough_{name}_total"
                )
                yield Metric(full, value, _HELP[name], labels=labels)
            store = one.ground.store
            yield Metric(
                "passthrough_refused_addresses_total",
                one.resolver.refused,
                "Connections refused since the upstream's name led to a place that is not allowed.",
                labels=labels,
            )
            yield Metric(
                "passthrough_evicted_total",
                store.evicted,
                "Files removed to make room.",
                labels=labels,
            )
            yield Metric(
                "passthrough_stored_bytes", store.stored_bytes, "Kept.", Kind.GAUGE, labels
            )
            yield Metric("passthrough_files", len(store), "Kept.", Kind.GAUGE, labels)


def _route(one: Passthrough, path: str, prefix: str, authority: str = "") -> Route:
    def answer(request: Request) -> Answer:
        return one.answer(request, request.path.removeprefix(prefix))

    return Route(path, answer, authority=authority)


def _state(one: Passthrough) -> dict[str, object]:
    store = one.ground.store
    return {
        "name": one.settings.name,
        "upstream": str(one.ground.rules.endpoint),
        "state": "paused" if one.is_paused else "ready",
        "verified": False,
        "asking": one.asking,
        "files": len(store),
        "stored_bytes": store.stored_bytes,
        "evicted": store.evicted,
        "refused_addresses": one.resolver.refused,
        **asdict(one.ground.counters),
    }


def _open(
    settings: PassthroughSettings,
    place: Place,
    network: Network,
    limits: PassthroughLimits,
    via: Headers,
) -> Passthrough:
    rules = Rules.of(settings)
    allowed = ALSO_PRIVATE if settings.allow_private else PUBLIC_ONLY
    _require_reach(settings, rules.endpoint.host, allowed)
    resolver = CheckedResolver(allowed)
    client = UpstreamClient(
        rules.endpoint, limits=network.limits, tls=network.tls, proxy=network.proxy
    )
    client.resolver = resolver
    if network.bandwidth is not None:
        network.bandwidth.join(client)
    store = PassthroughStore(
        place.cache / "passthrough" / settings.name,
        quota=settings.quota,
        max_files=limits.max_files,
        min_free=place.min_free,
    )
    ground = PassthroughGround(rules, client, store, place.clock, limits, settings.max_file, via)
    return Passthrough(settings, ground, resolver)


def _require_reach(settings: PassthroughSettings, host: str, allowed: frozenset[Reach]) -> None:
    try:
        ip_address(host)
    except ValueError:
        return  # a name; judged whenever it is resolved
    if reach_of(host) not in allowed:
        raise ConfigurationError(
            f"passthrough {settings.name}: {host} is not on the open Internet: set allow_private "
            "if it is meant (metadata services and multicast are refused even then)"
        )
