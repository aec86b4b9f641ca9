"""Where an agent asks: candidates from everywhere, and what it remembers of them.

    configured sources          always
    the signed list             by the host's own addresses (core.fleet)
    DNS SRV                     where discovery.srv names a domain; kept as long as DNS says
    mDNS                        where discovery.mdns is set; asked once an hour

Remembered in HOME/sources.json: measurements, pauses, and unsigned finds. It only informs the
order (core.sourcechoice); a damaged file is begun anew.

Deliberately not here: trust. Nothing is believed because of where it came from.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.clock import Clock
from fleetward.adapters.entropy import Entropy, SystemEntropy
from fleetward.agent.home import Home
from fleetward.agent.measuring import Sample, measured
from fleetward.config.agent import AgentSettings
from fleetward.core.fleet import Address, Network, Relays
from fleetward.core.sourcechoice import (
    Candidate,
    Fault,
    Heard,
    Memory,
    Plan,
    Polled,
    Rules,
    Tier,
    learn,
    plan,
)
from fleetward.discovery.addresses import own_addresses
from fleetward.discovery.finds import Service, Services
from fleetward.errors import DocumentError, NetworkError
from fleetward.wire.documents import decode_json, encode_json

SOURCES_FILE: Final = "sources.json"
_SCHEMA: Final = "fleetward.sources/1"

SHORTEST_LIFE: Final = timedelta(minutes=5)
"""DNS may say seconds; a poll must not ask it each time."""

LONGEST_LIFE: Final = timedelta(hours=24)
"""DNS may say weeks; a relay that moved must be found, whoever answered then."""

MDNS_LIFE: Final = timedelta(hours=1)
"""How long answers to a multicast query are used."""

RETRY: Final = timedelta(minutes=5)
"""The pause after a look that failed, and between looks while no relay serves."""

MAX_KEPT_FINDS: Final = 16
"""Unsigned finds that are kept; the choice takes fewer."""


def _ask_dns(domain: str) -> Services:
    from fleetward.discovery.srv import look_up  # noqa: PLC0415 (dnspython: where needed)

    return look_up(domain)


def _ask_neighbours() -> tuple[str, ...]:
    from fleetward.discovery.mdns import find_relays  # noqa: PLC0415 (zeroconf: where needed)

    return find_relays()


@dataclass(frozen=True, slots=True)
class Lookups:
    """What looks on this machine and network; each raises NetworkError where it cannot.

    Attributes:
        addresses: the host's own addresses, given subnets of interest.
        srv: the relays of a domain.
        mdns: base URLs of the relays nearby.
    """

    addresses: Callable[[Iterable[Network]], tuple[Address, ...]] = own_addresses
    srv: Callable[[str], Services] = _ask_dns
    mdns: Callable[[], tuple[str, ...]] = _ask_neighbours


@dataclass(frozen=True, slots=True, kw_only=True)
class Finds:
    """What was found unsigned, and until when it is used.

    Attributes:
        asked: the domain; empty for mDNS.
        found: the relays.
        until: when to look again; None before the first look.
    """

    asked: str = ""
    found: tuple[Service, ...] = ()
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """All of HOME/sources.json."""

    memory: Memory = field(default_factory=Memory)
    srv: Finds = field(default_factory=Finds)
    mdns: Finds = field(default_factory=Finds)


def load_kept(home: Home) -> Kept:
    """Return what is remembered; nothing where the file is absent or damaged."""
    try:
        return decode_json(_SCHEMA, Kept, home.disk.read(home.path / SOURCES_FILE))
    except (FileNotFoundError, DocumentError):
        return Kept()


@dataclass(slots=True)
class SourceFinder:
    """Finds whom to ask at each poll.

    Attributes:
        home: where it remembers.
        settings: what is configured.
        clock: the wall clock.
        entropy: draws which polls also ask an origin.
        lookups: what looks for relays.
        known: gives the signed list as it was verified last, without the network, or None.
        samples: how the requests of this run went; filled while it goes.
    """

    home: Home
    settings: AgentSettings
    clock: Clock
    entropy: Entropy = field(default_factory=SystemEntropy)
    lookups: Lookups = field(default_factory=Lookups)
    known: Callable[[], Relays | None] = lambda: None
    samples: list[Sample] = field(default_factory=list)

    def begin(self, host: str) -> "Poll":
        """Return whom to ask now."""
        now, kept = self.clock.now(), load_kept(self.home)
        kept = replace(kept, srv=self._srv(kept, now), mdns=self._mdns(kept, now))
        return Poll(self, host, kept, self.known() if self.settings.discovery.signed else None)

    @property
    def rules(self) -> Rules:
        """What the operator set."""
        found = self.settings.discovery
        return Rules(found.origin_after, found.direct_share, found.max_lag)

    def candidates(self, kept: Kept, relays: Relays | None) -> Iterator[Candidate]:
        """Yield every source that is known, some of them twice."""
        for place, url in enumerate(self.settings.sources):
            yield Candidate(url.rstrip("/"), Tier.CONFIGURED, place)
        for url in self.settings.discovery.origins:
            yield Candidate(url, Tier.ORIGIN, is_origin=True)
        if relays is not None:
            yield from self._signed(relays)
        for one in kept.srv.found:
            yield Candidate(one.url, Tier.SRV, one.priority, one.weight)
        for one in kept.mdns.found:
            yield Candidate(one.url, Tier.MDNS)

    def _signed(self, relays: Relays) -> Iterator[Candidate]:
        networks = [network for site in relays.sites for network in site.networks()]
        near = relays.near(self.lookups.addresses(networks) if networks else ())
        tier = Tier.DEFAULT if near.site is None else Tier.SITE
        for url in near.relays:
            yield Candidate(url, tier)
        for url in relays.origins:
            yield Candidate(url, Tier.ORIGIN, is_origin=True)

    # -- unsigned finds --------------------------------------------------------------------------

    def _srv(self, kept: Kept, now: datetime) -> Finds:
        domain, known = self.settings.discovery.srv, kept.srv
        if not domain:
            return Finds()
        if known.asked != domain:
            known = Finds(asked=domain)
        if not _is_due(known, now):
            return known
        try:
            said = self.lookups.srv(domain)
        except NetworkError:
            return replace(known, until=now + RETRY)
        life = min(max(said.lifetime, SHORTEST_LIFE), LONGEST_LIFE)
        return Finds(asked=domain, found=said.found[:MAX_KEPT_FINDS], until=now + life)

    def _mdns(self, kept: Kept, now: datetime) -> Finds:
        known, is_lost = kept.mdns, kept.memory.without_relay_since is not None
        if not self.settings.discovery.mdns:
            return Finds()
        is_early = is_lost and known.until is not None and now >= known.until - MDNS_LIFE + RETRY
        if not (_is_due(known, now) or is_early):
            return known
        try:
            urls = self.lookups.mdns()
        except NetworkError:
            return replace(known, until=now + RETRY)
        # One that served before is not pushed out by whoever answers fastest now.
        trusty = {one.url for one in known.found if kept.memory.track(one.url).measured}
        urls = tuple(sorted(urls, key=lambda url: url not in trusty))
        return Finds(found=tuple(map(Service, urls[:MAX_KEPT_FINDS])), until=now + MDNS_LIFE)


def _is_due(finds: Finds, now: datetime) -> bool:
    """Return whether it is time to look; also where the clock was set back."""
    return finds.until is None or not now < finds.until <= now + LONGEST_LIFE


@dataclass(slots=True)
class Poll:
    """One poll: whom it asks, and what becomes of it.

    Attributes:
        finder: what began it.
        host: the host's id.
        kept: what was remembered, with new finds.
        relays: the signed list, as far as it is known.
        plan: whom to ask.
        learnt: sources that were found while it went.
    """

    finder: SourceFinder
    host: str
    kept: Kept
    relays: Relays | None
    plan: Plan = field(init=False)
    learnt: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.plan = self._plan(self.relays, self.kept.memory)

    @property
    def metadata(self) -> tuple[str, ...]:
        """Whom to ask for metadata, in order."""
        return tuple(one.url for one in self.plan.metadata)

    @property
    def direct(self) -> str | None:
        """The origin that is asked as well, or None."""
        return self.plan.direct.url if self.plan.direct else None

    @property
    def blobs(self) -> tuple[str, ...]:
        """Whom to ask for blobs, in order."""
        return tuple(one.url for one in self.plan.blobs)

    def found_by(self, source: str) -> str | None:
        """Return how a source was found, as documents name it."""
        tier = self.plan.tier_of(source)
        return tier.word if tier is not None else None

    def blobs_after(
        self, source: str, faults: Mapping[str, Fault], relays: Relays | None
    ) -> tuple[str, ...]:
        """Return whom to ask for blobs, now that metadata is there.

        Args:
            source: what gave the metadata; asked last, where it is not in the order anyway.
            faults: what was wrong with sources.
            relays: the signed list, perhaps a new one.
        """
        if not self.finder.settings.discovery.signed:
            relays = None
        heard = tuple(Heard(url, fault) for url, fault in faults.items())
        memory = learn(
            self.kept.memory,
            replace(self.plan, explored=None),
            Polled(heard, source),
            self.finder.clock.now(),
            self.finder.rules,
        )
        found = self._plan(relays or self.relays, memory)
        self.learnt = tuple(dict.fromkeys([*(one.url for one in found.blobs), source]))
        return self.learnt

    def finish(self, served: str | None, faults: Mapping[str, Fault]) -> None:
        """Remember how it went.

        Args:
            served: the source whose metadata was fresh, or None.
            faults: what was wrong with sources, by URL.

        Raises:
            DiskError: HOME cannot be written.
        """
        asked = dict.fromkeys([*faults, *([served] if served else []), *self._answered()])
        heard = tuple(self._heard(url, faults.get(url)) for url in asked)
        polled = Polled(heard, served, self.finder.entropy.share())
        now = self.finder.clock.now()
        memory = learn(self.kept.memory, self.plan, polled, now, self.finder.rules)
        kept = replace(self.kept, memory=memory)
        home = self.finder.home
        write_file(home.disk, home.path / SOURCES_FILE, encode_json(_SCHEMA, kept))

    def _answered(self) -> list[str]:
        """Return the sources of the plan that answered anything."""
        every = [*self.metadata, *([self.direct] if self.direct else []), *self.learnt]
        return [url for url in every if measured(self.finder.samples, url).first_byte is not None]

    def _heard(self, url: str, fault: Fault | None) -> Heard:
        found = measured(self.finder.samples, url)
        return Heard(url, fault, found.first_byte, found.rate)

    def _plan(self, relays: Relays | None, memory: Memory) -> Plan:
        finder = self.finder
        candidates = finder.candidates(self.kept, relays)
        return plan(candidates, memory, self.host, finder.clock.now(), finder.rules)
