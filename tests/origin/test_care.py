"""Steward and gc: keeping a repository."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.adapters.disk import Kind
from fleetward.core.names import ChannelName
from fleetward.errors import (
    BusyError,
    ConfigurationError,
    DiskError,
    FleetwardError,
    MetadataError,
)
from fleetward.origin.collect import GRACE, ORPHANS, collect
from fleetward.origin.holders import renew
from fleetward.origin.keyring import Keyring
from fleetward.origin.reporting import round_document, round_sentences
from fleetward.origin.staging import Staging
from fleetward.origin.steward import Round, steward, steward_once
from fleetward.origin.workshop import Workshop
from origin.rigging import (
    KEYS,
    REPO,
    YARA,
    another_run,
    made,
    publish_files,
    require_whole,
    rules,
)
from support.fakes import START, FakeClock
from support.simdisk import SimDisk

ONLINE = Path("/srv/online")
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def clock_of(shop: Workshop) -> FakeClock:
    assert isinstance(shop.clock, FakeClock)
    return shop.clock


def stewards(shop: Workshop) -> Workshop:
    """Return the steward's workshop: the same repository, clock, and only the online keys."""
    if shop.disk.kind(ONLINE) is Kind.ABSENT:
        shop.disk.make_folder(ONLINE)
        shop.disk.replace(KEYS / "online", ONLINE / "online")
    return replace(shop, keyring=Keyring(shop.disk, ONLINE))


# -- steward -------------------------------------------------------------------------------------


def test_the_steward_refuses_to_start_where_it_can_read_offline_keys() -> None:
    with pytest.raises(ConfigurationError, match=r"/srv/keys/offline holds keys.*move them away"):
        steward_once(made())


def test_the_timestamp_is_renewed_after_its_interval_and_nothing_else() -> None:
    shop = made()
    keeper = stewards(shop)
    clock_of(shop).advance(9 * MINUTE)
    assert steward_once(keeper).outcome.became_live == ()
    clock_of(shop).advance(MINUTE)
    done = steward_once(keeper)
    assert (done.renewed, done.outcome.became_live) == (("timestamp",), ("timestamp",))
    closure = require_whole(shop.disk)
    assert (closure.timestamp.version, closure.snapshot.version) == (2, 1)


def test_online_roles_are_renewed_at_half_their_life_and_others_reported() -> None:
    shop = made()
    publish_files(shop, rules(1))
    keeper = stewards(shop)
    clock_of(shop).advance(4 * DAY)
    assert steward_once(keeper).outcome.became_live == ("channels", "snapshot", "timestamp")
    clock_of(shop).advance(12 * DAY)
    done = steward_once(keeper)
    assert [due.role for due in done.due] == ["releases-yara"]
    assert any("releases-yara expires on" in line for line in round_sentences(done))
    assert round_document(done)["due"][0]["role"] == "releases-yara"
    clock_of(shop).advance(360 * DAY)
    assert {due.role for due in steward_once(keeper).due} == {
        "root",
        "targets",
        "fleet",
        "releases-yara",
    }
    assert set(renew(replace(shop, keyring=Keyring(shop.disk, KEYS)), ()).roles) == {
        "root",
        "targets",
        "fleet",
        "releases-yara",
    }
    steward_once(keeper)
    closure = require_whole(shop.disk)
    assert min(role.expires for role in (closure.root, *closure.roles.values())) > (
        shop.clock.now() + 6 * DAY
    )


def test_the_loop_renews_on_time_survives_failures_and_ends_when_told() -> None:
    shop = made()
    keeper = stewards(shop)
    clock = clock_of(shop)
    heard: list[Round | FleetwardError] = []
    versions: list[int] = []

    def stopped() -> bool:
        return clock.now() > START + 59 * MINUTE

    def report(done: Round | FleetwardError) -> None:
        heard.append(done)
        versions.append(keeper.repository.closure().timestamp.version)

    steward(keeper, stopped, report)
    assert versions == [1, 2, 3, 4, 5, 6]
    assert all(isinstance(each, Round) for each in heard)
    assert max(clock.slept) <= timedelta(seconds=1)

    path = REPO / "metadata/1.snapshot.json"
    kept = shop.disk.read(path)
    shop.disk.remove(path)
    heard.clear()
    with pytest.raises(MetadataError):
        steward(keeper, lambda: False, report)
    with shop.disk.create(path) as file:
        file.write(kept)
    end = clock.now() + timedelta(minutes=2)
    busy = replace(keeper, wait=timedelta(0))

    def break_it(done: Round | FleetwardError) -> None:
        heard.append(done)
        if shop.disk.kind(path) is Kind.FILE:
            shop.disk.remove(path)

    steward(busy, lambda: clock.now() > end, break_it)
    assert isinstance(heard[0], Round)
    assert any(isinstance(each, MetadataError) for each in heard[1:])


def test_the_loop_finishes_what_becomes_pending() -> None:
    shop = made()
    publish_files(shop, rules(1))
    keeper = stewards(shop)
    build = another_run(shop)
    publish_files(build, rules(2))
    heard: list[Round | FleetwardError] = []
    end = clock_of(shop).now() + timedelta(seconds=30)
    steward(keeper, lambda: shop.clock.now() > end, heard.append)
    channel = Staging(keeper).live_channel(YARA, ChannelName("stable"))
    assert channel is not None
    assert channel.release.seq == 2


def test_a_steward_meets_a_publisher() -> None:
    """One at a time; the second waits, then says so."""
    shop = made()
    keeper = stewards(shop)
    with shop.alone(), pytest.raises(BusyError):
        steward_once(keeper)


# -- gc ------------------------------------------------------------------------------------------


def test_gc_notes_orphans_first_and_removes_them_after_the_grace() -> None:
    shop = made()
    for count in (1, 2, 3, 4):
        publish_files(shop, rules(count), keep=1, deltas=1)
    require_whole(shop.disk)
    first = collect(shop)
    assert first.removed == ()
    assert any(path.startswith("blobs/") for path in first.waiting)
    assert "metadata/1.channels.json" in first.waiting
    clock_of(shop).advance(GRACE - MINUTE)
    assert collect(shop).removed == ()
    clock_of(shop).advance(MINUTE)
    done = collect(shop)
    assert set(done.removed) == set(first.waiting)
    assert done.bytes_freed > 0
    require_whole(shop.disk)
    assert collect(shop).waiting == ()
    assert publish_files(shop, rules(5)).state == "published"


def test_gc_keeps_roots_pending_strangers_and_higher_versions() -> None:
    shop = made()
    publish_files(shop, rules(1))
    renew(shop, ["root"])
    build = another_run(shop)
    stewards(shop)
    publish_files(build, rules(2))
    for path in ("metadata/99.channels.json", "metadata/index.html", "blobs/notes.txt"):
        shop.repository.add_file(path, b"x")
    for path in ("blobs/.incoming", "metadata/.x.json.new", "metadata/.keep"):
        shop.repository.add_file(path, b"x")
    done = collect(build, timedelta())
    assert {"blobs/.incoming", "metadata/.x.json.new"} <= set(done.removed)
    for path in (
        "metadata/1.root.json",
        "metadata/99.channels.json",
        "metadata/index.html",
        "blobs/notes.txt",
        "metadata/.keep",
    ):
        assert shop.disk.kind(REPO / path) is Kind.FILE, path
    steward_once(stewards(shop))
    require_whole(shop.disk)


def test_gc_removes_nothing_where_it_cannot_see_all() -> None:
    shop = made()
    manifest = publish_files(shop, rules(1)).manifest
    names = shop.disk.listing(REPO / "targets/releases/yara")
    name = next(n for n in names if n.endswith(f".{manifest.release}.json"))
    shop.disk.remove(REPO / "targets/releases/yara" / name)
    before = shop.disk.listing(REPO / "metadata")
    with pytest.raises(FleetwardError, match="missing"):
        collect(shop, timedelta())
    assert shop.disk.listing(REPO / "metadata") == before


@pytest.mark.parametrize(
    "noted",
    [
        b"",
        b"{}",
        b'{"schema":"fleetward.orphans/1","since":{"metadata/1.channels.json":"2026-11-24T00:00:00"}}',
    ],
)
def test_gc_begins_the_grace_again_where_its_notes_are_broken(noted: bytes) -> None:
    shop = made()
    publish_files(shop, rules(1))
    with shop.disk.create(REPO / ORPHANS) as file:
        file.write(noted)
    assert collect(shop).removed == ()


# -- the disk ---


def test_a_failing_disk_is_no_missing_key() -> None:
    class Failing(SimDisk):
        broken = False

        def listing(self, path: Path) -> list[str]:
            if self.broken and path == KEYS / "online":
                raise DiskError("broken") from OSError(5, "input/output error")
            if path == KEYS / "offline":
                raise DiskError("forbidden") from PermissionError(13, "permission denied")
            return super().listing(path)

        def read(self, path: Path) -> bytes:
            if path == KEYS / "online/snapshot.pem":
                raise DiskError("forbidden") from PermissionError(13, "permission denied")
            return super().read(path)

    disk = Failing()
    disk.make_folder(Path("/srv"))
    shop = made(disk)
    names = [Path(found.file.name).name for found in shop.keyring.found()]
    assert names == ["channels.pem", "timestamp.pem"]
    disk.broken = True
    shop.keyring.look_again()
    with pytest.raises(DiskError, match="broken"):
        shop.keyring.found()
