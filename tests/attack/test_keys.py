"""Stories of keys: rotation, a cached 404 of the next root, stolen keys, thresholds."""

from datetime import timedelta

import pytest

from fleetward.core.digest import sha256_of
from fleetward.core.documents import ReleaseRef
from fleetward.core.names import ProductName, ReleaseName
from fleetward.errors import DigestError, MetadataError, TrustError
from fleetward.trust.client import FleetTrust, Outcome, Source
from support.sourceserver import SourceServer, gives, source_server
from support.trusthost import Host, host
from support.tufsim import SimFleet, new_signers

YARA = ProductName("yara")


def test_root_is_rotated_again_and_again(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    # While the host was off, the origin rotated its root keys four times.
    client.refresh(source.url)
    for _ in range(4):
        origin.rotate_root()
    origin.release(2)

    # The host walks from root to root, keeps the last one, and needs the others no more.
    assert client.refresh(source.url).versions["root"] == 5
    assert client.kept()["root.json"] == origin.files["metadata/5.root.json"]
    del origin.files["metadata/3.root.json"]
    client.restart()
    client.refresh(source.url)


def test_every_top_level_key_is_rotated(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    client.refresh(source.url)
    for role in ("timestamp", "snapshot", "targets"):
        origin.rotate(role)
    origin.rotate_root()
    origin.publish("targets")
    view = client.refresh(source.url)
    assert view.versions == {**view.versions, "root": 2, "targets": 3}


def test_a_root_that_a_minority_of_the_old_keys_signed(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    # The attacker has one of two root keys, and signs a root of his own with it.
    stolen = origin.signers["root"][:1]
    origin.rotate("root")
    origin.signers["root"] += stolen
    origin.publish_role("root")
    with pytest.raises(MetadataError):
        client.refresh(source.url)
    assert client.kept() == {"root.json": origin.anchor}


def test_a_root_that_skips_a_version(origin: SimFleet, source: SourceServer, client: Host) -> None:
    origin.roles["root"].version = 2
    origin.publish_role("root")
    origin.files["metadata/2.root.json"] = origin.files["metadata/3.root.json"]
    with pytest.raises(MetadataError):
        client.refresh(source.url)
    assert client.kept() == {"root.json": origin.anchor}


def test_an_endless_chain_of_roots(origin: SimFleet, source: SourceServer, client: Host) -> None:
    # The attacker, with the root keys of long ago, has signed more roots than anyone would.
    for _ in range(260):
        origin.publish_role("root")
    client.refresh(source.url)
    assert client.trust.last_view().versions["root"] == 257  # type: ignore[union-attr]


def test_a_cache_has_kept_that_there_is_no_next_root(
    origin: SimFleet, source: SourceServer, relay: SourceServer, client: Host
) -> None:
    # A cache on the way answered 404 for the next root, and goes on doing so after it is there.
    client.refresh(source.url)
    kept = client.kept()
    origin.rotate("timestamp")
    origin.publish("root", "timestamp")
    source.scripts["metadata/2.root.json"] = gives(b"", 404)

    # The new timestamp does not verify by the old root: refused, and everything is kept.
    with pytest.raises(MetadataError):
        client.refresh(source.url)
    assert client.kept() == kept

    # A source without that cache helps; so does time.
    relay.files = origin.files
    view = client.refresh(source.url, relay.url)
    assert [report.outcome for report in view.reports] == [Outcome.REFUSED, Outcome.FRESH]
    source.scripts.clear()
    assert client.refresh(source.url).versions["root"] == 2


@pytest.mark.parametrize("status", [403, 404])
def test_no_next_root_is_no_error(source: SourceServer, client: Host, status: int) -> None:
    source.scripts["metadata/2.root.json"] = gives(b"", status)
    assert client.refresh(source.url).versions["root"] == 1


def test_the_timestamp_key_is_stolen(origin: SimFleet, source: SourceServer, client: Host) -> None:
    # With it alone the attacker can name another snapshot, but not sign one.
    client.refresh(source.url)
    kept = client.kept()
    origin.release(2)
    origin.signers["snapshot"] = new_signers(1)
    origin.publish("snapshot")
    with pytest.raises(MetadataError):
        client.refresh(source.url)
    assert client.kept()["snapshot.json"] == kept["snapshot.json"]

    # The host has no consistent view then; it says so, and keeps what is installed.
    assert client.trust.last_view() is None


def test_a_replaced_timestamp_key_is_worth_nothing(
    origin: SimFleet, source: SourceServer, client: Host
) -> None:
    # The origin replaces the stolen key; the attacker goes on serving the old timestamp.
    client.refresh(source.url)
    old = origin.files["metadata/timestamp.json"]
    origin.rotate("timestamp")
    origin.publish("root", "timestamp")
    source.scripts["metadata/timestamp.json"] = lambda e: e.answer(200, {"ETag": '"x"'}, old)

    # The host learns the new root, and never again believes the timestamp that it has stored.
    for _ in range(3):
        with pytest.raises(MetadataError):
            client.refresh(source.url)
        client.restart()
    assert client.kept()["root.json"] == origin.files["metadata/2.root.json"]


def test_all_online_keys_are_stolen(origin: SimFleet, source: SourceServer, client: Host) -> None:
    # The attacker signs channels, snapshot and timestamp, and lets the channel point at bytes of
    # his own, which he also serves under the name of a manifest.
    content = b'{"schema":"fleetward.release/1","product":"yara"}'
    forged = ReleaseRef(release=ReleaseName("evil"), seq=99, manifest=sha256_of(content))
    origin.files[f"targets/releases/yara/{forged.manifest}.evil.json"] = content
    origin.point(forged)
    origin.publish("channels")

    # The channel is his, but the releases role does not name that digest: no byte gets in.
    view = client.refresh(source.url)
    channel = view.channel(YARA, "stable")  # type: ignore[arg-type]
    assert channel.release == forged
    assert view.manifest(YARA, forged) is None

    # Nor where he takes the name of a real release.
    real = origin.add_release(1)
    swapped = ReleaseRef(release=real.release, seq=1, manifest=forged.manifest)
    assert view.manifest(YARA, swapped) is None
    assert view.manifest(YARA, real) is not None


def test_one_of_two_release_keys_is_stolen(source: SourceServer, client: Host) -> None:
    # Build and QA sign each release of this repository.
    fleet = SimFleet(client.clock, build_and_qa=True)
    fleet.release(1)
    with source_server(fleet.files) as server, host(fleet.anchor, client.clock) as victim:
        view = victim.refresh(server.url)
        assert view.versions["releases-yara"] == 2

        # The attacker has the build key and the online keys.
        fleet.signers["releases-yara"] = fleet.signers["releases-yara"][:1]
        forged = fleet.release(2)
        view = victim.refresh(server.url)
        with pytest.raises(MetadataError, match="releases-yara"):
            view.manifest(YARA, forged)
        assert "releases-yara.json" not in victim.kept()

        # Signing twice with one key does not make two.
        fleet.signers["releases-yara"] *= 2
        fleet.publish("releases-yara")
        with pytest.raises(MetadataError):
            victim.refresh(server.url).manifest(YARA, forged)
    assert source.asked == []


def test_a_product_changes_its_keys(origin: SimFleet, source: SourceServer, client: Host) -> None:
    view = client.refresh(source.url)
    ref = view.channel(YARA, "stable").release  # type: ignore[arg-type]
    assert view.manifest(YARA, ref) is not None
    stored = client.kept()["releases-yara.json"]

    # Targets replaces the key, and the metadata of releases-yara stays as the old one signed it.
    origin.delegate("releases-yara", ["releases/yara/*"])
    origin.publish("targets")
    with pytest.raises(MetadataError):
        client.refresh(source.url).manifest(YARA, ref)
    assert client.kept()["releases-yara.json"] == stored

    # Signed by the new one, it is good again.
    origin.roles["releases-yara"].version = 2
    new = origin.release(2)
    assert client.refresh(source.url).manifest(YARA, new) is not None


@pytest.mark.parametrize(
    "anchor", [b"", b"{}", b'{"signed": {}, "signatures": []}', b"timestamp", b"unsigned"]
)
def test_what_is_no_trust_anchor(origin: SimFleet, client: Host, anchor: bytes) -> None:
    if anchor == b"timestamp":
        anchor = origin.files["metadata/timestamp.json"]
    if anchor == b"unsigned":
        anchor = origin.sign("root", origin.signers["root"][:1])
    folder = client.trust._ledger._home.state.parent.parent / "other"
    with pytest.raises(TrustError):
        FleetTrust.create(client.disk, folder, anchor, client.session, client.clock)


def test_an_anchor_without_consistent_snapshots(origin: SimFleet, client: Host) -> None:
    origin.root.consistent_snapshot = False
    folder = client.trust._ledger._home.state.parent.parent / "other"
    with pytest.raises(MetadataError, match="consistent snapshots"):
        FleetTrust.create(client.disk, folder, origin.sign("root"), client.session, client.clock)


def test_a_source_of_another_fleet(client: Host) -> None:
    # The host is sent to a repository that is in order, but not its own.
    other = SimFleet(client.clock)
    other.release(9)
    other.rotate_root()
    with source_server(other.files) as server:
        with pytest.raises((MetadataError, DigestError)):
            client.refresh(server.url)
        with pytest.raises(TrustError):
            client.trust.refresh([Source("http://127.0.0.1:1"), Source(server.url)])
    client.clock.advance(timedelta(minutes=1))
