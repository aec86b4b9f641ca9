"""Stories of finding a source: by the signed list, by DNS, by mDNS; and of sources that are bad."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.agent.following import Follower
from fleetward.agent.sources import (
    LONGEST_LIFE,
    MDNS_LIFE,
    RETRY,
    SHORTEST_LIFE,
    SOURCES_FILE,
    Kept,
    Lookups,
)
from fleetward.agent.updating import UpdateReport
from fleetward.agent.wiring import status_of
from fleetward.config.agent import DiscoverySettings
from fleetward.config.strict import parse_settings
from fleetward.core.fleet import Relays, Site
from fleetward.core.sourcechoice import LIMITS, Fault
from fleetward.discovery.finds import Service, Services
from fleetward.errors import ConfigurationError, NetworkError
from support.fleet import NOTHING, Fleet, FleetHost
from support.sourceserver import Exchange, SourceServer, gives, source_server

STAMP = "metadata/timestamp.json"


class Network:
    """Servers of a story, on loopback; ended with it."""

    def __init__(self, fleet: Fleet, running: ExitStack) -> None:
        self._fleet, self._running = fleet, running

    def honest(self) -> SourceServer:
        """A relay or origin that serves what is live."""
        return self._running.enter_context(source_server(self._fleet.files))

    def frozen(self) -> SourceServer:
        """A relay that serves for ever what is live now."""
        return self._running.enter_context(source_server(dict(self._fleet.files)))

    def dead(self) -> str:
        """The URL of a relay that does not run."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    made = Fleet(tmp_path)
    made.publish()
    return made


@pytest.fixture
def network(fleet: Fleet) -> Iterator[Network]:
    with ExitStack() as running:
        yield Network(fleet, running)


def blobs(source: SourceServer) -> list[str]:
    return [path for path in source.asked if path.startswith("blobs/")]


def fault(host: FleetHost, url: str) -> Fault | None:
    return host.kept.memory.track(url).fault


def lyon(*relays: str, origins: tuple[str, ...] = (), default: tuple[str, ...] = ()) -> Relays:
    sites = (Site(name="lyon", subnets=("10.2.0.0/16",), relays=relays),) if relays else ()
    return Relays(origins=origins, sites=sites, default=default)


# -- the signed list -----------------------------------------------------------------------------


def test_a_host_follows_the_signed_list_to_the_relay_of_its_site(
    fleet: Fleet, network: Network
) -> None:
    """An image has the origin as its only source, for all sites; the list does the rest."""
    origin, relay, other = network.honest(), network.honest(), network.honest()
    fleet.follow(lyon(relay.url, origins=(origin.url,), default=(other.url,)))
    host = fleet.host(origin.url)

    # The first run learns of the list, and takes the blobs from the site's relay already.
    assert host.update().exit_code == 0
    assert host.content == "rule r1 {}\n"
    assert blobs(relay)
    assert not blobs(origin)

    # From then on the metadata comes from it too, and the origin is left alone.
    origin.asked.clear()
    report = host.update()
    assert (report.check.source, report.check.found_by) == (relay.url, "site")
    assert not origin.asked
    assert not other.asked
    status = status_of(host.home, fleet.clock)
    assert (status["source"], status["found_by"]) == (relay.url, "site")


def test_a_host_that_moves_takes_the_relay_of_its_new_site(fleet: Fleet, network: Network) -> None:
    origin, relay, elsewhere = network.honest(), network.honest(), network.honest()
    fleet.follow(lyon(relay.url, default=(elsewhere.url,)))
    host = fleet.host(origin.url, origins=(origin.url,))
    host.update()
    assert host.update().check.source == relay.url
    host.lookups = replace(NOTHING, addresses=lambda _: ())
    report = host.update()
    assert (report.check.source, report.check.found_by) == (origin.url, "configured")
    host.agent()  # the default relays come after what is configured
    plan = host.agent().finder.begin("h").plan  # type: ignore[union-attr]
    assert [one.url for one in plan.blobs] == [origin.url, elsewhere.url]


def test_an_operator_may_ignore_the_list(fleet: Fleet, network: Network) -> None:
    origin, relay = network.honest(), network.honest()
    fleet.follow(lyon(relay.url))
    host = fleet.host(origin.url, signed=False)
    for _ in range(2):
        assert host.update().check.source == origin.url
    assert not relay.asked


def test_a_list_that_cannot_be_had_stops_nothing(fleet: Fleet, network: Network) -> None:
    origin = network.honest()
    fleet.follow(lyon("http://10.2.0.1:2967"))
    host = fleet.host(origin.url)
    for path in fleet.files:
        if "relays.json" in path:
            origin.scripts[path] = lambda exchange: exchange.answer(503)
    report = host.update()
    assert report.exit_code == 0
    assert "the list of relays cannot be had" in report.check.remarks[-1]
    assert host.agent().finder.known() is None  # type: ignore[union-attr]


def test_hosts_of_a_site_spread_over_its_relays(fleet: Fleet) -> None:
    relays = [f"http://relay-{n}.lyon.example:2967" for n in range(2)]
    finder = fleet.host("http://127.0.0.1:9").agent().finder
    assert finder is not None
    finder.known = lambda: lyon(*relays)
    first = [finder.begin(f"host {n}").plan.blobs[0].url for n in range(200)]
    assert all(80 < first.count(relay) < 120 for relay in relays)


# -- bad sources ---------------------------------------------------------------------------------


def test_a_dead_relay_costs_one_try_and_the_next_serves_in_the_same_update(
    fleet: Fleet, network: Network
) -> None:
    dead, relay = network.dead(), network.honest()
    host = fleet.host(dead, relay.url)
    report = host.update()
    assert (report.exit_code, report.check.source) == (0, relay.url)
    assert host.content == "rule r1 {}\n"
    assert fault(host, dead) is Fault.FAILED

    # It is not asked again before its pause is over.
    assert host.update().check.remarks == ()
    fleet.clock.advance(LIMITS.failed.first)
    assert dead in host.update().check.remarks[0]


def test_a_relay_that_dies_between_metadata_and_blobs_is_replaced(
    fleet: Fleet, network: Network
) -> None:
    dying, relay = network.honest(), network.honest()
    for path in fleet.files:
        if path.startswith("blobs/"):
            dying.scripts[path] = lambda exchange: exchange.send(b"HTTP/1.1 200 OK\r\n")
    host = fleet.host(dying.url, relay.url)
    assert host.update().exit_code == 0
    assert fault(host, dying.url) is Fault.FAILED
    assert host.update().check.source == relay.url


def test_where_every_source_fails_all_are_asked_again(fleet: Fleet, network: Network) -> None:
    host = fleet.host(network.dead(), network.dead())
    for _ in range(3):
        report = host.update()
        assert report.exit_code == 11
    assert [track.failures for track in host.kept.memory.tracks] == [3, 3]


def test_a_clock_that_is_wrong_is_held_against_no_source(fleet: Fleet, network: Network) -> None:
    relay = network.honest()
    host = fleet.host(relay.url)
    host.update()
    fleet.clock.set_wall(fleet.clock.now() - timedelta(days=400))
    assert host.update().exit_code == 10
    assert fault(host, relay.url) is None


def alters(exchange: Exchange) -> None:
    """Answer with other bytes of the same length."""
    assert exchange.content is not None
    exchange.answer(200, {}, bytes(byte ^ 1 for byte in exchange.content))


def test_a_relay_found_by_mdns_alters_and_another_withholds_and_the_host_goes_elsewhere(
    fleet: Fleet, network: Network
) -> None:
    """The configured relay is down; two attackers on the LAN answer before the honest one does."""
    altering, withholding, honest = network.honest(), network.frozen(), network.honest()
    for path in fleet.files:
        if path.startswith("blobs/"):
            altering.scripts[path] = alters
            withholding.scripts[path] = lambda exchange: exchange.answer(404)
    found = (altering.url, withholding.url, honest.url)
    host = fleet.host(network.dead(), mdns=True)
    host.lookups = replace(NOTHING, mdns=lambda: found)

    report = host.update()
    assert (report.exit_code, report.check.found_by) == (0, "mdns")
    assert host.content == "rule r1 {}\n"
    if blobs(altering):
        assert fault(host, altering.url) is Fault.FALSE
    if blobs(withholding):
        assert fault(host, withholding.url) is Fault.FAILED
    assert fault(host, honest.url) is None
    fleet.publish()
    host.update()
    assert host.content == "rule r2 {}\n"


def test_a_flood_of_mdns_answers_pushes_out_neither_the_configured_nor_the_proven(
    fleet: Fleet, network: Network
) -> None:
    relay, proven, dead = network.honest(), network.honest(), network.dead()
    host = fleet.host(dead, mdns=True)
    host.lookups = replace(NOTHING, mdns=lambda: (proven.url,))
    assert host.update().check.source == proven.url
    fleet.clock.advance(MDNS_LIFE)
    flood = tuple(f"http://127.0.0.1:9/{n}" for n in range(5_000))
    host.lookups = replace(NOTHING, mdns=lambda: (*flood, proven.url))
    report = host.update()
    assert report.check.source == proven.url
    assert (host.folder / "home" / SOURCES_FILE).stat().st_size < 20_000
    assert host.kept.mdns.found[0].url == proven.url
    assert not relay.asked


def test_a_relay_that_freezes_is_found_out_by_the_direct_share(
    fleet: Fleet, network: Network
) -> None:
    """The relay serves yesterday's world, fresh by its own word, and the origin has news.

    One poll in ten also asks the origin: within twenty polls the host knows, long before the
    timestamp would be overdue by its age.
    """
    relay, origin = network.frozen(), network.honest()
    host = fleet.host(relay.url, origins=(origin.url,), direct_share=0.1)
    assert host.update().check.source == relay.url
    fleet.clock.advance(timedelta(minutes=5))
    fleet.publish()

    polls, report = 0, host.update()
    while not any("is frozen" in remark for remark in report.check.remarks):
        polls += 1
        assert polls <= 20
        assert report.check.source == relay.url
        assert host.content == "rule r1 {}\n"
        fleet.clock.advance(timedelta(seconds=10))
        report = host.update()

    # The host has the news in that very run, and the relay is put aside.
    assert host.content == "rule r2 {}\n"
    assert (
        "is older than" in report.check.remarks[0]
        or "older than the one of" in report.check.remarks[0]
    )
    assert fault(host, relay.url) is Fault.STALE
    assert report.check.found_by == "origin"


def test_a_relay_that_only_lags_a_little_is_left_in_peace(fleet: Fleet, network: Network) -> None:
    relay, origin = network.honest(), network.honest()
    host = fleet.host(relay.url, origins=(origin.url,), direct_share=1.0)
    host.update()
    relay.scripts[STAMP] = gives(fleet.files[STAMP])
    fleet.clock.advance(timedelta(seconds=30))
    fleet.publish()
    assert host.update().check.remarks == ()
    assert host.content == "rule r2 {}\n"
    # Now the relay is behind what the host knows; that is brand new, so it is no fault.
    fleet.clock.advance(timedelta(seconds=30))
    report = host.update()
    assert (report.exit_code, report.check.source) == (0, origin.url)
    assert report.check.preferred == relay.url  # what a long poll is held at
    assert "no other source served" in report.check.remarks[0]
    assert fault(host, relay.url) is None


def test_a_relay_that_goes_back_is_put_aside_as_stale(fleet: Fleet, network: Network) -> None:
    """A replay: what the relay serves was true, and the host knows better."""
    relay, origin = network.honest(), network.honest()
    old = fleet.files[STAMP]
    host = fleet.host(relay.url, origins=(origin.url,), direct_share=1.0, max_lag=timedelta())
    fleet.clock.advance(timedelta(minutes=1))
    fleet.publish()
    host.update()
    relay.scripts[STAMP] = gives(old)
    fleet.clock.advance(timedelta(minutes=1))
    assert host.update().exit_code == 0
    assert fault(host, relay.url) is Fault.STALE
    settings = host.home.path / "agent.toml"
    settings.write_text(settings.read_text().replace("direct_share = 1.0", "direct_share = 0"))
    assert host.update().exit_code == 10
    assert host.kept.memory.track(relay.url).failures == 2


def test_the_origin_that_cannot_be_reached_makes_no_trouble(fleet: Fleet, network: Network) -> None:
    """Most hosts are behind a firewall that lets them see their relay alone."""
    relay, origin = network.honest(), network.dead()
    host = fleet.host(relay.url, origins=(origin,), direct_share=1.0)
    assert host.update().check.remarks == ()
    report = host.update()
    assert report.exit_code == 0
    assert "did not serve a comparison" in report.check.remarks[0]
    assert fault(host, origin) is Fault.FAILED
    assert host.update().check.remarks == ()  # its pause


def test_the_origin_that_is_late_itself_is_held_against_no_relay(
    fleet: Fleet, network: Network
) -> None:
    relay, other = network.honest(), network.honest()
    host = fleet.host(relay.url, other.url)
    host.update()
    fleet.clock.advance(timedelta(hours=1))
    report = host.update()
    assert report.check.frozen
    assert [fault(host, server.url) for server in (relay, other)] == [None, None]
    fleet.publish()
    assert not host.update().check.frozen


def test_without_a_relay_the_origin_is_asked_after_a_while(fleet: Fleet, network: Network) -> None:
    relay, origin = network.dead(), network.honest()
    host = fleet.host(relay, origins=(origin.url,), direct_share=0)
    assert host.update().exit_code == 11
    fleet.clock.advance(timedelta(minutes=9))
    assert host.update().exit_code == 11
    assert not origin.asked
    fleet.clock.advance(timedelta(minutes=1))
    report = host.update()
    assert (report.exit_code, report.check.found_by) == (0, "origin")
    assert host.content == "rule r1 {}\n"


# -- faster and slower ---------------------------------------------------------------------------


def slow(fleet: Fleet, server: SourceServer, seconds: float) -> None:
    """Make a server take so long for each timestamp."""

    def answer(exchange: Exchange) -> None:
        fleet.clock.advance(timedelta(seconds=seconds))
        exchange.usual()
        exchange.stays = True

    server.scripts[STAMP] = answer
    server.scripts["metadata/2.root.json"] = answer


def test_a_slow_relay_loses_to_a_fast_one_and_hosts_do_not_flap(
    fleet: Fleet, network: Network
) -> None:
    relays = [network.honest(), network.honest()]
    fleet.follow(lyon(*(relay.url for relay in relays)))
    host = fleet.host(relays[0].url)
    host.update()
    first = host.update().check.source
    leader = next(relay for relay in relays if relay.url == first)
    other = next(relay for relay in relays if relay is not leader)
    slow(fleet, leader, 0.4)
    slow(fleet, other, 0.1)

    leaders: list[str] = []
    for _ in range(45):
        host.update()
        plan = host.agent().finder.begin(host.home.host()).plan  # type: ignore[union-attr]
        if leaders[-1:] != [plan.blobs[0].url]:
            leaders.append(plan.blobs[0].url)
    assert leaders == [leader.url, other.url]
    track = host.kept.memory.track(other.url)
    assert track.first_byte is not None
    assert 0.05 < track.first_byte < 0.3


# -- DNS and mDNS --------------------------------------------------------------------------------


class Dns:
    """What a domain says, and how often it was asked."""

    def __init__(self, *found: Service, lifetime: timedelta = timedelta(hours=1)) -> None:
        self.said = Services(found, lifetime)
        self.asked: list[str] = []
        self.is_down = False

    def __call__(self, domain: str) -> Services:
        self.asked.append(domain)
        if self.is_down:
            raise NetworkError("no name server answered")
        return self.said


def test_relays_of_a_domain_are_asked_as_long_as_dns_says(fleet: Fleet, network: Network) -> None:
    relay, dead = network.honest(), network.dead()
    dns = Dns(Service(relay.url, 10, 1))
    host = fleet.host(dead, srv="fleet.example")
    host.lookups = replace(NOTHING, srv=dns)
    report = host.update()
    assert (report.check.source, report.check.found_by) == (relay.url, "srv")
    fleet.clock.advance(timedelta(minutes=59))
    host.update()
    assert dns.asked == ["fleet.example"]
    fleet.clock.advance(timedelta(minutes=1))
    host.update()
    assert len(dns.asked) == 2

    # A name server that is down costs nothing of what is known, and is asked again later.
    dns.is_down = True
    fleet.clock.advance(timedelta(hours=1))
    fleet.publish()
    assert host.update().check.source == relay.url
    host.update()
    assert len(dns.asked) == 3
    fleet.clock.advance(RETRY)
    host.update()
    assert len(dns.asked) == 4


@pytest.mark.parametrize(
    ("said", "kept"),
    [(timedelta(seconds=1), SHORTEST_LIFE), (timedelta(days=30), LONGEST_LIFE)],
)
def test_dns_may_not_say_any_lifetime(
    fleet: Fleet, network: Network, said: timedelta, kept: timedelta
) -> None:
    host = fleet.host(network.honest().url, srv="fleet.example")
    host.lookups = replace(NOTHING, srv=Dns(lifetime=said))
    host.update()
    assert host.kept.srv.until == fleet.clock.now() + kept


def test_another_domain_is_asked_at_once_and_none_forgets(fleet: Fleet, network: Network) -> None:
    relay = network.honest()
    dns = Dns(Service("http://127.0.0.1:9"))
    host = fleet.host(relay.url, srv="one.example")
    host.lookups = replace(NOTHING, srv=dns)
    host.update()
    settings = host.home.path / "agent.toml"
    settings.write_text(settings.read_text().replace("one.example", "two.example"))
    dns.said = Services((), timedelta(hours=1))
    host.update()
    assert dns.asked == ["one.example", "two.example"]
    assert host.kept.srv.found == ()
    settings.write_text(settings.read_text().replace("two.example", ""))
    host.update()
    assert host.kept.srv == Kept().srv


def test_mdns_is_asked_once_an_hour_and_sooner_while_no_relay_serves(
    fleet: Fleet, network: Network
) -> None:
    asked: list[int] = []

    def nobody() -> tuple[str, ...]:
        asked.append(1)
        return ()

    host = fleet.host(network.dead(), mdns=True)
    host.lookups = replace(NOTHING, mdns=nobody)
    for _ in range(3):
        host.update()
    assert len(asked) == 1
    fleet.clock.advance(RETRY)
    host.update()
    assert len(asked) == 2

    def broken() -> tuple[str, ...]:
        raise NetworkError("no interface")

    host.lookups = replace(NOTHING, mdns=broken)
    fleet.clock.advance(MDNS_LIFE)
    host.update()
    assert host.kept.mdns.until == fleet.clock.now() + RETRY


def test_what_was_left_unfinished_comes_before_any_look(
    fleet: Fleet, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power failed during a trial, and the name server takes its time to fail."""
    did: list[str] = []
    resume = Follower.resume

    def noted(follower: Follower) -> None:
        did.append("resume")
        resume(follower)

    def silent(_: str) -> Services:
        did.append("look")
        raise NetworkError("no name server answered")

    monkeypatch.setattr(Follower, "resume", noted)
    host = fleet.host(network.honest().url, srv="fleet.example")
    host.lookups = replace(NOTHING, srv=silent)
    host.update()
    assert did == ["resume", "look"]


def test_neither_is_asked_unless_it_is_set(fleet: Fleet, network: Network) -> None:
    def never(*_: object) -> UpdateReport:
        raise AssertionError("asked")

    host = fleet.host(network.honest().url)
    host.lookups = replace(NOTHING, srv=never, mdns=never)  # type: ignore[arg-type]
    assert host.update().exit_code == 0


def test_the_libraries_that_look_are_loaded_where_they_are_asked_for(
    fleet: Fleet, network: Network
) -> None:
    """An idle agent pays for neither dnspython nor zeroconf; one that uses DNS, for the first."""
    code = (
        "import sys, pathlib\n"
        "from fleetward.adapters.disk import SystemDisk\n"
        "from fleetward.agent.home import Home\n"
        "from fleetward.cli import agentd\n"
        "agentd.updates(Home(SystemDisk(), pathlib.Path(sys.argv[1])))()\n"
        "print(sorted({'dns', 'zeroconf', 'typer', 'rich'} & set(sys.modules)))\n"
    )
    host = fleet.host(network.honest().url)
    command = [sys.executable, "-c", code, str(host.home.path)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == "[]\n", done.stderr


def test_dns_is_asked_by_the_resolver_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Services((Service("http://relay.fleet.test:2967"),), timedelta(hours=1))
    monkeypatch.setattr("fleetward.discovery.srv.look_up", lambda _: said)
    assert Lookups().srv("fleet.test") == said


def test_a_clock_far_ahead_is_said(fleet: Fleet, network: Network) -> None:
    host = fleet.host(network.honest().url)
    fleet.clock.advance(timedelta(days=3))
    report = host.update()
    assert "the clock of this host is" in report.check.remarks[-1]


# -- what is remembered --------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"", b"{", b'{"schema":"fleetward.sources/9"}', b"\xff" * 99])
def test_a_damaged_memory_is_begun_anew(fleet: Fleet, network: Network, damage: bytes) -> None:
    relay = network.honest()
    host = fleet.host(network.dead(), relay.url)
    host.update()
    file = host.home.path / SOURCES_FILE
    file.write_bytes(damage)
    assert host.kept == Kept()
    assert host.update().exit_code == 0
    assert host.kept.memory.tracks
    assert file.read_bytes().startswith(b'{"schema":"fleetward.sources/1"')


@pytest.mark.parametrize(
    ("line", "because"),
    [
        ("direct_share = 1.5", "share"),
        ("direct_share = -0.1", "share"),
        ("origin_after = -1", "0 or more"),
        ("max_lag = -1", "0 or more"),
        ('origins = ["ftp://o"]', "discovery.origins"),
        ('origins = ["http://o/"]', "without the last slash"),
        ("mdsn = true", "did you mean 'mdns'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(line: str, because: str) -> None:
    with pytest.raises(ConfigurationError, match=because):
        parse_settings(line, DiscoverySettings)
