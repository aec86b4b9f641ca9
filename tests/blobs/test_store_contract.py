"""One contract for every blob store: the folder on disk, and the fake that the relay's tests use."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobs.memory_store import MemoryStore
from fleetward.blobs.folder import FolderStore
from fleetward.blobs.store import BlobWriter, PartialBlob, PruneStore, StoredBlob
from fleetward.core.digest import Sha256, sha256_of
from fleetward.errors import DigestError, DiskError

CONTENT = b"0123456789" * 1000
DIGEST = sha256_of(CONTENT)


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> PruneStore:
    return FolderStore(tmp_path) if request.param == "folder" else MemoryStore()


def readable(writer: BlobWriter) -> bytes:
    return os.pread(writer.descriptor, 1 << 20, 0)[: writer.length]


def put(store: PruneStore, content: bytes) -> Sha256:
    digest = sha256_of(content)
    writer = store.writer(digest, "a")
    writer.write(content)
    writer.commit()
    writer.close()
    return digest


def kept(store: PruneStore, digest: Sha256) -> bytes:
    with store.open(digest) as stream:
        return stream.read()


def test_a_blob_comes_in_pieces_and_is_kept_whole(store: PruneStore) -> None:
    writer = store.writer(DIGEST, "a")
    for at in range(0, len(CONTENT), 999):
        writer.write(CONTENT[at : at + 999])
        assert readable(writer) == CONTENT[: at + 999]
        assert not store.has(DIGEST)
    writer.verify()
    writer.commit()
    assert readable(writer) == CONTENT
    writer.close()
    writer.close()
    assert store.has(DIGEST)
    assert kept(store, DIGEST) == CONTENT
    assert list(store.blobs()) == [StoredBlob(DIGEST, len(CONTENT))]


def test_a_blob_can_be_removed(store: PruneStore) -> None:
    digest = put(store, CONTENT)
    store.remove(digest)
    store.remove(digest)
    assert not store.has(digest)
    assert not list(store.blobs())
    with pytest.raises(FileNotFoundError):
        store.open(digest)


def test_the_source_sends_other_bytes(store: PruneStore) -> None:
    """A wrong digest raises, and nothing is left: neither the blob nor a part of it."""
    writer = store.writer(DIGEST, "liar")
    writer.write(CONTENT[:-1] + b"!")
    with pytest.raises(DigestError, match="dropped"):
        writer.verify()
    with pytest.raises(DigestError):
        writer.commit()
    writer.close()
    assert not store.has(DIGEST)
    again = store.writer(DIGEST, "liar")
    assert (again.offset, again.length) == (0, 0)
    again.close()


def test_a_suspended_blob_is_resumed_by_its_source_only(store: PruneStore) -> None:
    writer = store.writer(DIGEST, "a")
    writer.write(CONTENT[:4000])
    writer.close()
    other = store.writer(DIGEST, "b")
    assert other.offset == 0
    other.close()
    again = store.writer(DIGEST, "a")
    assert again.offset == again.length == 4000
    again.write(CONTENT[4000:])
    again.commit()
    again.close()
    assert kept(store, DIGEST) == CONTENT


def test_a_discarded_blob_leaves_nothing(store: PruneStore) -> None:
    writer = store.writer(DIGEST, "a")
    writer.write(CONTENT[:4000])
    writer.discard()
    writer.discard()
    writer.close()
    again = store.writer(DIGEST, "a")
    assert again.offset == 0
    again.close()


def test_another_source_that_agrees_changes_nothing_that_was_read(store: PruneStore) -> None:
    writer = store.writer(DIGEST, "a")
    writer.write(CONTENT[:4000])
    writer.restart("b")
    assert (writer.offset, writer.length) == (0, 4000)
    writer.write(CONTENT[:3000])
    assert (writer.offset, writer.length) == (3000, 4000)
    writer.write(CONTENT[3000:])
    assert writer.rewrites == 0
    writer.commit()
    writer.close()
    assert kept(store, DIGEST) == CONTENT


def test_another_source_that_differs_is_noticed_and_wins_if_it_is_right(store: PruneStore) -> None:
    writer = store.writer(DIGEST, "liar")
    writer.write(CONTENT[:2000] + b"lies" * 500)
    writer.restart("honest")
    writer.write(CONTENT[:1000])
    assert writer.rewrites == 0
    writer.write(CONTENT[1000:5000])
    assert writer.rewrites == 1
    assert readable(writer) == CONTENT[:5000]
    writer.write(CONTENT[5000:])
    writer.commit()
    writer.close()
    assert kept(store, DIGEST) == CONTENT


def test_another_source_whose_blob_is_shorter(store: PruneStore) -> None:
    writer = store.writer(DIGEST, "liar")
    writer.write(CONTENT + b"more")
    writer.restart("honest")
    writer.write(CONTENT)
    writer.verify()
    assert writer.rewrites == 1
    writer.commit()
    writer.close()
    assert kept(store, DIGEST) == CONTENT


def test_a_partial_that_another_source_confirmed_belongs_to_it(store: PruneStore) -> None:
    writer = store.writer(DIGEST, "a")
    writer.write(CONTENT[:4000])
    writer.restart("b")
    writer.write(CONTENT[:100])
    writer.close()
    unconfirmed = store.writer(DIGEST, "a")
    assert unconfirmed.offset == 4000
    unconfirmed.restart("b")
    unconfirmed.write(CONTENT[:5000])
    unconfirmed.close()
    confirmed = store.writer(DIGEST, "b")
    assert confirmed.offset == 5000
    confirmed.discard()
    confirmed.close()


def test_when_a_blob_was_last_asked_for_is_remembered(store: PruneStore) -> None:
    store.touch(DIGEST, 5.0)
    digest = put(store, CONTENT)
    store.touch(digest, 1_700_000_000.5)
    (found,) = store.blobs()
    assert found.used == pytest.approx(1_700_000_000.5)
    assert kept(store, digest) == CONTENT


def test_beginnings_of_blobs_are_listed_and_removed(store: PruneStore) -> None:
    for source in ("a", "b"):
        writer = store.writer(DIGEST, source)
        writer.write(CONTENT[:4000])
        writer.close()
    found = list(store.partials())
    assert [(one.digest, one.length) for one in found] == [(DIGEST, 4000)] * 2
    store.remove_partial(found[0])
    store.remove_partial(found[0])
    assert list(store.partials()) == found[1:]
    store.remove_partial(found[1])
    put(store, CONTENT)
    store.remove_partial(found[1])
    assert store.has(DIGEST)


SOURCES = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 300), st.booleans()), min_size=1, max_size=5
)


@given(SOURCES, st.sampled_from(["folder", "memory"]))
def test_whatever_sources_send_only_the_right_blob_is_kept(
    tmp_path_factory: pytest.TempPathFactory, sources: list[tuple[int, int, bool]], kind: str
) -> None:
    right = b"".join(b"%03d" % n for n in range(100))
    digest = sha256_of(right)
    store: PruneStore = (
        FolderStore(tmp_path_factory.mktemp("store")) if kind == "folder" else MemoryStore()
    )
    writer = store.writer(digest, "0")
    for number, (length, piece, is_honest) in enumerate(sources):
        writer.restart(str(number))
        sent = right[:length] if is_honest else right[: length // 2] + b"x" * (length // 2)
        for at in range(0, len(sent), piece + 1):
            writer.write(sent[at : at + piece + 1])
        assert readable(writer)[: len(sent)] == sent
    try:
        writer.commit()
        assert kept(store, digest) == right
    except DigestError:
        assert not store.has(digest)
    finally:
        writer.close()


# -- the folder alone --------------------------------------------------------------------------


@contextmanager
def disk_of(max_bytes: int) -> Iterator[None]:
    """A disk on which no file can be longer, as the kernel enforces it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing_half(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    writer = store.writer(DIGEST, "a")
    with disk_of(4096), pytest.raises(DiskError, match="cannot write"):
        writer.write(CONTENT)
    writer.discard()
    writer.close()
    assert not store.has(DIGEST)
    assert not list((tmp_path / "partial").iterdir())


def test_a_blob_that_cannot_be_named_leaves_nothing(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    (tmp_path / "blobs/sha256" / DIGEST[:2]).write_bytes(b"a file where a folder should be")
    writer = store.writer(DIGEST, "a")
    writer.write(CONTENT)
    with pytest.raises(DiskError, match="cannot keep"):
        writer.commit()
    writer.close()
    assert not list((tmp_path / "partial").iterdir())


def test_the_cache_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_bytes(b"a file")
    with pytest.raises(DiskError, match="cannot create"):
        FolderStore(tmp_path)


def test_a_kept_blob_takes_the_partials_of_all_sources_away(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for source in ("b", "c"):
        writer = store.writer(DIGEST, source)
        writer.write(CONTENT[:10])
        writer.close()
    put(store, CONTENT)
    assert not list((tmp_path / "partial").iterdir())


def test_strange_files_among_the_blobs_are_passed_over(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    digest = put(store, CONTENT)
    (tmp_path / "blobs/sha256" / digest[:2] / "notes.txt").write_bytes(b"")
    assert list(store.blobs()) == [StoredBlob(digest, len(CONTENT))]


def test_touching_leaves_a_blobs_identity_as_it_is(tmp_path: Path) -> None:
    """A server that remembers the file by its modification time goes on serving it."""
    store = FolderStore(tmp_path)
    digest = put(store, CONTENT)
    file = tmp_path / "blobs/sha256" / digest[:2] / digest
    before = file.stat()
    store.touch(digest, 1000.0)
    after = file.stat()
    assert (after.st_atime, after.st_mtime_ns) == (1000.0, before.st_mtime_ns)
    with pytest.raises(FileNotFoundError):
        FolderStore(tmp_path / "other").open(digest)


def test_strange_files_among_the_partials_are_passed_over(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    (tmp_path / "partial" / "notes.txt").write_bytes(b"x")
    (tmp_path / "blobs/sha256/README").write_bytes(b"x")
    assert not list(store.partials())
    assert not list(store.blobs())


def test_a_blob_that_cannot_be_removed(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    file = tmp_path / "blobs/sha256" / DIGEST[:2] / DIGEST
    file.mkdir(parents=True)
    with pytest.raises(DiskError, match="cannot remove"):
        store.remove(DIGEST)
    partial = tmp_path / "partial" / f"{DIGEST}.x"
    partial.mkdir()
    with pytest.raises(DiskError, match="cannot remove"):
        store.remove_partial(PartialBlob(DIGEST, partial.name, 0))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "cache")
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    digest = put(store, CONTENT)
    file = tmp_path / "cache/blobs/sha256" / digest[:2] / digest
    file.unlink()
    file.symlink_to(secret)
    with pytest.raises(DiskError):
        store.open(digest)
