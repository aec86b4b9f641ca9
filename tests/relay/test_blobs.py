"""Blobs through a relay: once over the WAN, verified, resumed, and never wrong at a client."""

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from blobs.memory_store import MemoryStore
from fleetward.blobs.folder import FolderStore
from fleetward.blobs.store import BlobWriter
from fleetward.config.relay import StorageSettings
from fleetward.core.digest import Sha256
from fleetward.core.limits import KIB, MIB
from fleetward.errors import DiskError
from fleetward.httpd.limits import ServerLimits
from httpd.rawhttp import DEADLINE, CutError, Raw, get
from httpd.sample_repository import LARGE, SMALL, blob_url, digest_in
from httpd.upstreams import Asked, Out, Script, Upstream, head, part_head, serving
from httpd.waiting import open_descriptors, wait_until
from relay.relays import IMPATIENT, Herd, TestRelay, settings_for, start

URL = blob_url(LARGE)
DIGEST = digest_in(URL)
HALF = len(LARGE) // 2
HELD = 16 * KIB
ALTERED = LARGE[:1000] + b"!" + LARGE[1001:]


def sender(content: bytes, *, stop_at: int | None = None, gate: str = "") -> Script:
    """Sends `content`, from where Range says; waits at `gate`, or breaks off, at `stop_at`."""

    async def script(asked: Asked, out: Out) -> bool:
        upto = len(content) if stop_at is None or (asked.start and not gate) else stop_at
        await out.send(part_head(content, asked.start), content[asked.start : upto])
        if gate:
            await gates[gate].event(gate).wait()
            await out.send(content[upto:])
            return True
        return upto == len(content)

    return script


gates: dict[str, Upstream] = {}
"""Upstreams by the name of the gate at which their scripts wait."""


def gated(name: str, content: bytes = LARGE, *, stop_at: int = HALF) -> Upstream:
    gates[name] = Upstream(sender(content, stop_at=stop_at, gate=name))
    return gates[name]


def fetch(relay: TestRelay, *headers: str) -> Callable[[], bytes]:
    return lambda: get(relay.url, URL, *headers).body


def partials(cache: Path) -> list[bytes]:
    return [file.read_bytes() for file in (cache / "partial").iterdir()]


# -- coalescing --------------------------------------------------------------------------------


def test_a_herd_costs_one_upstream_request_and_all_are_served_while_it_fills(
    tmp_path: Path,
) -> None:
    with gated("herd") as upstream, start(tmp_path, upstream.url) as relay:
        early = [Raw(relay.url) for _ in range(30)]
        for client in early:
            client.send(f"GET {URL} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        got = [b""] * len(early)
        for number, client in enumerate(early):
            while len(got[number]) < HALF:
                got[number] += client.socket.recv(1 << 20)
        assert get(relay.url, URL, "Range: bytes=100-199").body == LARGE[100:200]
        told = get(relay.url, URL, method="HEAD")
        assert (told.status, int(told.headers["content-length"])) == (200, len(LARGE))
        assert get(relay.url, URL, f'If-None-Match: "{DIGEST[:16]}"').status == 304
        assert get(relay.url, URL, f"Range: bytes={len(LARGE)}-").status == 416
        late = Herd(5, fetch(relay, f"Range: bytes={HALF + 1000}-"))
        wait_until(lambda: relay.relay.counters.coalesced == 38)
        upstream.go("herd")
        for number, client in enumerate(early):
            while not got[number].endswith(LARGE[-100:]):
                got[number] += client.socket.recv(1 << 20)
            assert got[number].partition(b"\r\n\r\n")[2] == LARGE
            client.socket.close()
        assert late.join().got == [LARGE[HALF + 1000 :]] * 5
        assert upstream.paths() == [URL]
        wait_until(lambda: relay.status()["filled"] == 1)
        status = relay.status()
        assert (status["fills"], status["coalesced"], status["filling"]) == (1, 38, 0)
        assert len(LARGE) < status["upstream_bytes"] < len(LARGE) + 500
        assert status["delivered_bytes"] > 30 * len(LARGE)
        assert get(relay.url, URL).body == LARGE
        assert upstream.paths() == [URL]
        assert not partials(tmp_path)


def test_a_small_blob_is_delivered_only_once_it_is_verified(tmp_path: Path) -> None:
    """It is shorter than what is held back, so not a byte leaves before the digest is right."""
    gates["small"] = Upstream(sender(SMALL, stop_at=9000, gate="small"))
    with gates["small"] as upstream, start(tmp_path, upstream.url) as relay, Raw(relay.url) as one:
        one.send(f"GET {blob_url(SMALL)} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        one.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            one.socket.recv(1)
        one.socket.settimeout(DEADLINE)
        upstream.go("small")
        assert one.answer().body == SMALL


def test_the_first_client_leaves_and_the_fill_goes_on(tmp_path: Path) -> None:
    with gated("leaver") as upstream, start(tmp_path, upstream.url) as relay:
        with Raw(relay.url) as first:
            first.send(f"GET {URL} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            first.socket.recv(1000)
        herd = Herd(3, fetch(relay))
        wait_until(lambda: relay.relay.counters.coalesced == 3)
        upstream.go("leaver")
        assert herd.join().got == [LARGE] * 3
        assert upstream.paths() == [URL]


def test_a_client_that_stops_reading_holds_nobody_up(tmp_path: Path) -> None:
    impatient = ServerLimits(
        stall_timeout=timedelta(milliseconds=100), sweep_interval=timedelta(milliseconds=10)
    )
    content = LARGE * 8
    url = blob_url(content)
    with Upstream(serving({url: content})) as upstream:
        settings = replace(settings_for(tmp_path, upstream.url), server_limits=impatient)
        with TestRelay(settings) as relay, Raw(relay.url, receive_buffer=4096) as stuck:
            stuck.send(f"GET {url} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            stuck.socket.recv(10)
            herd = Herd(5, lambda: get(relay.url, url).body)
            assert herd.join().got == [content] * 5
            wait_until(lambda: relay.status()["server"]["cut"] == 1)


# -- attacks and accidents ---------------------------------------------------------------------


def test_the_upstream_alters_a_blob(tmp_path: Path) -> None:
    """A malicious mirror changes one byte.

    No client gets a complete answer, the end is withheld from all, nothing is kept, and the next
    request goes to the next upstream.
    """
    with (
        Upstream(sender(ALTERED)) as liar,
        Upstream(sender(LARGE)) as honest,
        start(tmp_path, liar.url, honest.url) as relay,
    ):
        with pytest.raises(CutError) as caught:
            fetch(relay)()
        assert len(caught.value.got) <= len(LARGE) - HELD
        assert not FolderStore(tmp_path).has(DIGEST)
        assert not partials(tmp_path)
        assert fetch(relay)() == LARGE
        assert (len(liar.asked), len(honest.asked)) == (1, 1)
        status = relay.status()
        assert status["refused_digests"] == 1
        assert [one["state"] for one in status["upstreams"]] == ["false", "ready"]
        assert get(relay.url, blob_url(b"another"), method="HEAD").status == 200
        assert len(honest.asked) == 2


def test_the_only_upstream_alters_a_blob_and_is_not_asked_for_it_again(tmp_path: Path) -> None:
    with Upstream(sender(ALTERED)) as liar, start(tmp_path, liar.url) as relay:
        assert set(Herd(4, fetch(relay)).join().got) <= {b""}
        assert get(relay.url, URL).status == 503
        assert len(liar.asked) == 1
        assert relay.status()["fills"] >= 1


def test_the_upstream_breaks_off_and_is_asked_for_the_rest(tmp_path: Path) -> None:
    with (
        Upstream(sender(LARGE, stop_at=HALF)) as upstream,
        start(tmp_path, upstream.url) as relay,
    ):
        assert fetch(relay)() == LARGE
        assert [asked.headers.get("range") for asked in upstream.asked] == [
            None,
            f"bytes={HALF}-",
        ]
        assert relay.status()["resumed"] == 1


def test_the_upstream_stalls_and_the_next_one_takes_over(tmp_path: Path) -> None:
    """The client that waits sees nothing of it: what it has read is what the second sends too."""
    with (
        gated("stalled") as stalling,
        Upstream(sender(LARGE)) as second,
        start(tmp_path, stalling.url, second.url, client=IMPATIENT, resumes=0) as relay,
    ):
        assert fetch(relay)() == LARGE
        assert [asked.start for asked in second.asked] == [0]
        assert relay.status()["upstream_failures"] == 1


def test_two_upstreams_differ_and_whoever_read_the_first_is_cut(tmp_path: Path) -> None:
    """The first sends lies and stalls; the second is honest: only a new client gets the blob."""
    with (
        gated("lies", ALTERED) as liar,
        Upstream(sender(LARGE)) as honest,
        start(tmp_path, liar.url, honest.url, client=IMPATIENT, resumes=0) as relay,
    ):
        with pytest.raises(CutError):
            fetch(relay)()
        assert fetch(relay)() == LARGE
        assert (len(liar.asked), len(honest.asked)) == (1, 1)
        assert relay.status()["refused_digests"] == 0


def test_a_slow_upstream_is_left_for_another(tmp_path: Path) -> None:
    async def script(_: Asked, out: Out) -> None:
        await out.send(head(len(LARGE)), LARGE[:10])
        await slow.event("never").wait()

    with (
        Upstream(script) as slow,
        Upstream(sender(LARGE)) as fast,
        start(tmp_path, slow.url, fast.url, client=IMPATIENT) as relay,
    ):
        assert fetch(relay)() == LARGE
        assert [asked.start for asked in slow.asked] == [0, 10]


def test_every_upstream_fails_and_what_came_is_resumed_later(tmp_path: Path) -> None:
    """Also over a restart of the relay, and only from the source that sent it."""
    script = sender(LARGE, stop_at=HALF)
    with Upstream(script) as upstream:
        with start(tmp_path, upstream.url, resumes=0) as relay, pytest.raises(CutError):
            fetch(relay)()
        assert partials(tmp_path) == [LARGE[:HALF]]
        with Upstream(sender(LARGE)) as other, start(tmp_path, other.url) as relay:
            get(relay.url, blob_url(b"absent"), method="HEAD")
            assert not relay.relay.counters.fills
        with start(tmp_path, upstream.url, resumes=0) as relay:
            assert fetch(relay)() == LARGE
        assert [asked.start for asked in upstream.asked] == [0, HALF]


def test_a_partial_that_was_altered_on_disk_is_found_out(tmp_path: Path) -> None:
    with Upstream(sender(LARGE, stop_at=HALF)) as upstream:
        with start(tmp_path, upstream.url, resumes=0) as relay, pytest.raises(CutError):
            fetch(relay)()
        (file,) = (tmp_path / "partial").iterdir()
        file.write_bytes(ALTERED[:HALF])
        with start(tmp_path, upstream.url) as relay:
            with pytest.raises(CutError):
                fetch(relay)()
            assert not partials(tmp_path)


async def exact(asked: Asked, out: Out) -> bool:
    """Serves LARGE, and answers 416 where nothing of it is left."""
    if asked.start >= len(LARGE):
        told = f"Content-Range: bytes */{len(LARGE)}"
        await out.send(head(0, told, status="416 Range Not Satisfiable"))
    else:
        await out.send(part_head(LARGE, asked.start), LARGE[asked.start :])
    return True


@pytest.mark.parametrize("left", [LARGE, LARGE + b"more", LARGE[:-1] + b"!more"])
def test_a_partial_that_is_as_long_as_the_blob_or_longer(tmp_path: Path, left: bytes) -> None:
    """The relay lost power between the last byte and the name, or its disk lied."""
    with Upstream(exact) as upstream:
        writer = FolderStore(tmp_path).writer(DIGEST, upstream.url)
        writer.write(left)
        writer.close()
        with start(tmp_path, upstream.url) as relay:
            if left.startswith(LARGE):
                assert fetch(relay)() == LARGE
            else:
                with contextlib.suppress(CutError):
                    assert fetch(relay)() == LARGE
            assert upstream.asked[0].start == len(left)
            wait_until(lambda: relay.status()["filled"] == 1)
            assert fetch(relay)() == LARGE


def test_the_upstream_ignores_range_when_a_fill_is_resumed(tmp_path: Path) -> None:
    async def script(_: Asked, out: Out) -> bool:
        is_first = len(upstream.asked) == 1
        await out.send(head(len(LARGE)), LARGE[: HALF if is_first else None])
        return not is_first

    with Upstream(script) as upstream, start(tmp_path, upstream.url) as relay:
        assert fetch(relay)() == LARGE
        assert relay.status()["resumed"] == 0


@pytest.mark.parametrize(
    "told",
    [
        f"Content-Range: bytes 0-9/{len(LARGE)}",
        f"Content-Range: bytes */{len(LARGE)}",
        "Content-Range: nonsense",
        "X: y",
    ],
)
def test_the_upstream_sends_another_range_than_was_asked_for(tmp_path: Path, told: str) -> None:
    async def script(asked: Asked, out: Out) -> None:
        if asked.start:
            await out.send(head(10, told, status="206 Partial Content"), b"0123456789")
        else:
            await out.send(head(len(LARGE)), LARGE[:HALF])

    with Upstream(script) as upstream, start(tmp_path, upstream.url) as relay:
        with pytest.raises(CutError):
            fetch(relay)()
        assert len(upstream.asked) == 2


def test_the_upstream_changes_its_mind_about_the_length(tmp_path: Path) -> None:
    async def script(asked: Asked, out: Out) -> None:
        content = LARGE + b"more" if asked.start else LARGE
        upto = None if asked.start else HALF
        await out.send(part_head(content, asked.start), content[asked.start : upto])

    with Upstream(script) as upstream, start(tmp_path, upstream.url) as relay:
        with pytest.raises(CutError):
            fetch(relay)()
        wait_until(lambda: relay.status()["refused_digests"] == 1)


def test_a_length_that_nobody_tells_is_waited_for(tmp_path: Path) -> None:
    async def script(_: Asked, out: Out) -> None:
        await out.send(head(None), LARGE)

    with Upstream(script) as upstream, start(tmp_path, upstream.url) as relay:
        assert Herd(3, fetch(relay)).join().got == [LARGE] * 3


@pytest.mark.parametrize("length", [len(LARGE), None])
def test_endless_data_instead_of_a_blob(tmp_path: Path, length: int | None) -> None:
    async def script(_: Asked, out: Out) -> None:
        await out.send(head(length))
        while True:
            await out.send(b"x" * 65536)

    with Upstream(script) as upstream, start(tmp_path, upstream.url, max_blob_bytes=HALF) as relay:
        assert get(relay.url, URL).status == 503
        assert relay.status()["upstream_bytes"] < 2 * len(LARGE)


def test_a_206_to_a_request_without_range_is_refused(tmp_path: Path) -> None:
    async def script(_: Asked, out: Out) -> bool:
        told = f"Content-Range: bytes 0-{len(LARGE) - 1}/{len(LARGE)}"
        await out.send(head(len(LARGE), told, status="206 Partial Content"), LARGE)
        return True

    with Upstream(script) as upstream, start(tmp_path, upstream.url) as relay:
        assert get(relay.url, URL).status == 503


# -- what is absent ----------------------------------------------------------------------------


def test_a_blob_that_no_upstream_has(tmp_path: Path) -> None:
    with (
        Upstream(serving({})) as one,
        Upstream(serving({})) as two,
        start(tmp_path, one.url, two.url) as relay,
    ):
        for _ in range(3):
            assert get(relay.url, URL).status == 404
        assert len(one.asked) == len(two.asked) == 1
        assert get(relay.url, blob_url(SMALL), method="HEAD").status == 404
        assert len(one.asked) == 2
        assert not partials(tmp_path) or partials(tmp_path) == [b""]


def test_a_blob_that_only_the_second_upstream_has(tmp_path: Path) -> None:
    with (
        Upstream(serving({})) as behind,
        Upstream(serving({URL: LARGE})) as ahead,
        start(tmp_path, behind.url, ahead.url) as relay,
    ):
        assert fetch(relay)() == LARGE


def test_one_upstream_breaks_off_and_the_other_does_not_have_it(tmp_path: Path) -> None:
    """That is no 404: the blob exists."""
    with (
        Upstream(sender(LARGE, stop_at=HELD)) as broken,
        Upstream(serving({})) as behind,
        start(tmp_path, broken.url, behind.url, resumes=0, held_back_bytes=len(LARGE)) as relay,
    ):
        with pytest.raises(CutError):
            fetch(relay)()
        assert not relay.relay.sources.absent._until


def test_head_of_a_blob_that_is_not_here_fills_nothing(tmp_path: Path) -> None:
    with (
        Upstream(serving({URL: LARGE})) as upstream,
        start(tmp_path, "http://127.0.0.1:9", upstream.url) as relay,
    ):
        told = get(relay.url, URL, method="HEAD")
        assert (told.status, int(told.headers["content-length"])) == (200, len(LARGE))
        assert told.headers["etag"] == f'"{DIGEST[:16]}"'
        assert relay.status()["fills"] == 0
    with start(tmp_path, "http://127.0.0.1:9") as relay:
        assert get(relay.url, URL, method="HEAD").status == 503


# -- the disk, and the filler ------------------------------------------------------------------


def test_the_disk_is_full(tmp_path: Path) -> None:
    """Clients are cut; who comes next is served through memory, by one more upstream request.

    Without that, each host of the site would fetch the blob over the WAN by itself.
    """
    store = MemoryStore(room=HALF)
    with (
        Upstream(sender(LARGE)) as upstream,
        TestRelay(settings_for(tmp_path, upstream.url), store) as relay,
    ):
        with pytest.raises(CutError):
            fetch(relay)()
        assert not store.left
        wait_until(lambda: relay.status()["disk_errors"] == 1)
        assert Herd(20, fetch(relay)).join().got == [LARGE] * 20
        assert fetch(relay)() == LARGE
        assert len(upstream.asked) == 2
        status = relay.status()
        assert (status["passed_through"], status["through_memory"]) == (1, 1)
        assert (status["filled"], status["disk_errors"]) == (0, 1)
        assert not store.left


def test_a_disk_that_cannot_be_written_at_all(tmp_path: Path) -> None:
    """Read-only, no rights, no inode: no partial file can be opened."""

    class Unwritable(MemoryStore):
        def writer(self, digest: Sha256, source: str) -> BlobWriter:
            raise DiskError("cannot write: Read-only file system")

    with (
        Upstream(sender(LARGE)) as upstream,
        TestRelay(settings_for(tmp_path, upstream.url), Unwritable()) as relay,
    ):
        assert Herd(20, fetch(relay)).join().got == [LARGE] * 20
        assert get(relay.url, URL, "Range: bytes=5-9").body == LARGE[5:10]
        assert len(upstream.asked) == 1
        assert relay.status()["disk_errors"] == 1


def short_of_space(cache: Path, url: str, **limits: Any) -> TestRelay:  # noqa: ANN401
    """A relay whose disk has less free than it must leave to others."""
    settings = settings_for(cache, url, **limits)
    return TestRelay(replace(settings, storage=StorageSettings(min_free=1 << 60)))


def test_a_disk_with_too_little_space_is_left_alone(tmp_path: Path) -> None:
    """What clients want goes through memory, and nothing of it is on the disk meanwhile."""
    with (
        gated("spaceless") as upstream,
        short_of_space(tmp_path, upstream.url, passthrough_linger=timedelta()) as relay,
    ):
        herd = Herd(10, fetch(relay))
        wait_until(lambda: relay.status()["delivered_bytes"] > 10 * (HALF - HELD - 1))
        assert not partials(tmp_path)
        assert relay.relay.economy.blobs._ground.memory.taken_bytes == len(LARGE)
        upstream.go("spaceless")
        assert herd.join().got == [LARGE] * 10
        assert fetch(relay)() == LARGE
        assert upstream.paths() == [URL]
        assert relay.status()["disk_errors"] == 0


def test_what_lingers_keeps_nothing_new_from_coming(tmp_path: Path) -> None:
    """A site takes more deltas than `max_fills` while its relay's disk is full."""
    contents = [b"delta %d" % number for number in range(10)]
    files = {blob_url(content): content for content in contents}
    with (
        Upstream(serving(files)) as upstream,
        short_of_space(tmp_path, upstream.url, max_fills=1) as relay,
    ):
        for url, content in list(files.items())[:8]:
            assert get(relay.url, url).body == content
            wait_until(lambda: relay.status()["filling"] == 0)
        assert get(relay.url, blob_url(contents[0])).body == contents[0]
        assert get(relay.url, blob_url(contents[9])).status == 503
        assert len(upstream.asked) == 8


def test_memory_for_blobs_is_bounded(tmp_path: Path) -> None:
    """A blob that is too long for it is answered 503, and not asked for each time."""
    with (
        Upstream(sender(LARGE)) as upstream,
        short_of_space(tmp_path, upstream.url, max_memory_bytes=len(LARGE) - 1) as relay,
    ):
        assert [get(relay.url, URL).status for _ in range(5)] == [503] * 5
        assert len(upstream.asked) == 1
        assert relay.status()["overloaded"] == 4
        assert relay.relay.economy.blobs._ground.memory.taken_bytes == 0


def test_memory_is_given_back_once_nobody_reads_it(tmp_path: Path) -> None:
    """A client that reads slowly holds the memory, so it is counted until that client is done."""
    linger = timedelta(milliseconds=5)
    with (
        Upstream(sender(LARGE)) as upstream,
        short_of_space(tmp_path, upstream.url, memory_linger=linger) as relay,
        Raw(relay.url, receive_buffer=4096) as slow,
    ):
        memory = relay.relay.economy.blobs._ground.memory
        slow.send(f"GET {URL} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wait_until(lambda: relay.status()["passed_through"] == 1)
        assert get(relay.url, URL, "Range: bytes=0-0").body == LARGE[:1]
        assert memory.taken_bytes == len(LARGE)
        assert memory_files() > 0
        assert slow.answer().body == LARGE
        wait_until(lambda: memory.taken_bytes == 0)
        wait_until(lambda: memory_files() == 0)


def memory_files() -> int:
    """How many descriptors of this process are memory."""
    found = 0
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (links, some of which just went)
        with contextlib.suppress(OSError):
            found += "memfd:" in os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115 (as above)
    return found


@pytest.mark.parametrize("length", [len(LARGE), 40 * MIB])
def test_a_blob_of_no_told_length_cannot_fill_disk_or_memory(tmp_path: Path, length: int) -> None:
    """An upstream, or who stands before it, sends without end and tells no length.

    Room is reserved as it comes: where there is no more, the fill ends and nothing is left.
    """

    async def script(asked: Asked, out: Out) -> bool:
        await out.send(head(None), LARGE)
        for _ in range((length - len(LARGE)) // len(LARGE)):
            await out.send(bytes(len(LARGE)))
        return False

    with (
        Upstream(script) as upstream,
        short_of_space(tmp_path, upstream.url, max_memory_bytes=18 * MIB) as relay,
    ):
        answer = get(relay.url, URL)
        if length == len(LARGE):
            assert answer.body == LARGE
        else:
            assert answer.status == 503
            assert relay.status()["upstream_blob_bytes"] < 19 * MIB
            assert relay.relay.economy.blobs._ground.memory.taken_bytes == 0
        assert not partials(tmp_path)


def test_the_disk_fails_when_the_blob_is_kept(tmp_path: Path) -> None:
    """The digest was right, so those who waited get it all; it is only not kept."""
    store = MemoryStore()
    store.fails_to_keep = True
    with (
        Upstream(sender(LARGE)) as upstream,
        TestRelay(settings_for(tmp_path, upstream.url), store) as relay,
    ):
        assert fetch(relay)() == LARGE
        wait_until(lambda: relay.status()["disk_errors"] == 1)
        assert not store.kept


class BuggyStore(MemoryStore):
    """Its writer dies of a bug the first time, as no store should."""

    def __init__(self) -> None:
        super().__init__()
        self.writers = 0

    def writer(self, digest: Sha256, source: str) -> BlobWriter:
        self.writers += 1
        if self.writers == 1:
            raise RuntimeError("a bug in the store")
        return super().writer(digest, source)


def test_the_filler_dies_and_the_next_request_begins_anew(tmp_path: Path) -> None:
    with (
        Upstream(sender(LARGE)) as upstream,
        TestRelay(settings_for(tmp_path, upstream.url), BuggyStore()) as relay,
    ):
        assert get(relay.url, URL).status == 503
        assert fetch(relay)() == LARGE


class SlowStore(MemoryStore):
    """Its disk takes until the test says so to keep a blob."""

    def __init__(self) -> None:
        super().__init__()
        self.is_keeping = threading.Event()
        self.may_keep = threading.Event()

    def writer(self, digest: Sha256, source: str) -> BlobWriter:
        writer = super().writer(digest, source)
        keep = writer.commit

        def commit() -> None:
            self.is_keeping.set()
            assert self.may_keep.wait(DEADLINE)
            keep()

        writer.commit = commit  # type: ignore[method-assign]
        return writer


def test_a_relay_that_stops_lets_the_disk_finish(tmp_path: Path) -> None:
    store = SlowStore()
    with Upstream(sender(LARGE)) as upstream:
        relay = TestRelay(settings_for(tmp_path, upstream.url), store).__enter__()
        assert fetch(relay)() == LARGE
        assert store.is_keeping.wait(DEADLINE)
        stopper = threading.Thread(target=relay.stop)
        stopper.start()
        stopper.join(0.05)
        assert stopper.is_alive()
        store.may_keep.set()
        stopper.join()
        assert store.kept == {DIGEST: LARGE}


def test_fills_at_once_are_bounded(tmp_path: Path) -> None:
    with gated("bounded") as upstream, start(tmp_path, upstream.url, max_fills=1) as relay:
        first = Herd(1, fetch(relay))
        wait_until(lambda: len(upstream.asked) == 1)
        assert get(relay.url, blob_url(SMALL)).status == 503
        upstream.go("bounded")
        assert first.join().got == [LARGE]


def test_a_relay_that_stops_cuts_its_waiters_and_keeps_what_came(tmp_path: Path) -> None:
    with gated("stopped") as upstream:
        relay = start(tmp_path, upstream.url).__enter__()
        before = open_descriptors()
        herd = Herd(3, fetch(relay))
        wait_until(lambda: relay.status()["delivered_bytes"] > HALF)
        relay.stop()
        assert herd.join().cut == 3
        assert partials(tmp_path) == [LARGE[:HALF]]
        wait_until(lambda: open_descriptors() <= before)


def test_a_relay_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    contents = [LARGE + b"%d" % number for number in range(6)]
    files = {blob_url(content): content for content in contents}
    with Upstream(serving(files)) as upstream, start(tmp_path, upstream.url) as relay:
        counts: list[int] = []
        for content in contents:
            herd = Herd(4, lambda content=content: get(relay.url, blob_url(content)).body)  # type: ignore[misc]
            assert herd.join().got == [content] * 4
            wait_until(lambda: relay.status()["filling"] == 0)
            wait_until(lambda: relay.relay.server.counters.connections == 0)
            if len(counts) < 2:
                counts.append(open_descriptors())
            else:
                wait_until(lambda: open_descriptors() <= max(counts))
