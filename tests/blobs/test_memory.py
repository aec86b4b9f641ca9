"""Blobs in memory: written as the contract has it, never kept, and bounded together."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fleetward.blobs.memory as module
from fleetward.blobs.memory import MemoryRoom, MemoryWriter
from fleetward.core.digest import sha256_of
from fleetward.errors import DigestError, DiskError

CONTENT = b"0123456789" * 1000
DIGEST = sha256_of(CONTENT)


def readable(writer: MemoryWriter) -> bytes:
    return os.pread(writer.descriptor, 1 << 20, 0)[: writer.length]


def test_a_blob_comes_in_pieces_and_is_verified() -> None:
    writer = MemoryWriter(DIGEST)
    for at in range(0, len(CONTENT), 999):
        writer.write(CONTENT[at : at + 999])
        assert readable(writer) == CONTENT[: at + 999]
    writer.verify()
    assert (writer.offset, writer.length, writer.rewrites) == (10_000, 10_000, 0)
    writer.close()
    writer.close()
    assert writer.descriptor == -1


def test_another_source_is_compared_with_the_first() -> None:
    writer = MemoryWriter(DIGEST)
    writer.write(CONTENT[:2000] + b"lies" * 500)
    writer.restart("honest")
    writer.write(CONTENT[:3000])
    assert (writer.offset, writer.length, writer.rewrites) == (3000, 3000, 1)
    writer.write(CONTENT[3000:])
    writer.verify()
    assert readable(writer) == CONTENT
    writer.close()


def test_a_wrong_blob_is_refused() -> None:
    writer = MemoryWriter(DIGEST)
    writer.write(CONTENT[:-1] + b"!")
    with pytest.raises(DigestError, match="dropped"):
        writer.verify()
    writer.discard()
    writer.close()


def test_what_is_there_can_be_read_after_its_writer_let_go() -> None:
    writer = MemoryWriter(DIGEST)
    writer.write(CONTENT)
    reader = os.dup(writer.descriptor)
    writer.discard()
    writer.close()
    assert os.pread(reader, 1 << 20, 0) == CONTENT
    os.close(reader)


def test_it_is_never_kept() -> None:
    writer = MemoryWriter(DIGEST)
    with pytest.raises(DiskError, match="cannot be kept"):
        writer.commit()
    writer.close()


def test_a_system_that_has_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str, flags: int) -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(os, "memfd_create", none)
    with pytest.raises(DiskError, match="no blob can be carried in memory"):
        MemoryWriter(DIGEST)


def test_a_system_without_memory_files_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HAS_MEMORY_FILES", False)
    assert not MemoryRoom(1 << 30).take(DIGEST, 1)


STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60)), max_size=40)


@given(STEPS)
def test_no_more_is_taken_than_there_is(steps: list[tuple[str, int]]) -> None:
    room, model = MemoryRoom(100), dict[str, int]()
    for name, length in steps:
        digest = sha256_of(name.encode())
        if not length:
            room.release(digest)
            model.pop(name, None)
        elif room.take(digest, length):
            model[name] = length
        else:
            assert sum(model.values()) - model.get(name, 0) + length > 100
        assert room.taken_bytes == sum(model.values()) <= 100
