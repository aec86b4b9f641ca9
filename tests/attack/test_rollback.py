"""Stories of old metadata that comes back: rollback, lost local state, fast-forward."""

from datetime import timedelta

import pytest

from fleetward.errors import ConfigurationError, MetadataError, RollbackError, TrustError
from fleetward.trust.client import Outcome
from support.sourceserver import SourceServer, gives
from support.trusthost import STATE, Host
from support.tufsim import SimFleet

LATER = timedelta(hours=1)


def replay(source: SourceServer, old: dict[str, bytes], *paths: str) -> None:
    """Let the source serve old files in place of the new ones."""
    for path in paths or old:
        source.scripts[path] = gives(old[path])


def test_the_attacker_replays_an_old_timestamp(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    # The host has seen the second release.
    old = dict(origin.files)
    client.clock.advance(LATER)
    origin.release(2)
    client.refresh(source.url)
    kept = client.kept()

    # The attacker replays the timestamp of the first one, which is long overdue.
    replay(source, old, "metadata/timestamp.json")
    with pytest.raises(RollbackError):
        client.refresh(source.url)

    # The client refuses it and keeps what it has.
    assert client.kept() == kept
    view = client.trust.last_view()
    assert view is not None
    assert view.versions["releases-yara"] == 3


@pytest.mark.parametrize("content", [None, b"", b"{"])
@pytest.mark.parametrize("names", [("timestamp.json",), ("timestamp.json", "snapshot.json")])
def test_the_attacker_replays_to_a_host_that_lost_its_timestamp(
    origin: SimFleet,
    source: SourceServer,
    client: Host,
    content: bytes | None,
    names: tuple[str, ...],
) -> None:
    # The host has seen the second release. Power loss takes files, or their content.
    old = dict(origin.files)
    client.clock.advance(LATER)
    origin.release(2)
    client.refresh(source.url)
    for name in names:
        client.lose(name, content)

    # The attacker replays the first release, whole and rightly signed.
    replay(source, old)
    with pytest.raises(RollbackError, match="has seen"):
        client.refresh(source.url)

    # The client refuses, since it keeps the versions that it has seen elsewhere; then goes on.
    source.scripts.clear()
    assert client.refresh(source.url).versions["timestamp"] == 4


def test_the_attacker_replays_to_a_host_that_lost_all_its_metadata(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    old = dict(origin.files)
    client.clock.advance(LATER)
    origin.rotate_root()
    origin.release(2)
    client.refresh(source.url)
    for name in client.kept():
        client.lose(name)

    # The attacker also withholds the newer root.
    replay(source, old)
    source.scripts["metadata/2.root.json"] = gives(b"", 404)
    with pytest.raises(RollbackError, match="of root"):
        client.refresh(source.url)

    # The host begins at its anchor again, and walks to the root that it knew.
    source.scripts.clear()
    assert client.refresh(source.url).versions["root"] == 2


def test_the_attacker_replays_a_snapshot_of_old_releases(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    origin.release(2)
    client.refresh(source.url)
    kept = client.kept()

    # With stolen online keys, the attacker signs a snapshot that lists the first release.
    origin.roles["releases-yara"].version = 1
    origin.republish("releases-yara")
    origin.publish("snapshot")
    with pytest.raises(RollbackError):
        client.refresh(source.url)
    assert client.kept()["snapshot.json"] == kept["snapshot.json"]

    # Nor does it help that the host loses its snapshot.
    client.lose("snapshot.json")
    with pytest.raises(RollbackError, match="releases-yara"):
        client.refresh(source.url)


def test_the_attacker_drops_a_role_from_snapshot(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    client.refresh(source.url)
    del origin.roles["snapshot"].meta["releases-yara.json"]  # type: ignore[attr-defined]
    origin.publish("snapshot")
    with pytest.raises(MetadataError):
        client.refresh(source.url)


def test_a_snapshot_version_that_goes_back_is_seen_by_the_host_that_lost_its_timestamp(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    origin.release(2)
    client.refresh(source.url)
    client.lose("timestamp.json")

    # With the stolen timestamp key, the attacker names an old snapshot in a new timestamp.
    origin.roles["timestamp"].snapshot_meta.version -= 1  # type: ignore[attr-defined]
    origin.publish("timestamp")
    with pytest.raises(RollbackError, match="of snapshot"):
        client.refresh(source.url)


def test_a_relay_lags(
    origin: SimFleet, source: SourceServer, relay: SourceServer, client: Host
) -> None:
    # The relay is one timestamp behind what the host got from the origin a minute ago.
    client.clock.advance(timedelta(minutes=1))
    origin.release(2)
    client.refresh(source.url)

    # The host takes nothing from it, reports that it is behind, and asks the next source.
    view = client.refresh(relay.url, source.url)
    assert [report.outcome for report in view.reports] == [Outcome.BEHIND, Outcome.FRESH]
    assert view.reports[0].timestamp_version == 3
    assert isinstance(view.reports[0].error, RollbackError)
    assert view.versions["timestamp"] == 4

    # Alone it looks like a replay, and is refused as one.
    with pytest.raises(RollbackError):
        client.refresh(relay.url)

    # Three intervals later it is called one.
    client.clock.advance(timedelta(minutes=31))
    origin.publish("timestamp")
    view = client.refresh(relay.url, source.url)
    assert [report.outcome for report in view.reports] == [Outcome.REFUSED, Outcome.FRESH]


def test_an_old_timestamp_without_an_age_is_a_replay(
    origin: SimFleet, source: SourceServer, relay: SourceServer, client: Host
) -> None:
    # The stolen timestamp key signs an older version that does not say when it was issued.
    origin.release(2)
    client.refresh(source.url)
    timestamp = origin.roles["timestamp"]
    timestamp.version = 2
    timestamp.unrecognized_fields.clear()
    relay.files = {"metadata/timestamp.json": origin.sign("timestamp")}
    view = client.refresh(source.url)
    assert view.versions["timestamp"] == 4
    with pytest.raises(RollbackError):
        client.refresh(relay.url)
    relay_first = client.refresh(relay.url, source.url)
    assert [r.outcome for r in relay_first.reports] == [Outcome.REFUSED, Outcome.FRESH]


class TestFastForward:
    """The attacker signs huge versions with stolen online keys; the origin replaces the keys."""

    def test_of_timestamp(self, origin: SimFleet, source: SourceServer, client: Host) -> None:
        origin.roles["timestamp"].version = 99_999
        origin.publish("timestamp")
        client.refresh(source.url)

        # The origin rotates the key and goes on where it was.
        origin.rotate("timestamp")
        origin.roles["timestamp"].version = 4
        origin.publish("root", "timestamp")
        assert client.refresh(source.url).versions["timestamp"] == 5

    def test_of_snapshot(self, origin: SimFleet, source: SourceServer, client: Host) -> None:
        origin.roles["snapshot"].version = 99_999
        origin.publish("snapshot")
        client.refresh(source.url)
        origin.rotate("snapshot")
        origin.rotate("timestamp")
        origin.roles["snapshot"].version = 4
        origin.publish("root", "snapshot")
        assert client.refresh(source.url).versions["snapshot"] == 5

    def test_of_a_product(self, origin: SimFleet, source: SourceServer, client: Host) -> None:
        origin.roles["releases-yara"].version = 99_999
        origin.publish("releases-yara")
        client.refresh(source.url)
        origin.rotate("snapshot")
        origin.roles["releases-yara"].version = 4
        origin.publish("root", "releases-yara")
        assert client.refresh(source.url).versions["releases-yara"] == 5

    def test_is_not_recovered_from_without_new_keys(
        self, origin: SimFleet, source: SourceServer, client: Host
    ) -> None:
        origin.roles["timestamp"].version = 99_999
        origin.publish("timestamp")
        client.refresh(source.url)
        origin.roles["timestamp"].version = 4
        origin.rotate("targets")
        origin.publish("root", "targets")
        for name in ("timestamp.json", "snapshot.json"):
            client.lose(name)
        with pytest.raises(RollbackError):
            client.refresh(source.url)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"schema":"fleetward.trust-state/1","floo'])
def test_a_damaged_record_is_never_an_empty_one(client: Host, content: bytes) -> None:
    # Something empties or cuts the record of what the host has seen.
    with client.disk.create(STATE / "trust.json") as file:
        file.write(content)

    # The host does not go on as if it had seen nothing.
    with pytest.raises(ConfigurationError, match="agent init"):
        client.restart()


@pytest.mark.parametrize("name", ["trust.json", "anchor.json"])
def test_a_lost_record_is_an_error(client: Host, name: str) -> None:
    client.disk.remove(STATE / name)
    with pytest.raises(ConfigurationError, match="agent init"):
        client.restart()


def test_a_root_that_was_put_on_the_disk_is_not_believed(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    # Somebody replaces the stored root by that of a repository of his own.
    other = SimFleet(client.clock)
    client.lose("root.json", other.anchor)

    # The host begins at its anchor again.
    client.refresh(source.url)
    assert client.kept()["root.json"] == origin.anchor
    source.files = other.files
    with pytest.raises(TrustError):
        client.refresh(source.url)
