"""The timestamp, metadata and targets through a relay."""

import asyncio
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.core.digest import sha256_of
from fleetward.httpd.background import ServerThread
from fleetward.httpd.files import RepositoryHandler
from fleetward.relay.documents import Unkept
from httpd.rawhttp import get
from httpd.sample_repository import (
    CHANNEL,
    SNAPSHOT,
    TIMESTAMP,
    channel_url,
    make_repository,
    write,
)
from httpd.upstreams import NOT_FOUND, Asked, Out, Upstream, head, serving
from httpd.waiting import wait_until
from relay.relays import Herd, start

STAMP = "/metadata/timestamp.json"
NEXT_ROOT = "/metadata/2.root.json"
ZERO = timedelta(0)


# -- the timestamp -----------------------------------------------------------------------------


def test_a_crowd_that_polls_costs_one_upstream_request(tmp_path: Path) -> None:
    async def script(_: Asked, out: Out) -> bool:
        await upstream.event("all have asked").wait()
        await out.send(head(len(TIMESTAMP)), TIMESTAMP)
        return True

    with Upstream(script) as upstream, start(tmp_path, upstream.url) as relay:
        herd = Herd(20, lambda: get(relay.url, STAMP).body)
        wait_until(lambda: relay.relay.counters.misses >= 20)
        upstream.go("all have asked")
        assert herd.join().got == [TIMESTAMP] * 20
        assert upstream.paths() == [STAMP]
        assert relay.status()["coalesced"] == 19
        assert get(relay.url, STAMP).body == TIMESTAMP
        assert upstream.paths() == [STAMP]


def test_a_host_meets_the_same_tag_at_origin_and_relay(tmp_path: Path) -> None:
    handler = RepositoryHandler(make_repository(tmp_path / "repository"))
    with ServerThread(handler) as origin, start(tmp_path / "cache", origin.url) as relay:
        etag = get(origin.url, STAMP).headers["etag"]
        answer = get(relay.url, STAMP, f"If-None-Match: {etag}")
        assert answer.status == 304
        assert answer.headers["cache-control"] == "no-store"
        assert "age" not in answer.headers


def test_a_relay_asks_conditionally_and_sees_a_new_timestamp(tmp_path: Path) -> None:
    files = {STAMP: TIMESTAMP}
    with (
        Upstream(serving(files)) as upstream,
        start(tmp_path, upstream.url, timestamp_lifetime=ZERO) as relay,
    ):
        for _ in range(3):
            assert get(relay.url, STAMP).body == TIMESTAMP
        tag = f'"{sha256_of(TIMESTAMP)[:8]}"'
        assert [asked.headers.get("if-none-match") for asked in upstream.asked] == [None, tag, tag]
        files[STAMP] = b"{new}"
        assert get(relay.url, STAMP).body == b"{new}"
        assert get(relay.url, STAMP, "Range: bytes=1-3").body == b"new"


def test_a_host_may_ask_past_the_relays_memory(tmp_path: Path) -> None:
    files = {STAMP: TIMESTAMP}
    with Upstream(serving(files)) as upstream, start(tmp_path, upstream.url) as relay:
        assert get(relay.url, STAMP).body == TIMESTAMP
        files[STAMP] = b"{new}"
        assert get(relay.url, STAMP).body == TIMESTAMP
        assert get(relay.url, STAMP, "Cache-Control: no-cache").body == b"{new}"


def test_the_upstream_goes_away_and_the_last_timestamp_is_served_with_its_age(
    tmp_path: Path,
) -> None:
    """A relay may delay; what it serves is judged by what is signed inside."""
    with Upstream(serving({STAMP: TIMESTAMP})) as upstream:
        relay = start(tmp_path, upstream.url, timestamp_lifetime=ZERO).__enter__()
        assert get(relay.url, STAMP).body == TIMESTAMP
    answer = get(relay.url, STAMP)
    assert (answer.status, answer.body) == (200, TIMESTAMP)
    assert answer.headers["age"] == "0"
    assert relay.status()["stale"] == 1
    relay.stop()
    with start(tmp_path, upstream.url) as again:
        answer = get(again.url, STAMP)
        assert (answer.status, answer.body) == (200, TIMESTAMP)
        assert int(answer.headers["age"]) >= 30


def test_the_upstream_hangs_and_a_host_does_not_wait_for_it(tmp_path: Path) -> None:
    async def script(_: Asked, out: Out) -> bool:
        if len(upstream.asked) > 1:
            await upstream.event("never").wait()
        await out.send(head(len(TIMESTAMP)), TIMESTAMP)
        return True

    with (
        Upstream(script) as upstream,
        start(tmp_path, upstream.url, timestamp_lifetime=ZERO, patience=ZERO) as relay,
    ):
        assert get(relay.url, STAMP).body == TIMESTAMP
        assert "age" in get(relay.url, STAMP).headers


def test_no_upstream_and_no_memory(tmp_path: Path) -> None:
    with Upstream(serving({})) as upstream:
        relay = start(tmp_path, upstream.url, timestamp_lifetime=ZERO).__enter__()
        absent = get(relay.url, STAMP)
        assert (absent.status, absent.headers["cache-control"]) == (404, "no-store")
    relay.stop()
    with start(tmp_path, upstream.url) as relay:
        assert get(relay.url, STAMP).status == 503


def test_a_timestamp_that_cannot_be_kept_is_still_served(tmp_path: Path) -> None:
    with Upstream(serving({STAMP: TIMESTAMP})) as upstream, start(tmp_path, upstream.url) as relay:
        (tmp_path / "metadata").write_bytes(b"a file where a folder should be")
        assert get(relay.url, STAMP).body == TIMESTAMP
        assert relay.status()["disk_errors"] == 1


# -- metadata ----------------------------------------------------------------------------------


def test_metadata_crosses_the_wan_once_also_over_a_restart(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository")
    cache = tmp_path / "cache"
    with ServerThread(RepositoryHandler(repository)) as origin:
        with start(cache, origin.url) as relay:
            for path, content in (
                ("/metadata/7.snapshot.json", SNAPSHOT),
                (channel_url(), CHANNEL),
            ):
                for _ in range(3):
                    answer = get(relay.url, path)
                    assert answer.body == content
                    assert answer.headers["cache-control"].endswith("immutable")
            assert origin.counters.requests == 2
            assert relay.status()["hits"] == 4
        with start(cache, origin.url) as relay:
            assert get(relay.url, channel_url(), "Range: bytes=0-3").body == CHANNEL[:4]
            assert origin.counters.requests == 2


def test_a_missing_next_root_is_asked_for_once_and_not_remembered_for_long(tmp_path: Path) -> None:
    files = {STAMP: TIMESTAMP}
    with Upstream(serving(files)) as upstream:
        with start(tmp_path, upstream.url) as relay:
            for _ in range(3):
                answer = get(relay.url, NEXT_ROOT)
                assert (answer.status, answer.body) == (404, b"")
                assert answer.headers["cache-control"] == "no-store"
            assert upstream.paths() == [NEXT_ROOT]
            files[NEXT_ROOT] = b"{root 2}"
            assert get(relay.url, NEXT_ROOT, "Cache-Control: no-cache").body == b"{root 2}"
            assert get(relay.url, NEXT_ROOT).body == b"{root 2}"
        del files[NEXT_ROOT]
        shutil.rmtree(tmp_path / "metadata")
        with start(tmp_path, upstream.url, absent_lifetime=ZERO) as relay:
            assert get(relay.url, NEXT_ROOT).status == 404
            files[NEXT_ROOT] = b"{root 2}"
            assert get(relay.url, NEXT_ROOT).body == b"{root 2}"


def test_remembered_absences_are_bounded(tmp_path: Path) -> None:
    """A crawler asks for made-up names; the relay's memory does not grow with them."""
    with (
        Upstream(serving({})) as upstream,
        start(tmp_path, upstream.url, max_absent=5) as relay,
    ):
        for version in range(1, 30):
            get(relay.url, f"/metadata/{version}.root.json")
            get(relay.url, f"/metadata/{version}.root.json", "Cache-Control: no-cache")
        assert len(relay.relay.sources.absent._until) == 5


def test_poisoned_metadata_heals_when_a_host_asks_again(tmp_path: Path) -> None:
    """A man in the middle altered metadata once; the relay, which has no keys, kept it."""
    path = "/metadata/7.snapshot.json"
    files = {path: b"{poison}"}
    with Upstream(serving(files)) as upstream, start(tmp_path, upstream.url) as relay:
        assert get(relay.url, path).body == b"{poison}"
        files[path] = SNAPSHOT
        assert get(relay.url, path).body == b"{poison}"
        assert get(relay.url, path, "Cache-Control: no-cache").body == SNAPSHOT
        assert get(relay.url, path).body == SNAPSHOT


def test_asking_again_does_not_reach_the_upstream_more_often_than_allowed(tmp_path: Path) -> None:
    path = "/metadata/7.snapshot.json"
    with (
        Upstream(serving({path: SNAPSHOT})) as upstream,
        start(tmp_path, upstream.url, revalidate_interval=timedelta(hours=1)) as relay,
    ):
        for _ in range(10):
            assert get(relay.url, path, "Cache-Control: no-cache").body == SNAPSHOT
        assert upstream.paths() == [path]


def test_asking_again_while_the_upstream_is_gone_gives_what_is_kept(tmp_path: Path) -> None:
    path = "/metadata/7.snapshot.json"
    with Upstream(serving({path: SNAPSHOT})) as upstream:
        relay = start(tmp_path, upstream.url).__enter__()
        assert get(relay.url, path).body == SNAPSHOT
    assert get(relay.url, path, "Cache-Control: no-cache").body == SNAPSHOT
    assert get(relay.url, NEXT_ROOT).status == 503
    relay.stop()


# -- targets -----------------------------------------------------------------------------------


def test_a_target_whose_bytes_are_wrong_is_never_kept_nor_served(tmp_path: Path) -> None:
    """A malicious mirror alters a channel document; the next upstream is asked at once."""
    path = channel_url()
    with (
        Upstream(serving({path: b"{altered}"})) as liar,
        Upstream(serving({path: CHANNEL})) as honest,
    ):
        with start(tmp_path / "one", liar.url, honest.url) as relay:
            assert get(relay.url, path).body == CHANNEL
            status = relay.status()
            assert status["refused_digests"] == 1
            assert [one["state"] for one in status["upstreams"]] == ["false", "ready"]
            get(relay.url, "/metadata/1.root.json")
            assert liar.paths() == [path]
        with start(tmp_path / "two", liar.url) as relay:
            assert get(relay.url, path).status == 503
            assert get(relay.url, path).status == 503
            assert liar.paths() == [path] * 2
            assert not list((tmp_path / "two").rglob("*.stable.json"))
            get(relay.url, "/metadata/1.root.json")
            assert liar.paths()[-1] == "/metadata/1.root.json"


def test_a_target_that_one_upstream_lacks_comes_from_the_next(tmp_path: Path) -> None:
    path = channel_url()
    with (
        Upstream(serving({})) as behind,
        Upstream(serving({path: CHANNEL})) as ahead,
        start(tmp_path, behind.url, ahead.url) as relay,
    ):
        assert get(relay.url, path).body == CHANNEL
        missing = channel_url(b"nowhere")
        assert get(relay.url, missing).status == 404
        assert behind.paths() == ahead.paths() == [path, missing]


# -- limits and statuses -----------------------------------------------------------------------


def test_a_document_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = "/metadata/7.snapshot.json"
    with (
        Upstream(serving({path: SNAPSHOT})) as upstream,
        start(tmp_path, upstream.url, max_document_bytes=100) as relay,
    ):
        assert get(relay.url, path).status == 503


def test_where_there_is_no_room_the_oldest_documents_go(tmp_path: Path) -> None:
    """A host that was away needs all roots, so other documents go before them."""
    paths = ["/metadata/1.root.json", *(f"/metadata/{n}.snapshot.json" for n in range(1, 4))]
    huge = "/metadata/1.targets.json"
    files = {**dict.fromkeys(paths, b"x" * 300), huge: b"y" * 1001}
    with (
        Upstream(serving(files)) as upstream,
        start(tmp_path, upstream.url, max_documents_bytes=1000) as relay,
    ):
        for path in paths:
            for _ in range(2):
                assert get(relay.url, path).body == b"x" * 300
        assert upstream.paths() == paths
        for _ in range(2):
            assert get(relay.url, huge).body == b"y" * 1001
        assert upstream.paths() == [*paths, huge, huge]
        for path in (paths[0], paths[3], paths[1]):
            assert get(relay.url, path).status == 200
        assert upstream.paths()[6:] == [paths[1]]


@pytest.mark.parametrize("upstream_says", [301, 304, 400, 429, 500, 503])
def test_whatever_the_upstream_says_a_client_is_told_503(
    tmp_path: Path, upstream_says: int
) -> None:
    async def script(_: Asked, out: Out) -> bool:
        length = None if upstream_says == 304 else 0
        await out.send(head(length, "Location: http://127.0.0.1/", status=f"{upstream_says} X"))
        return True

    with Upstream(script) as upstream, start(tmp_path, upstream.url) as relay:
        for path in (STAMP, NEXT_ROOT, channel_url()):
            assert get(relay.url, path).status == 503


@pytest.mark.parametrize("upstream_says", [403, 404, 410])
def test_a_private_bucket_says_forbidden_for_absent(tmp_path: Path, upstream_says: int) -> None:
    async def script(_: Asked, out: Out) -> bool:
        await out.send(head(0, status=f"{upstream_says} X"))
        return True

    with Upstream(script) as upstream, start(tmp_path, upstream.url) as relay:
        assert get(relay.url, NEXT_ROOT).status == 404


def test_documents_asked_for_at_once_are_bounded(tmp_path: Path) -> None:
    async def script(_: Asked, out: Out) -> bool:
        await upstream.event("go").wait()
        await out.send(NOT_FOUND)
        return True

    with (
        Upstream(script) as upstream,
        start(tmp_path, upstream.url, max_upstream_requests=1) as relay,
    ):
        first = Herd(1, lambda: b"%d" % get(relay.url, NEXT_ROOT).status)
        wait_until(lambda: bool(upstream.asked))
        assert get(relay.url, "/metadata/3.root.json").status == 503
        upstream.go("go")
        assert first.join().got == [b"404"]
        assert relay.status()["overloaded"] == 1


def test_a_failing_upstream_is_left_alone_for_a_while(tmp_path: Path) -> None:
    async def script(_: Asked, out: Out) -> bool:
        await out.send(head(0, status="500 X"))
        return True

    hour = timedelta(hours=1)
    with (
        Upstream(script) as failing,
        Upstream(serving({STAMP: TIMESTAMP})) as good,
        start(
            tmp_path,
            failing.url,
            good.url,
            failure_pause=hour,
            max_failure_pause=hour,
            timestamp_lifetime=ZERO,
        ) as relay,
    ):
        for _ in range(3):
            assert get(relay.url, STAMP).body == TIMESTAMP
        assert len(failing.asked) == 1
        assert len(good.asked) == 3
        assert [one["state"] for one in relay.status()["upstreams"]] == ["paused", "ready"]


def test_a_relay_that_stops_ends_what_it_asks_upstream(tmp_path: Path) -> None:
    async def script(_asked: Asked, _out: Out) -> None:
        await asyncio.Event().wait()

    with Upstream(script) as upstream:
        relay = start(tmp_path, upstream.url).__enter__()
        herd = Herd(3, lambda: get(relay.url, NEXT_ROOT).body)
        wait_until(lambda: bool(upstream.asked))
        relay.stop()
        herd.join()


def test_a_relay_of_a_relay(tmp_path: Path) -> None:
    handler = RepositoryHandler(make_repository(tmp_path / "repository"))
    with (
        ServerThread(handler) as origin,
        start(tmp_path / "near-origin", origin.url) as parent,
        start(tmp_path / "site", parent.url) as child,
    ):
        for _ in range(2):
            assert get(child.url, STAMP).body == TIMESTAMP
            assert get(child.url, channel_url()).body == CHANNEL
            assert get(child.url, NEXT_ROOT).status == 404
        assert origin.counters.requests == 3
        write(tmp_path / "repository", NEXT_ROOT, b"{root 2}")
        assert get(child.url, NEXT_ROOT).status == 404


# -- where the disk takes nothing ----------------------------------------------------------------


def test_documents_that_cannot_be_kept_cross_the_wan_once_all_the_same(tmp_path: Path) -> None:
    """The disk is full: two hundred hosts must not fetch each document by themselves."""
    files = {NEXT_ROOT: b"root", "/metadata/7.snapshot.json": SNAPSHOT}
    with (
        Upstream(serving(files)) as upstream,
        start(tmp_path, upstream.url, revalidate_interval=timedelta(hours=1)) as relay,
    ):
        (tmp_path / "metadata").write_bytes(b"a file where a folder should be")
        for _ in range(5):
            assert get(relay.url, NEXT_ROOT).body == b"root"
            assert get(relay.url, "/metadata/7.snapshot.json", "Range: bytes=0-3").status == 206
        assert sorted(upstream.paths()) == sorted(files)
        assert relay.status()["disk_errors"] == 2
        files[NEXT_ROOT] = b"mended"
        assert get(relay.url, NEXT_ROOT, "Cache-Control: no-cache").body == b"mended"
        assert get(relay.url, NEXT_ROOT).body == b"mended"
        (tmp_path / "metadata").unlink()
        del files[NEXT_ROOT]
        relay.relay.handler._documents._asked.clear()
        assert get(relay.url, NEXT_ROOT, "Cache-Control: no-cache").body == b"mended"
        files[NEXT_ROOT] = b"kept"
        relay.relay.sources.absent.forget(NEXT_ROOT[1:])
        relay.relay.handler._documents._asked.clear()
        assert get(relay.url, NEXT_ROOT, "Cache-Control: no-cache").body == b"kept"
        assert (tmp_path / NEXT_ROOT[1:]).read_bytes() == b"kept"
        assert relay.relay.handler._documents._unkept.get(NEXT_ROOT[1:]) is None


def test_documents_in_memory_are_bounded_also_where_they_are_empty() -> None:
    unkept = Unkept(10_000)
    for number in range(100):
        unkept.put(f"metadata/{number}.root.json", b"")
        unkept.put("metadata/1.snapshot.json", bytes(1000 + number))
    assert len(unkept._contents) < 20
    assert unkept.get("metadata/99.root.json") == b""
    assert unkept.get("metadata/0.root.json") is None
    unkept.put("metadata/2.snapshot.json", bytes(20_000))
    assert unkept.get("metadata/2.snapshot.json") is None
    assert unkept._bytes == 0
