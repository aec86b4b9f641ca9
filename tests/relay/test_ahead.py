"""Fills ahead of any client, and documents for the relay itself: what each may meet."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from blobs.memory_store import MemoryStore
from fleetward.blobs.store import BlobWriter
from fleetward.core.digest import Sha256, sha256_of
from fleetward.errors import DigestError, NetworkError, NotFoundError
from fleetward.httpd.message import FileBody, Request, Response
from fleetward.relay.server import Relay
from fleetward.wire.hints import DocumentHint
from fleetward.wire.layout import RepositoryPath, parse_repository_path
from httpd.sample_repository import LARGE, SMALL, blob_url, digest_in
from httpd.upstreams import Asked, Out, Upstream, part_head, serving
from relay.relays import settings_for
from relay.test_limits import NOT_AHEAD, settings

URL = blob_url(LARGE)
DIGEST = digest_in(URL)
Result = TypeVar("Result")


def path_of(url: str) -> RepositoryPath:
    path = parse_repository_path(url[1:])
    assert path is not None
    return path


def inside(relay_of: Callable[[], Relay], story: Callable[[Relay], Awaitable[Result]]) -> Result:
    """Run a story in the loop of a relay that listens to nobody."""

    async def main() -> Result:
        relay = relay_of()
        parts = [asyncio.create_task(part.run()) for part in relay.economy.parts()]
        try:
            async with asyncio.timeout(10):
                return await story(relay)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            await relay.handler.stop()
            await relay.sources.close()

    return asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds; `inside` bounds it."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0.0005)


async def get_blob(relay: Relay, url: str = URL) -> Response:
    answer = relay.handler.answer(Request("GET", url, "", {}, peer="192.0.2.1"))
    response = answer if isinstance(answer, Response) else await answer  # type: ignore[misc]
    assert isinstance(response, Response)
    return response


# -- blobs -------------------------------------------------------------------------------------


def test_a_client_that_comes_as_the_fill_gives_way_gets_its_blob(tmp_path: Path) -> None:
    """Between the decision and the end of the task somebody asks: the fill begins anew for him."""

    async def script(asked: Asked, out: Out) -> bool:
        if not asked.start:
            await out.send(part_head(LARGE, 0), LARGE[:300_000])
            await upstream.event("never").wait()
        await out.send(part_head(LARGE, asked.start), LARGE[asked.start :])
        return True

    async def story(relay: Relay) -> None:
        blobs = relay.economy.blobs
        ahead = asyncio.create_task(blobs.fill_ahead(DIGEST))
        await until(lambda: DIGEST in blobs._fills and blobs._fills[DIGEST].available > 200_000)
        fill = blobs._fills[DIGEST]
        fill.length = None
        fill._give_way()
        response = await get_blob(relay)
        assert response.status == 200
        assert await ahead is False
        assert isinstance(response.body, FileBody)
        assert response.body.growth is not None
        await response.body.growth.beyond(len(LARGE) - 1)
        response.discard()
        assert blobs.filling <= 1

    with Upstream(script) as upstream:
        inside(lambda: Relay(settings(tmp_path, upstream.url)), story)
        assert [asked.start for asked in upstream.asked] == [0, 300_000]


def test_what_a_fill_ahead_may_meet(tmp_path: Path) -> None:
    """Absent, altered, without room, and already there; each is told to who asked for it."""
    altered = b"!" + SMALL[1:]
    files = {blob_url(SMALL): altered, URL: LARGE}

    async def story(relay: Relay) -> None:
        blobs = relay.economy.blobs
        with pytest.raises(NotFoundError):
            await blobs.fill_ahead(sha256_of(b"absent"))
        with pytest.raises(DigestError):
            await blobs.fill_ahead(digest_in(blob_url(SMALL)))
        storage = relay.economy.storage
        storage._settings = replace(NOT_AHEAD, quota=1000)
        with pytest.raises(Exception, match="no room"):
            await blobs.fill_ahead(DIGEST)
        storage._settings = NOT_AHEAD
        before = relay.counters.fills
        relay.sources._sources[0]._false_until = 0.0
        assert await blobs.fill_ahead(DIGEST)
        assert await blobs.fill_ahead(DIGEST)
        assert relay.counters.fills == before + 1

    with Upstream(serving(files)) as upstream:
        inside(lambda: Relay(settings(tmp_path, upstream.url)), story)


def test_a_fill_ahead_waits_while_there_are_too_many(tmp_path: Path) -> None:
    async def story(relay: Relay) -> None:
        assert await relay.economy.blobs.fill_ahead(DIGEST) is False

    inside(lambda: Relay(settings(tmp_path, "http://127.0.0.1:9", max_fills=0)), story)


class BuggyStore(MemoryStore):
    def writer(self, digest: Sha256, source: str) -> BlobWriter:
        raise RuntimeError("a bug in the store")


def test_a_bug_in_the_store_ends_one_fill_ahead_and_not_the_relay(tmp_path: Path) -> None:
    async def story(relay: Relay) -> None:
        with pytest.raises(NetworkError, match="ended"):
            await relay.economy.blobs.fill_ahead(DIGEST)

    with Upstream(serving({URL: LARGE})) as upstream:
        inside(lambda: Relay(settings(tmp_path, upstream.url), store=BuggyStore()), story)


def test_a_fill_ahead_that_is_given_up_stops_unless_somebody_waits(tmp_path: Path) -> None:
    async def script(asked: Asked, out: Out) -> bool:
        await out.send(part_head(LARGE, asked.start), LARGE[asked.start : 300_000])
        await upstream.event("go").wait()
        await out.send(LARGE[300_000:])
        return True

    async def story(relay: Relay) -> None:
        blobs = relay.economy.blobs
        for is_wanted in (False, True):
            ahead = asyncio.create_task(blobs.fill_ahead(DIGEST))
            await until(lambda: DIGEST in blobs._fills and blobs._fills[DIGEST].length is not None)
            fill = blobs._fills[DIGEST]
            if is_wanted:
                (await get_blob(relay)).discard()
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
            await asyncio.sleep(0)
            assert (not fill.is_over) is is_wanted
            if not is_wanted:
                await until(lambda: not blobs._fills)
        upstream.go("go")
        await until(lambda: relay.counters.filled == 1)

    with Upstream(script) as upstream:
        inside(lambda: Relay(settings(tmp_path, upstream.url)), story)


# -- documents ---------------------------------------------------------------------------------

NAME = "metadata/3.snapshot.json"


def hint(content: bytes | None) -> DocumentHint:
    path = parse_repository_path(NAME)
    assert path is not None
    return DocumentHint(path, digest=None if content is None else sha256_of(content))


def test_a_kept_document_that_is_not_the_one_that_is_named_is_asked_for_again(
    tmp_path: Path,
) -> None:
    """A relay cannot verify metadata; where a hint tells its digest, a wrong copy is healed."""
    files = {f"/{NAME}": b"right"}

    async def story(relay: Relay) -> None:
        load = relay.economy.closure._load
        (tmp_path / "metadata").mkdir(exist_ok=True)
        (tmp_path / NAME).write_bytes(b"wrong")
        assert await load(hint(None)) == b"wrong"
        assert not upstream.asked
        assert await load(hint(b"right")) == b"right"
        assert (tmp_path / NAME).read_bytes() == b"right"
        assert await load(hint(b"right")) == b"right"
        assert len(upstream.asked) == 1
        with pytest.raises(DigestError):
            await load(hint(b"another"))
        del files[f"/{NAME}"]
        with pytest.raises(NotFoundError):
            await load(hint(b"another"))

    with Upstream(serving(files)) as upstream:
        inside(lambda: Relay(settings_for(tmp_path, upstream.url)), story)
