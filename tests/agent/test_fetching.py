"""Blobs: resumed per source, bounded, verified whole, and never finished by another source."""

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from fleetward.adapters.clock import SystemClock
from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.http import HttpSession
from fleetward.agent.fetching import Answer, Blob, BlobFetcher, Fetcher
from fleetward.core.digest import sha256_of
from fleetward.errors import DigestError, NetworkError
from fleetward.httpd.background import ServerThread
from fleetward.httpd.files import RepositoryHandler
from fleetward.wire.layout import blob_path
from support.simdisk import SimDisk
from support.world import FakeFetcher

CONTENT = bytes(range(256)) * 40
BLOB = Blob(sha256_of(CONTENT), len(CONTENT))
PATH = blob_path(BLOB.sha256)
GOOD, BAD = "http://good.test", "http://bad.test"
PARTIAL = Path("/partial")


def fetcher(*sources: str, **options: object) -> tuple[BlobFetcher, FakeFetcher, SimDisk]:
    http = FakeFetcher({PATH: CONTENT}, **options)  # type: ignore[arg-type]
    disk = SimDisk()
    return BlobFetcher(disk, PARTIAL, http, sources), http, disk


def test_a_blob_arrives_and_progress_is_told() -> None:
    blobs, http, disk = fetcher(GOOD)
    told: list[tuple[str, int, int]] = []
    blobs.progress = lambda *step: told.append(step)
    path = blobs.fetch(BLOB, "rules")
    assert disk.read(path) == CONTENT
    assert told[-1] == ("rules", BLOB.length, BLOB.length)
    assert blobs.received_bytes == BLOB.length
    blobs.fetch(BLOB, "rules")
    assert len(http.asked) == 1


def test_a_broken_transfer_is_resumed_where_it_stopped() -> None:
    blobs, http, disk = fetcher(GOOD)
    http.breaks.add(GOOD)
    with pytest.raises(NetworkError, match="broke off"):
        blobs.fetch(BLOB, "rules")
    http.breaks.clear()
    assert disk.read(blobs.fetch(BLOB, "rules")) == CONTENT
    assert [offset for _, offset in http.asked] == [0, BLOB.length // 2]


def test_a_source_that_ignores_ranges_starts_over() -> None:
    blobs, http, disk = fetcher(GOOD, ignores_range=True)
    http.breaks.add(GOOD)
    with pytest.raises(NetworkError):
        blobs.fetch(BLOB, "rules")
    http.breaks.clear()
    assert disk.read(blobs.fetch(BLOB, "rules")) == CONTENT


def test_no_source_finishes_what_another_began() -> None:
    """The attacker sends a poisoned first half and breaks off; the good source is not fooled."""
    blobs, http, disk = fetcher(BAD, GOOD)
    http.lies[BAD, PATH] = bytes(len(CONTENT))
    http.breaks.add(BAD)
    assert disk.read(blobs.fetch(BLOB, "rules")) == CONTENT
    assert (f"{GOOD}/{PATH}", 0) in http.asked


def test_a_wrong_blob_is_discarded_and_its_source_not_asked_again() -> None:
    blobs, http, disk = fetcher(BAD, GOOD)
    http.lies[BAD, PATH] = bytes(len(CONTENT))
    blobs.fetch(BLOB, "rules")
    other = b"another"
    http.blobs[blob_path(sha256_of(other))] = other
    blobs.fetch(Blob(sha256_of(other), len(other)), "rules")
    assert sum(url.startswith(BAD) for url, _ in http.asked) == 1
    assert len(disk.listing(PARTIAL)) == 2


def test_endless_data_is_cut_at_the_signed_length() -> None:
    blobs, http, _ = fetcher(BAD)
    http.lies[BAD, PATH] = CONTENT + b"more"
    with pytest.raises(DigestError, match="more than the signed length"):
        blobs.fetch(BLOB, "rules")


def test_too_few_bytes_are_a_network_error() -> None:
    blobs, http, _ = fetcher(GOOD)
    http.lies[GOOD, PATH] = CONTENT[:-1]
    with pytest.raises(NetworkError, match="of 10240 bytes"):
        blobs.fetch(BLOB, "rules")


def test_a_partial_that_is_too_long_is_begun_again() -> None:
    blobs, _, disk = fetcher(GOOD)
    path = blobs.fetch(BLOB, "rules")
    with disk.append(path) as file:
        file.write(b"more")
    assert disk.read(blobs.fetch(BLOB, "rules")) == CONTENT


def test_long_blobs_are_synced_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetward.agent.fetching.SYNC_EVERY_BYTES", 100)
    blobs, _, disk = fetcher(GOOD)
    blobs.fetch(BLOB, "rules")
    assert disk.steps.count("sync") >= 2


def test_an_empty_blob_and_no_source() -> None:
    blobs, http, disk = fetcher(GOOD)
    empty = Blob(sha256_of(b""), 0)
    http.blobs[blob_path(empty.sha256)] = b""
    assert disk.read(blobs.fetch(empty, "rules")) == b""
    blobs.sources = ()
    with pytest.raises(NetworkError, match="no source is configured"):
        blobs.fetch(replace(BLOB, length=1), "rules")


def test_discarding_what_is_not_there() -> None:
    blobs, _, _ = fetcher(GOOD)
    blobs.discard()


class TestFetcherContract:
    """The fake fetcher answers as the real one does."""

    def ask(self, http: Fetcher, url: str, offset: int) -> tuple[int, bytes]:
        opened: AbstractContextManager[Answer] = http.get(url, max_bytes=BLOB.length, offset=offset)
        with opened as answer:
            return answer.status, b"".join(answer.pieces())

    @pytest.mark.parametrize("offset", [0, 1, 5000])
    def test_both_send_the_same(self, tmp_path: Path, offset: int) -> None:
        disk = SystemDisk()
        disk.make_folder((tmp_path / PATH).parent)
        (tmp_path / PATH).write_bytes(CONTENT)
        with ServerThread(RepositoryHandler(tmp_path)) as server:
            session = HttpSession(SystemClock())
            real = self.ask(session, f"{server.url}/{PATH}", offset)
            missing = f"{server.url}/{blob_path(sha256_of(b'none'))}"
            with pytest.raises(NetworkError):
                self.ask(session, missing, 0)
            session.close()
        fake = FakeFetcher({PATH: CONTENT})
        assert self.ask(fake, f"{GOOD}/{PATH}", offset) == real
        with pytest.raises(NetworkError):
            self.ask(fake, f"{GOOD}/none", 0)
