"""The simulated disk is as harsh as the promise of adapters.disk says."""

from pathlib import Path

import pytest

from fleetward.adapters.atomicfile import write_file
from fleetward.errors import DiskError
from support.simdisk import Aftermath, PowerLossError, SimDisk

HOME = Path("/home")


def fresh() -> SimDisk:
    disk = SimDisk()
    disk.make_folder(HOME)
    return disk


def test_unsynced_names_are_forgotten() -> None:
    disk = fresh()
    with disk.create(HOME / "f") as file:
        file.write(b"x")
        file.sync()
    assert disk.crash(Aftermath.FORGETS).listing(HOME) == []
    disk.sync_folder(HOME)
    assert disk.crash(Aftermath.FORGETS).read(HOME / "f") == b"x"


def test_unsynced_content_is_forgotten_emptied_torn_or_kept() -> None:
    disk = fresh()
    with disk.create(HOME / "f") as file:
        disk.sync_folder(HOME)
        file.write(b"abcd")
    found = {kind: disk.crash(kind).read(HOME / "f") for kind in Aftermath if kind.name != "MIXES"}
    assert found == {
        Aftermath.FORGETS: b"",
        Aftermath.EMPTIES: b"",
        Aftermath.TEARS: b"ab",
        Aftermath.KEEPS: b"abcd",
    }


def test_a_removed_name_comes_back_until_its_folder_is_synced() -> None:
    disk = fresh()
    write_file(disk, HOME / "f", b"1")
    disk.remove(HOME / "f")
    assert disk.crash(Aftermath.FORGETS).read(HOME / "f") == b"1"
    disk.sync_folder(HOME)
    assert disk.crash(Aftermath.FORGETS).listing(HOME) == []


def test_chance_mixes_old_and_new() -> None:
    disk = fresh()
    write_file(disk, HOME / "f", b"1")
    with disk.create(HOME / "g") as file:
        file.write(b"22")
    seen = {tuple(disk.crash(Aftermath.MIXES, seed).listing(HOME)) for seed in range(40)}
    assert seen == {("f",), ("f", "g")}


@pytest.mark.parametrize("aftermath", list(Aftermath))
def test_write_file_is_whole_or_not_at_all_at_every_stop(aftermath: Aftermath) -> None:
    whole = fresh()
    write_file(whole, HOME / "f", b"old content")
    before = len(whole.steps)
    write_file(whole, HOME / "f", b"new")
    for stop in range(before, len(whole.steps) + 1):
        for seed in range(8):
            disk = fresh()
            write_file(disk, HOME / "f", b"old content")
            disk.stop_at = stop
            finished = True
            try:
                write_file(disk, HOME / "f", b"new")
            except PowerLossError:
                finished = False
            found = disk.crash(aftermath, seed).read(HOME / "f")
            assert found in ({b"new"} if finished else {b"old content", b"new"})


def test_a_full_disk_keeps_the_old_content() -> None:
    disk = fresh()
    write_file(disk, HOME / "f", b"old")
    disk.capacity = 2
    with pytest.raises(DiskError):
        write_file(disk, HOME / "f", b"longer")
    assert disk.read(HOME / "f") == b"old"
