"""A passthrough's files on disk: rooms, restarts, and what is no such file."""

import os
from pathlib import Path

import pytest

from fleetward.errors import DiskError
from fleetward.relay.passthrough_file import HEAD_BYTES, Version, encode_head
from fleetward.relay.passthrough_store import PassthroughStore

KEY, OTHER = "ab" * 32, "cd" * 32


def version(length: int | None = 3, **fields: object) -> Version:
    plain: dict[str, object] = {"target": "/x", "tag": '"t"', "etag": '"e"', "length": length}
    return Version(**{**plain, **fields})  # type: ignore[arg-type]


def store_in(folder: Path, quota: int = 1000, max_files: int = 10) -> PassthroughStore:
    return PassthroughStore(folder, quota=quota, max_files=max_files)


def put(store: PassthroughStore, key: str, content: bytes, now: float = 1.0) -> None:
    writer = store.begin(key, version(len(content)))
    writer.write(content)
    writer.commit()
    store.note_kept(key, writer.version, now)
    writer.close()


def test_a_file_is_found_with_what_the_upstream_said(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    put(store, KEY, b"abc", 1_700_000_000.5)
    for found in (store.find(KEY), store_in(tmp_path).find(KEY)):
        assert found is not None
        assert (found.version, found.checked) == (version(3), 1_700_000_000.5)
        descriptor = store.open(found)
        assert descriptor is not None
        assert os.pread(descriptor, 9, HEAD_BYTES) == b"abc"
        os.close(descriptor)


def test_a_file_that_somebody_removed_is_not_found(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    put(store, KEY, b"abc")
    found = store.find(KEY)
    assert found is not None
    (tmp_path / "ab" / KEY).unlink()
    assert store.open(found) is None
    assert store.find(KEY) is None
    assert (len(store), store.stored_bytes) == (0, 0)
    store.remove(KEY)
    store.confirm(KEY, 2.0)


def test_a_link_in_the_cache_is_not_followed(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    put(store, KEY, b"abc")
    (tmp_path / "cd").mkdir()
    (tmp_path / "cd" / OTHER).symlink_to(tmp_path / "ab" / KEY)
    assert store.find(OTHER) is None


def test_another_content_is_another_file(tmp_path: Path) -> None:
    """Who reads the first while the second comes reads the first to its end."""
    store = store_in(tmp_path)
    first = store.begin(KEY, version(6))
    first.write(b"abc")
    reader = os.dup(first.descriptor)
    second = store.begin(KEY, version(6))
    second.write(b"xyz123")
    first.write(b"def")
    assert os.pread(reader, 9, HEAD_BYTES) == b"abcdef"
    os.close(reader)
    first.close()
    second.discard()
    second.close()


def test_what_cannot_be_resumed_safely_is_let_go(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert store.resume(KEY) is None
    for weak in (version(6, etag='W/"e"'), version(6, etag=""), version(None)):
        writer = store.begin(KEY, weak)
        writer.write(b"abc")
        store.suspend(writer)
        assert store.resume(KEY) is None
        assert list((tmp_path / "partial").iterdir()) == []
    empty = store.begin(KEY, version(6))
    store.suspend(empty)
    assert store.resume(KEY) is None
    (tmp_path / "partial" / KEY).write_bytes(b"x" * 9000)
    assert store.resume(KEY) is None
    strong = store.begin(KEY, version(6))
    strong.write(b"abc")
    store.suspend(strong)
    resumed = store.resume(KEY)
    assert resumed is not None
    assert resumed.length == 3
    resumed.close()


def test_what_is_on_its_way_counts(tmp_path: Path) -> None:
    """Two long files at once must not take twice the quota."""
    store = store_in(tmp_path, quota=100)
    first = store.begin(KEY, version(60))
    with pytest.raises(DiskError, match="no room"):
        store.begin(OTHER, version(60))
    first.discard()
    store.begin(OTHER, version(60)).discard()


def test_what_is_longer_than_the_quota_empties_nothing_for_ever(tmp_path: Path) -> None:
    store = store_in(tmp_path, quota=10)
    put(store, KEY, b"abc")
    with pytest.raises(DiskError):
        store.make_room(11)
    put(store, KEY, b"abc")
    assert store.stored_bytes == 3


def test_room_on_the_disk(tmp_path: Path) -> None:
    free = [50]
    store = PassthroughStore(
        tmp_path, quota=1000, max_files=9, min_free=20, free_bytes=lambda _: free[0]
    )
    store.make_room(30)
    with pytest.raises(DiskError):
        store.make_room(31)


def test_a_folder_that_is_gone_has_no_room(tmp_path: Path) -> None:
    store = store_in(tmp_path / "store")
    (tmp_path / "store" / "partial").rmdir()
    (tmp_path / "store").rmdir()
    with pytest.raises(DiskError):
        store.make_room(1)
    assert store.load_all() == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError):
        store_in(tmp_path / "file" / "store")


def test_a_head_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="head"):
        encode_head(version(kind="x" * 5000))
    with pytest.raises(DiskError, match="head"):
        store_in(tmp_path).begin(KEY, version(kind="x" * 5000))
    assert list((tmp_path / "partial").iterdir()) == []


def test_a_commit_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    writer = store.begin(KEY, version(3))
    writer.write(b"abc")
    (tmp_path / "ab").touch()  # where the folder should be
    with pytest.raises(DiskError):
        writer.commit()
    assert writer.descriptor == -1
    assert list((tmp_path / "partial").iterdir()) == []


def test_a_restart_counts_what_is_there_and_not_what_came_meanwhile(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for number, key in enumerate((KEY, OTHER)):
        put(store, key, b"abc", 100.0 - number)
    again = store_in(tmp_path, quota=4)
    found = again.load_all()
    put(again, KEY, b"x")
    again.adopt(found)
    assert again.find(OTHER) is not None
    assert again.stored_bytes == 4
    third = store_in(tmp_path, max_files=1)
    third.adopt(third.load_all())
    assert third.evicted == 1


def test_a_cache_that_somebody_removed_is_an_error_of_the_disk(tmp_path: Path) -> None:
    store = store_in(tmp_path / "store")
    writer = store.begin(KEY, version(3))
    writer.write(b"abc")
    (tmp_path / "store" / "partial" / KEY).unlink()
    with pytest.raises(DiskError, match="removed"):
        writer.commit()
    (tmp_path / "store" / "partial").rmdir()
    with pytest.raises(DiskError, match="removed"):
        store.begin(KEY, version(0))


def test_what_is_on_its_way_is_not_taken_for_a_leftover(tmp_path: Path) -> None:
    store = store_in(tmp_path, quota=10_000)
    first = store.begin(KEY, version(3))
    first.write(b"ab")
    for number in range(70):
        other = store.begin(f"{number:064x}", version(3))
        other.write(b"ab")
        store.suspend(other)
    assert len(list((tmp_path / "partial").iterdir())) == 65
    first.write(b"c")
    first.commit()
    first.close()


def test_what_broke_off_counts_and_goes_before_what_is_whole(tmp_path: Path) -> None:
    """An upstream breaks off one big file after another: the quota holds all the same."""
    store = store_in(tmp_path, quota=100)
    put(store, OTHER, b"x" * 30)
    for number in range(5):
        writer = store.begin(f"{number:064x}", version(40))
        writer.write(b"y" * 39)
        store.suspend(writer)
        left = sum(one.length for one in store._idle())
        assert left + store.stored_bytes <= 100
    assert store.find(OTHER) is not None
    assert len(store._idle()) == 1
    put(store, KEY, b"z" * 70)
    assert store._idle() == []
    assert store.stored_bytes == 100
