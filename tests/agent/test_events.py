"""The spool of events: nothing that was recorded is lost, no number is sent with two contents."""

from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.agent.events import EventSpool, SpooledEvent, SpoolLimits
from fleetward.errors import DiskError, UsageError
from support.fakes import START, SeededEntropy
from support.simdisk import Aftermath, PowerLossError, SimDisk

FOLDER = Path("/agent/reports")
ALL = 1 << 30
LIMITS = SpoolLimits(events=6)


def notice(count: int) -> bytes:
    return b'{"dropped":%d}' % count


def opened(disk: SimDisk, seed: int = 0, limits: SpoolLimits | None = None) -> EventSpool:
    return EventSpool(disk, FOLDER, SeededEntropy(seed), notice, limits)


def pending(spool: EventSpool) -> list[tuple[int, bytes]]:
    return [(event.e, event.content) for event in spool.pending(ALL, ALL)]


def test_events_are_numbered_from_one_without_a_gap() -> None:
    spool = opened(SimDisk())
    assert spool.last_e == 0
    assert [spool.record(b"{}") for _ in range(3)] == [1, 2, 3]
    assert pending(spool) == [(1, b"{}"), (2, b"{}"), (3, b"{}")]


def test_what_was_recorded_is_there_again() -> None:
    disk = SimDisk()
    first = opened(disk)
    first.record(b'{"a":1}')
    assert first.draw_number() == 1
    again = opened(disk, seed=1)
    assert (again.epoch, pending(again)) == (first.epoch, [(1, b'{"a":1}')])
    assert again.draw_number() == 2
    assert again.record(b"{}") == 2


def test_pending_takes_the_oldest_that_fit() -> None:
    spool = opened(SimDisk())
    for content in (b"aaaa", b"bbbb", b"cc"):
        spool.record(content)
    assert [event.e for event in spool.pending(8, ALL)] == [1, 2]
    assert [event.e for event in spool.pending(9, 1)] == [1]
    assert spool.pending(3, ALL) == ()


def test_an_acknowledged_event_is_not_sent_again_and_stays_for_a_week() -> None:
    disk = SimDisk()
    spool = opened(disk)
    for _ in range(3):
        spool.record(b"{}")
    spool.acknowledge(spool.epoch, 2, START)
    assert spool.acknowledged_e == 2
    assert [e for e, _ in pending(spool)] == [3]
    spool.acknowledge(spool.epoch, 2, START + timedelta(days=6))
    assert disk.read(FOLDER / "events.log").count(b"\n") == 4
    spool.acknowledge(spool.epoch, 2, START + timedelta(days=8))
    assert disk.read(FOLDER / "events.log").count(b"\n") == 2
    again = opened(disk)
    assert [e for e, _ in pending(again)] == [3]
    assert again.record(b"{}") == 4


def test_a_console_restored_from_a_backup_gets_its_events_again() -> None:
    """The console had stored 5, comes back with 2, and acknowledges 2: 3 to 5 are pending again."""
    spool = opened(SimDisk())
    for n in range(1, 7):
        spool.record(b"%d" % n)
    spool.acknowledge(spool.epoch, 5, START)
    spool.acknowledge(spool.epoch, 2, START + timedelta(days=1))
    assert pending(spool) == [(3, b"3"), (4, b"4"), (5, b"5"), (6, b"6")]
    spool.acknowledge(spool.epoch, 6, START + timedelta(days=2))
    assert pending(spool) == []


def test_a_console_restored_from_too_old_a_backup_gets_a_new_epoch() -> None:
    """What it lacks is gone here; in the old epoch it would ask for it for ever."""
    spool = opened(SimDisk())
    for n in range(1, 5):
        spool.record(b"%d" % n)
    spool.acknowledge(spool.epoch, 3, START)
    spool.acknowledge(spool.epoch, 3, START + timedelta(days=8))
    old = spool.epoch
    spool.acknowledge(old, 1, START + timedelta(days=9))
    assert spool.epoch != old
    assert pending(spool) == [(1, b"4")]
    assert spool.draw_number() == 1


def test_an_acknowledgement_of_what_never_was_means_a_restored_snapshot() -> None:
    """The machine was set back; its numbers were used up by its own future."""
    disk = SimDisk()
    spool = opened(disk)
    spool.record(b"1")
    snapshot = disk.crash(Aftermath.KEEPS)
    spool.record(b"2")
    old = spool.epoch
    spool = opened(snapshot, seed=1)
    spool.record(b"another 2")
    spool.acknowledge(old, 7, START)
    assert spool.epoch != old
    assert pending(spool) == [(1, b"1"), (2, b"another 2")]


def test_an_acknowledgement_of_another_epoch_changes_nothing() -> None:
    spool = opened(SimDisk())
    spool.record(b"{}")
    spool.acknowledge("0" * 16, 1, START)
    assert pending(spool) == [(1, b"{}")]


def test_a_full_spool_counts_what_it_does_not_take_and_says_so() -> None:
    disk = SimDisk()
    spool = opened(disk, limits=LIMITS)
    taken = [spool.record(b"%d" % n) for n in range(8)]
    assert taken == [1, 2, 3, 4, 5, None, None, None]
    spool = opened(disk, limits=LIMITS)
    spool.acknowledge(spool.epoch, 3, START)
    spool.acknowledge(spool.epoch, 3, START + timedelta(days=8))
    assert spool.record(b"new") == 7
    assert pending(spool)[-2:] == [(6, b'{"dropped":3}'), (7, b"new")]
    assert spool.record(b"newer") == 8


def test_a_full_spool_by_bytes() -> None:
    spool = opened(SimDisk(), limits=SpoolLimits(total_bytes=10))
    assert spool.record(b"12345678") == 1
    assert spool.record(b"123") is None


@pytest.mark.parametrize("content", [b"a\nb", b"x" * 5000])
def test_an_event_that_is_no_line_is_a_mistake(content: bytes) -> None:
    with pytest.raises(UsageError):
        opened(SimDisk()).record(content)


def test_a_full_disk_loses_nothing_and_leaves_no_half_line() -> None:
    disk = SimDisk()
    spool = opened(disk)
    spool.record(b"first")
    disk.capacity = 5
    with pytest.raises(DiskError):
        spool.record(b"second")
    disk.capacity = None
    assert spool.record(b"third") == 2
    assert pending(opened(disk)) == [(1, b"first"), (2, b"third")]


def damaged(disk: SimDisk, before: bytes, after: bytes) -> None:
    log = disk.read(FOLDER / "events.log").replace(before, after)
    with disk.create(FOLDER / "events.log") as file:
        file.write(log)
        file.sync()


def test_a_damaged_line_begins_a_new_epoch_with_what_is_left() -> None:
    disk = SimDisk()
    first = opened(disk)
    for content in (b"one", b"two", b"three"):
        first.record(content)
    damaged(disk, b"two", b"tvo")
    spool = opened(disk, seed=1)
    assert spool.epoch != first.epoch
    assert pending(spool) == [(1, b"one"), (2, b"three")]


@pytest.mark.parametrize("head", [b"something else\n", b"fleetward.events/1 abc x\n", b""])
def test_a_damaged_first_line_begins_a_new_epoch(head: bytes) -> None:
    disk = SimDisk()
    first = opened(disk)
    first.record(b"one")
    whole = disk.read(FOLDER / "events.log")
    damaged(disk, whole, head + whole.split(b"\n", 1)[1])
    spool = opened(disk, seed=1)
    assert spool.epoch != first.epoch
    assert spool.record(b"two") == (2 if head else 1)


def test_a_log_that_lost_acknowledged_events_begins_a_new_epoch() -> None:
    disk = SimDisk()
    first = opened(disk)
    for content in (b"one", b"two"):
        first.record(content)
    first.acknowledge(first.epoch, 2, START)
    whole = disk.read(FOLDER / "events.log")
    damaged(disk, whole, b"\n".join(whole.split(b"\n")[:2]) + b"\n")
    assert opened(disk, seed=1).epoch != first.epoch


def test_a_lost_state_begins_a_new_epoch_and_keeps_the_events() -> None:
    """Which check-in numbers were used is unknown, so none of that epoch is used again."""
    disk = SimDisk()
    first = opened(disk)
    first.record(b"one")
    disk.remove(FOLDER / "state.json")
    spool = opened(disk, seed=1)
    assert spool.epoch != first.epoch
    assert pending(spool) == [(1, b"one")]


def test_without_a_notice_what_found_no_room_is_only_counted() -> None:
    spool = EventSpool(SimDisk(), FOLDER, SeededEntropy(), limits=SpoolLimits(events=3))
    taken = [spool.record(b"{}") for _ in range(4)]
    assert taken == [1, 2, None, None]
    spool.acknowledge(spool.epoch, 2, START)
    spool.acknowledge(spool.epoch, 2, START + timedelta(days=8))
    assert spool.record(b"{}") == 3


def test_many_acknowledgements_keep_few_marks() -> None:
    disk = SimDisk()
    spool = opened(disk)
    for n in range(1, 300):
        spool.record(b"{}")
        spool.acknowledge(spool.epoch, n, START + timedelta(minutes=n))
    assert disk.size(FOLDER / "state.json") < 10_000
    assert opened(disk).acknowledged_e == 299


# -- power loss ------------------------------------------------------------------------------------


class Witness:
    """What left the host under which number, and what the host was promised to keep."""

    def __init__(self) -> None:
        self.sent: dict[tuple[str, int], bytes] = {}
        self.numbers: set[tuple[str, int]] = set()
        self.promised: list[bytes] = []
        self.acknowledged: set[bytes] = set()

    def record(self, spool: EventSpool, content: bytes) -> None:
        assert spool.record(content) is not None
        self.promised.append(content)

    def send(self, spool: EventSpool) -> None:
        number = (spool.epoch, spool.draw_number())
        assert number not in self.numbers, "a check-in number is drawn once"
        self.numbers.add(number)
        for event in spool.pending(ALL, ALL):
            known = self.sent.setdefault((spool.epoch, event.e), event.content)
            assert known == event.content, "one number, one content"

    def acknowledge(self, spool: EventSpool, e: int) -> None:
        self.acknowledged |= {c for (epoch, n), c in self.sent.items() if n <= e}
        spool.acknowledge(spool.epoch, e, START)

    def expect(self, spool: EventSpool) -> None:
        there = {event.content for event in spool.pending(ALL, ALL)}
        assert set(self.promised) <= there | self.acknowledged


def story(disk: SimDisk, witness: Witness, seed: int) -> None:
    spool = opened(disk, seed)
    witness.expect(spool)
    for n in range(3):
        witness.record(spool, b"%d of %d" % (n, seed))
        witness.send(spool)
    witness.acknowledge(spool, spool.last_e - 1)
    witness.record(spool, b"last of %d" % seed)
    witness.send(spool)
    spool.acknowledge(spool.epoch, spool.acknowledged_e, START + timedelta(days=8))
    witness.expect(spool)


def test_power_loss_at_any_operation_loses_no_event_and_repeats_no_number() -> None:
    whole = SimDisk()
    whole.make_folder(FOLDER.parent)
    story(whole, Witness(), 0)
    for stop in range(len(whole.steps)):
        for aftermath in Aftermath:
            for chance in range(3 if aftermath is Aftermath.MIXES else 1):
                disk, witness = SimDisk(stop_at=stop), Witness()
                with pytest.raises(PowerLossError):
                    story(disk, witness, 1)
                for again in (2, 3):
                    disk = disk.crash(aftermath, chance)
                    story(disk, witness, again)


def test_events_are_private() -> None:
    disk = SimDisk()
    opened(disk).record(b"{}")
    assert disk._at(FOLDER / "events.log").private  # type: ignore[union-attr]
    assert SpooledEvent(1, b"x") == SpooledEvent(1, b"x")


def test_what_strangers_cause_gets_a_share_of_the_spool_alone() -> None:
    """The attacker makes events without end; those of the host itself find room, none is dropped."""
    disk = SimDisk()
    spool = opened(disk, limits=SpoolLimits(events=40))
    kept = [spool.record(b"{}", share=0.25) for _ in range(100)]
    assert len(kept) - kept.count(None) == 9
    assert kept[9:] == [None] * 91
    assert [spool.record(b"{}") for _ in range(3)] == [10, 11, 12]
    assert spool.record(b"{}", share=0.25) is None
    assert opened(disk).record(b"{}") == 13  # and nothing was dropped that must be told first


def test_a_share_counts_bytes_too() -> None:
    spool = opened(SimDisk(), limits=SpoolLimits(total_bytes=400))
    assert [spool.record(b"x" * 40, share=0.25) for _ in range(3)] == [1, 2, None]
    assert spool.record(b"x" * 40) == 3
