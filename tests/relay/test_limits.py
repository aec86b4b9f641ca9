"""The relay's limits over real sockets: closure, prefetch, quota, budgets, rates, downloads."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from blobs.memory_store import MemoryStore
from fleetward.blobs.folder import FolderStore
from fleetward.config.relay import BandwidthSettings, ClientSettings, StorageSettings
from fleetward.core.limits import KIB
from fleetward.httpd.limits import ClientLimits
from fleetward.relay.settings import RelaySettings
from httpd.rawhttp import Answer, CutError, Raw, get
from httpd.sample_repository import LARGE, SMALL, blob_url, digest_in
from httpd.upstreams import Asked, Out, Upstream, head, part_head, serving
from httpd.waiting import open_descriptors, wait_until
from relay.origins import Origin, delta_urls, pack_url
from relay.relays import Herd, TestRelay, settings_for

STAMP = "/metadata/timestamp.json"
AHEAD = StorageSettings(min_free=0, prefetch_all=True)
NOT_AHEAD = StorageSettings(min_free=0, prefetch=False)
ZERO = timedelta(0)


def settings(
    cache: Path,
    *upstreams: str,
    storage: StorageSettings = NOT_AHEAD,
    bandwidth: BandwidthSettings | None = None,
    clients: ClientSettings | None = None,
    client: ClientLimits | None = None,
    **limits: Any,  # noqa: ANN401
) -> RelaySettings:
    """Settings of a relay that follows timestamps, and asks for a new one each time."""
    short: dict[str, Any] = {
        "max_closure_documents": 1000,
        "timestamp_lifetime": ZERO,
        "closure_retry": timedelta(milliseconds=20),
        "prefetch_retry": timedelta(milliseconds=20),
        "prefetch_pause": timedelta(milliseconds=5),
        "patience": timedelta(seconds=10),
    }
    made = settings_for(cache, *upstreams, **{**short, **limits})
    return replace(
        made,
        storage=storage,
        bandwidth=bandwidth or BandwidthSettings(),
        clients=clients or ClientSettings(),
        client_limits=client or made.client_limits,
    )


def poll(relay: TestRelay) -> None:
    assert get(relay.url, STAMP).status == 200


def closure_version(relay: TestRelay) -> int | None:
    version: int | None = relay.status()["closure"]["version"]
    return version


def follow(relay: TestRelay, version: int) -> None:
    """Poll, and return once the relay knows what that timestamp needs."""
    poll(relay)
    wait_until(lambda: closure_version(relay) == version)


def stored(cache: Path) -> set[str]:
    """The URLs of the blobs in a cache."""
    return {f"/blobs/sha256/{blob.digest[:2]}/{blob.digest}" for blob in FolderStore(cache).blobs()}


# -- prefetch ----------------------------------------------------------------------------------


def test_a_new_timestamp_brings_deltas_then_packs_before_hosts_ask(tmp_path: Path) -> None:
    with Origin(tmp_path / "origin") as origin:
        first = origin.publish()
        with TestRelay(settings(tmp_path / "cache", origin.url, storage=AHEAD)) as relay:
            poll(relay)
            wait_until(lambda: stored(tmp_path / "cache") == {pack_url(first)})
            origin.publish()
            third = origin.publish()
            poll(relay)
            wait_until(lambda: len(stored(tmp_path / "cache")) == 4)
            wait_until(lambda: relay.status()["prefetch"]["left"] == 0)
            previous, older = delta_urls(third)
            assert origin.blobs_asked() == [pack_url(first), previous, older, pack_url(third)]
            asked = len(origin.asked)
            for url in (*delta_urls(third), pack_url(third)):
                assert get(relay.url, url).body == origin.read(url)
            assert len(origin.asked) == asked
            assert relay.status()["prefetch"] == {
                "left": 0,
                "fetched": 4,
                "passed_over": 0,
                "failed": 0,
            }


def test_by_default_only_the_next_step_is_prefetched(tmp_path: Path) -> None:
    """The WAN carries what hosts will take anyway: a first pack, then one delta a release."""
    default = StorageSettings(min_free=0)
    with Origin(tmp_path / "origin") as origin:
        first = origin.publish()
        with TestRelay(settings(tmp_path / "cache", origin.url, storage=default)) as relay:
            follow(relay, 2)
            wait_until(lambda: pack_url(first) in stored(tmp_path / "cache"))
            origin.publish()
            third = origin.publish()
            follow(relay, 4)
            next_step = delta_urls(third)[0]
            wait_until(lambda: next_step in stored(tmp_path / "cache"))
            wait_until(lambda: relay.status()["prefetch"]["left"] == 0)
            assert origin.blobs_asked() == [pack_url(first), next_step]


def test_only_the_products_that_are_asked_for_are_prefetched(tmp_path: Path) -> None:
    storage = replace(AHEAD, prefetch_products=("sigma",))
    with Origin(tmp_path / "origin") as origin:
        origin.publish("yara")
        wanted = origin.publish("sigma")
        with TestRelay(settings(tmp_path / "cache", origin.url, storage=storage)) as relay:
            poll(relay)
            wait_until(lambda: stored(tmp_path / "cache") == {pack_url(wanted)})
            wait_until(lambda: relay.status()["prefetch"]["left"] == 0)
            assert origin.blobs_asked() == [pack_url(wanted)]


def test_nothing_is_prefetched_beyond_the_quota_and_nothing_removed_for_it(tmp_path: Path) -> None:
    """Two products are larger than the quota: what is there already stays, the rest waits."""
    with Origin(tmp_path / "origin") as origin:
        old = origin.publish("yara", size=50_000)
        storage = replace(AHEAD, quota=100_000)
        with TestRelay(settings(tmp_path / "cache", origin.url, storage=storage)) as relay:
            poll(relay)
            wait_until(lambda: stored(tmp_path / "cache") == {pack_url(old)})
            big = origin.publish("sigma", size=70_000)
            small = origin.publish("tiny", size=10_000)
            poll(relay)
            wait_until(lambda: relay.status()["prefetch"]["passed_over"] == 1)
            wait_until(lambda: stored(tmp_path / "cache") == {pack_url(old), pack_url(small)})
            assert pack_url(big) not in origin.blobs_asked()
            assert relay.status()["evicted"] == 0


def test_a_prefetch_gives_way_to_a_host_and_goes_on_afterwards(tmp_path: Path) -> None:
    """One download at a time: what nobody waits for is suspended, and resumed where it stopped."""
    with Origin(tmp_path / "origin") as origin:
        release = origin.publish(size=600_000)
        slow = pack_url(release)
        content = origin.read(slow)
        asked: list[tuple[str, int]] = []

        async def script(request: Asked, out: Out) -> bool:
            body = content if request.path == slow else SMALL
            if request.path == slow or request.path == blob_url(SMALL):
                asked.append((request.path, request.start))
            else:
                file = origin.repository / request.path[1:]
                await out.send(head(file.stat().st_size), file.read_bytes())
                return True
            if request.path == slow and not request.start:
                await out.send(part_head(body, 0), body[:300_000])
                await upstream.event("never").wait()
            await out.send(part_head(body, request.start), body[request.start :])
            return True

        bandwidth = BandwidthSettings(max_downloads=1)
        with (
            Upstream(script) as upstream,
            TestRelay(
                settings(tmp_path / "cache", upstream.url, storage=AHEAD, bandwidth=bandwidth)
            ) as relay,
        ):
            poll(relay)
            wait_until(lambda: relay.relay.counters.upstream_blob_bytes == 300_000)
            assert get(relay.url, blob_url(SMALL)).body == SMALL
            wait_until(lambda: slow in stored(tmp_path / "cache"))
            assert asked == [(slow, 0), (blob_url(SMALL), 0), (slow, 300_000)]
            assert get(relay.url, slow).body == content


def test_a_newer_timestamp_ends_the_prefetch_for_the_older(tmp_path: Path) -> None:
    with Origin(tmp_path / "origin") as origin:
        first = origin.publish(size=300_000)
        stuck = pack_url(first)
        files = {"count": 0}

        async def script(request: Asked, out: Out) -> bool:
            file = origin.repository / request.path[1:]
            content = file.read_bytes()
            await out.send(head(len(content)), content[:1000])
            if request.path == stuck and not files["count"]:
                files["count"] += 1
                await upstream.event("never").wait()
            await out.send(content[1000:])
            return True

        with (
            Upstream(script) as upstream,
            TestRelay(settings(tmp_path / "cache", upstream.url, storage=AHEAD)) as relay,
        ):
            poll(relay)
            wait_until(lambda: files["count"] == 1)
            second = origin.publish(size=1000)
            poll(relay)
            wait_until(lambda: pack_url(second) in stored(tmp_path / "cache"))
            assert stuck not in stored(tmp_path / "cache")


def test_a_host_that_asks_joins_the_prefetch(tmp_path: Path) -> None:
    with Origin(tmp_path / "origin") as origin:
        release = origin.publish(size=300_000)
        url = pack_url(release)

        async def script(request: Asked, out: Out) -> bool:
            content = (origin.repository / request.path[1:]).read_bytes()
            await out.send(head(len(content)), content[:200_000])
            if request.path == url:
                await upstream.event("asked").wait()
            await out.send(content[200_000:])
            return True

        with (
            Upstream(script) as upstream,
            TestRelay(settings(tmp_path / "cache", upstream.url, storage=AHEAD)) as relay,
        ):
            poll(relay)
            wait_until(lambda: relay.status()["filling"] == 1)
            herd = Herd(5, lambda: get(relay.url, url).body)
            wait_until(lambda: relay.relay.counters.coalesced >= 5)
            upstream.go("asked")
            assert herd.join().got == [origin.read(url)] * 5
            assert upstream.paths().count(url) == 1


def test_what_cannot_be_prefetched_is_tried_again(tmp_path: Path) -> None:
    with Origin(tmp_path / "origin") as origin:
        release = origin.publish()
        url = pack_url(release)
        tries: list[str] = []

        async def script(request: Asked, out: Out) -> bool:
            content = (origin.repository / request.path[1:]).read_bytes()
            if request.path == url:
                tries.append(url)
                if len(tries) < 3:
                    return False
            await out.send(head(len(content)), content)
            return True

        with (
            Upstream(script) as upstream,
            TestRelay(settings(tmp_path / "cache", upstream.url, storage=AHEAD)) as relay,
        ):
            poll(relay)
            wait_until(lambda: url in stored(tmp_path / "cache"))
            assert len(tries) == 3


# -- closure, quota, retention -----------------------------------------------------------------


def test_a_relay_that_restarts_without_upstream_knows_what_it_needs(tmp_path: Path) -> None:
    """Its own cache tells: so a lowered quota is applied, and to the right blobs."""
    cache = tmp_path / "cache"
    with Origin(tmp_path / "origin") as origin:
        origin.publish(size=40_000)
        second = origin.publish(size=40_000)
        third = origin.publish(size=40_000)
        extra = [LARGE[:90_000], LARGE[90_000:180_000]]
        with TestRelay(settings(cache, origin.url, storage=AHEAD)) as relay:
            follow(relay, 4)
            wait_until(lambda: len(stored(cache)) == 3)
        store = FolderStore(cache)
        for content in extra:
            writer = store.writer(digest_in(blob_url(content)), "x")
            writer.write(content)
            writer.commit()
            writer.close()
    lowered = replace(NOT_AHEAD, quota=340_000)
    with TestRelay(settings(cache, "http://127.0.0.1:9", storage=lowered)) as relay:
        wait_until(lambda: len(stored(cache)) == 4)
        assert closure_version(relay) == 4
        needed = {pack_url(third), *delta_urls(third)}
        assert needed <= stored(cache)
        assert pack_url(second) not in needed


def test_a_blob_that_is_being_sent_is_not_evicted(tmp_path: Path) -> None:
    """A host on a slow line reads a blob for an hour; meanwhile the cache fills up."""
    others = [LARGE[: 400_000 + n] for n in range(3)]
    huge = LARGE * 8
    files = {blob_url(content): content for content in (huge, *others)}
    storage = replace(NOT_AHEAD, quota=len(huge) + 500_000)
    with (
        Upstream(serving(files)) as upstream,
        TestRelay(settings(tmp_path, upstream.url, storage=storage)) as relay,
    ):
        assert get(relay.url, blob_url(huge)).body == huge
        with Raw(relay.url, receive_buffer=4096) as slow:
            slow.send(f"GET {blob_url(huge)} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            slow.socket.recv(100)
            for content in others:
                assert get(relay.url, blob_url(content)).body == content
                wait_until(lambda: relay.status()["filling"] == 0)
                wait_until(lambda: len(relay.relay.economy.storage._lent) == 1)
            wait_until(lambda: relay.status()["evicted"] == 2)
            assert blob_url(huge) in stored(tmp_path)
        wait_until(lambda: not relay.relay.economy.storage._lent)
        more = huge[5:]
        files[blob_url(more)] = more
        assert get(relay.url, blob_url(more)).body == more
        wait_until(lambda: blob_url(huge) not in stored(tmp_path))


def test_a_blob_that_does_not_fit_is_passed_through_once_for_all(tmp_path: Path) -> None:
    """Quota zero in effect: one upstream request serves the herd and who comes soon after."""
    storage = replace(NOT_AHEAD, quota=1000)
    url = blob_url(LARGE)
    with (
        Upstream(serving({url: LARGE})) as upstream,
        TestRelay(settings(tmp_path, upstream.url, storage=storage)) as relay,
    ):
        assert Herd(20, lambda: get(relay.url, url).body).join().got == [LARGE] * 20
        assert get(relay.url, url, "Range: bytes=100-199").body == LARGE[100:200]
        told = get(relay.url, url, method="HEAD")
        assert int(told.headers["content-length"]) == len(LARGE)
        assert get(relay.url, url, f'If-None-Match: "{digest_in(url)[:16]}"').status == 304
        assert upstream.paths() == [url]
        status = relay.status()
        assert (status["passed_through"], status["filled"], status["filling"]) == (1, 0, 0)
        assert not stored(tmp_path)
        assert not list((tmp_path / "partial").iterdir())


def test_a_passed_through_blob_ends_after_a_while_and_leaves_no_descriptor(tmp_path: Path) -> None:
    storage = replace(NOT_AHEAD, quota=1000)
    url = blob_url(LARGE)
    with (
        Upstream(serving({url: LARGE})) as upstream,
        TestRelay(
            settings(tmp_path, upstream.url, storage=storage, passthrough_linger=ZERO)
        ) as relay,
    ):
        assert get(relay.url, url).body == LARGE
        wait_until(lambda: not relay.relay.economy.blobs._fills)
        before = open_descriptors()
        for _ in range(3):
            assert get(relay.url, url).body == LARGE
            wait_until(lambda: not relay.relay.economy.blobs._fills)
        wait_until(lambda: open_descriptors() <= before)
        assert upstream.paths() == [url] * 4


def test_a_small_blob_is_passed_through_too(tmp_path: Path) -> None:
    """It is over before those who wait look: they get it all the same."""
    storage = replace(NOT_AHEAD, quota=100)
    with (
        Upstream(serving({blob_url(SMALL): SMALL})) as upstream,
        TestRelay(settings(tmp_path, upstream.url, storage=storage)) as relay,
    ):
        assert Herd(10, lambda: get(relay.url, blob_url(SMALL)).body).join().got == [SMALL] * 10
        assert len(upstream.asked) == 1


def test_a_wrong_blob_is_not_passed_through_either(tmp_path: Path) -> None:
    altered = LARGE[:-1] + b"!"
    storage = replace(NOT_AHEAD, quota=1000)
    with (
        Upstream(serving({blob_url(LARGE): altered})) as liar,
        TestRelay(settings(tmp_path, liar.url, storage=storage)) as relay,
    ):
        with pytest.raises(CutError) as caught:
            get(relay.url, blob_url(LARGE))
        assert len(caught.value.got) <= len(LARGE) - 16 * KIB
        assert relay.status()["refused_digests"] == 1
        assert not list((tmp_path / "partial").iterdir())


def test_a_disk_without_room_refuses_the_long_and_takes_the_short(tmp_path: Path) -> None:
    """One blob that fits neither the disk nor memory keeps no other back."""
    files = {blob_url(LARGE): LARGE, blob_url(SMALL): SMALL}
    with (
        Upstream(serving(files)) as upstream,
        TestRelay(settings(tmp_path, upstream.url, max_memory_bytes=0)) as relay,
    ):
        relay.relay.economy.storage._free_space = lambda: 20_000
        assert get(relay.url, blob_url(LARGE)).status == 503
        assert get(relay.url, blob_url(SMALL)).body == SMALL
        assert relay.status()["disk_errors"] == 1
        wait_until(lambda: not list((tmp_path / "partial").iterdir()))


def test_a_length_that_nobody_tells_is_judged_at_the_end(tmp_path: Path) -> None:
    async def script(_: Asked, out: Out) -> None:
        await out.send(head(None), LARGE)

    storage = replace(NOT_AHEAD, quota=1000)
    with (
        Upstream(script) as upstream,
        TestRelay(settings(tmp_path, upstream.url, storage=storage)) as relay,
    ):
        assert get(relay.url, blob_url(LARGE)).body == LARGE
        assert relay.status()["passed_through"] == 1
        assert not stored(tmp_path)


def test_retention_over_a_restart(tmp_path: Path) -> None:
    with Origin(tmp_path / "origin") as origin:
        release = origin.publish()
        cache = tmp_path / "cache"
        with TestRelay(settings(cache, origin.url, storage=AHEAD)) as relay:
            follow(relay, 2)
            wait_until(lambda: stored(cache) == {pack_url(release)})
        store = FolderStore(cache)
        for content in (LARGE, SMALL):
            writer = store.writer(digest_in(blob_url(content)), "x")
            writer.write(content)
            writer.commit()
            writer.close()
        long_ago = time.time() - 40 * 86_400
        store.touch(digest_in(blob_url(LARGE)), long_ago)
        store.touch(release.pack.sha256, long_ago)
        with TestRelay(settings(cache, origin.url, storage=AHEAD)):
            wait_until(lambda: stored(cache) == {pack_url(release), blob_url(SMALL)})


# -- budgets of clients ------------------------------------------------------------------------


def test_a_crawl_through_old_names_does_not_fill_the_wan(tmp_path: Path) -> None:
    """A host asks for blobs that no channel leads to: 503 beyond its budget, never 403 or 429."""
    old = {blob_url(b"old %d" % n): b"old %d" % n for n in range(20)}
    with Origin(tmp_path / "origin") as origin:
        for url, content in old.items():
            file = origin.repository / url[1:]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        release = origin.publish()
        clients = ClientSettings(misses_per_minute=5)
        with TestRelay(settings(tmp_path / "cache", origin.url, clients=clients)) as relay:
            follow(relay, 2)
            answers = [get(relay.url, url) for url in old]
            assert [one.status for one in answers] == [200] * 5 + [503] * 15
            assert 1 <= int(answers[-1].headers["retry-after"]) <= 12
            assert get(relay.url, next(reversed(old)), method="HEAD").status == 503
            assert get(relay.url, next(iter(old))).status == 200
            assert get(relay.url, pack_url(release)).status == 200
            status = relay.status()
            assert status["refused_misses"] == status["overloaded"] == 16
            assert len(origin.blobs_asked()) == 6


def test_a_client_that_counts_names_up_does_not_fill_the_wan_with_questions(
    tmp_path: Path,
) -> None:
    """Metadata under invented names: 503 beyond the budget; what others need is served on."""
    with Origin(tmp_path / "origin") as origin:
        origin.publish()
        clients = ClientSettings(document_misses_per_minute=5)
        with TestRelay(settings(tmp_path / "cache", origin.url, clients=clients)) as relay:
            follow(relay, 2)
            names = [f"/metadata/{n}.targets.json" for n in range(100, 120)]
            answers = [get(relay.url, name) for name in names]
            assert [one.status for one in answers] == [404] * 5 + [503] * 15
            assert 1 <= int(answers[-1].headers["retry-after"]) <= 12
            assert get(relay.url, names[0]).status == 404, "an absent name costs nothing"
            known = relay.relay.economy.closure.current
            assert known is not None
            for path in known.documents:
                assert get(relay.url, f"/{path}", "Cache-Control: no-cache").status == 200
            assert relay.status()["refused_misses"] == 15


def test_a_kept_document_is_served_beyond_the_budget_that_asks_for_a_fresh_one(
    tmp_path: Path,
) -> None:
    files = {f"/metadata/{n}.root.json": b"%d" % n for n in range(2, 6)}
    clients = ClientSettings(document_misses_per_minute=4)
    with (
        Upstream(serving(files)) as upstream,
        TestRelay(settings(tmp_path, upstream.url, clients=clients)) as relay,
    ):
        assert [get(relay.url, url).body for url in files] == list(files.values())
        asked = len(upstream.paths())
        again = [get(relay.url, url, "Cache-Control: no-cache") for url in files]
        assert [one.body for one in again] == list(files.values())
        assert len(upstream.paths()) == asked


def test_while_the_closure_is_unknown_the_budget_is_ten_times_as_large(tmp_path: Path) -> None:
    """The first start behind a dead line to the metadata: hosts still get what they ask for."""
    files = {blob_url(b"%d" % n): b"%d" % n for n in range(30)}
    clients = ClientSettings(misses_per_minute=2)
    with (
        Upstream(serving(files)) as upstream,
        TestRelay(settings(tmp_path, upstream.url, clients=clients)) as relay,
    ):
        statuses = [get(relay.url, url).status for url in files]
        assert statuses == [200] * 20 + [503] * 10


def test_requests_per_second_of_one_client(tmp_path: Path) -> None:
    clients = ClientSettings(requests_per_second=1)
    files = {STAMP: b"{}", blob_url(SMALL): SMALL}
    with (
        Upstream(serving(files)) as upstream,
        TestRelay(settings(tmp_path, upstream.url, clients=clients)) as relay,
        Raw(relay.url) as connection,
    ):
        answers = [connection.get(blob_url(SMALL)) for _ in range(14)]
        statuses = [one.status for one in answers]
        assert statuses[:10] == [200] * 10
        assert set(statuses[11:]) == {503}
        assert answers[-1].headers["retry-after"] == "1"
        assert relay.relay.counters.refused_rate >= 3


def timed(fetch: Callable[[], Any]) -> float:
    began = time.monotonic()
    fetch()
    return time.monotonic() - began


@pytest.mark.parametrize("content", [LARGE, LARGE[: 200 * KIB]], ids=["sent", "cached"])
def test_bytes_per_second_of_one_client_over_all_its_connections(
    tmp_path: Path, content: bytes
) -> None:
    """A site behind a thin line inside: long files are paced, short cached ones too."""
    url = blob_url(content)
    rate = len(content) * 4
    clients = ClientSettings(rate=rate)
    with (
        Upstream(serving({url: content, STAMP: b"{}"})) as upstream,
        TestRelay(settings(tmp_path, upstream.url, clients=clients)) as relay,
    ):
        assert get(relay.url, url).body == content
        herd: list[Herd] = []
        seconds = timed(lambda: herd.append(Herd(3, lambda: get(relay.url, url).body).join()))
        assert herd[0].got == [content] * 3
        assert 0.45 < seconds < 5
        assert timed(lambda: get(relay.url, STAMP)) < 0.5
        assert get(relay.url, url, "Range: bytes=10-19").body == content[10:20]
        assert get(relay.url, url, method="HEAD").status == 200


def test_a_paced_client_follows_a_fill_and_is_cut_where_it_goes_wrong(tmp_path: Path) -> None:
    altered = LARGE[:-1] + b"!"
    clients = ClientSettings(rate=len(LARGE) * 5)
    with (
        Upstream(serving({blob_url(LARGE): altered})) as liar,
        Upstream(serving({blob_url(LARGE): LARGE})) as honest,
        TestRelay(settings(tmp_path, liar.url, honest.url, clients=clients)) as relay,
    ):
        with pytest.raises(CutError):
            get(relay.url, blob_url(LARGE))
        assert get(relay.url, blob_url(LARGE)).body == LARGE


# -- the WAN -----------------------------------------------------------------------------------


def test_a_limit_of_20_kilobytes_holds_and_no_upstream_is_blamed_for_it(tmp_path: Path) -> None:
    """The relay is the slow one here: neither its own minimum rate nor a stall may fire."""
    content = LARGE[:60_000]
    impatient = ClientLimits(
        read_timeout=timedelta(seconds=1),
        rate_window=timedelta(milliseconds=100),
        min_bytes_per_second=50_000,
    )
    files = {blob_url(content): content, "/metadata/1.root.json": b"{}"}
    with (
        Upstream(serving(files)) as upstream,
        TestRelay(
            settings(
                tmp_path,
                upstream.url,
                bandwidth=BandwidthSettings(rate=20_000),
                client=impatient,
                held_back_bytes=0,
            )
        ) as relay,
        Raw(relay.url) as client,
    ):
        began = time.monotonic()
        client.send(f"GET {blob_url(content)} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert timed(lambda: get(relay.url, "/metadata/1.root.json")) < 0.5
        assert client.answer().body == content
        seconds = time.monotonic() - began
        assert 60_000 / 20_000 - 1.7 < seconds < 6
        status = relay.status()
        assert status["upstream_failures"] == 0
        assert status["bandwidth"]["rate"] == 20_000
        assert status["bandwidth"]["received"] == 60_000 + 2
        assert status["bandwidth"]["waited_seconds"] > 0.5


def test_what_the_kernel_holds_of_a_paced_body_is_bounded(tmp_path: Path) -> None:
    """The upstream feels the limit too: it cannot send megabytes ahead."""
    content = LARGE * 8
    sent: list[int] = []

    async def script(_: Asked, out: Out) -> bool:
        out.writer.transport.set_write_buffer_limits(high=0)
        await out.send(head(len(content)))
        for at in range(0, len(content), 16 * KIB):
            await out.send(content[at : at + 16 * KIB])
            sent.append(16 * KIB)
        return True

    with (
        Upstream(script) as upstream,
        TestRelay(
            settings(tmp_path, upstream.url, bandwidth=BandwidthSettings(rate=100_000))
        ) as relay,
        Raw(relay.url) as client,
    ):
        client.send(f"GET {blob_url(content)} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wait_until(lambda: relay.status()["bandwidth"]["received"] > 200_000)
        traffic = next(iter(relay.relay.sources)).client.traffic
        assert traffic.received_bytes - relay.status()["bandwidth"]["received"] < 200 * KIB


def test_downloads_at_once_are_bounded_and_others_wait_their_turn(tmp_path: Path) -> None:
    contents = [LARGE[:50_000] + b"%d" % n for n in range(5)]
    files = {blob_url(content): content for content in contents}
    running: set[str] = set()
    most: list[int] = []

    async def script(asked: Asked, out: Out) -> bool:
        running.add(asked.path)
        most.append(len(running))
        content = files[asked.path]
        await out.send(head(len(content)), content[:1000])
        await upstream.event("go").wait()
        running.discard(asked.path)
        await out.send(content[1000:])
        return True

    with (
        Upstream(script) as upstream,
        TestRelay(
            settings(
                tmp_path, upstream.url, bandwidth=BandwidthSettings(max_downloads=2), max_fills=4
            )
        ) as relay,
    ):
        herds = [
            Herd(1, lambda url=url: get(relay.url, url).body)  # type: ignore[misc]
            for url in list(files)[:4]
        ]
        wait_until(lambda: relay.status()["downloads"] == {"active": 2, "waiting": 2})
        wait_until(lambda: len(upstream.asked) == 2)
        assert get(relay.url, list(files)[4]).status == 503
        upstream.go("go")
        assert sorted(herd.join().got[0] for herd in herds) == sorted(contents[:4])
        assert max(most) == 2


# -- what an administrator sees ----------------------------------------------------------------

SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>[0-9.e+-]+|[+-]Inf|NaN)"
)
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


def parsed(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Parse the text format 0.0.4 as strictly as its specification reads."""
    assert text.endswith("\n")
    families: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    name = kind = ""
    lines = text[:-1].split("\n")
    for at, line in enumerate(lines):
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
            assert name not in families, f"{name} is told twice"
            assert re.fullmatch(r"# HELP \S+ (?:[^\\\n]|\\[\\n])+", line), line
            assert lines[at + 1].startswith(f"# TYPE {name} ")
            families[name] = {}
        elif line.startswith("# TYPE "):
            _, _, told, kind = line.split(" ")
            assert told == name
            assert kind in {"counter", "gauge"}
        else:
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            assert sample["name"] == name, f"{line} stands apart from its family"
            labels = tuple(LABEL.findall(sample["labels"] or ""))
            assert LABEL.sub("", sample["labels"] or "") == ""
            assert labels not in families[name]
            families[name][labels] = float(sample["value"])
            assert kind != "counter" or name.endswith("_total"), name
            assert kind != "gauge" or not name.endswith("_total"), name
    return families


def scrape(relay: TestRelay) -> tuple[Answer, dict[str, dict[Any, float]]]:
    answer = get(relay.url, "/metrics")
    return answer, parsed(answer.body.decode())


def test_the_metrics_are_what_prometheus_reads(tmp_path: Path) -> None:
    with Origin(tmp_path / "origin") as origin:
        origin.publish()
        dead = "http://127.0.0.1:9"
        with TestRelay(settings(tmp_path / "cache", dead, origin.url, storage=AHEAD)) as relay:
            follow(relay, 2)
            wait_until(lambda: relay.status()["storage"]["blobs"] == 1)
            answer, metrics = scrape(relay)
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert answer.headers["cache-control"] == "no-store"
            one = {name: rows[()] for name, rows in metrics.items() if () in rows}
            assert one["fleetward_relay_storage_blobs"] == 1
            assert one["fleetward_relay_storage_bytes"] > 60_000
            assert one["fleetward_relay_storage_quota_bytes"] == AHEAD.quota
            assert one["fleetward_relay_closure_bytes"] == one["fleetward_relay_storage_bytes"]
            assert one["fleetward_relay_cache_filled_total"] == 1
            assert one["fleetward_relay_cache_evicted_total"] == 0
            assert one["fleetward_relay_bandwidth_limit_bytes_per_second"] == 0
            assert one["fleetward_relay_bandwidth_waiting"] == 0
            assert one["fleetward_relay_downloads_limit"] == 8
            assert one["fleetward_relay_server_connections"] >= 1
            received = metrics["fleetward_relay_upstream_received_bytes_total"]
            assert received[(("upstream", origin.url),)] > 60_000
            states = metrics["fleetward_relay_upstream_state"]
            ready = [states[("upstream", url), ("state", "ready")] for url in (dead, origin.url)]
            assert ready[1] == 1
            assert get(relay.url, "/metrics", method="HEAD").status == 200
            assert get(relay.url, "/metrics", method="POST").status == 405


def test_the_status_tells_every_limit_in_force(tmp_path: Path) -> None:
    clients = ClientSettings(rate=5_000_000, misses_per_minute=7)
    bandwidth = BandwidthSettings(rate=250_000, max_downloads=3)
    with TestRelay(
        settings(
            tmp_path, "http://127.0.0.1:9", clients=clients, bandwidth=bandwidth, storage=AHEAD
        )
    ) as relay:
        status = relay.status()
        limits = status["limits"]
        assert limits["storage"]["quota"] == AHEAD.quota
        assert limits["storage"]["prefetch_products"] == []
        assert limits["clients"]["rate"] == 5_000_000
        assert limits["clients"]["misses_per_minute"] == 7
        assert limits["bandwidth"] == {"rate": 250_000, "max_downloads": 3, "schedule": []}
        assert limits["cache"]["passthrough_linger"] == 10
        assert limits["server"]["sweep_interval"] == 0.01
        assert limits["upstream"]["head_timeout"] == 20
        assert str(tmp_path) not in json.dumps(limits)
        assert status["bandwidth"]["rate"] == 250_000
        assert status["downloads"] == {"active": 0, "waiting": 0}
        assert {"storage", "closure", "prefetch"} <= status.keys()


def test_the_relay_works_over_a_store_without_a_folder(tmp_path: Path) -> None:
    store = MemoryStore()
    with (
        Upstream(serving({blob_url(LARGE): LARGE})) as upstream,
        TestRelay(settings(tmp_path, upstream.url), store) as relay,
    ):
        assert get(relay.url, blob_url(LARGE)).body == LARGE
        wait_until(lambda: relay.status()["storage"]["blobs"] == 1)


def test_whatever_is_asked_of_a_kept_blob_it_is_given_back(tmp_path: Path) -> None:
    """A blob that stayed lent for ever could never be evicted."""
    url = blob_url(LARGE)
    with (
        Upstream(serving({url: LARGE})) as upstream,
        TestRelay(settings(tmp_path, upstream.url, clients=ClientSettings(rate=10**9))) as relay,
    ):
        for _ in range(2):
            assert get(relay.url, url).status == 200
            assert get(relay.url, url, method="HEAD").status == 200
            assert get(relay.url, url, "Range: bytes=5-").status == 206
            assert get(relay.url, url, "Range: bytes=9999999-").status == 416
            assert get(relay.url, url, f'If-None-Match: "{digest_in(url)[:16]}"').status == 304
            with Raw(relay.url, receive_buffer=4096) as leaver:
                leaver.send(f"GET {url} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                leaver.socket.recv(10)
            wait_until(lambda: not relay.relay.economy.storage._lent)
