"""A passthrough's cache: what is asked, what is kept, what clients get when the upstream fails."""

import asyncio
import os
import resource
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleetward.httpd.message import FileBody, Request, Response
from fleetward.relay.passthrough_rules import Wanted
from httpd.rawhttp import Answer, CutError, Raw
from httpd.upstreams import NOT_FOUND, Asked, Out, Script, Upstream, head, serving
from httpd.waiting import open_descriptors, wait_until
from relay.passthroughs import TestPassthrough, settings_of
from relay.relays import IMPATIENT, Herd

BIG = os.urandom(400_000)
DATE = "Date: Tue, 24 Nov 2026 02:00:00 GMT"
OLD = "Last-Modified: Mon, 23 Nov 2026 02:00:00 GMT"
OLD_DATE = "mon, 23 nov 2026 02:00:00 gmt"


@contextmanager
def running(cache: Path, script: Script, **changes: Any) -> Iterator["Pair"]:  # noqa: ANN401
    """An upstream, and a passthrough of it; `limits` and `client` are the passthrough's."""
    limits = changes.pop("limits", {})
    client = changes.pop("client", None)
    before = open_descriptors()
    with Upstream(script) as upstream:
        settings = settings_of(upstream.url, **changes)
        with TestPassthrough(cache, settings, client=client, **limits) as relay:
            yield Pair(upstream, relay)
    assert open_descriptors() <= before


class Pair:
    def __init__(self, upstream: Upstream, relay: TestPassthrough) -> None:
        self.upstream = upstream
        self.relay = relay

    def get(self, path: str, *headers: str, method: str = "GET") -> Answer:
        """Ask, and wait until what was fetched for it is kept, which follows the last byte."""
        try:
            return self.relay.get(path, *headers, method=method)
        finally:
            wait_until(lambda: not self.relay.one.asking)

    @property
    def asked(self) -> list[str]:
        return self.upstream.paths()


def answering(*answers: Callable[[Asked, Out], Awaitable[bool | None]]) -> Script:
    """A script whose first request gets the first answer, and so on; the last one stays."""
    left = list(answers)

    async def script(asked: Asked, out: Out) -> bool | None:
        return await (left.pop(0) if len(left) > 1 else left[0])(asked, out)

    return script


def sending(
    body: bytes, *headers: str, status: str = "200 OK"
) -> Callable[[Asked, Out], Awaitable[bool]]:
    async def answer(_: Asked, out: Out) -> bool:
        await out.send(head(len(body), *headers, status=status), body)
        return True

    return answer


async def not_modified(_: Asked, out: Out) -> bool:
    await out.send(head(None, status="304 Not Modified"))
    return True


# -- keeping -----------------------------------------------------------------------------------------


def test_a_file_is_fetched_once_and_says_that_it_is_unverified(tmp_path: Path) -> None:
    script = sending(b"deb", 'ETag: "v1"', OLD, DATE, "Content-Type: application/x-deb")
    with running(tmp_path, script) as pair:
        for _ in range(3):
            answer = pair.get("/pool/a.deb")
            assert (answer.status, answer.body) == (200, b"deb")
            assert answer.headers["x-fleetward-verified"] == "no"
            assert answer.headers["etag"] == '"v1"'
            assert answer.headers["last-modified"] == OLD_DATE
            assert answer.headers["content-type"] == "application/x-deb"
            assert answer.headers["via"] == "1.1 fleetward"
        assert pair.asked == ["/pool/a.deb"]
        told = {one.name: one.value for one in pair.relay.part.metrics()}
        assert told["unverified_bytes_total"] == 9
        assert told["passthrough_hits_total"] == 2
        assert told["passthrough_files"] == 1
        assert told["passthrough_stored_bytes"] == 3
        status: Any = pair.relay.part.status()
        (state,) = status["passthroughs"]
        assert (state["name"], state["verified"], state["state"]) == ("up", False, "ready")


def test_an_empty_file(tmp_path: Path) -> None:
    with running(tmp_path, sending(b"")) as pair:
        assert [pair.get("/empty").body for _ in range(2)] == [b"", b""]
        assert len(pair.asked) == 1


def test_names_with_escapes_reach_the_upstream_escaped(tmp_path: Path) -> None:
    with running(tmp_path, serving({"/a%20b/%C3%A4%2B.deb": b"odd"})) as pair:
        assert pair.get("/a%20b/%c3%a4%2b.deb").body == b"odd"


def test_an_upstream_with_a_path(tmp_path: Path) -> None:
    with (
        Upstream(serving({"/debian/dists/x": b"x"})) as upstream,
        TestPassthrough(tmp_path, settings_of(upstream.url + "/debian/")) as relay,
    ):
        assert relay.get("/dists/x").body == b"x"


def test_a_mount_and_absolute_form(tmp_path: Path) -> None:
    """A SEP client asks its Group Update Provider as a server, or as a proxy."""
    path = "/content/{0A1B}/241124001/full.zip"
    escaped = "/content/%7B0A1B%7D/241124001/full.zip"
    with (
        Upstream(serving({escaped: b"zip"})) as upstream,
        TestPassthrough(
            tmp_path, settings_of(upstream.url, mount="/content/", proxy_requests=True)
        ) as relay,
        Raw(relay.url) as client,
    ):
        assert client.get(path).body == b"zip"
        assert client.get(escaped, method="HEAD").headers["content-length"] == "3"
        assert client.get(upstream.url + path).body == b"zip"
        assert client.get(upstream.url.upper() + path).body == b"zip"
        assert client.get("http://sepm.example:8014" + path).body == b"zip"
        assert upstream.paths() == [escaped]


def test_queries_are_ignored_or_kept_by_rule(tmp_path: Path) -> None:
    with running(tmp_path / "a", serving({"/x": b"plain"})) as pair:
        assert pair.get("/x?token=1").body == b"plain"
        assert pair.get("/x?token=2").body == b"plain"
        assert pair.asked == ["/x"]
    files = {"/x?v=1": b"one", "/x?v=2": b"two"}
    with running(tmp_path / "b", serving(files), query="keep") as pair:
        assert pair.get("/x?v=1").body == b"one"
        assert pair.get("/x?v=2").body == b"two"


def test_conditions_and_ranges(tmp_path: Path) -> None:
    script = sending(BIG, 'ETag: "v1"', OLD, DATE)
    with running(tmp_path, script) as pair:
        assert pair.get("/x", "Range: bytes=0-511").body == BIG[:512]
        assert pair.get("/x", "Range: bytes=-9", 'If-Range: "v1"').body == BIG[-9:]
        assert pair.get("/x", "Range: bytes=9-", 'If-Range: "v0"').body == BIG
        assert pair.get("/x", "Range: bytes=9-", f"If-Range: {OLD[15:]}").body == BIG[9:]
        assert pair.get("/x", 'If-None-Match: "v1"').status == 304
        assert pair.get("/x", f"If-Modified-Since: {OLD[15:]}").status == 304
        assert pair.get("/x", "Range: bytes=999999-").status == 416
        head_only = pair.get("/x", method="HEAD")
        assert head_only.headers["content-length"] == str(len(BIG))


def test_a_weak_date_resumes_nothing(tmp_path: Path) -> None:
    """The upstream changed the file in the very second of its answer: a date proves nothing."""
    now = DATE.removeprefix("Date: ")
    with running(tmp_path, sending(b"abc", f"Last-Modified: {now}", DATE)) as pair:
        answer = pair.get("/x", "Range: bytes=1-", f"If-Range: {now}")
        assert (answer.status, answer.body) == (200, b"abc")
        assert pair.get("/x", "Range: bytes=1-").body == b"bc"


def test_a_weak_tag_is_not_passed_on(tmp_path: Path) -> None:
    with running(tmp_path, sending(b"abc", 'ETag: W/"v1"')) as pair:
        first, second = pair.get("/x"), pair.get("/x")
        assert first.headers["etag"] == second.headers["etag"]
        assert first.headers["etag"].startswith('"')
        assert "v1" not in first.headers["etag"]


def test_what_was_kept_is_served_after_a_restart(tmp_path: Path) -> None:
    with running(tmp_path, serving({"/x": b"kept"})) as pair:
        assert pair.get("/x").body == b"kept"
        url = pair.upstream.url
    with TestPassthrough(tmp_path, settings_of(url)) as relay:
        assert relay.get("/x").body == b"kept"
        wait_until(lambda: len(relay.one.ground.store) == 1)
        assert relay.one.ground.store.stored_bytes == 4


# -- asking again ------------------------------------------------------------------------------------


def test_an_old_answer_is_asked_about(tmp_path: Path) -> None:
    script = answering(sending(b"one", 'ETag: "v1"', OLD), not_modified)
    with running(tmp_path, script, revalidate=timedelta(minutes=5)) as pair:
        assert pair.get("/x").body == b"one"
        pair.relay.pass_time(299)
        assert pair.get("/x").headers["age"] == "299"
        assert len(pair.asked) == 1
        pair.relay.pass_time(2)
        answer = pair.get("/x")
        assert (answer.body, answer.headers["age"]) == (b"one", "0")
        (_, again) = pair.upstream.asked
        assert again.headers["if-none-match"] == '"v1"'
        assert again.headers["if-modified-since"] == OLD_DATE
        pair.relay.pass_time(299)
        assert pair.get("/x").body == b"one"
        assert len(pair.asked) == 2, "the upstream's word counts from when it was given"


def test_a_changed_file_replaces_the_old_one(tmp_path: Path) -> None:
    script = answering(sending(b"one", 'ETag: "v1"'), sending(b"two!", 'ETag: "v2"'))
    with running(tmp_path, script) as pair:
        assert pair.get("/x").body == b"one"
        pair.relay.pass_time(301)
        answer = pair.get("/x", 'If-None-Match: "v1"')
        assert (answer.status, answer.body, answer.headers["etag"]) == (200, b"two!", '"v2"')
        assert pair.relay.one.ground.store.stored_bytes == 4


def test_an_upstream_that_ignores_conditions_is_not_read_again(tmp_path: Path) -> None:
    """It sends 200 to If-None-Match, with the same tag: its body is not worth the WAN."""

    async def endless(_: Asked, out: Out) -> bool:
        await out.send(head(len(BIG), 'ETag: "v1"'), BIG[:100])
        await asyncio.Event().wait()
        return True

    script = answering(sending(BIG, 'ETag: "v1"'), endless)
    with running(tmp_path, script) as pair:
        assert pair.get("/x").body == BIG
        pair.relay.pass_time(301)
        assert pair.get("/x").body == BIG
        assert pair.relay.count("confirmed") == 1
        assert pair.relay.count("upstream_bytes") == len(BIG)


def test_a_date_and_a_length_confirm_too(tmp_path: Path) -> None:
    same = sending(b"one", OLD, DATE)
    script = answering(same, same, sending(b"longer", OLD, DATE))
    with running(tmp_path, script) as pair:
        for confirmed, body in ((0, b"one"), (1, b"one"), (1, b"longer")):
            assert pair.get("/x").body == body
            assert pair.relay.count("confirmed") == confirmed
            pair.relay.pass_time(301)


def test_a_weak_date_confirms_nothing(tmp_path: Path) -> None:
    """Two contents of one length within one second: the upstream's clock cannot tell them apart."""
    now = DATE.removeprefix("Date: ")
    first, second = (sending(body, f"Last-Modified: {now}", DATE) for body in (b"one", b"two"))
    with running(tmp_path, answering(first, second)) as pair:
        assert pair.get("/x").body == b"one"
        pair.relay.pass_time(301)
        assert pair.get("/x").body == b"two"


def test_what_is_immutable_is_asked_for_once(tmp_path: Path) -> None:
    with running(tmp_path, serving({"/pool/x": b"x"}), immutable=("/pool/",)) as pair:
        for _ in range(3):
            assert pair.get("/pool/x", "Cache-Control: no-cache").body == b"x"
            pair.relay.pass_time(1_000_000)
        assert len(pair.asked) == 1


@pytest.mark.parametrize(
    "wish", ["Cache-Control: max-age=0", "Cache-Control: no-cache", "Pragma: no-cache"]
)
def test_a_client_may_ask_for_something_fresh(tmp_path: Path, wish: str) -> None:
    """Apt does for its indexes, which must fit each other; but no crowd may poll through us."""
    script = answering(sending(b"one", 'ETag: "v1"'), sending(b"two", 'ETag: "v2"'))
    with running(tmp_path, script) as pair:
        assert pair.get("/x").body == b"one"
        assert pair.get("/x", wish).body == b"one"
        pair.relay.pass_time(2)
        assert pair.get("/x", "Cache-Control: max-age=60").body == b"one"
        assert pair.get("/x", wish).body == b"two"
        assert len(pair.asked) == 2


def test_a_clock_that_was_set_back_asks(tmp_path: Path) -> None:
    script = answering(sending(b"one", 'ETag: "v1"'), not_modified)
    with running(tmp_path, script) as pair:
        assert pair.get("/x").body == b"one"
        pair.relay.clock.set_wall(pair.relay.clock.now() - timedelta(days=1))
        assert pair.get("/x").body == b"one"
        assert len(pair.asked) == 2


# -- one request for all -----------------------------------------------------------------------------


def test_a_herd_is_one_request_and_is_served_while_it_comes(tmp_path: Path) -> None:
    async def slow(_: Asked, out: Out) -> bool:
        await out.send(head(len(BIG), 'ETag: "v1"'), BIG[:1000])
        await upstream.event("go").wait()
        await out.send(BIG[1000:])
        return True

    with Upstream(slow) as upstream, TestPassthrough(tmp_path, settings_of(upstream.url)) as relay:
        herd = Herd(20, lambda: relay.get("/x").body)
        with Raw(relay.url) as early:
            early.send(b"GET /passthrough/up/x HTTP/1.1\r\nHost: a\r\nRange: bytes=0-511\r\n\r\n")
            assert early.answer().body == BIG[:512], "before the rest has come"
        wait_until(lambda: relay.count("requests") == 21)
        upstream.go("go")
        assert herd.join().got == [BIG] * 20
        assert upstream.paths() == ["/x"]
        assert relay.count("coalesced") == 20


@pytest.mark.parametrize("more", [(), ("Cache-Control: no-store",)])
def test_a_client_whose_turn_comes_late(tmp_path: Path, more: tuple[str, ...]) -> None:
    """The content came, and its file was closed, before the task of a client began to wait."""

    async def late(relay: TestPassthrough) -> Response:
        request = Request("GET", "/x", "", {})
        retrieval = relay.one._begin(Wanted("/x"), None)
        await asyncio.wait(relay.one._flights._tasks.values())
        assert retrieval.is_let_go
        response = await relay.one._wait(request, Wanted("/x"), None, retrieval)
        assert isinstance(response.body, FileBody)
        if response.body.growth:
            await response.body.growth.beyond(response.body.offset)
        return response

    with running(tmp_path, sending(b"abc", *more)) as pair:
        loop = pair.relay._loop
        assert loop
        response = asyncio.run_coroutine_threadsafe(late(pair.relay), loop).result(10)
        assert isinstance(response.body, FileBody)
        assert os.pread(response.body.descriptor, 9, response.body.offset) == b"abc"
        response.discard()


def test_a_client_that_leaves_ends_nothing(tmp_path: Path) -> None:
    async def slow(_: Asked, out: Out) -> bool:
        await upstream.event("go").wait()
        await out.send(head(3), b"abc")
        return True

    with Upstream(slow) as upstream, TestPassthrough(tmp_path, settings_of(upstream.url)) as relay:
        with Raw(relay.url) as leaving:
            leaving.send(b"GET /passthrough/up/x HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_until(lambda: len(upstream.asked) == 1)
        upstream.go("go")
        wait_until(lambda: relay.count("filled") == 1)
        assert relay.get("/x").body == b"abc"
        assert len(upstream.asked) == 1


def test_too_many_questions_at_once_are_503(tmp_path: Path) -> None:
    async def slow(_: Asked, out: Out) -> bool:
        await upstream.event("go").wait()
        await out.send(head(1), b"x")
        return True

    with (
        Upstream(slow) as upstream,
        TestPassthrough(tmp_path, settings_of(upstream.url), max_fills=2) as relay,
    ):
        herd = Herd(2, lambda: b"")
        herd.join()
        waiting = [Raw(relay.url), Raw(relay.url)]
        for number, client in enumerate(waiting):
            client.send(f"GET /passthrough/up/{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wait_until(lambda: relay.one.asking == 2)
        assert relay.get("/more").status == 503
        upstream.go("go")
        assert [client.answer().body for client in waiting] == [b"x", b"x"]
        for client in waiting:
            client.socket.close()


# -- HEAD ---------------------------------------------------------------------------------------------


def methods(pair: Pair) -> list[str]:
    return [asked.method for asked in pair.upstream.asked]


def test_a_head_does_not_fetch_the_file(tmp_path: Path) -> None:
    """A SEP client looks at 120 MB before it decides for a delta."""
    described = head(len(BIG), 'ETag: "v1"', OLD, DATE)

    async def script(asked: Asked, out: Out) -> bool:
        await out.send(described, b"" if asked.method == "HEAD" else BIG)
        return True

    with running(tmp_path, script) as pair:
        answer = pair.get("/x", method="HEAD")
        assert answer.headers["content-length"] == str(len(BIG))
        assert (answer.headers["etag"], answer.headers["last-modified"]) == ('"v1"', OLD_DATE)
        assert answer.headers["x-fleetward-verified"] == "no"
        assert pair.get("/x", 'If-None-Match: "v1"', method="HEAD").status == 304
        assert methods(pair) == ["HEAD", "HEAD"]
        assert pair.get("/x").body == BIG
        assert pair.get("/x", method="HEAD").headers["content-length"] == str(len(BIG))
        assert methods(pair) == ["HEAD", "HEAD", "GET"]


def test_a_head_of_what_is_coming_asks_nothing(tmp_path: Path) -> None:
    async def slow(_: Asked, out: Out) -> bool:
        await out.send(head(len(BIG)), BIG[:10])
        await upstream.event("go").wait()
        await out.send(BIG[10:])
        return True

    with Upstream(slow) as upstream, TestPassthrough(tmp_path, settings_of(upstream.url)) as relay:
        with Raw(relay.url) as client:
            client.send(b"GET /passthrough/up/x HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_until(lambda: relay.count("upstream_bytes") > 0)
            assert relay.get("/x", method="HEAD").headers["content-length"] == str(len(BIG))
            upstream.go("go")
            assert client.answer().body == BIG
        assert len(upstream.asked) == 1


@pytest.mark.parametrize("status", ["405 Method Not Allowed", "501 Not Implemented"])
def test_an_upstream_without_head(tmp_path: Path, status: str) -> None:
    async def script(asked: Asked, out: Out) -> bool:
        is_head = asked.method == "HEAD"
        await out.send(head(0, status=status) if is_head else head(3) + b"abc")
        return True

    with running(tmp_path, script) as pair:
        assert pair.get("/x", method="HEAD").headers["content-length"] == "3"
        assert methods(pair) == ["HEAD", "GET"]


def test_a_head_of_unknown_length_needs_the_file(tmp_path: Path) -> None:
    async def script(asked: Asked, out: Out) -> bool:
        told = head(None, "Transfer-Encoding: chunked")
        await out.send(told, b"" if asked.method == "HEAD" else b"3\r\nabc\r\n0\r\n\r\n")
        return True

    with running(tmp_path, script) as pair:
        assert pair.get("/x", method="HEAD").headers["content-length"] == "3"
        assert methods(pair) == ["HEAD", "GET"]


def test_a_head_of_what_is_not_there(tmp_path: Path) -> None:
    with running(tmp_path, sending(b"", status="404 Not Found")) as pair:
        assert pair.get("/x", method="HEAD").status == 404
        assert pair.get("/x").status == 404
        assert len(pair.asked) == 1


def test_a_head_while_the_upstream_is_in_trouble(tmp_path: Path) -> None:
    with running(tmp_path, sending(b"", "Retry-After: 99", status="503 Busy")) as pair:
        assert pair.get("/x", method="HEAD").status == 503
        assert pair.get("/y", method="HEAD").status == 503
        assert len(pair.asked) == 1


# -- lengths -----------------------------------------------------------------------------------------


def chunked(*pieces: bytes, end: bool = True) -> Callable[[Asked, Out], Awaitable[bool]]:
    async def answer(_: Asked, out: Out) -> bool:
        await out.send(head(None, "Transfer-Encoding: chunked", 'ETag: "v1"'))
        for piece in pieces:
            await out.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        if end:
            await out.send(b"0\r\n\r\n")
        return end

    return answer


def test_a_body_of_unknown_length(tmp_path: Path) -> None:
    with running(tmp_path, chunked(b"some", b"thing")) as pair:
        for _ in range(2):
            answer = pair.get("/x")
            assert (answer.body, answer.headers["content-length"]) == (b"something", "9")
        assert pair.get("/x", "Range: bytes=4-").body == b"thing"
        assert len(pair.asked) == 1


def test_a_chunked_body_that_breaks_off_is_never_whole(tmp_path: Path) -> None:
    with running(tmp_path, chunked(b"some", end=False)) as pair:
        assert pair.get("/x").status == 503
        assert pair.get("/x").status == 503
        assert pair.relay.count("filled") == 0


def test_a_body_that_ends_with_its_connection_is_passed_on_and_not_kept(tmp_path: Path) -> None:
    """Nothing tells it from one that broke off."""

    async def closing(_: Asked, out: Out) -> bool:
        await out.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsomething")
        return False

    with running(tmp_path, closing) as pair:
        assert [pair.get("/x").body for _ in range(2)] == [b"something"] * 2
        assert len(pair.asked) == 2
        assert len(pair.relay.one.ground.store) == 0


@pytest.mark.parametrize("told", ["no-store", "private", "max-age=9, No-Store"])
def test_what_may_not_be_kept_is_not_kept(tmp_path: Path, told: str) -> None:
    with running(tmp_path, sending(b"mine", f"Cache-Control: {told}")) as pair:
        assert [pair.get("/x").body for _ in range(2)] == [b"mine"] * 2
        assert len(pair.asked) == 2


@pytest.mark.parametrize("script", [sending(b"x" * 11), chunked(b"x" * 6, b"x" * 5)])
def test_endless_data(tmp_path: Path, script: Script) -> None:
    with running(tmp_path, script, max_file=10, quota=100) as pair:
        assert pair.get("/x").status == 503
        assert len(pair.relay.one.ground.store) == 0


def test_an_upstream_that_sends_less_than_it_told(tmp_path: Path) -> None:
    async def lying(_: Asked, out: Out) -> bool:
        await out.send(head(10), b"short")
        return False

    with running(tmp_path, lying) as pair:
        with pytest.raises(CutError):
            pair.get("/x")
        assert len(pair.relay.one.ground.store) == 0


def test_an_upstream_that_sends_more_than_it_told(tmp_path: Path) -> None:
    """What follows the told length would be taken for the next answer on that connection."""

    async def lying(_: Asked, out: Out) -> bool:
        await out.send(head(3) + b"abc" + head(4) + b"evil")
        return True

    with running(tmp_path, lying) as pair:
        for path in ("/x", "/y"):
            answer = pair.get(path)
            assert (answer.status, answer.body) in {(200, b"abc"), (503, b"")}


# -- breaks ------------------------------------------------------------------------------------------


def breaking(
    content: bytes, at: int, *headers: str
) -> Callable[[Asked, Out], Awaitable[bool | None]]:
    """Send the head for all of it and the bytes up to `at`, then nothing more."""

    async def answer(_: Asked, out: Out) -> None:
        await out.send(head(len(content), *headers), content[:at])

    return answer


def resuming(content: bytes, *headers: str) -> Callable[[Asked, Out], Awaitable[bool]]:
    async def answer(asked: Asked, out: Out) -> bool:
        told = f"Content-Range: bytes {asked.start}-{len(content) - 1}/{len(content)}"
        length = len(content) - asked.start
        await out.send(head(length, told, *headers, status="206 Partial Content"))
        await out.send(content[asked.start :])
        return True

    return answer


def test_a_break_is_resumed_where_the_validator_still_holds(tmp_path: Path) -> None:
    script = answering(breaking(BIG, 1000, 'ETag: "v1"'), resuming(BIG, 'ETag: "v1"'))
    with running(tmp_path, script) as pair:
        assert pair.get("/x").body == BIG
        again = pair.upstream.asked[1]
        assert (again.headers["range"], again.headers["if-range"]) == ("bytes=1000-", '"v1"')
        assert pair.relay.count("resumed") == 1


def test_a_strong_date_resumes_too(tmp_path: Path) -> None:
    script = answering(breaking(BIG, 1000, OLD, DATE), resuming(BIG))
    with running(tmp_path, script) as pair:
        assert pair.get("/x").body == BIG
        assert pair.upstream.asked[1].headers["if-range"] == OLD_DATE


@pytest.mark.parametrize("validators", [(), ('ETag: W/"v1"',), (OLD,)])
def test_a_break_without_a_strong_validator_begins_again(
    tmp_path: Path, validators: tuple[str, ...]
) -> None:
    """A resume might join two contents, so the client is cut, and the next one gets the whole."""
    script = answering(breaking(BIG, 1000, *validators), sending(BIG))
    with running(tmp_path, script) as pair:
        with pytest.raises(CutError):
            pair.get("/x")
        assert pair.get("/x").body == BIG
        assert "range" not in pair.upstream.asked[1].headers


NEW = os.urandom(300_000)


@pytest.mark.parametrize(
    ("then", "asks"),
    [
        ((sending(NEW, 'ETag: "v2"'),), 2),
        ((resuming(BIG, 'ETag: "v2"'), sending(NEW, 'ETag: "v2"')), 3),
        ((sending(b"", status="416 Range Not Satisfiable"), sending(NEW, 'ETag: "v2"')), 3),
        (
            (
                sending(b"x", "Content-Range: bytes 5-5/400000", status="206 Partial Content"),
                sending(NEW, 'ETag: "v2"'),
            ),
            3,
        ),
        (
            (
                sending(b"x", "Content-Range: bytes 1000-1000/7", status="206 Partial Content"),
                sending(NEW, 'ETag: "v2"'),
            ),
            3,
        ),
    ],
)
def test_a_file_that_changes_in_the_middle_is_never_mixed(
    tmp_path: Path, then: tuple[Callable[[Asked, Out], Awaitable[bool]], ...], asks: int
) -> None:
    """The upstream breaks off, and has another file when it is asked for the rest.

    Whoever read the first is cut; whoever comes then gets the second, whole.
    """
    script = answering(breaking(BIG, 1000, 'ETag: "v1"'), *then)
    with running(tmp_path, script) as pair:
        with pytest.raises(CutError) as cut:
            pair.get("/x")
        assert BIG.startswith(cut.value.got.partition(b"\r\n\r\n")[2] or cut.value.got)
        wait_until(lambda: pair.relay.count("filled") == 1)
        answer = pair.get("/x")
        assert (answer.body, answer.headers["etag"]) == (NEW, '"v2"')
        assert len(pair.asked) == asks


def test_what_came_before_a_break_is_used_by_the_next_question(tmp_path: Path) -> None:
    """The upstream goes away for a while; a restart of the relay lies between, too."""
    script = breaking(BIG, 1000, 'ETag: "v1"')
    with running(tmp_path, script, limits={"resumes": 0}) as pair, pytest.raises(CutError):
        pair.get("/x")
    with running(tmp_path, resuming(BIG, 'ETag: "v1"')) as pair:
        assert pair.get("/x").body == BIG
        assert pair.upstream.asked[0].headers["range"] == "bytes=1000-"


def test_a_stop_in_the_middle_leaves_a_resume(tmp_path: Path) -> None:
    async def stalling(_: Asked, out: Out) -> None:
        await out.send(head(len(BIG), 'ETag: "v1"'), BIG[:1000])
        await asyncio.Event().wait()

    with running(tmp_path, stalling) as pair, Raw(pair.relay.url) as client:
        client.send(b"GET /passthrough/up/x HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: pair.relay.count("upstream_bytes") == 1000)
    with running(tmp_path, resuming(BIG, 'ETag: "v1"')) as pair:
        assert pair.get("/x").body == BIG


def test_a_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    with running(tmp_path, serving({"/x": b"whole"})) as pair:
        assert pair.get("/x").body == b"whole"
        (kept,) = (tmp_path / "passthrough" / "up").glob("[0-9a-f][0-9a-f]/*")
        damage = [kept.read_bytes()[:-1], b"{}", b"", kept.read_bytes().replace(b"/1", b"/9")]
    for content in damage:
        kept.write_bytes(content)
        with running(tmp_path, serving({"/x": b"whole"})) as pair:
            assert pair.get("/x").body == b"whole"
            assert len(pair.asked) == 1


# -- trouble upstream --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["403 Forbidden", "429 Too Many", "401 Who", "500 Oh", "502 x"])
def test_a_client_is_told_503_and_when_to_come_back(tmp_path: Path, status: str) -> None:
    """403 and 429 put freshclam to sleep for a day, in which it protects nobody."""
    with running(tmp_path, sending(b"go away", "Set-Cookie: a=b", status=status)) as pair:
        answer = pair.get("/x")
        assert (answer.status, answer.headers["retry-after"], answer.body) == (503, "30", b"")
        assert answer.headers["x-fleetward-verified"] == "no"
        assert "set-cookie" not in answer.headers
        assert pair.get("/x").status == 503
        assert len(pair.asked) == 1, "a refused file is not asked for by every client"


def test_a_refused_file_does_not_stop_the_others(tmp_path: Path) -> None:
    async def picky(asked: Asked, out: Out) -> bool:
        refused = asked.path == "/secret"
        await (sending(b"", status="403 No") if refused else sending(b"x"))(asked, out)
        return True

    with running(tmp_path, picky) as pair:
        assert pair.get("/secret").status == 503
        assert pair.get("/x").body == b"x"


def test_an_upstream_that_wants_rest_gets_it(tmp_path: Path) -> None:
    script = sending(b"", "Retry-After: 3600", status="429 Too Many Requests")
    with running(tmp_path, script) as pair:
        assert pair.get("/x").status == 503
        assert pair.get("/y").status == 503
        assert pair.asked == ["/x"]
        status: Any = pair.relay.part.status()
        assert status["passthroughs"][0]["state"] == "paused"


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone"])
def test_what_the_upstream_does_not_have_is_404(tmp_path: Path, status: str) -> None:
    with running(tmp_path, sending(b"", status=status)) as pair:
        for _ in range(3):
            answer = pair.get("/x")
            assert (answer.status, answer.headers["cache-control"]) == (404, "no-store")
        assert len(pair.asked) == 1


def test_what_the_upstream_removed_is_removed(tmp_path: Path) -> None:
    script = answering(sending(b"one"), sending(b"", status="404 Not Found"))
    with running(tmp_path, script) as pair:
        assert pair.get("/x").body == b"one"
        pair.relay.pass_time(301)
        assert pair.get("/x").status == 404
        assert len(pair.relay.one.ground.store) == 0


def test_while_the_upstream_fails_the_last_known_is_served_with_a_warning(tmp_path: Path) -> None:
    script = answering(sending(b"one", 'ETag: "v1"'), sending(b"", status="500 Oh"))
    with running(tmp_path, script, max_stale=timedelta(hours=1)) as pair:
        assert "warning" not in pair.get("/x").headers
        pair.relay.pass_time(301)
        for _ in range(2):
            answer = pair.get("/x")
            assert (answer.status, answer.body, answer.headers["age"]) == (200, b"one", "301")
            assert answer.headers["warning"].startswith("111 fleetward")
        assert pair.relay.count("stale") == 2
        pair.relay.pass_time(3300)
        assert pair.get("/x").status == 503, "older than max_stale"


def test_a_changed_file_that_breaks_off_leaves_the_old_one(tmp_path: Path) -> None:
    script = answering(sending(b"one", 'ETag: "v1"'), breaking(BIG, 10, 'ETag: "v2"'))
    with running(tmp_path, script, limits={"resumes": 0}) as pair:
        assert pair.get("/x").body == b"one"
        pair.relay.pass_time(301)
        with pytest.raises(CutError):
            pair.get("/x")
        assert pair.relay.one.ground.store.stored_bytes == 3


def test_an_upstream_that_is_gone(tmp_path: Path) -> None:
    with running(tmp_path, sending(b"one")) as pair:
        assert pair.get("/x").body == b"one"
        url = pair.upstream.url
    with TestPassthrough(tmp_path, settings_of(url)) as relay:
        relay.pass_time(301)
        assert relay.get("/x").body == b"one"
        assert relay.get("/y").status == 503


def test_a_slow_upstream_does_not_keep_clients_from_what_is_there(tmp_path: Path) -> None:
    async def stalling(asked: Asked, out: Out) -> bool:
        await upstream.event("go").wait()
        return await not_modified(asked, out)

    script = answering(sending(b"one", 'ETag: "v1"'), stalling)
    with running(tmp_path, script, limits={"patience": timedelta(milliseconds=100)}) as pair:
        upstream, relay = pair.upstream, pair.relay
        assert pair.get("/x").body == b"one"
        relay.pass_time(301)
        answer = relay.get("/x")
        assert (answer.body, "warning" in answer.headers) == (b"one", True)
        upstream.go("go")
        wait_until(lambda: relay.count("confirmed") == 1)
        assert "warning" not in pair.get("/x").headers


def test_an_upstream_that_stalls_at_first_is_503(tmp_path: Path) -> None:
    async def stalling(_: Asked, __: Out) -> None:
        await asyncio.Event().wait()

    with running(tmp_path, stalling, client=IMPATIENT) as pair:
        assert pair.get("/x").status == 503


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 400_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"",
    ],
)
def test_an_upstream_that_is_no_web_server(tmp_path: Path, raw: bytes) -> None:
    async def odd(_: Asked, out: Out) -> None:
        await out.send(raw)

    with running(tmp_path, odd) as pair:
        assert pair.get("/x").status == 503
        assert len(pair.relay.one.ground.store) == 0


@pytest.mark.parametrize(
    "header",
    [
        "ETag: " + "x" * 300,
        'ETag: "' + "x" * 300 + '"',
        "ETag: unquoted",
        'ETag: "\xe4"',
        "Last-Modified: yesterday",
        "Content-Type: " + "x" * 5000,
        "Content-Type: \xe4",
    ],
)
def test_odd_headers_are_left_away(tmp_path: Path, header: str) -> None:
    async def odd(_: Asked, out: Out) -> bool:
        await out.send(
            f"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n{header}\r\n\r\nx".encode("latin-1")
        )
        return True

    with running(tmp_path, odd) as pair:
        answer = pair.get("/x")
        assert answer.body == b"x"
        assert len(answer.headers["etag"]) == 34
        assert answer.headers["content-type"] == "application/octet-stream"
        assert "last-modified" not in answer.headers
        pair.relay.pass_time(301)
        assert pair.get("/x").body == b"x"


def test_a_file_that_somebody_removed_is_fetched_again(tmp_path: Path) -> None:
    with running(tmp_path, serving({"/x": b"whole"})) as pair:
        assert pair.get("/x").body == b"whole"
        (kept,) = (tmp_path / "passthrough" / "up").glob("[0-9a-f][0-9a-f]/*")
        kept.unlink()
        assert pair.get("/x").body == b"whole"
        assert len(pair.asked) == 2


def test_a_file_that_is_removed_while_the_upstream_fails(tmp_path: Path) -> None:
    script = answering(sending(b"one", 'ETag: "v1"'), sending(b"", status="500 Oh"))
    with running(tmp_path, script) as pair:
        assert pair.get("/x").body == b"one"
        (kept,) = (tmp_path / "passthrough" / "up").glob("[0-9a-f][0-9a-f]/*")
        kept.unlink()
        pair.relay.pass_time(301)
        assert pair.get("/x").status == 503


# -- room --------------------------------------------------------------------------------------------


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    files = {f"/{name}": name.encode() * 30 for name in "abcd"}
    with running(tmp_path, serving(files), quota=100, max_file=50) as pair:
        for name in "abc":
            pair.get(f"/{name}")
        pair.get("/a")
        pair.get("/d")
        assert pair.relay.one.ground.store.stored_bytes == 90
        for name in "acd":
            assert pair.get(f"/{name}").body == files[f"/{name}"]
        assert len(pair.asked) == 4
        pair.get("/b")
        assert len(pair.asked) == 5


def test_a_crawl_through_tiny_files_stops(tmp_path: Path) -> None:
    files = {f"/{number}": b"" for number in range(9)}
    with running(tmp_path, serving(files), limits={"max_files": 3}) as pair:
        for path in files:
            assert pair.get(path).status == 200
        assert len(pair.relay.one.ground.store) == 3
        kept = list((tmp_path / "passthrough" / "up").glob("[0-9a-f][0-9a-f]/*"))
        assert len(kept) == 3


def test_a_lower_quota_is_kept_to_after_a_restart(tmp_path: Path) -> None:
    files = {f"/{name}": name.encode() * 30 for name in "abcd"}
    with running(tmp_path, serving(files)) as pair:
        for name in "abcd":
            pair.get(f"/{name}")
            pair.relay.pass_time(1)
    with running(tmp_path, serving(files), quota=60, max_file=60) as pair:
        pair.relay.pass_time(9)
        wait_until(lambda: pair.relay.one.ground.store.evicted == 2)
        pair.get("/d")
        assert pair.asked == []


def test_a_disk_that_must_stay_free_is_503(tmp_path: Path) -> None:
    with Upstream(sending(b"x")) as upstream:
        settings = settings_of(upstream.url)
        with TestPassthrough(tmp_path, settings, min_free=1 << 60) as relay:
            assert relay.get("/x").status == 503


@pytest.mark.parametrize("is_framed", [True, False])
def test_a_body_of_no_told_length_takes_no_more_room_than_there_is(
    tmp_path: Path,
    is_framed: bool,  # noqa: FBT001 (a table)
) -> None:
    """An upstream tells no length, and sends: neither the quota nor the free space gives way."""

    async def script(_: Asked, out: Out) -> bool:
        if is_framed:
            await out.send(head(None, "Transfer-Encoding: chunked"))
            for _n in range(20):
                await out.send(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
            await out.send(b"0\r\n\r\n")
        else:
            await out.send(head(None), b"x" * 200_000)
        return False

    with Upstream(script) as upstream:
        settings = settings_of(upstream.url)
        with TestPassthrough(tmp_path / "a", settings, min_free=1 << 60) as relay:
            assert relay.get("/x").status == 503
        with TestPassthrough(tmp_path / "b", settings) as relay:
            assert relay.get("/x").body == b"x" * 200_000
        tight = settings_of(upstream.url, quota=150_000, max_file=150_000)
        with TestPassthrough(tmp_path / "c", tight) as relay:
            assert relay.get("/x").status == 503
            assert list((tmp_path / "c/passthrough/up/partial").iterdir()) == []


def _gets_nothing(ask: Callable[[], Answer]) -> bool:
    try:
        return ask().status == 503
    except CutError:
        return True


def test_a_full_disk_is_503_or_a_cut_and_leaves_nothing(tmp_path: Path) -> None:
    """Files of this process may have 100 kB from now on, as on a disk that is full."""
    with running(tmp_path, sending(BIG, 'ETag: "v1"')) as pair:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            assert _gets_nothing(lambda: pair.get("/x"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        folder = tmp_path / "passthrough" / "up"
        assert list((folder / "partial").iterdir()) == []
        assert pair.get("/x").body == BIG


def test_partial_files_do_not_pile_up(tmp_path: Path) -> None:
    script = breaking(BIG, 10, 'ETag: "v1"')
    with running(tmp_path, script, limits={"resumes": 0}) as pair:
        for number in range(70):
            with pytest.raises(CutError):
                pair.get(f"/{number}")
        folder = tmp_path / "passthrough" / "up" / "partial"
        assert len(list(folder.iterdir())) == 64


def test_nothing_of_the_sort(tmp_path: Path) -> None:
    async def script(_: Asked, out: Out) -> bool:
        await out.send(NOT_FOUND)
        return True

    with running(tmp_path, script, paths=("/only/",)) as pair:
        assert pair.get("/x").status == 404
        assert pair.asked == []
