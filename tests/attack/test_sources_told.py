"""Stories of sources that do wrong while others serve: the host goes on, and says who it was.

What is told here becomes events (agent.noticing) and so a fact on the console.
"""

from collections.abc import Iterable
from datetime import timedelta
from ipaddress import ip_address

import pytest

from fleetward.agent.checking import FleetMetadata
from fleetward.agent.updating import Trouble
from fleetward.core.consoles import ConsolePair, Consoles, OfflineSite
from fleetward.core.fleet import Address, Network, Relays, Site
from fleetward.core.sourcechoice import Fault
from fleetward.errors import RollbackError, TrustError
from fleetward.wire.documents import encode
from fleetward.wire.layout import CONSOLE_TARGET, RELAYS_TARGET, target_path
from support.sourceserver import SourceServer, gives
from support.trusthost import Host
from support.tufsim import INTERVAL, SimFleet

LAG = timedelta(minutes=2)
MINUTE = timedelta(minutes=1)
HERE = ip_address("10.2.0.7")
LYON = Site(name="lyon", subnets=("10.2.0.0/16",), relays=("http://r.example",))
PAIR = ConsolePair(name="main", signing="1a" * 32, sealing="1b" * 32)


def here(_towards: Iterable[Network]) -> tuple[Address, ...]:
    return (HERE,)


@pytest.fixture
def metadata(client: Host) -> FleetMetadata:
    return FleetMetadata(client.trust, client.clock, LAG, addresses=here)


def told(metadata: FleetMetadata) -> list[tuple[str, Trouble]]:
    return [(trouble.source, trouble.kind) for trouble in metadata.troubles()]


# -- old timestamps ----------------------------------------------------------------------------------


def test_a_relay_replays_an_old_timestamp_while_another_source_serves(
    origin: SimFleet,
    source: SourceServer,
    relay: SourceServer,
    client: Host,
    metadata: FleetMetadata,
) -> None:
    metadata.check([source.url])
    client.clock.advance(INTERVAL)
    origin.release(2)
    metadata.check([source.url])
    client.clock.advance(LAG + MINUTE)
    view = metadata.check([relay.url, source.url])
    assert (view.source, view.frozen) == (source.url, False)
    assert told(metadata) == [(relay.url, Trouble.OLD)]
    (trouble,) = metadata.troubles()
    assert "version" in trouble.why, "the reason says what was seen before"


def test_a_good_relay_has_two_minutes_for_what_is_new(
    origin: SimFleet,
    source: SourceServer,
    relay: SourceServer,
    client: Host,
    metadata: FleetMetadata,
) -> None:
    client.clock.advance(INTERVAL)
    origin.release(2)
    metadata.check([source.url])
    client.clock.advance(MINUTE)
    metadata.check([relay.url, source.url])
    assert told(metadata) == []


def test_a_relay_that_lacks_even_the_one_before_is_told_at_once(
    origin: SimFleet,
    source: SourceServer,
    relay: SourceServer,
    client: Host,
    metadata: FleetMetadata,
) -> None:
    """Else a freeze would go unseen wherever the newest timestamp is always new."""
    for release in (2, 3):
        client.clock.advance(INTERVAL)
        origin.release(release)
    metadata.check([source.url])
    metadata.check([relay.url, source.url])
    assert told(metadata) == [(relay.url, Trouble.OLD)]


def test_the_only_source_replays_and_that_is_told_although_nothing_served(
    origin: SimFleet,
    source: SourceServer,
    relay: SourceServer,
    client: Host,
    metadata: FleetMetadata,
) -> None:
    client.clock.advance(INTERVAL)
    origin.release(2)
    metadata.check([source.url])
    client.clock.advance(LAG + MINUTE)
    with pytest.raises(RollbackError):
        metadata.check([relay.url])
    assert told(metadata) == [(relay.url, Trouble.OLD)]


def test_a_relay_freezes_and_the_next_source_shows_it(
    origin: SimFleet,
    source: SourceServer,
    relay: SourceServer,
    client: Host,
    metadata: FleetMetadata,
) -> None:
    metadata.check([relay.url])
    client.clock.advance(4 * INTERVAL)
    origin.release(2)
    view = metadata.check([relay.url, source.url])
    assert not view.frozen
    assert told(metadata) == [(relay.url, Trouble.OLD)]
    assert metadata.troubles()[0].why == "its timestamp is overdue"


def test_where_everybody_is_frozen_nobody_is_blamed(
    source: SourceServer, relay: SourceServer, client: Host, metadata: FleetMetadata
) -> None:
    """It is the origin's steward that does not renew; the host says `frozen`, of no source."""
    metadata.check([source.url])
    client.clock.advance(4 * INTERVAL)
    assert metadata.check([relay.url, source.url]).frozen
    assert told(metadata) == []


def test_a_relay_is_found_out_beside_the_origin(
    origin: SimFleet,
    source: SourceServer,
    relay: SourceServer,
    client: Host,
    metadata: FleetMetadata,
) -> None:
    client.clock.advance(INTERVAL)
    origin.release(2)
    view = metadata.check([relay.url], source.url)
    assert view.source == source.url
    assert told(metadata) == [(relay.url, Trouble.OLD)]
    assert source.url in metadata.troubles()[0].why


def test_each_check_tells_of_itself_alone(
    origin: SimFleet,
    source: SourceServer,
    relay: SourceServer,
    client: Host,
    metadata: FleetMetadata,
) -> None:
    client.clock.advance(INTERVAL)
    origin.release(2)
    metadata.check([relay.url], source.url)
    assert told(metadata)
    metadata.check([source.url])
    assert told(metadata) == []


# -- what is refused ---------------------------------------------------------------------------------


def test_a_relay_serves_a_timestamp_that_the_keys_did_not_sign(
    origin: SimFleet, source: SourceServer, relay: SourceServer, metadata: FleetMetadata
) -> None:
    metadata.check([source.url])
    forged = origin.files["metadata/timestamp.json"].replace(b'"version":3', b'"version":9')
    relay.scripts["metadata/timestamp.json"] = gives(forged)
    view = metadata.check([relay.url, source.url])
    assert view.source == source.url
    assert told(metadata) == [(relay.url, Trouble.REFUSED)]
    assert view.faults()[relay.url] is Fault.FALSE


def test_a_relay_serves_a_role_that_the_keys_did_not_sign(
    origin: SimFleet, source: SourceServer, relay: SourceServer, metadata: FleetMetadata
) -> None:
    """The metadata that hosts bring only when they need it; another source gives the right one."""
    relay.files = origin.files
    path = origin.path("fleet")
    relay.scripts[path] = gives(origin.files[path].replace(b'"version":1', b'"version":2'))
    view = metadata.check([relay.url, source.url])
    assert view.source == relay.url
    assert told(metadata) == [(relay.url, Trouble.REFUSED)]


def test_a_relay_serves_another_document_about_the_console(
    origin: SimFleet, source: SourceServer, relay: SourceServer, metadata: FleetMetadata
) -> None:
    named = Consoles(keys=(PAIR,))
    target = origin.add_target("fleet", CONSOLE_TARGET, encode(named))
    origin.publish("fleet")
    relay.files = origin.files
    path = target_path(CONSOLE_TARGET, target.hashes["sha256"])  # type: ignore[arg-type]
    relay.scripts[path] = gives(b"{}")
    view = metadata.check([relay.url, source.url])
    assert view.consoles == named
    assert told(metadata) == [(relay.url, Trouble.REFUSED)]


def test_a_relay_that_withholds_the_document_stops_nothing(
    origin: SimFleet, relay: SourceServer, metadata: FleetMetadata
) -> None:
    """What was known before holds; that it could not be had is said."""
    target = origin.add_target("fleet", CONSOLE_TARGET, encode(Consoles(keys=(PAIR,))))
    origin.publish("fleet")
    path = target_path(CONSOLE_TARGET, target.hashes["sha256"])  # type: ignore[arg-type]
    relay.files = {name: content for name, content in origin.files.items() if name != path}
    view = metadata.check([relay.url])
    assert view.consoles is None
    assert any("about the console cannot be had" in remark for remark in view.remarks)
    assert told(metadata) == []


def test_a_wrong_clock_is_nobody_s_doing(
    source: SourceServer, client: Host, metadata: FleetMetadata
) -> None:
    metadata.check([source.url])
    client.clock.advance(-timedelta(days=400))
    with pytest.raises(TrustError):
        metadata.check([source.url])
    assert told(metadata) == []


# -- sites without internet --------------------------------------------------------------------------


def sign_site(origin: SimFleet, site: str, max_age: timedelta) -> None:
    offline = OfflineSite(site=site, max_age=int(max_age.total_seconds()))
    consoles = Consoles(keys=(PAIR,), offline=(offline,))
    origin.add_target("fleet", RELAYS_TARGET, encode(Relays(sites=(LYON,))))
    origin.add_target("fleet", CONSOLE_TARGET, encode(consoles))
    origin.publish("fleet")


def test_an_offline_site_lives_with_one_timestamp_as_long_as_the_fleet_keys_say(
    origin: SimFleet, source: SourceServer, client: Host, metadata: FleetMetadata
) -> None:
    sign_site(origin, "lyon", timedelta(days=3))
    metadata.check([source.url])
    client.clock.advance(timedelta(days=3))
    assert not metadata.check([source.url]).frozen
    client.clock.advance(MINUTE)
    assert metadata.check([source.url]).frozen


def test_other_sites_are_frozen_as_ever(
    origin: SimFleet, source: SourceServer, client: Host, metadata: FleetMetadata
) -> None:
    sign_site(origin, "ship-1", timedelta(days=3))
    metadata.check([source.url])
    client.clock.advance(4 * INTERVAL)
    assert metadata.check([source.url]).frozen
