"""What the cache keeps: the order of leaving against a model, and every rule of the storage."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobs.memory_store import MemoryStore
from fleetward.blobs.folder import FolderStore
from fleetward.blobs.store import PartialBlob, StoredBlob
from fleetward.config.relay import StorageSettings
from fleetward.core.digest import Sha256, sha256_of
from fleetward.errors import DiskError
from fleetward.relay.counters import RelayCounters
from fleetward.relay.eviction import Recency, Room, Storage
from fleetward.relay.settings import RelayLimits
from support.fakes import START, FakeClock

NAMES = [sha256_of(b"%d" % number) for number in range(12)]
NOW = START.timestamp()


# -- the order of leaving ----------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "touch", "remove", "victims"]),
        st.integers(0, 7),
        st.integers(0, 50),
        st.sets(st.integers(0, 7)),
    ),
    max_size=40,
)


@given(STEPS)
def test_the_longest_unused_goes_first(steps: list[tuple[str, int, int, set[int]]]) -> None:
    """Against a plain list of (name, length), oldest first."""
    recency = Recency()
    model: list[tuple[Sha256, int]] = []
    for now, (step, which, length, spared) in enumerate(steps):
        name = NAMES[which]
        known = dict(model)
        if step == "add":
            recency.add(name, length, float(now))
            model = [*((n, size) for n, size in model if n != name), (name, length)]
        elif step == "touch":
            recency.touch(name, float(now))
            if name in known:
                model = [*((n, size) for n, size in model if n != name), (name, known[name])]
        elif step == "remove":
            assert recency.remove(name) == known.get(name, 0)
            model = [(n, size) for n, size in model if n != name]
        else:
            stay = {NAMES[number] for number in spared}
            found = recency.victims(length, stay.__contains__)
            expected: list[Sha256] = []
            missing = length
            for n, size in model:
                if missing > 0 and n not in stay:
                    expected.append(n)
                    missing -= size
            assert found == expected
            assert recency.length_of(found) >= min(
                length, sum(size for n, size in model if n not in stay)
            )
        assert recency.total == sum(size for _, size in model)
        assert len(recency) == len(model)
        assert (name in recency) == (name in dict(model))


def test_a_store_is_taken_in_the_order_of_its_uses() -> None:
    recency = Recency()
    recency.load(StoredBlob(NAMES[n], 10, used) for n, used in enumerate([5.0, 1.0, 3.0]))
    assert recency.victims(30, lambda _: False) == [NAMES[1], NAMES[2], NAMES[0]]
    assert recency.unused_since(4.0, lambda _: False) == [NAMES[1], NAMES[2]]
    assert recency.unused_since(4.0, lambda one: one == NAMES[1]) == [NAMES[2]]
    assert recency.unused_since(9.0, lambda _: False, at_most=1) == [NAMES[1]]
    assert recency.victims(30, lambda _: False, at_most=2) == [NAMES[1], NAMES[2]]


def test_a_use_is_written_down_once_and_not_for_every_request() -> None:
    recency = Recency()
    recency.load([StoredBlob(NAMES[0], 1, 1000.0), StoredBlob(NAMES[1], 1, 1000.0)])
    recency.touch(NAMES[0], 1100.0)
    assert recency.unwritten(3600) == []
    recency.touch(NAMES[0], 4600.0)
    assert recency.unwritten(3600) == [(NAMES[0], 4600.0)]
    assert recency.unwritten(3600) == []
    recency.touch(NAMES[11], 9999.0)


# -- the storage -------------------------------------------------------------------------------


class Needs:
    """A closure that a test writes."""

    def __init__(self, *digests: Sha256) -> None:
        self.digests = set(digests)
        self.is_settled = True
        self.is_known = True

    def needs(self, digest: Sha256) -> bool:
        return digest in self.digests


class Rig:
    """A storage over a store in memory, whose disk has as much room as the test says."""

    def __init__(self, *, store: MemoryStore | None = None, **settings: float) -> None:
        self.store = store or MemoryStore()
        self.clock = FakeClock()
        self.counters = RelayCounters()
        self.needs = Needs()
        self.free = 1 << 40
        merged = {"quota": 100, "min_free": 0, "retention_days": 0, **settings}
        self.limits = RelayLimits(eviction_slice=3, max_partials=4)
        self.storage = Storage(
            self.store,
            StorageSettings(**merged),  # type: ignore[arg-type]
            self.limits,
            self.counters,
            clock=self.clock,
            free_space=lambda: self.free,
        )
        self.storage.protect(self.needs)

    def put(self, *names: Sha256, size: int = 10) -> None:
        for name in names:
            self.store.kept[name] = bytes(size)
            self.store.used[name] = self.clock.now().timestamp()
            self.clock.advance(timedelta(seconds=1))

    def kept(self) -> list[Sha256]:
        return [name for name in NAMES if name in self.store.kept]

    async def fill(self, name: Sha256, size: int = 10) -> Room:
        """What a fill does: reserve, write, keep."""
        room = await self.storage.reserve(name, size)
        if room is Room.KEPT:
            self.store.kept[name] = bytes(size)
            self.storage.keep(name, size)
        return room

    def play(self, story: Callable[[], Awaitable[None]]) -> None:
        """Run a story with the storage in the background, as a relay does."""

        async def main() -> None:
            part = asyncio.create_task(self.storage.run())
            await self.storage.is_ready()
            try:
                await story()
            finally:
                part.cancel()
                await asyncio.gather(part, return_exceptions=True)
            assert not self.storage._reserved
            assert not self.storage._passing

        asyncio.run(main())


def test_the_quota_is_kept_and_the_longest_unused_makes_room() -> None:
    rig = Rig(quota=50)
    rig.put(*NAMES[:5])

    async def story() -> None:
        rig.storage.touch(NAMES[0])
        assert await rig.fill(NAMES[5]) is Room.KEPT
        assert rig.kept() == [NAMES[n] for n in (0, 2, 3, 4, 5)]
        assert await rig.fill(NAMES[6], 25) is Room.KEPT
        assert rig.kept() == [NAMES[n] for n in (0, 5, 6)]
        assert (rig.counters.evicted, rig.counters.evicted_bytes) == (4, 40)
        assert rig.storage.recency.total == 45

    rig.play(story)


def test_what_the_closure_needs_is_never_evicted() -> None:
    """An old release that nobody asked for lately stays, since a host may need it tonight."""
    rig = Rig(quota=50)
    rig.put(*NAMES[:5])
    rig.needs.digests = {NAMES[0], NAMES[1], NAMES[2]}

    async def story() -> None:
        assert await rig.fill(NAMES[5], 20) is Room.KEPT
        assert rig.kept() == [NAMES[n] for n in (0, 1, 2, 5)]
        assert await rig.fill(NAMES[6], 30) is Room.PASSED_THROUGH
        assert rig.kept() == [NAMES[n] for n in (0, 1, 2, 5)]
        rig.storage.release(NAMES[6])

    rig.play(story)


def test_a_closure_larger_than_the_quota_is_passed_through() -> None:
    rig = Rig(quota=25)
    rig.needs.digests = set(NAMES[:5])

    async def story() -> None:
        rooms = [await rig.fill(name) for name in NAMES[:5]]
        assert rooms == [Room.KEPT, Room.KEPT, *[Room.PASSED_THROUGH] * 3]
        assert rig.kept() == NAMES[:2]
        for name in NAMES[2:5]:
            rig.storage.release(name)
        assert await rig.fill(NAMES[7], 1000) is Room.PASSED_THROUGH
        rig.storage.release(NAMES[7])
        assert rig.counters.evicted == 0

    rig.play(story)


def test_what_is_being_sent_or_filled_is_never_evicted() -> None:
    rig = Rig(quota=40)
    rig.put(*NAMES[:3])

    async def story() -> None:
        rig.storage.lend(NAMES[0])
        rig.storage.lend(NAMES[0])
        rig.storage.give_back(NAMES[0])
        assert await rig.storage.reserve(NAMES[5], 10) is Room.KEPT
        assert await rig.fill(NAMES[6], 10) is Room.KEPT
        assert rig.kept() == [NAMES[n] for n in (0, 2, 6)]
        assert await rig.fill(NAMES[7], 20) is Room.KEPT
        assert rig.kept() == [NAMES[n] for n in (0, 7)]
        rig.storage.give_back(NAMES[0])
        assert await rig.fill(NAMES[8], 10) is Room.KEPT
        assert rig.kept() == [NAMES[n] for n in (7, 8)]
        rig.storage.release(NAMES[5])

    rig.play(story)


def test_the_free_space_is_known_as_soon_as_the_store_is() -> None:
    """Else whatever is fetched ahead at the start would seem not to fit."""
    rig = Rig(quota=0, min_free=100)
    rig.free = 150

    async def story() -> None:
        assert rig.storage.would_keep(50)
        assert not rig.storage.would_keep(51)

    rig.play(story)


def test_uses_are_written_down_now_and_then_while_it_runs() -> None:
    """So that a kill loses an hour of them at most."""
    rig = Rig(quota=0)
    rig.put(*NAMES[:2])
    rig.storage._limits = replace(rig.limits, storage_interval=timedelta(milliseconds=1))

    async def story() -> None:
        rig.clock.advance(timedelta(hours=2))
        rig.storage.touch(NAMES[0])
        now = rig.clock.now().timestamp()
        for _ in range(5000):
            if rig.store.used[NAMES[0]] == now:
                break
            await asyncio.sleep(0.001)
        assert rig.store.used[NAMES[0]] == now
        assert rig.store.used[NAMES[1]] < now

    rig.play(story)


def test_two_blobs_that_come_at_once_do_not_count_on_the_same_room() -> None:
    rig = Rig(quota=30)

    async def story() -> None:
        rooms = await asyncio.gather(*(rig.storage.reserve(name, 20) for name in NAMES[:3]))
        assert sorted(room.value for room in rooms) == ["kept", "passed through", "passed through"]
        for name in NAMES[:3]:
            rig.storage.release(name)

    rig.play(story)


def test_a_length_that_changes_is_reserved_anew() -> None:
    rig = Rig(quota=30)

    async def story() -> None:
        assert await rig.storage.reserve(NAMES[0], 30) is Room.KEPT
        assert await rig.storage.reserve(NAMES[0], 20) is Room.KEPT
        assert await rig.storage.reserve(NAMES[1], 10) is Room.KEPT
        assert await rig.storage.reserve(NAMES[0], 21) is Room.PASSED_THROUGH
        rig.storage.release(NAMES[0])
        rig.storage.release(NAMES[1])

    rig.play(story)


def test_free_space_is_left_to_others() -> None:
    rig = Rig(quota=0, min_free=100)
    rig.put(*NAMES[:4])

    async def story() -> None:
        rig.free = 130
        assert await rig.fill(NAMES[4], 25) is Room.KEPT
        rig.free = 105
        assert await rig.fill(NAMES[5], 20) is Room.KEPT
        assert rig.kept() == [NAMES[n] for n in (2, 3, 4, 5)]
        rig.needs.digests = set(NAMES)
        assert await rig.fill(NAMES[6], 20) is Room.PASSED_THROUGH
        rig.storage.release(NAMES[6])
        assert await rig.fill(NAMES[7], 60) is Room.NONE
        assert not rig.storage.would_keep(10)
        rig.free = 200
        assert await rig.fill(NAMES[8], 20) is Room.KEPT
        assert rig.storage.would_keep(100)
        assert not rig.storage.would_keep(101)

    rig.play(story)


def test_bytes_that_have_landed_are_not_counted_twice() -> None:
    """A long fill is nearly done, so the disk is nearly full: that is no reason to evict."""
    rig = Rig(quota=0, min_free=100)
    rig.put(*NAMES[:4])

    async def story() -> None:
        rig.free = 1100
        assert await rig.storage.reserve(NAMES[5], 900) is Room.KEPT
        rig.store.left[NAMES[5], "a"] = bytes(880)
        rig.free = 220
        await rig.storage.tidy()
        assert rig.kept() == NAMES[:4]
        rig.storage.release(NAMES[5])

    rig.play(story)


def test_a_disk_that_others_fill_is_relieved() -> None:
    rig = Rig(quota=0, min_free=100)
    rig.put(*NAMES[:8])
    rig.needs.digests = {NAMES[0]}

    async def story() -> None:
        rig.free = 60
        rig.counters.evicted = 0

        def look() -> int:
            return 60 + rig.counters.evicted_bytes

        rig.storage._free_space = look
        await rig.storage.tidy()
        assert rig.kept() == [NAMES[n] for n in (0, 5, 6, 7)]

    rig.play(story)


def test_retention_by_the_last_use() -> None:
    rig = Rig(quota=0, retention_days=30)
    rig.put(*NAMES[:4])
    rig.needs.digests = {NAMES[0]}

    async def story() -> None:
        rig.clock.advance(timedelta(days=29))
        await rig.storage.tidy()
        assert len(rig.kept()) == 4
        rig.storage.touch(NAMES[1])
        rig.storage.lend(NAMES[2])
        rig.clock.advance(timedelta(days=2))
        await rig.storage.tidy()
        assert rig.kept() == NAMES[:3]
        rig.storage.give_back(NAMES[2])
        await rig.storage.tidy()
        assert rig.kept() == NAMES[:2]

    rig.play(story)


def test_retention_waits_until_it_is_known_what_is_needed() -> None:
    """The upstream is dead and the metadata is lost: nothing is removed for its age."""
    rig = Rig(quota=0, retention_days=1)
    rig.put(*NAMES[:2])
    rig.needs.is_known = False

    async def story() -> None:
        rig.clock.advance(timedelta(days=100))
        await rig.storage.tidy()
        assert len(rig.kept()) == 2
        rig.needs.is_known = True
        await rig.storage.tidy()
        assert rig.kept() == []

    rig.play(story)


def test_a_quota_that_was_lowered_holds_after_a_restart_in_the_order_of_use() -> None:
    """Not before the closure was looked for, and then in slices, with fills in between."""
    store = MemoryStore()
    before = Rig(store=store, quota=200)
    before.put(*NAMES[:10])

    async def uses() -> None:
        before.clock.advance(timedelta(hours=2))
        for n in (3, 0):
            before.storage.touch(NAMES[n])
            before.clock.advance(timedelta(minutes=1))

    before.play(uses)
    after = Rig(store=store, quota=35)
    after.clock.advance(timedelta(days=1))
    after.needs.is_settled = False

    async def story() -> None:
        await after.storage.tidy()
        assert len(after.kept()) == 10
        after.needs.is_settled = True
        after.needs.digests = {NAMES[1]}
        await after.storage.tidy()
        assert after.kept() == [NAMES[n] for n in (0, 1, 3)]
        assert after.counters.evicted == 7

    after.play(story)


def test_the_uses_survive_a_restart_on_the_disk(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    digests = []
    for number in range(3):
        content = b"%d" % number
        digest = sha256_of(content)
        writer = store.writer(digest, "a")
        writer.write(content)
        writer.commit()
        writer.close()
        store.touch(digest, NOW - 1000 + number)
        digests.append(digest)
    clock = FakeClock()

    def storage() -> Storage:
        return Storage(
            FolderStore(tmp_path),
            StorageSettings(),
            RelayLimits(),
            RelayCounters(),
            clock=clock,
            free_space=lambda: 1 << 40,
        )

    async def main() -> list[Sha256]:
        first = storage()
        part = asyncio.create_task(first.run())
        await first.is_ready()
        first.touch(digests[0])
        part.cancel()
        await asyncio.gather(part, return_exceptions=True)
        second = storage()
        part = asyncio.create_task(second.run())
        await second.is_ready()
        part.cancel()
        return second.recency.victims(100, lambda _: False)

    assert asyncio.run(main()) == [digests[1], digests[2], digests[0]]


# -- beginnings of blobs -----------------------------------------------------------------------


class DatedStore(MemoryStore):
    """Its partials have the times that a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.dates: dict[Sha256, float] = {}

    def partials(self) -> Iterator[PartialBlob]:
        for one in super().partials():
            yield PartialBlob(one.digest, one.name, one.length, self.dates.get(one.digest, NOW))

    def leave(self, name: Sha256, size: int, used: float) -> None:
        self.left[name, "a"] = bytes(size)
        self.dates[name] = used


def test_beginnings_of_blobs_count_and_go_before_whole_ones() -> None:
    store = DatedStore()
    rig = Rig(store=store, quota=60)
    rig.put(*NAMES[:3])
    store.leave(NAMES[8], 10, NOW)
    store.leave(NAMES[9], 20, NOW - 10)

    async def story() -> None:
        await rig.storage.tidy()
        assert rig.storage.status()["storage"]["partial_bytes"] == 30  # type: ignore[index]
        assert await rig.fill(NAMES[5], 20) is Room.KEPT
        assert {name for name, _ in store.left} == {NAMES[8]}
        assert len(rig.kept()) == 4

    rig.play(story)


def test_beginnings_of_blobs_do_not_wait_for_ever_and_are_not_too_many() -> None:
    store = DatedStore()
    rig = Rig(store=store, quota=0)

    async def story() -> None:
        await rig.storage.begin(NAMES[1])
        store.leave(NAMES[0], 1, NOW - 2 * 86_400)
        store.leave(NAMES[1], 1, NOW - 2 * 86_400)
        for number in range(2, 9):
            store.leave(NAMES[number], 1, NOW - 100 + number)
        await rig.storage.tidy()
        assert {name for name, _ in store.left} == {NAMES[1], *NAMES[5:9]}
        assert await rig.storage.reserve(NAMES[1], 5) is Room.KEPT
        rig.storage.end(NAMES[1])
        await rig.storage.tidy()
        assert {name for name, _ in store.left} == set(NAMES[5:9])

    rig.play(story)


# -- the disk fails, the folder is big ---------------------------------------------------------


class FailingStore(MemoryStore):
    def remove(self, digest: Sha256) -> None:
        raise DiskError("cannot remove")

    def remove_partial(self, partial: PartialBlob) -> None:
        raise DiskError("cannot remove")


def test_a_disk_that_fails_to_remove_is_counted_and_stops_nothing() -> None:
    rig = Rig(store=FailingStore(), quota=20)
    rig.put(*NAMES[:2])
    rig.store.left[NAMES[9], "a"] = bytes(50)

    async def story() -> None:
        assert await rig.fill(NAMES[2]) is Room.KEPT
        assert rig.counters.disk_errors >= 2

        def broken() -> int:
            raise OSError("statvfs")

        rig.storage._free_space = broken
        assert await rig.fill(NAMES[3]) is Room.KEPT

    rig.play(story)


def test_a_store_that_cannot_be_listed_is_taken_as_far_as_it_could() -> None:
    class Unlistable(MemoryStore):
        def blobs(self) -> Iterator[StoredBlob]:
            yield StoredBlob(NAMES[0], 1)
            yield StoredBlob(NAMES[1], 1)
            yield StoredBlob(NAMES[2], 1)
            raise PermissionError("scandir")

    rig = Rig(store=Unlistable())

    async def story() -> None:
        assert len(rig.storage.recency) == 3
        assert rig.counters.disk_errors == 1

    rig.play(story)


def test_a_big_folder_is_read_and_cut_in_slices_by_threads() -> None:
    """Whoever is served meanwhile waits for no more than a slice."""

    class Many(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.kept = {Sha256(f"{n:064x}"): b"x" for n in range(20_000)}
            self.threads: set[int] = set()

        def remove(self, digest: Sha256) -> None:
            self.threads.add(threading.get_ident())
            super().remove(digest)

    store = Many()
    counters = RelayCounters()

    async def main() -> list[int]:
        storage = Storage(
            store,
            StorageSettings(quota=2_000, min_free=0, retention_days=0),
            RelayLimits(eviction_slice=100),
            counters,
            clock=FakeClock(),
            free_space=lambda: 1 << 40,
        )
        storage.protect(Needs())
        part = asyncio.create_task(storage.run())
        left = []
        while len(store.kept) > 2_000:
            await asyncio.sleep(0.0001)
            left.append(len(store.kept))
        part.cancel()
        await asyncio.gather(part, return_exceptions=True)
        return left

    left = asyncio.run(main())
    assert counters.evicted == 18_000
    assert threading.get_ident() not in store.threads
    assert len(set(left)) > 20, "the loop had its turn between the slices"


@pytest.mark.parametrize("quota", [0, 100])
def test_the_status_and_the_metrics_tell_the_same(quota: int) -> None:
    rig = Rig(quota=quota)
    rig.put(NAMES[0], size=7)

    async def story() -> None:
        told = rig.storage.status()["storage"]
        assert isinstance(told, dict)
        metrics = {one.name: one.value for one in rig.storage.metrics()}
        assert told["blobs"] == metrics["storage_blobs"] == 1
        assert told["bytes"] == metrics["storage_bytes"] == 7
        assert metrics["storage_quota_bytes"] == quota
        assert not rig.storage.routes()

    rig.play(story)
