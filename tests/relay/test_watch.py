"""`GET /v1/watch` at an origin and at a relay: one contract, and what relays add to it."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.httpd.limits import ServerLimits
from fleetward.relay.upstreamnews import JITTER
from fleetward.wire.announcement import MAX_VERSION
from httpd.certificates import client_context, make_certificate, server_context
from httpd.rawhttp import Raw, get
from httpd.sample_repository import write
from httpd.upstreams import Asked, Out, Upstream, head, serving
from httpd.waiting import open_descriptors, wait_until
from relay.relays import SERVER_LIMITS, TestRelay
from relay.watching import (
    LIMITS,
    NEVER,
    STAMP,
    WATCHING,
    Served,
    TestOrigin,
    Waiter,
    WatchedRelay,
    origin_served,
    relay_served,
    watching,
)
from support.timestamps import timestamp

Serve = Callable[..., AbstractContextManager[Served]]


@pytest.fixture(params=[origin_served, relay_served], ids=["origin", "relay"])
def serve(request: pytest.FixtureRequest) -> Serve:
    chosen: Serve = request.param
    return chosen


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Iterator[Served]:
    with serve(tmp_path) as one:
        yield one


# -- the contract of origin and relay ------------------------------------------------------------


def test_who_is_behind_gets_the_timestamp_at_once(served: Served) -> None:
    answer = get(served.url, "/v1/watch?after=0")
    plain = get(served.url, STAMP)
    assert answer.status == 200
    assert answer.body == plain.body == timestamp(1)
    assert answer.headers["etag"] == plain.headers["etag"]
    assert answer.headers["cache-control"] == "no-store"


def test_who_waits_gets_the_next_timestamp(served: Served) -> None:
    with Waiter(served.url, 1) as waiter:
        wait_until(lambda: served.waiting == 1)
        assert waiter.is_waiting
        content = served.publish(2)
        answer = waiter.answer()
        assert (answer.status, answer.body) == (200, content)
        assert get(served.url, STAMP).body == content
        waiter.wait(2)
        wait_until(lambda: served.waiting == 1)
        assert served.publish(3) == waiter.answer().body


@pytest.mark.parametrize("query", ["", "?after=", "?after=x", "?after=-1", "?after=1&after=2"])
def test_nonsense_is_400(served: Served, query: str) -> None:
    assert get(served.url, f"/v1/watch{query}").status == 400


def test_nothing_but_get(served: Served) -> None:
    answer = get(served.url, "/v1/watch?after=0", method="HEAD")
    assert (answer.status, answer.headers["allow"]) == (405, "get")


def test_a_timestamp_that_goes_back_is_no_news(served: Served) -> None:
    served.publish(5)
    wait_until(lambda: get(served.url, STAMP).body == timestamp(5))
    with Waiter(served.url, 5) as waiter:
        wait_until(lambda: served.waiting == 1)
        served.publish(4)
        wait_until(lambda: get(served.url, STAMP, "Cache-Control: no-cache").body == timestamp(4))
        assert waiter.is_waiting
        assert served.waiting == 1


def test_no_timestamp_at_all_is_no_news(served: Served) -> None:
    """Something else lies there for a while: it is served as it is, and nobody is told."""
    with Waiter(served.url, 1) as waiter:
        wait_until(lambda: served.waiting == 1)
        served.publish(0)
        wait_until(lambda: get(served.url, STAMP, "Cache-Control: no-cache").body == timestamp(0))
        assert waiter.is_waiting
        content = served.publish(2)
        get(served.url, STAMP, "Cache-Control: no-cache")
        assert waiter.answer().body == content


def test_a_watcher_leaves_and_nothing_of_it_stays(served: Served) -> None:
    with Waiter(served.url, 1):
        wait_until(lambda: served.waiting == 1)
    wait_until(lambda: served.waiting == 0)
    before = open_descriptors()
    for _ in range(20):
        with contextlib.ExitStack() as stack:
            for _ in range(10):
                stack.enter_context(Waiter(served.url, 1))
            wait_until(lambda: served.waiting == 10)
        wait_until(lambda: served.waiting == 0)
    wait_until(lambda: open_descriptors() <= before + 2)


def test_a_flood_of_watchers_leaves_room_for_others(serve: Serve, tmp_path: Path) -> None:
    """An attacker fills the long polls: one more is told to poll, and content is still served."""
    limits = replace(SERVER_LIMITS, max_connections=20)
    with serve(tmp_path, limits) as served, contextlib.ExitStack() as stack:
        waiters = [stack.enter_context(Waiter(served.url, 1)) for _ in range(18)]
        wait_until(lambda: served.waiting == 18)
        assert get(served.url, "/v1/watch?after=1").status == 503
        assert get(served.url, "/v1/watch?after=0").status == 200
        assert get(served.url, STAMP).status == 200
        content = served.publish(2)
        assert [one.answer().body for one in waiters] == [content] * 18


def test_two_thousand_watchers_are_answered(serve: Serve, tmp_path: Path) -> None:
    count = 2000
    limits = ServerLimits(
        stop_timeout=timedelta(seconds=2), max_connections=4000, max_connections_per_peer=4000
    )
    _raise_descriptors(3 * count)
    with serve(tmp_path, limits) as served, contextlib.ExitStack() as stack:
        waiters = [stack.enter_context(Waiter(served.url, 1)) for _ in range(count)]
        wait_until(lambda: served.waiting == count)
        content = served.publish(2)
        assert all(one.answer().body == content for one in waiters)
        wait_until(lambda: served.waiting == 0)


def test_a_server_that_stops_sends_its_watchers_away_at_once(serve: Serve, tmp_path: Path) -> None:
    limits = replace(SERVER_LIMITS, stop_timeout=timedelta(minutes=5))
    with serve(tmp_path, limits) as served, contextlib.ExitStack() as stack:
        waiters = [stack.enter_context(Waiter(served.url, 1)) for _ in range(50)]
        wait_until(lambda: served.waiting == 50)
        began = time.monotonic()
        served.stop()
        assert time.monotonic() - began < 60
        for one in waiters:
            answer = one.answer()
            assert (answer.status, answer.headers["connection"]) == (204, "close")


def _raise_descriptors(count: int) -> None:
    import resource  # noqa: PLC0415 (not on Windows)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"needs {count} descriptors: ulimit -Hn {count}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


# -- relays --------------------------------------------------------------------------------------


def version_of(relay: TestRelay) -> int:
    return relay.relay.handler._timestamp.version


def metric(relay: TestRelay, name: str) -> float:
    shown = get(relay.url, "/metrics").body.decode()
    (line,) = (line for line in shown.splitlines() if line.startswith(f"fleetward_relay_{name} "))
    return float(line.split()[-1])


def test_news_pass_a_chain_of_relays(tmp_path: Path) -> None:
    write(tmp_path / "repository", STAMP, timestamp(1))
    with (
        TestOrigin(tmp_path / "repository") as origin,
        TestRelay(watching(tmp_path / "a", origin.url)) as first,
        TestRelay(watching(tmp_path / "b", first.url)) as second,
        TestRelay(watching(tmp_path / "c", second.url)) as third,
    ):
        wait_until(lambda: version_of(third) == 1)
        with Waiter(third.url, 1) as waiter:
            content = origin.publish(2)
            assert waiter.answer().body == content


def test_news_over_tls(tmp_path: Path) -> None:
    """Both ways: the relay serves https, and a further relay holds its long poll by it."""
    certificate = make_certificate(tmp_path)
    write(tmp_path / "repository", STAMP, timestamp(1))
    with TestOrigin(tmp_path / "repository") as origin:
        upper = replace(watching(tmp_path / "a", origin.url), tls=server_context(certificate))
        with TestRelay(upper) as first:
            trusting = {"upstream_tls": client_context(certificate)}
            lower = replace(watching(tmp_path / "b", first.url), **trusting)  # type: ignore[arg-type]
            with (
                TestRelay(lower) as second,
                Waiter(second.url, 1) as waiter,
                Raw(first.url, tls=client_context(certificate)) as direct,
            ):
                direct.send(b"GET /v1/watch?after=1 HTTP/1.1\r\nHost: a\r\n\r\n")
                wait_until(lambda: version_of(second) == 1)
                content = origin.publish(2)
                assert direct.answer().body == content
                assert waiter.answer().body == content


def test_a_restarted_relay_tells_of_what_it_had_kept(tmp_path: Path) -> None:
    """The WAN is dead, and a host that was away for long comes to a relay that just started."""
    write(tmp_path / "repository", STAMP, timestamp(3))
    with (
        TestOrigin(tmp_path / "repository") as origin,
        TestRelay(watching(tmp_path / "cache", origin.url)) as relay,
    ):
        wait_until(lambda: version_of(relay) == 3)
        url = origin.url
        get(relay.url, STAMP)
    with TestRelay(watching(tmp_path / "cache", url)) as again:
        assert get(again.url, "/v1/watch?after=2").body == timestamp(3)


def scripted(
    stamps: dict[str, bytes], watch: Callable[[Asked, Out], object]
) -> Callable[[Asked, Out], object]:
    """An upstream whose files are good and whose long polls are as `watch` makes them."""
    files = serving(stamps)

    async def script(asked: Asked, out: Out) -> bool:
        if asked.path.startswith("/v1/watch"):
            return bool(await watch(asked, out))  # type: ignore[misc]
        return bool(await files(asked, out))

    return script


@pytest.mark.parametrize("status", [403, 404, 405, 410, 501])
def test_an_upstream_without_long_polls_is_polled(tmp_path: Path, status: int) -> None:
    """A bucket or a plain web server: the relay polls it, and tries a long poll now and then."""

    async def unable(_: Asked, out: Out) -> bool:
        await out.send(head(0, status=f"{status} No"))
        return True

    files = {STAMP: timestamp(1)}
    push = replace(WATCHING, poll=timedelta(milliseconds=5))
    limits = replace(LIMITS, unable_pause=timedelta(milliseconds=200))
    with (
        Upstream(scripted(files, unable)) as upstream,  # type: ignore[arg-type]
        TestRelay(watching(tmp_path, upstream.url, push=push, push_limits=limits)) as relay,
    ):
        began = time.monotonic() - 1
        wait_until(lambda: version_of(relay) == 1)
        with Waiter(relay.url, 1) as waiter:
            files[STAMP] = timestamp(2)
            assert waiter.answer().body == timestamp(2)
        wait_until(lambda: upstream.paths().count("/v1/watch?after=2") >= 2)
        watched = len(upstream.paths()) - upstream.paths().count(STAMP)
        took = time.monotonic() - began
        assert watched <= 2 + took / (0.2 * (1 - JITTER))
        assert metric(relay, "upstream_polls_total") > watched
        assert relay.status()["upstreams"][0]["state"] == "ready"


def test_a_relay_that_may_not_watch_polls(tmp_path: Path) -> None:
    files = {STAMP: timestamp(1)}
    push = replace(WATCHING, watch=False, poll=timedelta(milliseconds=5))
    with (
        Upstream(serving(files)) as upstream,
        TestRelay(watching(tmp_path, upstream.url, push=push)) as relay,
        Waiter(relay.url, 1) as waiter,
    ):
        wait_until(lambda: version_of(relay) == 1)
        files[STAMP] = timestamp(2)
        assert waiter.answer().body == timestamp(2)
        assert set(upstream.paths()) == {STAMP}
        assert relay.status()["watching"] == ""


def test_a_relay_that_may_do_neither_asks_when_it_is_asked(tmp_path: Path) -> None:
    push = replace(WATCHING, watch=False, poll=timedelta())
    with (
        Upstream(serving({STAMP: timestamp(1)})) as upstream,
        TestRelay(watching(tmp_path, upstream.url, push=push)) as relay,
        Waiter(relay.url, 0) as waiter,
    ):
        wait_until(lambda: relay.status()["watchers"]["waiting"] == 1)
        assert upstream.paths() == []
        get(relay.url, STAMP)
        assert waiter.answer().body == timestamp(1)


BAD_ANSWERS: dict[str, bytes] = {
    "a 200 that is no timestamp": head(2) + b"{}",
    "a 200 that is older": head(len(timestamp(0))) + timestamp(0),
    "endless data": head(10_000_000) + b"x" * 100_000,
    "a redirect": head(0, "Location: http://192.0.2.1/", status="302 Found"),
    "over its limit": head(0, status="503 Service Unavailable"),
    "broken": b"SSH-2.0-nonsense\r\n\r\n",
    "204 at once, again and again": head(None, status="204 No Content"),
    "forged news, again and again": head(len(timestamp(MAX_VERSION))) + timestamp(MAX_VERSION),
}


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_bad_answer_to_a_long_poll_costs_no_more_than_polls(
    tmp_path: Path, answer: bytes
) -> None:
    """A box on the way answers long polls at once, however it likes.

    The relay still serves what plain requests give, pauses longer and longer between its
    questions (here 1 ms doubling to 64 s), and asks nobody else.
    """

    async def bad(_: Asked, out: Out) -> bool:
        await out.send(answer)
        return False

    files = {STAMP: timestamp(1)}
    with (
        Upstream(scripted(files, bad)) as upstream,  # type: ignore[arg-type]
        TestRelay(watching(tmp_path, upstream.url, push=replace(WATCHING))) as relay,
    ):
        began = time.monotonic()
        wait_until(lambda: len(upstream.asked) > 10)
        files[STAMP] = timestamp(2)
        wait_until(lambda: get(relay.url, STAMP).body == timestamp(2))
        asked = metric(relay, "upstream_long_polls_total")
        took = time.monotonic() - began
        assert 2 ** (asked - 3) * 0.0008 < took
        assert version_of(relay) == 2


def test_a_forged_version_blinds_the_long_poll_once(tmp_path: Path) -> None:
    """Fast-forward: for a moment the upstream serves a forged timestamp of a huge version.

    The relay cannot tell, and takes it up; no news can be above it. The next quiet answer of the
    long poll makes the relay ask plainly, and it serves what its upstream says then.
    """

    async def quiet(asked: Asked, out: Out) -> bool:
        if asked.path.endswith(str(MAX_VERSION)):
            await upstream.event("quiet").wait()
        await out.send(head(None, status="204 No Content"))
        return True

    files = {STAMP: timestamp(MAX_VERSION)}
    with (
        Upstream(scripted(files, quiet)) as upstream,  # type: ignore[arg-type]
        TestRelay(watching(tmp_path, upstream.url)) as relay,
    ):
        wait_until(lambda: version_of(relay) == MAX_VERSION)
        assert get(relay.url, "/v1/watch?after=7").body == timestamp(MAX_VERSION)
        files[STAMP] = timestamp(8)
        upstream.go("quiet")
        wait_until(lambda: version_of(relay) == 8)
        assert get(relay.url, "/v1/watch?after=7").body == timestamp(8)


def test_an_upstream_replays_an_older_timestamp(tmp_path: Path) -> None:
    """Rollback: the relay serves what it is told, and hosts remember; then the relay mends."""
    files = {STAMP: timestamp(9)}
    with (
        Upstream(serving(files)) as upstream,
        TestRelay(watching(tmp_path, upstream.url, timestamp_lifetime=timedelta())) as relay,
    ):
        wait_until(lambda: version_of(relay) == 9)
        files[STAMP] = timestamp(3)
        wait_until(lambda: get(relay.url, STAMP).body == timestamp(3))
        with Waiter(relay.url, 9) as waiter:
            wait_until(lambda: relay.status()["watchers"]["waiting"] == 1)
            files[STAMP] = timestamp(10)
            get(relay.url, STAMP)
            assert waiter.answer().body == timestamp(10)


def test_the_preferred_upstream_dies_and_the_next_one_is_watched(tmp_path: Path) -> None:
    write(tmp_path / "one", STAMP, timestamp(1))
    write(tmp_path / "two", STAMP, timestamp(1))
    pause = timedelta(minutes=5)
    with (
        TestOrigin(tmp_path / "two") as second,
        TestOrigin(tmp_path / "one") as first,
        TestRelay(
            watching(
                tmp_path / "cache",
                first.url,
                second.url,
                failure_pause=pause,
                max_failure_pause=pause,
            )
        ) as relay,
    ):
        wait_until(lambda: first.waiting == 1)
        assert relay.status()["watching"] == first.url
        first.stop()
        wait_until(lambda: second.waiting == 1)
        assert relay.status()["watching"] == second.url
        content = second.publish(2)
        wait_until(lambda: get(relay.url, STAMP).body == content)


def test_every_upstream_is_away_and_the_relay_waits_with_growing_pauses(tmp_path: Path) -> None:
    with Upstream(serving({})) as upstream:
        url = upstream.url
    pause = timedelta(minutes=5)
    settings = watching(tmp_path, url, failure_pause=pause, max_failure_pause=pause)
    with TestRelay(settings) as relay:
        wait_until(lambda: relay.status()["upstreams"][0]["state"] == "paused")
        assert get(relay.url, STAMP).status == 503
        assert metric(relay, "upstream_long_polls_total") == 1


def test_a_relay_hears_while_a_request_is_under_way(tmp_path: Path) -> None:
    """A host's request had left before the news came: the relay asks once more, not never."""
    plain: list[str] = []

    async def script(asked: Asked, out: Out) -> bool:
        if asked.path.startswith("/v1/watch"):
            if asked.path.endswith("after=1"):
                await upstream.event("news").wait()
            content = timestamp(int(asked.path[-1]) + 1)
        else:
            plain.append(asked.path)
            content = timestamp(1 if len(plain) < 3 else 2)
            if len(plain) == 2:
                await upstream.event("slow").wait()
        await out.send(head(len(content)), content)
        return len(plain) < 4

    settings = watching(tmp_path, "", timestamp_lifetime=timedelta(), patience=NEVER)
    with (
        Upstream(script) as upstream,
        TestRelay(replace(settings, upstreams=(upstream.url,))) as relay,
    ):
        wait_until(lambda: "/v1/watch?after=1" in upstream.paths())
        with Raw(relay.url) as other:
            other.send(f"GET {STAMP} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            wait_until(lambda: len(plain) == 2)
            upstream.go("news")
            wait_until(lambda: metric(relay, "upstream_long_polls_total") == 2)
            upstream.go("slow")
            assert other.answer().body == timestamp(1)
        wait_until(lambda: version_of(relay) == 2)
        assert metric(relay, "upstream_news_total") == 2


def test_a_long_poll_that_hangs_keeps_nobody_from_the_news(tmp_path: Path) -> None:
    """A box on the way swallows the long poll: a host's own request brings the news for all."""

    async def hang(_: Asked, out: Out) -> bool:
        await upstream.event("never").wait()
        return False

    files = {STAMP: timestamp(1)}
    with (
        Upstream(scripted(files, hang)) as upstream,  # type: ignore[arg-type]
        TestRelay(watching(tmp_path, upstream.url, timestamp_lifetime=timedelta())) as relay,
    ):
        get(relay.url, STAMP)
        with Waiter(relay.url, 1) as waiter:
            wait_until(lambda: relay.status()["watchers"]["waiting"] == 1)
            files[STAMP] = timestamp(2)
            assert get(relay.url, STAMP).body == timestamp(2)
            assert waiter.answer().body == timestamp(2)


def test_the_same_request_again_gets_what_is_new(tmp_path: Path) -> None:
    """Repeated bytes are answered without the handler, for as long as the answer holds."""
    files = {STAMP: timestamp(1)}
    push = replace(WATCHING, watch=False, poll=timedelta())
    with (
        Upstream(serving(files)) as upstream,
        TestRelay(watching(tmp_path, upstream.url, push=push)) as relay,
        Raw(relay.url) as host,
    ):
        etag = host.get(STAMP).headers["etag"]
        for _ in range(3):
            assert host.get(STAMP).body == timestamp(1)
            assert host.get(STAMP, f"If-None-Match: {etag}").status == 304
        assert relay.status()["hits"] == 6
        assert upstream.paths() == [STAMP]
        files[STAMP] = timestamp(2)
        assert get(relay.url, STAMP, "Cache-Control: no-cache").body == timestamp(2)
        assert host.get(STAMP).body == timestamp(2)
        assert host.get(STAMP, f"If-None-Match: {etag}").body == timestamp(2)


def test_the_same_request_again_is_asked_upstream_once_it_is_old(tmp_path: Path) -> None:
    files = {STAMP: timestamp(1)}
    push = replace(WATCHING, watch=False, poll=timedelta())
    lifetime = timedelta(milliseconds=30)
    with (
        Upstream(serving(files)) as upstream,
        TestRelay(
            watching(tmp_path, upstream.url, push=push, timestamp_lifetime=lifetime)
        ) as relay,
        Raw(relay.url) as host,
    ):
        host.get(STAMP)
        files[STAMP] = timestamp(2)
        wait_until(lambda: host.get(STAMP).body == timestamp(2))


def test_what_is_watched_is_shown(tmp_path: Path) -> None:
    with relay_served(tmp_path) as served, Waiter(served.url, 1):
        wait_until(lambda: served.waiting == 1)
        assert isinstance(served, WatchedRelay)
        assert metric(served, "watchers") == 1
        assert metric(served, "upstream_watched") == 1
        assert metric(served, "upstream_long_polls_total") >= 1
