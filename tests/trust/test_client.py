"""What a host pays for trust, and what it is told."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.core.documents import Floor, Policy, RampStep
from fleetward.core.names import ChannelName, ProductName, ReleaseName
from fleetward.errors import (
    ConfigurationError,
    DiskError,
    ExpiredError,
    MetadataError,
    NetworkError,
    NotFoundError,
    UsageError,
)
from fleetward.trust.client import FleetTrust, Outcome, Source, SourceReport
from fleetward.trust.ledger import Ledger
from fleetward.trust.rules import FleetRules
from fleetward.trust.tufclient import TufClient
from fleetward.trust.updating import Repository
from support.simdisk import Aftermath, PowerLossError
from support.sourceserver import Exchange, SourceServer, gives, source_server
from support.trusthost import FOLDER, METADATA, STATE, Host, host
from support.tufsim import SimFleet

YARA, STABLE = ProductName("yara"), ChannelName("stable")
QUESTIONS = ["metadata/2.root.json", "metadata/timestamp.json"]


class TestView:
    def test_what_a_first_refresh_gives(
        self, origin: SimFleet, source: SourceServer, client: Host
    ) -> None:
        view = client.refresh(source.url)
        assert view.source == Source(source.url)
        issued = view.timestamp.issued
        assert view.reports == (SourceReport(view.source, Outcome.FRESH, None, 3, issued),)
        assert view.timestamp.version == 3
        assert view.timestamp.issued == client.clock.now()
        assert view.timestamp.interval == timedelta(minutes=10)
        assert view.timestamp.expires == client.clock.now() + timedelta(days=7)
        assert (view.frozen, view.clock_ahead, view.expired) == (False, None, ())
        assert view.versions == {
            "root": 1,
            "timestamp": 3,
            "snapshot": 3,
            "targets": 2,
            "fleet": 1,
            "channels": 2,
            "releases-yara": 2,
        }
        assert set(view.expiries) == {"root", "timestamp", "snapshot", "targets"}
        assert view.find("channels/yara/stable.json")
        assert view.expiries["channels"] == origin.roles["channels"].expires

    def test_documents(self, origin: SimFleet, source: SourceServer, client: Host) -> None:
        ref = origin.add_release(2)
        policy = Policy(product=YARA, ramp=(RampStep(age=0, percent=10),))
        origin.set_floor(1)
        origin.set_policy(policy)
        origin.point(ref)
        origin.publish("releases-yara", "channels")
        view = client.refresh(source.url)
        assert view.channel(YARA, STABLE).release == ref
        manifest = view.manifest(YARA, ref)
        assert view.release(YARA, ref.release) == manifest
        assert view.release(YARA, ReleaseName("never")) is None
        assert manifest is not None
        assert manifest.seq == 2
        assert view.floor(YARA) == Floor(product=YARA, seq=1)
        assert view.policy(YARA) == policy

    def test_documents_that_nobody_signed(self, source: SourceServer, client: Host) -> None:
        view = client.refresh(source.url)
        assert view.floor(YARA) == Floor(product=YARA, seq=0)
        assert view.policy(YARA) == Policy(product=YARA)
        with pytest.raises(ConfigurationError, match="no channel 'beta'"):
            view.channel(YARA, ChannelName("beta"))
        with pytest.raises(ConfigurationError):
            view.channel(ProductName("sigma"), STABLE)

    def test_what_there_is(self, origin: SimFleet, source: SourceServer, client: Host) -> None:
        """Somebody who watches over the repository asks what there is, not for one thing."""
        origin.add_product("sigma", keys=2)
        origin.publish("targets", "releases-sigma")
        first, second = origin.release(1), origin.release(2)
        origin.set_floor(1)
        origin.set_policy(Policy(product=YARA))
        origin.add_target("releases-yara", "releases/yara/notes.txt", b"no document")
        origin.add_target("channels", "channels/yara/deep/er.json", b"nobody may name this")
        origin.point(second, previous=first)
        origin.publish("releases-yara", "channels")
        view = client.refresh(source.url)
        assert view.products() == ("sigma", "yara")
        assert view.releases(YARA) == ("r1", "r2")
        assert view.releases(ProductName("sigma")) == ()
        assert view.releases(ProductName("nobody")) == ()
        assert view.channels(YARA) == (STABLE,)
        assert view.channels(ProductName("sigma")) == ()

    def test_the_roles_and_their_keys(
        self, origin: SimFleet, source: SourceServer, client: Host
    ) -> None:
        view = client.refresh(source.url)
        view.releases(YARA)
        roles = {role.role: role for role in view.roles}
        assert list(roles) == [
            *("root", "timestamp", "snapshot", "targets"),
            *("fleet", "channels", "releases-yara"),
        ]
        assert (len(roles["root"].keyids), roles["root"].threshold) == (3, 2)
        assert (len(roles["fleet"].keyids), roles["fleet"].threshold) == (3, 2)
        assert roles["fleet"].expires is None, "nothing of it was needed yet"
        assert roles["releases-yara"].expires == origin.roles["releases-yara"].expires
        assert roles["releases-yara"].version == origin.roles["releases-yara"].version

    def test_a_pattern_narrower_than_its_folder(
        self, origin: SimFleet, source: SourceServer, client: Host
    ) -> None:
        delegations = origin.targets().delegations
        assert delegations is not None
        assert delegations.roles is not None
        delegations.roles["channels"].paths = ["channels/sigma/*", "channels/*"]
        origin.publish("targets")
        assert client.refresh(source.url).find("channels/yara/stable.json") is None

    def test_several_products(self, origin: SimFleet, source: SourceServer, client: Host) -> None:
        origin.add_product("sigma")
        origin.publish("targets")
        origin.release(7, "sigma")
        view = client.refresh(source.url)
        sigma = ProductName("sigma")
        assert view.channel(sigma, STABLE).release.seq == 7
        assert view.channel(YARA, STABLE).release.seq == 1


class TestNothingNew:
    def test_two_questions_are_asked_and_nothing_is_written(
        self, source: SourceServer, client: Host
    ) -> None:
        view = client.refresh(source.url)
        ref = view.channel(YARA, STABLE).release
        view.manifest(YARA, ref)
        view.floor(YARA)
        client.refresh(source.url)
        steps = len(client.disk.steps)
        source.asked.clear()

        view = client.refresh(source.url)
        assert view.channel(YARA, STABLE).release == ref
        assert view.manifest(YARA, ref) is not None
        assert source.asked == QUESTIONS
        assert len(client.disk.steps) == steps

    def test_it_stays_below_a_kilobyte(self, source: SourceServer, client: Host) -> None:
        client.refresh(source.url)
        source.received = source.sent = 0
        client.refresh(source.url)
        assert source.received + source.sent < 1000
        assert source.connections == 1

    def test_a_source_without_etags(self, source: SourceServer, client: Host) -> None:
        def plain(exchange: Exchange) -> None:
            exchange.stays = True
            exchange.answer(200, {}, exchange.content or b"")

        source.scripts["metadata/timestamp.json"] = plain
        for _ in range(3):
            view = client.refresh(source.url)
            assert view.reports[0].outcome is Outcome.FRESH
        assert source.asked.count("metadata/3.snapshot.json") == 1

    def test_an_etag_belongs_to_its_source(
        self, source: SourceServer, relay: SourceServer, client: Host
    ) -> None:
        seen: list[str | None] = []

        def remember(exchange: Exchange) -> None:
            seen.append(exchange.headers.get("if-none-match"))
            exchange.answer(200, {"ETag": '"relay"'}, exchange.content or b"")

        client.refresh(source.url)
        relay.scripts["metadata/timestamp.json"] = remember
        client.refresh(relay.url)
        assert seen == [None]

    def test_an_endless_etag_is_not_written_down(self, source: SourceServer, client: Host) -> None:
        source.scripts["metadata/timestamp.json"] = lambda exchange: exchange.answer(
            200, {"ETag": '"' + "x" * 1000 + '"'}, exchange.content or b""
        )
        client.refresh(source.url)
        assert b"xxx" not in client.disk.read(STATE / "trust.json")

    def test_a_304_for_a_timestamp_that_was_lost_is_not_asked_for(
        self, source: SourceServer, client: Host
    ) -> None:
        client.refresh(source.url)
        client.lose("timestamp.json")
        assert client.refresh(source.url).versions["timestamp"] == 3

    @pytest.mark.parametrize("name", ["snapshot.json", "targets.json", "channels.json"])
    def test_a_file_that_was_lost_is_brought_again(
        self, source: SourceServer, client: Host, name: str
    ) -> None:
        client.refresh(source.url).channel(YARA, STABLE)
        client.lose(name, b"{}")
        client.refresh(source.url).channel(YARA, STABLE)
        assert client.kept()[name] != b"{}"

    def test_tuf_is_not_imported_until_there_is_something_to_verify(self) -> None:
        code = (
            "import sys, fleetward.trust.client; "
            "sys.exit(any(m.split('.')[0] in ('tuf', 'securesystemslib') for m in sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
        assert done.returncode == 0


class TestSources:
    def test_none(self, client: Host) -> None:
        with pytest.raises(UsageError):
            client.refresh()

    def test_the_first_fresh_one_ends_the_search(
        self, source: SourceServer, relay: SourceServer, client: Host
    ) -> None:
        client.refresh(source.url, relay.url)
        assert relay.asked == []

    def test_a_role_comes_from_another_source_where_the_first_has_lost_it(
        self, source: SourceServer, relay: SourceServer, client: Host
    ) -> None:
        view = client.refresh(source.url, relay.url)
        source.scripts["metadata/2.channels.json"] = gives(b"", 404)
        assert view.channel(YARA, STABLE).release.seq == 1
        assert "metadata/2.channels.json" in relay.asked

    def test_a_role_that_nobody_has(self, source: SourceServer, client: Host) -> None:
        view = client.refresh(source.url)
        source.scripts["metadata/2.channels.json"] = gives(b"", 404)
        with pytest.raises(NotFoundError):
            view.channel(YARA, STABLE)

    def test_a_document_that_nobody_has(
        self, origin: SimFleet, source: SourceServer, client: Host
    ) -> None:
        view = client.refresh(source.url)
        for path in list(origin.files):
            if path.startswith("targets/channels"):
                del origin.files[path]
        with pytest.raises(NotFoundError):
            view.channel(YARA, STABLE)
        assert view.reports[-1].outcome is Outcome.UNREACHABLE

    def test_a_refusal_is_told_before_a_failure(self, source: SourceServer, client: Host) -> None:
        source.scripts["metadata/timestamp.json"] = gives(b"{}")
        with pytest.raises(MetadataError):
            client.refresh("http://127.0.0.1:1", source.url)


class TestOffline:
    def test_before_the_first_refresh(self, client: Host) -> None:
        assert client.trust.last_view() is None

    def test_what_was_verified_last(self, source: SourceServer, client: Host) -> None:
        client.refresh(source.url).channel(YARA, STABLE)
        client.restart()
        asked = len(source.asked)
        view = client.trust.last_view()
        assert view is not None
        assert view.source is None
        assert view.reports == ()
        assert view.channel(YARA, STABLE).release.seq == 1
        with pytest.raises(NetworkError, match="not on this host"):
            view.floor(YARA)
        assert len(source.asked) == asked

    def test_a_document_that_was_never_fetched(self, source: SourceServer, client: Host) -> None:
        client.refresh(source.url).find("channels/yara/stable.json")
        view = client.trust.last_view()
        assert view is not None
        with pytest.raises(NetworkError, match="not on this host"):
            view.channel(YARA, STABLE)

    def test_a_role_that_has_expired(self, source: SourceServer, client: Host) -> None:
        client.refresh(source.url).channel(YARA, STABLE)
        client.clock.advance(timedelta(days=8))
        view = client.trust.last_view()
        assert view is not None
        assert view.expired == ("timestamp", "snapshot")
        assert view.clock_ahead is not None
        with pytest.raises(ExpiredError, match="channels"):
            view.channel(YARA, STABLE)


class TestState:
    def test_create_does_not_forget(self, origin: SimFleet, client: Host) -> None:
        with pytest.raises(ConfigurationError, match="already"):
            FleetTrust.create(client.disk, FOLDER, origin.anchor, client.session, client.clock)

    def test_the_last_known_time_is_what_was_signed(
        self, source: SourceServer, client: Host
    ) -> None:
        issued = client.clock.now()
        client.clock.advance(timedelta(hours=5))
        client.refresh(source.url)
        client.restart()
        assert client.trust._ledger.last_known_time == issued

    def test_an_older_time_in_a_newer_timestamp_is_not_learned(
        self, origin: SimFleet, source: SourceServer, client: Host
    ) -> None:
        issued = client.clock.now()
        client.refresh(source.url)
        client.clock.advance(timedelta(minutes=-2))
        origin.publish("timestamp")
        client.refresh(source.url)
        assert client.trust._ledger.last_known_time == issued

    def test_a_full_disk(self, source: SourceServer, client: Host) -> None:
        kept = client.kept()
        client.disk.capacity = 100
        with pytest.raises(DiskError):
            client.refresh(source.url)
        assert client.kept() == kept

    def test_a_delegated_role_that_was_not_walked_to_is_not_kept(
        self, source: SourceServer, client: Host
    ) -> None:
        client.refresh(source.url)
        ledger = Ledger(client.trust._ledger._home)
        tuf = TufClient(ledger, client.session, FleetRules(client.clock))
        tuf.load(Repository(f"{source.url}/metadata"), "fleet/relays.json", "channels")
        assert ledger.read("channels") is None
        assert ledger.marked("fleet") is not None

    def test_a_role_that_is_lost_while_it_is_read(
        self, source: SourceServer, client: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        view = client.refresh(source.url)
        monkeypatch.setattr(client.trust._client, "load", lambda *_: None)
        with pytest.raises(MetadataError, match="lost"):
            view.channel(YARA, STABLE)


class TestPowerLoss:
    """The machine stops before each operation of a refresh; what it finds is never older."""

    @pytest.mark.parametrize("aftermath", Aftermath)
    def test_at_any_operation(
        self, origin: SimFleet, source: SourceServer, client: Host, aftermath: Aftermath
    ) -> None:
        client.refresh(source.url).channel(YARA, STABLE)
        before = client.disk.crash(Aftermath.KEEPS)
        origin.release(2)
        first = len(before.steps)
        count = self._steps_of_a_refresh(client, source)
        for stop in range(first, first + count):
            client.disk = before.crash(Aftermath.KEEPS)
            client.disk.stop_at = stop
            client.restart()
            with pytest.raises(PowerLossError):
                client.refresh(source.url).channel(YARA, STABLE)
            client.disk = client.disk.crash(aftermath, seed=stop)
            client.restart()
            for name in ("root", "timestamp", "snapshot", "targets"):
                assert client.disk.read(METADATA / f"{name}.json").startswith(b"{")
            assert client.refresh(source.url).channel(YARA, STABLE).release.seq == 2

    def _steps_of_a_refresh(self, client: Host, source: SourceServer) -> int:
        client.disk = client.disk.crash(Aftermath.KEEPS)
        client.restart()
        client.refresh(source.url).channel(YARA, STABLE)
        assert client.disk.read(STATE / "trust.json")
        return len(client.disk.steps)


def test_it_works_on_the_disk_of_this_machine(
    origin: SimFleet, source: SourceServer, client: Host, tmp_path: Path
) -> None:
    from fleetward.adapters.disk import SystemDisk  # noqa: PLC0415 (the only test on a real disk)

    trust = FleetTrust.create(SystemDisk(), tmp_path, origin.anchor, client.session, client.clock)
    view = trust.refresh([Source(source.url)])
    assert view.channel(YARA, STABLE).release.seq == 1
    assert sorted(path.name for path in (tmp_path / "metadata").iterdir()) == [
        "channels.json",
        "root.json",
        "snapshot.json",
        "targets.json",
        "timestamp.json",
    ]


def test_two_hosts_do_not_share_anything(origin: SimFleet, client: Host) -> None:
    with source_server(origin.files) as server, host(origin.anchor, client.clock) as other:
        other.refresh(server.url)
        assert client.kept() == {"root.json": origin.anchor}
