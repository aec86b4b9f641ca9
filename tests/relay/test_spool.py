"""The spool: nothing that was promised is lost, nobody takes the room of others."""

import random
import zlib
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.adapters.disk import SystemDisk
from fleetward.config.relay import SpoolSettings
from fleetward.core.limits import MIB, STATUS
from fleetward.core.status import HostId
from fleetward.errors import DiskError, DocumentError
from fleetward.relay.segments import Record, Way, encode_record, read_records
from fleetward.relay.settings import CarryLimits
from fleetward.relay.shares import Fate
from fleetward.relay.spool import Position, Spool
from fleetward.wire.checkins import Carried
from relay.spools import ALL, FOLDER, LIMITS, SETTINGS, drained, number_of, opened, record
from support.fakes import FakeClock
from support.simdisk import Aftermath, PowerLossError, SimDisk

LARGE = STATUS.envelope_bytes


def test_check_ins_leave_in_the_order_in_which_they_came() -> None:
    spool = opened()
    for number in range(40):
        assert spool.append([record(number, host=number % 3)]) == [Fate.KEPT]
    assert spool.waiting == 40
    assert drained(spool) == list(range(40))
    assert (spool.waiting, spool.waiting_bytes, spool.summary()["hosts"]) == (0, 0, 0)


def test_a_taken_check_in_stays_until_it_is_removed() -> None:
    spool = opened()
    spool.append([record(1), record(2)])
    assert spool.take(1, ALL) == spool.take(1, ALL)
    assert drained(spool) == [1, 2]
    assert spool.take(1, ALL) is None


def test_a_restart_takes_up_what_waits() -> None:
    disk = SimDisk()
    first = opened(disk)
    first.append([record(number) for number in range(20)])
    taken = first.take(7, ALL)
    assert taken
    first.remove(taken)
    first.close()
    again = opened(disk)
    assert again.waiting == 13
    assert again.append([record(99)]) == [Fate.KEPT]
    assert drained(again) == [*range(7, 20), 99]


def test_segments_that_are_done_are_removed() -> None:
    disk = SimDisk()
    spool = opened(disk)
    for number in range(100):
        spool.append([record(number)])
    assert len(disk.listing(FOLDER)) > 10
    drained(spool)
    assert disk.listing(FOLDER) == ["cursor.json"]


def test_a_short_segment_is_written_on_after_it_was_read() -> None:
    disk = SimDisk()
    spool = opened(disk, limits=CarryLimits())
    spool.append([record(1, length=20)])
    assert drained(spool) == [1]
    spool.append([record(2, length=20)])
    assert drained(spool) == [2]
    assert disk.listing(FOLDER) == ["000000000001.segment", "cursor.json"]


def test_what_was_appended_while_a_batch_was_on_its_way_is_not_lost() -> None:
    """The segment grows and ends between a batch's reading and its removal."""
    spool = opened()
    spool.append([record(0)])
    taken = spool.take(10, ALL)
    for number in range(1, 30):
        spool.append([record(number)])
    assert taken
    spool.remove(taken)
    assert drained(spool) == list(range(1, 30))


def test_the_batch_is_bounded_in_bytes_too() -> None:
    spool = opened(limits=CarryLimits())
    spool.append([record(number, length=1000) for number in range(4)])
    assert len((spool.take(10, 2100) or pytest.fail("nothing")).records) == 2
    assert len((spool.take(10, 10) or pytest.fail("nothing")).records) == 1


def test_numbers_of_segments_are_never_used_again() -> None:
    """Else a cursor that was written before would pass over new check-ins."""
    disk = SimDisk()
    for turn in range(5):
        spool = opened(disk)
        spool.append([record(turn * 10 + number) for number in range(10)])
        assert drained(spool) == [turn * 10 + number for number in range(10)]
        spool.close()


# -- shares ----------------------------------------------------------------------------------


def flood(spool: Spool, **more: object) -> tuple[int, Fate]:
    """Append large check-ins until one is refused; return how many were kept, and why not more."""
    for number in range(1000):
        fate = spool.append([record(number, length=60_000, **more)])[0]  # type: ignore[arg-type]
        if fate is not Fate.KEPT:
            return number, fate
    return pytest.fail("it never ends")


def test_one_host_floods_and_others_get_through() -> None:
    spool = opened(max_share=0.25, max_bytes=4 * MIB)
    kept, fate = flood(spool, host=1)
    assert fate is Fate.HOST_SHARE
    assert 16 <= kept <= 17
    assert spool.waiting_bytes <= MIB
    assert spool.append([record(5000, host=2, source="192.0.2.2")]) == [Fate.KEPT]


def test_one_address_floods_in_the_name_of_many_hosts() -> None:
    """Keys cost nothing: the attacker signs each check-in with a new one."""
    spool = opened(max_peer_share=0.25, max_bytes=4 * MIB)
    fates = [spool.append([record(n, host=n, length=60_000)])[0] for n in range(40)]
    assert set(fates) == {Fate.KEPT, Fate.SOURCE_SHARE}
    assert fates.count(Fate.KEPT) <= 17
    assert spool.append([record(5000, host=5000, source="192.0.2.2")]) == [Fate.KEPT]


def test_forged_addresses_fill_the_datagrams_share_alone() -> None:
    """Over UDP both keys and addresses cost nothing; what comes over TCP is still taken."""
    spool = opened(max_datagram_share=0.25, max_bytes=4 * MIB)
    fates = [
        spool.append([record(n, n, f"198.51.100.{n}", Way.DATAGRAM, 60_000)])[0] for n in range(40)
    ]
    assert set(fates) == {Fate.KEPT, Fate.DATAGRAM_SHARE}
    assert fates.count(Fate.KEPT) <= 17
    assert spool.append([record(5000, 5000, "192.0.2.2", Way.STREAM, 60_000)]) == [Fate.KEPT]


def test_relays_downstream_have_no_share_but_the_whole() -> None:
    spool = opened(max_peer_share=0.25)
    fates = [spool.append([record(n, host=n, source="", length=60_000)])[0] for n in range(40)]
    assert set(fates) == {Fate.KEPT, Fate.FULL}


def test_a_full_spool_takes_again_once_the_console_took() -> None:
    spool = opened(max_share=1, max_peer_share=1)
    kept, fate = flood(spool)
    assert fate is Fate.FULL
    assert spool.waiting_bytes <= MIB
    assert drained(spool) == list(range(kept))
    assert spool.append([record(7)]) == [Fate.KEPT]


def test_the_smallest_share_still_takes_a_check_in_of_any_size() -> None:
    spool = opened(max_share=0.000001, max_peer_share=0.000001, max_datagram_share=0.000001)
    assert spool.append([record(1, way=Way.DATAGRAM, length=LARGE)]) == [Fate.KEPT]


def test_a_replay_within_the_spool_is_kept_once() -> None:
    spool = opened()
    assert spool.append([record(1), record(1)]) == [Fate.KEPT, Fate.REPEATED]
    assert spool.append([record(1)]) == [Fate.REPEATED]
    assert drained(spool) == [1]
    assert spool.append([record(1)]) == [Fate.KEPT]


def test_a_replay_is_known_after_a_restart() -> None:
    disk = SimDisk()
    opened(disk).append([record(1)])
    assert opened(disk).append([record(1)]) == [Fate.REPEATED]


def test_what_is_too_old_is_dropped_and_counted() -> None:
    clock = FakeClock()
    spool = opened(clock=clock, max_age=timedelta(days=1))
    spool.append([record(number) for number in range(5)])
    clock.advance(timedelta(days=2))
    taken = spool.take(10, ALL)
    assert taken
    assert (len(taken.records), len(taken.expired)) == (0, 5)
    spool.remove(taken)
    assert (spool.counters.expired, spool.waiting) == (5, 0)


# -- power loss and damage ------------------------------------------------------------------------


def story(disk: SimDisk) -> tuple[set[int], set[int]]:
    """Append, take, remove, over several segments and a restart; return promised and gone."""
    promised: set[int] = set()
    gone: set[int] = set()
    try:
        for start in (0, 100):
            spool = opened(disk)
            for number in range(start, start + 8):
                if spool.append([record(number)]) == [Fate.KEPT]:
                    promised.add(number)
                if number % 3 == 2 and (taken := spool.take(2, ALL)):
                    gone.update(map(number_of, taken.records))
                    spool.remove(taken)
            spool.close()
    except PowerLossError:
        pass
    return promised, gone


def test_power_loss_at_any_instant_loses_nothing_that_was_promised() -> None:
    """The machine stops before every single operation; then the relay starts again.

    Each check-in that was answered 202 is either with the console or still in the spool, and what
    is in the spool is whole.
    """
    whole = SimDisk()
    story(whole)
    for stop in range(len(whole.steps)):
        disk = SimDisk(stop_at=stop)
        promised, gone = story(disk)
        for aftermath in Aftermath:
            for seed in range(3 if aftermath is Aftermath.MIXES else 1):
                where = f"before operation {stop}, {aftermath.name} {seed}"
                spool = opened(disk.crash(aftermath, seed))
                assert spool.append([record(999)]) == [Fate.KEPT], where
                left = drained(spool)
                assert promised - gone <= set(left), where
                assert left == sorted(left), where
                assert left[-1] == 999, where


@given(st.integers(0, 2**32))
def test_any_life_of_a_spool_keeps_its_promises(seed: int) -> None:
    """Appends, batches, restarts and power losses in any order: nothing promised is ever gone."""
    chance = random.Random(seed)
    disk, waiting = SimDisk(), dict[int, None]()
    spool = opened(disk)
    for number in range(60):
        act = chance.choice(["append", "append", "append", "remove", "restart", "power"])
        if act == "append":
            count = chance.randint(1, 4)
            records = [record(number * 10 + one, host=one) for one in range(count)]
            assert set(spool.append(records)) == {Fate.KEPT}
            waiting.update(dict.fromkeys(map(number_of, records)))
        elif act == "remove" and (taken := spool.take(chance.randint(1, 5), ALL)):
            assert [number_of(one) for one in taken.records] == list(waiting)[: len(taken.records)]
            spool.remove(taken)
            for one in taken.records:
                del waiting[number_of(one)]
        elif act == "restart":
            spool.close()
            spool = opened(disk)
        elif act == "power":
            disk = disk.crash(chance.choice(list(Aftermath)), number)
            spool = opened(disk)
        assert spool.waiting == len(waiting)
    assert drained(spool) == list(waiting)


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_damage_costs_what_is_damaged(seed: int, flips: int) -> None:
    """Bits flip on the disk. All records but those hit are read, in order, and never altered."""
    chance = random.Random(seed)
    records = [record(number, host=number) for number in range(12)]
    pieces = [encode_record(one) for one in records]
    content = bytearray(b"".join(pieces))
    hit: set[int] = set()
    for _ in range(flips):
        at = chance.randrange(len(content))
        content[at] ^= 1 << chance.randrange(8)
        hit.add(at // len(pieces[0]))
    reading = read_records(bytes(content), 0, 100, ALL)
    assert [one for one in records if number_of(one) not in hit] == [
        one for one in reading.records if number_of(one) not in hit
    ]
    assert set(reading.records) <= set(records)
    assert reading.end == len(content)


@given(st.integers(0, 12 * 130))
def test_a_torn_tail_costs_one_record(cut: int) -> None:
    records = [record(number) for number in range(12)]
    content = b"".join(map(encode_record, records))[:cut]
    whole = cut // len(encode_record(records[0]))
    reading = read_records(content, 0, 100, ALL)
    assert reading.records == tuple(records[:whole])
    assert reading.damaged == (len(content) > whole * len(encode_record(records[0])))


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_an_error(content: bytes) -> None:
    reading = read_records(content, 0, 100, ALL)
    assert (reading.records, reading.end) == ((), len(content))


def framed(body: bytes) -> bytes:
    length, crc = len(body).to_bytes(4, "big"), zlib.crc32(body).to_bytes(4, "big")
    return b"\xf1FW\xc1" + length + crc + body


@pytest.mark.parametrize(
    "body",
    [b"", bytes(50), bytes(50) + b"\x05", bytes(50) + b"\x00\x01\xff" + b"x", b"\x07" + bytes(60)],
)
def test_a_whole_record_of_another_version_is_passed_over(body: bytes) -> None:
    content = framed(body) + encode_record(record(1))
    reading = read_records(content, 0, 100, ALL)
    assert [number_of(one) for one in reading.records] == [1]
    assert reading.damaged == 1


def test_a_damaged_segment_is_counted_and_blocks_nothing() -> None:
    disk = SimDisk()
    spool = opened(disk)
    for number in range(20):
        spool.append([record(number)])
    spool.close()
    first, second = disk.listing(FOLDER)[:2]
    with disk.create(FOLDER / first) as file:
        file.write(b"nothing of use")
    with disk.append(FOLDER / second) as file:
        file.write(encode_record(record(1))[:30])
    again = opened(disk)
    left = drained(again)
    assert left == list(range(left[0], 20))
    assert again.counters.damaged == 2


def test_a_segment_that_vanished_blocks_nothing() -> None:
    disk = SimDisk()
    spool = opened(disk)
    for number in range(20):
        spool.append([record(number)])
    disk.remove(FOLDER / disk.listing(FOLDER)[0])
    left = drained(spool)
    assert left == list(range(left[0], 20))


def test_a_damaged_cursor_sends_again_and_loses_nothing() -> None:
    disk = SimDisk()
    spool = opened(disk, limits=CarryLimits())
    spool.append([record(number) for number in range(5)])
    taken = spool.take(2, ALL)
    assert taken
    spool.remove(taken)
    spool.close()
    for content in (b"{", b'{"schema":"fleetward.spool-cursor/1","segment":-1,"offset":0}'):
        with disk.create(FOLDER / "cursor.json") as file:
            file.write(content)
        again = opened(disk)
        assert again.waiting == 5
        assert again.counters.damaged == 1
        again.close()


class FailingDisk(SystemDisk):
    """A real disk whose reads fail as long as `is_failing`."""

    is_failing = True

    def read(self, path: Path) -> bytes:
        if self.is_failing and path.suffix == ".segment":
            raise DiskError(f"cannot read {path}: input/output error; look at the disk")
        return super().read(path)


def test_a_segment_that_cannot_be_read_is_tried_again_and_then_passed(tmp_path: Path) -> None:
    """A read that fails for a moment loses nothing; one that fails for ever blocks nothing."""
    disk = FailingDisk()
    spool = Spool(disk, tmp_path / "spool", SETTINGS, LIMITS, FakeClock())
    spool.open()
    for number in range(12):
        spool.append([record(number)])
    with pytest.raises(DiskError):
        spool.take(10, ALL)
    disk.is_failing = False
    taken = spool.take(10, ALL)
    assert taken
    assert number_of(taken.records[0]) == 0
    spool.remove(taken)
    disk.is_failing = True
    for _ in range(LIMITS.read_attempts - 1):
        with pytest.raises(DiskError):
            spool.take(10, ALL)
    with pytest.raises(DiskError):
        spool.take(10, ALL)
    disk.is_failing = False
    assert drained(spool)[-1] == 11
    assert spool.counters.damaged == 1
    spool.close()


# -- a full and a failing disk --------------------------------------------------------------------


def test_a_full_disk_promises_nothing_and_goes_on_once_there_is_room() -> None:
    disk = SimDisk()
    spool = opened(disk)
    assert spool.append([record(1)]) == [Fate.KEPT]
    disk.capacity = 10
    for number in (2, 3, 4):
        assert spool.append([record(number)]) == [Fate.DISK]
    assert spool.counters.disk_errors == 3
    disk.capacity = None
    assert spool.append([record(2)]) == [Fate.KEPT]
    assert drained(spool) == [1, 2]
    assert spool.waiting_bytes == 0


def test_what_is_on_the_disk_twice_is_counted_once() -> None:
    """A commit failed after its bytes were written; the host sent again, and the relay restarted."""
    disk = SimDisk()
    opened(disk).append([record(1)])
    with disk.append(FOLDER / "000000000007.segment") as file:
        file.write(encode_record(record(1)))
    spool = opened(disk)
    assert spool.waiting == 1
    assert drained(spool) == [1, 1]
    assert (spool.waiting, spool.waiting_bytes) == (0, 0)


def test_a_full_disk_is_not_filled_with_empty_segments() -> None:
    disk = SimDisk(capacity=10)
    spool = opened(disk)
    for number in range(20):
        spool.append([record(number)])
    assert disk.listing(FOLDER) == []


def test_a_folder_that_was_removed_is_made_again() -> None:
    disk = SimDisk()
    spool = opened(disk)
    disk.remove_tree(FOLDER)
    assert spool.append([record(1)]) == [Fate.KEPT]
    taken = spool.take(1, ALL)
    assert taken
    disk.remove_tree(FOLDER)
    spool.remove(taken)
    assert drained(spool) == []


def test_a_spool_that_is_not_open_promises_nothing() -> None:
    spool = Spool(SimDisk(), FOLDER, SETTINGS, LIMITS, FakeClock())
    assert spool.append([record(1)]) == [Fate.DISK]
    spool.open()
    spool.close()
    assert spool.append([record(1)]) == [Fate.DISK]


class VanishingDisk(SystemDisk):
    """A real disk on which a file is listed and then gone."""

    def listing(self, path: Path) -> list[str]:
        return [*super().listing(path), f"{7:012}.segment"]


def test_a_folder_that_changes_while_it_is_read_is_an_error_to_be_tried_again(
    tmp_path: Path,
) -> None:
    spool = Spool(VanishingDisk(), tmp_path / "spool", SETTINGS, LIMITS, FakeClock())
    with pytest.raises(DiskError, match="try again"):
        spool.open()
    assert not spool.is_open


def test_foreign_files_are_left_alone() -> None:
    disk = SimDisk()
    disk.make_folder(FOLDER)
    for name in ("1.segment", "README", "abcdefabcdef.segment", "000000000000.segment"):
        with disk.create(FOLDER / name) as file:
            file.write(b"x")
    spool = opened(disk)
    spool.append([record(1)])
    assert drained(spool) == [1]
    assert "README" in disk.listing(FOLDER)


def test_what_the_console_refused_is_kept_for_people_within_bounds() -> None:
    disk = SimDisk()
    spool = opened(disk)
    spool.set_aside([record(number) for number in range(2)])
    spool.set_aside([record(number) for number in range(2, 9)])
    kept = disk.listing(FOLDER / "aside")
    assert len(kept) == LIMITS.max_aside
    assert spool.counters.aside == 9
    assert disk.read(FOLDER / "aside" / kept[0]).endswith(b".")


def test_one_fsync_for_many() -> None:
    disk = SimDisk()
    spool = opened(disk, limits=CarryLimits())
    spool.append([record(0)])
    before = disk.steps.count("sync")
    spool.append([record(number) for number in range(1, 500)])
    assert disk.steps.count("sync") == before + 1


def test_every_kind_of_record_comes_back() -> None:
    for way in Way:
        for source in ("", "2001:db8::/64"):
            one = Record(HostId("ab" * 32), source, way, 9, Carried(7, "2001:db8::1", b"x", 3))
            assert read_records(encode_record(one), 0, 1, 1).records == (one,)


def test_a_position_has_no_negative_numbers() -> None:
    with pytest.raises(DocumentError):
        Position(0, -1)


def test_the_defaults_hold_a_day_of_ten_thousand_hosts_at_an_outage_of_an_hour() -> None:
    usual = 1200
    hosts_an_hour = SpoolSettings().max_bytes // usual // 60
    assert hosts_an_hour > 3_000
