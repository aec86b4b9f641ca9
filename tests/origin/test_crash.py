"""P7 at the origin: stopped before any operation, the repository stays whole.

And the same command, run again, completes.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.adapters.disk import Kind
from fleetward.core.documents import Channel
from fleetward.core.names import ChannelName, ProductName
from fleetward.origin.collect import collect
from fleetward.origin.create import create
from fleetward.origin.holders import rotate
from fleetward.origin.keyring import PlainKeys
from fleetward.origin.publish import publish
from fleetward.origin.staging import Staging
from fleetward.origin.steward import steward_once
from fleetward.origin.workshop import Workshop
from origin.rigging import (
    KEYS,
    REPO,
    fingerprint,
    made,
    order,
    publish_files,
    require_whole,
    rules,
    simdisk,
    workshop,
)
from support.fakes import START, FakeClock
from support.simdisk import Aftermath, PowerLossError, SimDisk

Command = Callable[[Workshop], object]
ONLINE_KEYS = Path("/srv/steward")
AFTERMATHS = [
    *((aftermath, 0) for aftermath in Aftermath if aftermath is not Aftermath.MIXES),
    *((Aftermath.MIXES, seed) for seed in range(3)),
]


def outcomes(
    begin: SimDisk, run: Command, keys: Path = KEYS, clock: FakeClock | None = None
) -> Iterator[SimDisk]:
    """Yield each disk that may be found after `run` was stopped before any of its operations."""
    stop, seen = 0, set[int]()
    while True:
        disk = begin.crash(Aftermath.KEEPS)
        disk.stop_at = stop
        try:
            run(workshop(disk, clock and FakeClock(clock.now()), keys, seed=7))
        except PowerLossError:
            found = [disk.crash(aftermath, seed) for aftermath, seed in AFTERMATHS]
            prints = {fingerprint(each): each for each in found}
            yield from (each for known, each in prints.items() if known not in seen)
            seen.update(prints)
            stop += 1
            continue
        assert stop > 10
        return


def stable(disk: SimDisk) -> Channel:
    channel = Staging(workshop(disk)).live_channel(ProductName("yara"), ChannelName("stable"))
    assert channel is not None
    return channel


def test_init_stopped_anywhere_can_be_run_again() -> None:
    def run(shop: Workshop) -> object:
        return create(shop, PlainKeys())

    begin = simdisk()
    for disk in outcomes(begin, run):
        if disk.kind(REPO) is not Kind.ABSENT:
            require_whole(disk)
            assert disk.kind(KEYS) is Kind.FOLDER
            continue
        create(workshop(disk, seed=9), PlainKeys())
        require_whole(disk)
        publish_files(workshop(disk), rules(1), deltas=0)


@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_publish_stopped_anywhere_leaves_the_old_release_or_the_new_one(*, first: bool) -> None:
    shop = made()
    if not first:
        publish_files(shop, rules(2))
    wanted = order(shop.disk, rules(3))
    assert isinstance(shop.disk, SimDisk)
    begin = shop.disk.crash(Aftermath.KEEPS)

    def run(shop: Workshop) -> object:
        return publish(shop, wanted)

    for disk in outcomes(begin, run):
        require_whole(disk)
        again = publish(workshop(disk, seed=9), wanted)
        assert again.state in {"published", "unchanged"}
        require_whole(disk)
        assert stable(disk).release.release == again.manifest.release
        assert stable(disk).release.seq == (1 if first else 2)
        assert publish(workshop(disk), wanted).state == "unchanged"


def test_a_release_that_was_stopped_is_finished_by_the_steward() -> None:
    """The publisher died after its signatures were kept: nobody has to run it again."""
    shop = made()
    publish_files(shop, rules(1))
    wanted = order(shop.disk, rules(2), deltas=0)
    assert isinstance(shop.disk, SimDisk)
    begin = shop.disk.crash(Aftermath.KEEPS)

    def run(shop: Workshop) -> object:
        return publish(shop, wanted)

    finished = 0
    for disk in outcomes(begin, run):
        _copy_online_keys(disk)
        steward_once(workshop(disk, keys=ONLINE_KEYS))
        require_whole(disk)
        finished += stable(disk).release.seq == 2
    assert finished > 5


def _copy_online_keys(disk: SimDisk) -> None:
    disk.make_folder(ONLINE_KEYS / "online")
    for name in disk.listing(KEYS / "online"):
        with disk.create(ONLINE_KEYS / "online" / name) as file:
            file.write(disk.read(KEYS / "online" / name))


def test_the_steward_stopped_anywhere_leaves_a_whole_repository() -> None:
    shop = made()
    publish_files(shop, rules(1), deltas=0)
    assert isinstance(shop.disk, SimDisk)
    _copy_online_keys(shop.disk)
    begin = shop.disk.crash(Aftermath.KEEPS)
    clock = FakeClock(START + timedelta(days=5))
    for disk in outcomes(begin, steward_once, ONLINE_KEYS, clock):
        require_whole(disk)
        steward_once(workshop(disk, clock, ONLINE_KEYS))
        assert require_whole(disk).timestamp.issued == clock.now()


def test_gc_stopped_anywhere_removes_nothing_that_is_named() -> None:
    shop = made()
    for count in (1, 2, 3):
        publish_files(shop, rules(count), keep=1, deltas=1)
    collect(shop, timedelta())
    publish_files(shop, rules(4), keep=1, deltas=1)
    assert isinstance(shop.disk, SimDisk)
    begin = shop.disk.crash(Aftermath.KEEPS)

    def run(shop: Workshop) -> object:
        return collect(shop, timedelta())

    for disk in outcomes(begin, run):
        require_whole(disk)
        run(workshop(disk))
        require_whole(disk)
        assert collect(workshop(disk), timedelta()).waiting == ()


@pytest.mark.parametrize("role", ["root", "targets", "timestamp", "channels", "releases-yara"])
def test_rotation_stopped_anywhere_leaves_metadata_that_verifies(role: str) -> None:
    """No instant has a root that the metadata beside it fails."""
    shop = made()
    publish_files(shop, rules(1), deltas=0)
    assert isinstance(shop.disk, SimDisk)
    begin = shop.disk.crash(Aftermath.KEEPS)

    def run(shop: Workshop) -> object:
        return rotate(shop, role, 3)

    for disk in outcomes(begin, run):
        require_whole(disk)
        run(workshop(disk, seed=100))
        require_whole(disk)
        assert publish_files(workshop(disk), rules(2), deltas=0).state == "published"


def test_what_is_served_is_never_changed() -> None:
    """Caches keep N.ROLE.json and targets for ever."""
    shop = made()
    served: dict[Path, bytes] = {}
    disk = shop.disk

    def look(folder: Path) -> None:
        for name in disk.listing(folder):
            path = folder / name
            if disk.kind(path) is Kind.FOLDER:
                look(path)
            elif not name.startswith(".") and name != "timestamp.json":
                assert served.setdefault(path, disk.read(path)) == disk.read(path)

    for count in (1, 2, 3):
        publish_files(shop, rules(count), keep=1)
        rotate(shop, "snapshot", 1)
        for top in ("metadata", "targets", "blobs"):
            look(REPO / top)
    assert len(served) > 20
