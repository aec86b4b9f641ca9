"""One contract for the real disk and the simulated one."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Disk, Kind, SystemDisk
from fleetward.errors import BusyError, DiskError
from support.simdisk import SimDisk


@pytest.fixture(params=["system", "simulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Disk, Path]]:
    if request.param == "system":
        yield SystemDisk(), tmp_path
    else:
        disk = SimDisk()
        disk.make_folder(Path("/home/of/tests"))
        yield disk, Path("/home/of/tests")


def put(disk: Disk, path: Path, content: bytes, *, executable: bool = False) -> None:
    with disk.create(path, executable=executable) as file:
        file.write(content)
        file.sync()


def test_a_file_reads_back(place: tuple[Disk, Path]) -> None:
    disk, home = place
    put(disk, home / "f", b"abc")
    assert disk.read(home / "f") == b"abc"
    assert b"".join(disk.pieces(home / "f")) == b"abc"
    assert disk.size(home / "f") == 3
    assert disk.kind(home / "f") is Kind.FILE


def test_creating_again_empties(place: tuple[Disk, Path]) -> None:
    disk, home = place
    put(disk, home / "f", b"abc", executable=True)
    assert disk.is_executable(home / "f")
    put(disk, home / "f", b"x")
    assert disk.read(home / "f") == b"x"
    assert not disk.is_executable(home / "f")


def test_appending_adds(place: tuple[Disk, Path]) -> None:
    disk, home = place
    for piece in (b"ab", b"c"):
        with disk.append(home / "f") as file:
            file.write(piece)
    assert disk.read(home / "f") == b"abc"


def test_what_is_absent(place: tuple[Disk, Path]) -> None:
    disk, home = place
    assert disk.kind(home / "f") is Kind.ABSENT
    with pytest.raises(FileNotFoundError):
        disk.read(home / "f")
    with pytest.raises(FileNotFoundError):
        list(disk.pieces(home / "f"))
    with pytest.raises(FileNotFoundError):
        disk.listing(home / "f")
    with pytest.raises(FileNotFoundError):
        disk.read_link(home / "f")
    disk.remove(home / "f")
    disk.remove_tree(home / "f")


def test_folders(place: tuple[Disk, Path]) -> None:
    disk, home = place
    disk.make_folder(home / "a" / "b")
    disk.make_folder(home / "a" / "b")
    put(disk, home / "a" / "b" / "f", b"")
    assert disk.listing(home / "a") == ["b"]
    assert disk.kind(home / "a") is Kind.FOLDER
    disk.sync_folder(home / "a")
    disk.remove_tree(home / "a")
    assert disk.kind(home / "a") is Kind.ABSENT


def test_a_file_in_the_place_of_a_folder(place: tuple[Disk, Path]) -> None:
    disk, home = place
    put(disk, home / "a", b"")
    with pytest.raises(DiskError):
        disk.make_folder(home / "a")


def test_replace_is_over_files_and_links(place: tuple[Disk, Path]) -> None:
    disk, home = place
    put(disk, home / "new", b"new")
    put(disk, home / "old", b"old")
    disk.replace(home / "new", home / "old")
    assert disk.read(home / "old") == b"new"
    assert disk.kind(home / "new") is Kind.ABSENT
    disk.link("elsewhere", home / "link")
    disk.link("there", home / "link2")
    disk.replace(home / "link2", home / "link")
    assert disk.read_link(home / "link") == "there"
    assert disk.kind(home / "link") is Kind.LINK


def test_a_folder_can_be_renamed(place: tuple[Disk, Path]) -> None:
    disk, home = place
    disk.make_folder(home / "a")
    put(disk, home / "a" / "f", b"1")
    disk.replace(home / "a", home / "b")
    assert disk.read(home / "b" / "f") == b"1"


def test_paths_go_through_linked_folders(place: tuple[Disk, Path]) -> None:
    disk, home = place
    disk.make_folder(home / "slot")
    put(disk, home / "slot" / "f", b"1")
    disk.link("slot", home / "current")
    assert disk.read(home / "current" / "f") == b"1"
    assert disk.listing(home / "current") == ["f"]


def test_a_link_over_a_name_is_refused(place: tuple[Disk, Path]) -> None:
    disk, home = place
    disk.link("x", home / "l")
    with pytest.raises(DiskError):
        disk.link("y", home / "l")


def test_a_link_is_never_read_as_a_file(place: tuple[Disk, Path]) -> None:
    disk, home = place
    put(disk, home / "f", b"secret")
    disk.link("f", home / "l")
    with pytest.raises(DiskError):
        disk.read(home / "l")


def test_one_holder_of_a_lock(place: tuple[Disk, Path]) -> None:
    disk, home = place
    with disk.lock(home / "lock"), pytest.raises(BusyError), disk.lock(home / "lock"):
        pass
    with disk.lock(home / "lock"):
        pass


def test_whole_files(place: tuple[Disk, Path]) -> None:
    disk, home = place
    write_file(disk, home / "f", b"1")
    write_file(disk, home / "f", b"2", private=True)
    assert disk.read(home / "f") == b"2"
    assert disk.listing(home) == ["f"]


def test_private_is_0600_and_errors_are_typed(tmp_path: Path) -> None:
    disk = SystemDisk()
    write_file(disk, tmp_path / "key", b"k", private=True)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    disk.make_folder(tmp_path / "a" / "keys", private=True)
    assert (tmp_path / "a" / "keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755
    with pytest.raises(DiskError, match=r"Not a directory"):
        disk.listing(tmp_path / "key")
    os.mkfifo(tmp_path / "pipe")
    assert disk.kind(tmp_path / "pipe") is Kind.OTHER


def test_an_error_inside_a_write_closes_the_file(tmp_path: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(RuntimeError))
        with SystemDisk().create(tmp_path / "f") as file:
            file.write(b"x")
            raise RuntimeError


def test_a_full_disk_is_a_disk_error() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this platform")
    with (
        pytest.raises(DiskError, match="free some space"),
        SystemDisk().append(full) as file,
    ):
        file.write(b"x" * (1 << 20))
