"""What a timestamp leads to: as an origin signs it, incomplete, hostile, and while it changes."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleetward.adapters.disk import SystemDisk
from fleetward.core.digest import sha256_of
from fleetward.core.documents import Channel, Manifest, Pack
from fleetward.core.names import ProductName
from fleetward.errors import DigestError, DiskError, NetworkError, NotFoundError
from fleetward.relay.closure import Closure, ClosurePart, Use
from fleetward.relay.documents import DocumentShelf
from fleetward.relay.news import News
from fleetward.relay.settings import RelayLimits
from fleetward.wire.documents import encode
from fleetward.wire.hints import DocumentHint
from support.samples import CHANNEL, delta, manifest, ref

EARLIER = manifest(1, pack=90_000)
OLDEST = manifest(7, pack=80_000)
CURRENT = manifest(2, delta(1, 2, 500), delta(0, 2, 900), delta(1, 2, 400, codec="whole"))


class Shop:
    """A repository's metadata as an upstream would send it: unsigned, since nobody looks."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.version = 0
        self.failures: dict[str, Exception] = {}
        self.gate: asyncio.Event | None = None
        self.most_at_once = 0
        self._at_once = 0

    def _meta(self, role: str, document: dict[str, Any], version: int) -> dict[str, Any]:
        kind = role if role in {"snapshot", "timestamp"} else "targets"
        content = json.dumps(
            {"signatures": [], "signed": {"_type": kind, "version": version, **document}}
        ).encode()
        self.files[f"metadata/{version}.{role}.json"] = content
        return {"version": version, "hashes": {"sha256": sha256_of(content)}}

    def _target(self, name: str, content: bytes) -> dict[str, Any]:
        digest = sha256_of(content)
        folder, _, last = name.rpartition("/")
        self.files[f"targets/{folder}/{digest}.{last}"] = content
        return {name: {"length": len(content), "hashes": {"sha256": digest}}}

    def publish(self, *channels: Channel, manifests: tuple[Manifest, ...] = ()) -> bytes:
        """Publish channels, and return the timestamp."""
        self.version += 1
        targets: dict[str, Any] = {}
        for channel in channels:
            targets |= self._target(
                f"channels/{channel.product}/{channel.channel}.json", encode(channel)
            )
        for one in manifests:
            self._target(f"releases/{one.product}/{one.release}.json", encode(one))
        floor = self._target("releases/yara/floor.json", b"{}")
        roles = [{"name": "channels"}, {"name": "releases-yara"}, {"name": "not-in-snapshot"}]
        delegations = {"roles": roles}
        meta = {
            "channels.json": self._meta("channels", {"targets": targets}, self.version),
            "releases-yara.json": self._meta("releases-yara", {"targets": floor}, self.version),
            "targets.json": self._meta(
                "targets", {"targets": {}, "delegations": delegations}, self.version
            ),
            "stray.json": {"version": 9},
        }
        snapshot = self._meta("snapshot", {"meta": meta}, self.version)
        return self.stamp(snapshot)

    def stamp(self, snapshot: dict[str, Any], version: int = 0) -> bytes:
        signed = {
            "_type": "timestamp",
            "version": version or self.version,
            "meta": {"snapshot.json": snapshot},
        }
        return json.dumps({"signatures": [], "signed": signed}).encode()

    async def asked_for(self, count: int) -> None:
        """Return once so many documents were asked for."""
        for _ in range(1000):
            if len(self.asked) >= count:
                return
            await asyncio.sleep(0)

    async def load(self, hint: DocumentHint) -> bytes:
        """As `DocumentCache.load`."""
        path = hint.path.path
        self.asked.append(path)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await (self.gate.wait() if self.gate else asyncio.sleep(0))
        finally:
            self._at_once -= 1
        if path in self.failures:
            raise self.failures[path]
        if path not in self.files:
            raise NotFoundError(path)
        content = self.files[path]
        if hint.digest is not None and sha256_of(content) != hint.digest:
            raise DigestError(path)
        return content


def pointing(current: Manifest, previous: Manifest | None = None, **changes: Any) -> Channel:  # noqa: ANN401
    def told(one: Manifest) -> Any:  # noqa: ANN401
        return replace(ref(one), manifest=sha256_of(encode(one)))

    return replace(
        CHANNEL,
        product=current.product,
        release=told(current),
        previous=told(previous) if previous else None,
        **changes,
    )


class Rig:
    """The part over a shop, following what `news` tells."""

    def __init__(self, folder: Path, shop: Shop, **limits: Any) -> None:  # noqa: ANN401
        self.shop = shop
        self.news = News()
        self.shelf = DocumentShelf(SystemDisk(), folder, 1 << 20)
        self._ended = asyncio.Event()
        self.oldest = 0.0
        self.limits = replace(
            RelayLimits(closure_retry=timedelta(milliseconds=5)),
            **limits,
        )

    def play(self, story: Callable[[ClosurePart], Awaitable[None]]) -> None:
        async def main() -> None:
            part = ClosurePart(
                self.news, self.shop.load, self.shelf, self.limits, oldest=lambda: self.oldest
            )
            part.subscribe(self._ended.set)
            task = asyncio.create_task(part.run())
            try:
                async with asyncio.timeout(10):
                    await story(part)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        asyncio.run(main())

    async def attempt(self) -> None:
        """Return once another attempt has ended."""
        self._ended.clear()
        await self._ended.wait()


def current_of(part: ClosurePart) -> Closure:
    assert part.current is not None
    return part.current


def test_a_timestamp_leads_to_all_that_its_channels_point_at(tmp_path: Path) -> None:
    shop = Shop()
    stamp = shop.publish(pointing(CURRENT, EARLIER), manifests=(CURRENT, EARLIER))
    rig = Rig(tmp_path, shop)

    async def story(part: ClosurePart) -> None:
        await asyncio.sleep(0)
        assert part.is_settled
        assert not part.is_known
        rig.news.publish(stamp)
        await rig.attempt()
        closure = current_of(part)
        assert closure.version == 1
        uses = {blob.length: blob.use for blob in closure.blobs.values()}
        assert uses == {
            500: Use.DELTA_FROM_PREVIOUS,
            400: Use.NEXT_STEP,
            900: Use.DELTA,
            100_000: Use.PACK,
            90_000: Use.OF_PREVIOUS,
        }
        assert closure.total == sum(uses)
        assert [blob.length for blob in closure.in_order()] == [400, 500, 900, 100_000]
        assert [blob.length for blob in closure.in_order(last=Use.NEXT_STEP)] == [400]
        assert closure.in_order(["yara"]) == closure.in_order()
        assert closure.in_order(["sigma"]) == []
        assert (
            closure.documents
            == {path for path in shop.files if "timestamp" not in path}
            == set(shop.asked)
        )
        assert part.needs(CURRENT.pack.sha256)
        assert part.needs(EARLIER.pack.sha256)
        assert not part.needs(sha256_of(b"else"))
        assert part.status()["closure"] == {
            "version": 1,
            "blobs": 5,
            "bytes": closure.total,
            "documents": 8,
            "is_complete": True,
            "problem": "",
        }
        assert {one.name: one.value for one in part.metrics()}["closure_complete"] == 1
        assert part.routes() == ()

    rig.play(story)


def test_the_next_step_of_a_first_release_is_its_pack(tmp_path: Path) -> None:
    """And where the previous release has no delta, nothing is sure to be wanted by most."""
    far = manifest(5, delta(3, 5, 10), pack=70_000)
    shop = Shop()
    stamps = [
        shop.publish(pointing(EARLIER), manifests=(EARLIER,)),
        shop.publish(pointing(far, EARLIER), manifests=(far, EARLIER)),
    ]
    rig = Rig(tmp_path, shop)

    async def story(part: ClosurePart) -> None:
        found = []
        for stamp in stamps:
            rig.news.publish(stamp)
            await rig.attempt()
            found.append([b.length for b in current_of(part).in_order(last=Use.NEXT_STEP)])
        assert found == [[90_000], []]

    rig.play(story)


def test_a_timestamp_that_was_only_renewed_asks_for_nothing(tmp_path: Path) -> None:
    shop = Shop()
    stamp = shop.publish(pointing(CURRENT), manifests=(CURRENT,))
    snapshot = json.loads(stamp)["signed"]["meta"]["snapshot.json"]
    rig = Rig(tmp_path, shop)
    rig.news.publish(stamp)

    async def story(part: ClosurePart) -> None:
        assert not part.is_settled
        await rig.attempt()
        blobs, asked = current_of(part).blobs, len(shop.asked)
        rig.news.publish(shop.stamp(snapshot, version=8))
        await rig.attempt()
        assert current_of(part).version == 8
        assert current_of(part).blobs is blobs
        assert len(shop.asked) == asked

    rig.play(story)


def test_the_old_closure_stays_protected_until_the_new_one_is_complete(tmp_path: Path) -> None:
    """The upstream publishes and its line breaks: what hosts run today is not evicted."""
    shop = Shop()
    first = shop.publish(pointing(EARLIER), manifests=(EARLIER,))
    later = manifest(3, pack=1)
    second = shop.publish(pointing(CURRENT), manifests=(later, CURRENT))
    rig = Rig(tmp_path, shop)

    async def story(part: ClosurePart) -> None:
        rig.news.publish(first)
        await rig.attempt()
        path = next(path for path in shop.files if path.endswith("r2.json"))
        shop.failures[path] = NetworkError("the line is dead")
        rig.news.publish(second)
        await rig.attempt()
        assert current_of(part).version == 1
        assert part.needs(EARLIER.pack.sha256)
        assert "dead" in str(part.status())
        await rig.attempt()
        shop.failures[path] = NotFoundError("gone")
        await rig.attempt()
        assert current_of(part).version == 2
        assert len(current_of(part).problems) == 1
        assert part.needs(EARLIER.pack.sha256)
        assert not part.needs(CURRENT.pack.sha256)
        del shop.failures[path]
        while current_of(part).problems:
            await rig.attempt()
        assert part.needs(CURRENT.pack.sha256)
        assert not part.needs(EARLIER.pack.sha256)

    rig.play(story)


def test_what_is_found_on_the_way_is_protected_at_once(tmp_path: Path) -> None:
    shop = Shop()
    stamp = shop.publish(pointing(CURRENT, EARLIER), manifests=(CURRENT, EARLIER))
    path = next(path for path in shop.files if path.endswith("r1.json"))
    rig = Rig(tmp_path, shop)

    async def story(part: ClosurePart) -> None:
        shop.failures[path] = NetworkError("the line is dead")
        rig.news.publish(stamp)
        while not part.needs(CURRENT.pack.sha256):
            await rig.attempt()
        assert not part.is_known

    rig.play(story)


def test_a_newer_timestamp_ends_the_walk_from_the_older(tmp_path: Path) -> None:
    shop = Shop()
    first = shop.publish(pointing(EARLIER), manifests=(EARLIER,))
    second = shop.publish(pointing(CURRENT), manifests=(CURRENT,))
    rig = Rig(tmp_path, shop)

    async def story(part: ClosurePart) -> None:
        shop.gate = asyncio.Event()
        rig.news.publish(first)
        await shop.asked_for(1)
        rig.news.publish(second)
        await shop.asked_for(2)
        shop.gate.set()
        while part.current is None:
            await rig.attempt()
        assert current_of(part).version == 2
        assert shop.asked.count("metadata/1.snapshot.json") == 1
        assert "metadata/1.targets.json" not in shop.asked

    rig.play(story)


def test_one_broken_product_takes_no_other_with_it(tmp_path: Path) -> None:
    """A document of one product is malformed, another's swapped; the third is whole."""
    broken = pointing(replace(CURRENT, product=ProductName("broken")))
    swapped = pointing(replace(CURRENT, product=ProductName("swapped")))
    shop = Shop()
    stamp = shop.publish(pointing(CURRENT), broken, swapped, manifests=(CURRENT,))
    rig = Rig(tmp_path, shop)
    other = encode(replace(EARLIER, product=ProductName("swapped")))
    shop.files[f"targets/releases/swapped/{swapped.release.manifest}.r2.json"] = other

    async def story(part: ClosurePart) -> None:
        rig.news.publish(stamp)
        await rig.attempt()
        closure = current_of(part)
        assert {blob.product for blob in closure.blobs.values()} == {"yara"}
        assert len(closure.problems) == 2

    rig.play(story)


@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"\xff", b"[" * 1000])
def test_a_timestamp_that_is_none_changes_nothing(tmp_path: Path, content: bytes) -> None:
    shop = Shop()
    stamp = shop.publish(pointing(CURRENT), manifests=(CURRENT,))
    rig = Rig(tmp_path, shop)

    async def story(part: ClosurePart) -> None:
        rig.news.publish(stamp)
        await rig.attempt()
        rig.news.publish(content or b" ")
        await rig.attempt()
        assert current_of(part).version == 1
        assert part.needs(CURRENT.pack.sha256)

    rig.play(story)


@pytest.mark.parametrize(
    ("limits", "asked"),
    [
        ({"max_closure_documents": 0}, 0),
        ({"max_closure_documents": 3}, 3),
        ({"max_closure_bytes": 300}, 1),
        ({"max_closure_blobs": 2}, 8),
    ],
)
def test_a_lying_upstream_wastes_no_more_than_the_limits(
    tmp_path: Path, limits: dict[str, int], asked: int
) -> None:
    """It publishes a tree without end; the relay stops, and keeps what it knew before."""
    shop = Shop()
    before = shop.publish(pointing(OLDEST), manifests=(OLDEST,))
    stamp = shop.publish(pointing(CURRENT, EARLIER), manifests=(CURRENT, EARLIER))
    rig = Rig(tmp_path, shop, closure_retry=timedelta(hours=1))

    async def story(part: ClosurePart) -> None:
        rig.news.publish(before)
        await rig.attempt()
        part._limits = replace(rig.limits, **limits)  # type: ignore[arg-type]
        assert current_of(part).version == 1
        rig.shop.asked.clear()
        rig.news.publish(stamp)
        await rig.attempt()
        assert current_of(part).version == 1
        assert part.needs(OLDEST.pack.sha256)
        assert not part.needs(CURRENT.pack.sha256)
        assert len(shop.asked) <= asked
        assert "too many" in str(part.status())

    rig.play(story)


def test_requests_for_the_closure_are_few_at_once(tmp_path: Path) -> None:
    products = [ProductName(f"p{number}") for number in range(30)]
    manifests = tuple(
        replace(
            CURRENT,
            product=name,
            pack=Pack(codec="zstd", sha256=sha256_of(name.encode()), length=1),
            deltas=(),
        )
        for name in products
    )
    shop = Shop()
    stamp = shop.publish(*(pointing(one) for one in manifests), manifests=manifests)
    rig = Rig(tmp_path, shop, closure_requests=3)

    async def story(part: ClosurePart) -> None:
        rig.news.publish(stamp)
        await rig.attempt()
        assert len(current_of(part).blobs) == 30
        assert shop.most_at_once == 3

    rig.play(story)


def test_two_roles_that_delegate_to_each_other(tmp_path: Path) -> None:
    shop = Shop()
    shop.version = 1
    loop = {"delegations": {"roles": [{"name": "targets"}, {"name": "a"}, {"name": "a"}]}}
    meta = {
        "targets.json": shop._meta("targets", {"targets": {}, **loop}, 1),
        "a.json": shop._meta("a", {"targets": {}, **loop}, 1),
    }
    stamp = shop.stamp(shop._meta("snapshot", {"meta": meta}, 1))
    rig = Rig(tmp_path, shop)

    async def story(part: ClosurePart) -> None:
        rig.news.publish(stamp)
        await rig.attempt()
        assert len(shop.asked) == 3
        assert current_of(part).problems == ()

    rig.play(story)


def test_a_chain_of_roles_without_end_cannot_end_the_relay(tmp_path: Path) -> None:
    """Somebody on the way forges 3,000 roles, each below the one before, then another timestamp.

    The walk down is one task in another; to cancel so many at once would exceed Python's stack, and
    the error would leave the part, which ends the relay.
    """
    shop = Shop()
    shop.version = 1
    meta = {}
    for number in range(3000):
        role = f"r{number}" if number else "targets"
        below = {"delegations": {"roles": [{"name": f"r{number + 1}"}]}}
        meta[f"{role}.json"] = shop._meta(role, {"targets": {}, **below}, 1)
    chain = shop.stamp(shop._meta("snapshot", {"meta": meta}, 1))
    after = shop.publish(pointing(CURRENT, EARLIER), manifests=(CURRENT, EARLIER))
    rig = Rig(tmp_path, shop, closure_retry=timedelta(hours=1))

    async def story(part: ClosurePart) -> None:
        rig.news.publish(chain)
        await rig.attempt()
        assert "each below another" in str(part.status())
        assert len(shop.asked) < 50
        rig.news.publish(after)
        await rig.attempt()
        assert current_of(part).version == 2

    rig.play(story)


def test_documents_that_nothing_leads_to_are_removed_in_time(tmp_path: Path) -> None:
    shop = Shop()
    stamp = shop.publish(pointing(CURRENT), manifests=(CURRENT,))
    rig = Rig(tmp_path, shop)
    for path, content in shop.files.items():
        rig.shelf.keep(path, content)
    others = ["metadata/9.snapshot.json", "metadata/1.root.json", "metadata/timestamp.json"]
    for path in others:
        rig.shelf.keep(path, b"old")

    async def story(part: ClosurePart) -> None:
        rig.news.publish(stamp)
        await rig.attempt()
        assert all(rig.shelf.read(path) for path in (*others, *shop.files))
        rig.oldest = 4_000_000_000.0
        rig.news.publish(stamp + b" ")
        await rig.attempt()
        assert [rig.shelf.read(path) for path in others] == [None, b"old", b"old"]
        assert all(rig.shelf.read(path) for path in shop.files)
        assert rig.shelf.total == sum(map(len, shop.files.values())) + 6

    rig.play(story)


def test_a_failing_disk_is_told_and_tried_again(tmp_path: Path) -> None:
    shop = Shop()
    stamp = shop.publish(pointing(CURRENT), manifests=(CURRENT,))
    shop.failures["metadata/1.targets.json"] = DiskError("cannot read")
    rig = Rig(tmp_path, shop)

    async def story(part: ClosurePart) -> None:
        rig.news.publish(stamp)
        await rig.attempt()
        assert "cannot read" in str(part.status())
        shop.failures.clear()
        await rig.attempt()
        assert part.is_known

    rig.play(story)
