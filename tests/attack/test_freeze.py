"""Stories of time: indefinite freeze, expiry, and clocks that were set."""

from datetime import timedelta

import pytest

from fleetward.errors import ClockError, ExpiredError, NetworkError
from fleetward.trust.client import Outcome, Source
from support.sourceserver import SourceServer
from support.trusthost import Host
from support.tufsim import SimFleet

INTERVAL = timedelta(minutes=10)


def test_the_attacker_serves_the_same_timestamp_for_ever(
    source: SourceServer, client: Host
) -> None:
    client.refresh(source.url)

    # Within three intervals that is patience.
    client.clock.advance(3 * INTERVAL)
    assert not client.refresh(source.url).frozen

    # Afterwards it is a freeze, and is said so; nothing has changed for the host.
    client.clock.advance(timedelta(seconds=1))
    view = client.refresh(source.url)
    assert view.frozen
    assert view.reports[0].outcome is Outcome.FROZEN
    assert view.channel("yara", "stable").release.seq == 1  # type: ignore[arg-type]


def test_a_frozen_relay_is_seen_and_the_origin_is_asked(
    origin: SimFleet, source: SourceServer, relay: SourceServer, client: Host
) -> None:
    client.refresh(relay.url)
    client.clock.advance(4 * INTERVAL)
    origin.release(2)

    # The relay withholds the second release; the origin has it.
    view = client.refresh(relay.url, source.url)
    assert [report.outcome for report in view.reports] == [Outcome.FROZEN, Outcome.FRESH]
    assert view.source == Source(source.url)
    assert not view.frozen
    assert view.versions["releases-yara"] == 3


def test_where_all_sources_are_frozen_the_best_view_is_kept(
    origin: SimFleet, source: SourceServer, relay: SourceServer, client: Host
) -> None:
    origin.release(2)
    client.clock.advance(4 * INTERVAL)

    # Both are overdue; the second one has more.
    view = client.refresh(relay.url, source.url)
    assert view.frozen
    assert view.source == Source(source.url)
    assert view.versions["timestamp"] == 4

    # The other way round the better view came first, and the relay is a replay.
    view = client.refresh(source.url, relay.url)
    assert [report.outcome for report in view.reports] == [Outcome.FROZEN, Outcome.REFUSED]
    assert view.versions["timestamp"] == 4


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_a_role_expires_while_the_origin_sleeps(
    origin: SimFleet, source: SourceServer, client: Host, role: str
) -> None:
    # The host has everything; then a role's time runs out, by the host's clock.
    origin.renew_expiry(role, days=1)
    origin.publish(role)
    client.refresh(source.url)
    kept = client.kept()
    client.clock.advance(timedelta(days=1))

    # No new decision is made, and nothing is removed.
    with pytest.raises(ExpiredError, match=role):
        client.refresh(source.url)
    assert client.kept() == kept
    view = client.trust.last_view()
    assert view is not None
    assert view.expired == (role,)
    assert view.frozen

    # The origin renews it, and the host goes on.
    for each in ("root", "targets", "snapshot", "timestamp"):
        origin.renew_expiry(each, days=9)
    origin.publish(role)
    assert not client.refresh(source.url).expired


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_a_role_arrives_expired(
    origin: SimFleet, source: SourceServer, client: Host, role: str
) -> None:
    client.refresh(source.url)
    kept = client.kept()
    origin.renew_expiry(role, days=-1)
    origin.publish(role)

    # By python-tuf's clock as by ours it has expired. Root is kept, as TUF wants it.
    since = origin.roles[role].expires.strftime("%Y-%m-%d %H:%M")
    with pytest.raises(ExpiredError, match=f"{role}.* is expired since {since} UTC"):
        client.refresh(source.url)
    after = client.kept()
    assert after["targets.json"] == kept["targets.json"]
    assert (after["root.json"] == kept["root.json"]) is (role != "root")
    if role in {"root", "timestamp"}:
        assert after["timestamp.json"] == kept["timestamp.json"]


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_role_arrives_expired_by_the_clock_that_the_host_was_given(
    origin: SimFleet, source: SourceServer, client: Host, role: str
) -> None:
    client.refresh(source.url)
    kept = client.kept()
    for each in ("timestamp", "snapshot", "targets"):
        origin.renew_expiry(each, days=9)
    origin.renew_expiry(role, days=2)
    origin.publish("targets")
    client.clock.advance(timedelta(days=3))
    with pytest.raises(ExpiredError, match=role):
        client.refresh(source.url)
    assert client.kept()[f"{role}.json"] == kept[f"{role}.json"]


def test_a_delegated_role_expires(origin: SimFleet, source: SourceServer, client: Host) -> None:
    origin.renew_expiry("channels", days=1)
    origin.publish("channels")
    view = client.refresh(source.url)
    assert view.find("channels/yara/stable.json")
    client.clock.advance(timedelta(days=1))
    with pytest.raises(ExpiredError, match="channels"):
        client.refresh(source.url).find("channels/yara/stable.json")


def test_the_clock_is_set_back(source: SourceServer, client: Host) -> None:
    # The attacker on NTP sets the clock back, so that old metadata is valid again.
    client.refresh(source.url)
    asked = len(source.asked)
    client.clock.set_wall(client.clock.now() - timedelta(days=400))

    # The client decides nothing and asks nobody.
    for _ in range(2):
        with pytest.raises(ClockError, match="set the clock"):
            client.refresh(source.url)
        client.restart()
    assert len(source.asked) == asked

    # A few minutes are no attack.
    client.clock.set_wall(client.clock.now() + timedelta(days=400) - timedelta(minutes=4))
    client.refresh(source.url)


def test_a_new_host_whose_clock_is_behind(source: SourceServer, client: Host) -> None:
    # The host has proven nothing yet; the timestamp that it gets was issued in its future.
    client.clock.set_wall(client.clock.now() - timedelta(days=400))
    with pytest.raises(ClockError, match="was issued at"):
        client.refresh(source.url)
    assert "timestamp.json" not in client.kept()

    # With the clock set right, nothing is in the way.
    client.clock.advance(timedelta(days=400))
    client.refresh(source.url)


def test_a_stolen_timestamp_key_cannot_lock_hosts_out(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    # The attacker issues a timestamp ten years ahead, to make every clock look set back.
    client.refresh(source.url)
    client.clock.advance(timedelta(days=3650))
    origin.renew_expiry("timestamp")
    origin.publish("timestamp")
    client.clock.advance(-timedelta(days=3650))
    with pytest.raises(ClockError):
        client.refresh(source.url)

    # The time is not kept: the origin replaces the key, and the host goes on.
    origin.rotate("timestamp")
    origin.renew_expiry("timestamp")
    origin.publish("root", "timestamp")
    client.refresh(source.url)


def test_the_clock_is_far_ahead(source: SourceServer, client: Host) -> None:
    # The battery says a date days ahead, before anything has expired.
    client.refresh(source.url)
    client.clock.advance(timedelta(days=2))
    view = client.refresh(source.url)

    # It is reported, and not kept: once the clock is right, the host goes on.
    assert view.clock_ahead is not None
    assert timedelta(days=1) < view.clock_ahead < timedelta(days=2)
    client.clock.advance(-timedelta(days=2))
    assert client.refresh(source.url).clock_ahead is None


def test_nobody_answers(client: Host, source: SourceServer) -> None:
    client.refresh(source.url)
    kept = client.kept()
    with pytest.raises(NetworkError):
        client.refresh("http://127.0.0.1:1", "http://127.0.0.1:2")
    assert client.kept() == kept
    assert client.trust.last_view() is not None
