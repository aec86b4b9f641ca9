"""The rules of epoch, n and e: the table of `core.checkins`, row by row, then as properties."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.checkins import (
    Arrival,
    CheckInLimits,
    Clock,
    CloneSign,
    Epoch,
    EventMark,
    Known,
    Ruling,
    Standing,
    rule,
    wanted,
)
from fleetward.core.digest import Sha256, sha256_of

START = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def digest(text: str) -> Sha256:
    return sha256_of(text.encode())


def mark(e: int, content: str = "") -> EventMark:
    return EventMark(e, digest(content or f"event {e}"))


def arrival(
    n: int,
    *events: EventMark,
    epoch: str = "a",
    sent: timedelta | None = None,
    delay: timedelta = timedelta(),
    content: str = "",
) -> Arrival:
    at = START + (n * MINUTE if sent is None else sent)
    body = digest(content or f"{epoch} {n}")
    return Arrival(epoch, n, at, at + delay, body, events)


@dataclass
class Desk:
    """The console's knowledge of one host, kept as a store keeps it."""

    limits: CheckInLimits = field(default_factory=CheckInLimits)
    epochs: dict[str, Epoch] = field(default_factory=dict)
    current: str | None = None
    status: Sha256 | None = None
    clock: Clock | None = None
    events: dict[tuple[str, int], set[Sha256]] = field(default_factory=dict)
    signs: set[CloneSign] = field(default_factory=set)

    def take(self, *arrivals: Arrival) -> Ruling:
        ruling = None
        for one in arrivals:
            ruling = self._take(one)
        assert ruling is not None
        return ruling

    def _take(self, one: Arrival) -> Ruling:
        current = self.epochs[self.current] if self.current else None
        other = self.epochs.get(one.epoch) if one.epoch != self.current else None
        own = self.epochs.get(one.epoch)
        stored = {
            e: frozenset(self.events[one.epoch, e])
            for e in wanted(own, one)
            if (one.epoch, e) in self.events
        }
        ruling = rule(Known(current, other, self.clock), one, stored, self.limits)
        self.epochs[one.epoch] = ruling.epoch
        self.clock = ruling.clock
        self.signs |= ruling.clones
        for new in ruling.store:
            contents = self.events.setdefault((one.epoch, new.e), set())
            assert new.digest not in contents, "an event is stored once"
            contents.add(new.digest)
        if ruling.standing.takes_status:
            self.current, self.status = one.epoch, one.digest
        return ruling

    def numbers(self, epoch: str = "a") -> list[int]:
        return sorted(e for name, e in self.events if name == epoch)


# -- the table -----------------------------------------------------------------------------------


def test_the_first_check_in_of_a_host_gives_its_status() -> None:
    ruling = Desk().take(arrival(1))
    assert ruling.standing is Standing.FIRST
    assert ruling.standing.takes_status
    assert not ruling.clones


def test_a_newer_number_replaces_the_status_and_a_gap_is_ordinary() -> None:
    desk = Desk()
    ruling = desk.take(arrival(1), arrival(5))
    assert (ruling.standing, ruling.skipped) == (Standing.NEWEST, 3)
    assert desk.status == digest("a 5")
    assert not desk.signs


def test_the_same_bytes_again_change_nothing() -> None:
    """A relay sends a batch twice, because the answer to the first was lost."""
    desk = Desk()
    desk.take(arrival(1, mark(1)))
    before = replace(desk.epochs["a"])
    ruling = desk.take(arrival(1, mark(1)))
    assert ruling.standing is Standing.REPEATED
    assert ruling.store == ()
    assert desk.epochs["a"] == before
    assert not desk.signs


def test_a_late_check_in_adds_its_events_alone() -> None:
    """A relay was cut off; what it spooled comes after newer check-ins by another way."""
    desk = Desk()
    ruling = desk.take(arrival(9, mark(2)), arrival(3, mark(1)))
    assert ruling.standing is Standing.LATE
    assert desk.status == digest("a 9")
    assert desk.numbers() == [1, 2]
    assert desk.epochs["a"].contiguous_e == 2
    assert not desk.signs


def test_one_number_with_two_contents_means_a_cloned_host() -> None:
    """A virtual machine was cloned with its agent; both report as one host."""
    ruling = Desk().take(arrival(7), arrival(7, content="the other machine"))
    assert ruling.standing is Standing.TWIN
    assert ruling.clones == {CloneSign.ONE_NUMBER}
    assert not ruling.standing.takes_status


def test_numbers_that_go_back_in_check_ins_sent_later_are_shown() -> None:
    """A machine is set back to a snapshot of last week and goes on numbering from there."""
    ruling = Desk().take(arrival(500), arrival(101, sent=timedelta(minutes=520)))
    assert ruling.clones == {CloneSign.WENT_BACK}
    assert ruling.epoch.greatest_n == 500


def test_a_clock_set_back_a_little_is_no_clone() -> None:
    ruling = Desk().take(arrival(10), arrival(9, sent=timedelta(minutes=13)))
    assert ruling.standing is Standing.LATE
    assert not ruling.clones


def test_a_new_state_directory_begins_a_new_epoch() -> None:
    desk = Desk()
    ruling = desk.take(arrival(100, mark(1)), arrival(1, mark(1), epoch="b", sent=101 * MINUTE))
    assert ruling.standing is Standing.NEW_EPOCH
    assert desk.current == "b"
    assert desk.numbers("a") == desk.numbers("b") == [1]
    assert not desk.signs


@pytest.mark.parametrize("known", [True, False])
def test_the_old_epoch_may_still_arrive_late(known: bool) -> None:  # noqa: FBT001
    """The last check-in of the old state directory lay in a relay's spool."""
    desk = Desk()
    if known:
        desk.take(arrival(98))
    desk.take(arrival(1, epoch="b", sent=100 * MINUTE))
    ruling = desk.take(arrival(99, mark(1)))
    assert ruling.standing is Standing.LATE
    assert desk.current == "b"
    assert desk.numbers("a") == [1]
    assert not desk.signs


def test_an_old_epoch_just_after_the_new_one_is_late() -> None:
    desk = Desk()
    desk.take(arrival(1, epoch="b", sent=100 * MINUTE), arrival(2, epoch="b", sent=101 * MINUTE))
    ruling = desk.take(arrival(50, epoch="a", sent=100 * MINUTE + timedelta(seconds=5)))
    # Within the tolerance of the newest one it cannot be told from a new state directory …
    assert ruling.standing is Standing.NEW_EPOCH
    # … and further on it is late.
    desk = Desk()
    desk.take(arrival(1, epoch="b", sent=100 * MINUTE), arrival(9, epoch="b", sent=110 * MINUTE))
    ruling = desk.take(arrival(50, epoch="a", sent=100 * MINUTE + timedelta(seconds=5)))
    assert ruling.standing is Standing.LATE


def test_a_retired_epoch_that_goes_on_reporting_is_a_clone() -> None:
    """An image was made of an enrolled host, and its copy drew a new epoch."""
    desk = Desk()
    desk.take(arrival(10), arrival(1, epoch="b", sent=11 * MINUTE))
    desk.take(arrival(9, epoch="b", sent=30 * MINUTE))
    ruling = desk.take(arrival(20, sent=30 * MINUTE))
    assert ruling.clones == {CloneSign.TWO_EPOCHS}
    assert ruling.standing is Standing.TWIN
    assert desk.current == "b"


def test_an_unknown_epoch_in_the_middle_of_the_current_one_is_a_clone() -> None:
    desk = Desk()
    desk.take(arrival(1), arrival(60))
    ruling = desk.take(arrival(1, epoch="b", sent=30 * MINUTE))
    assert ruling.clones == {CloneSign.TWO_EPOCHS}
    assert desk.current == "a"


def test_the_twin_that_outlives_the_other_is_shown_again() -> None:
    desk = Desk()
    desk.take(arrival(10), arrival(1, epoch="b", sent=11 * MINUTE))
    ruling = desk.take(arrival(90))
    assert ruling.standing is Standing.REVIVED
    assert desk.current == "a"
    assert desk.signs == {CloneSign.TWO_EPOCHS}


# -- events --------------------------------------------------------------------------------------


def test_a_missing_event_is_asked_for_by_the_acknowledgement() -> None:
    desk = Desk()
    assert desk.take(arrival(1, mark(1))).epoch.contiguous_e == 1
    assert desk.take(arrival(2, mark(3), mark(4))).epoch.contiguous_e == 1
    ruling = desk.take(arrival(3, mark(2), mark(3), mark(4)))
    assert ruling.epoch.contiguous_e == 4
    assert ruling.store == (mark(2),)


def test_one_event_number_with_two_contents_keeps_both() -> None:
    """Two clones each had an event 2; the acknowledgement covers both, so neither may be lost."""
    desk = Desk()
    desk.take(arrival(1, mark(1), mark(2)))
    ruling = desk.take(arrival(2, mark(2, "another"), mark(3)))
    assert ruling.clones == {CloneSign.ONE_EVENT}
    assert len(desk.events["a", 2]) == 2
    assert ruling.epoch.contiguous_e == 3


def test_two_contents_within_one_check_in_are_seen_too() -> None:
    ruling = Desk().take(arrival(1, mark(1), mark(1, "another"), mark(1)))
    assert ruling.clones == {CloneSign.ONE_EVENT}
    assert len(ruling.store) == 2


def test_a_replay_brings_no_event_back_that_was_pruned() -> None:
    """A relay kept a check-in for longer than the console keeps events."""
    desk = Desk()
    old = arrival(1, mark(1), mark(2))
    desk.take(old, arrival(2, mark(4)))
    del desk.events["a", 1], desk.events["a", 2]
    ruling = desk.take(replace(old, received=START + timedelta(days=401)))
    assert ruling.store == ()
    assert not ruling.clones
    assert desk.numbers() == [4]
    assert desk.take(arrival(3, mark(2), mark(3))).store == (mark(3),), "what is missing is taken"
    assert desk.epochs["a"].contiguous_e == 4


def test_numbers_far_beyond_the_gap_wait() -> None:
    """A host that numbers at will cannot make the console look for a gap of a billion."""
    desk = Desk(CheckInLimits(window=10))
    ruling = desk.take(arrival(1, mark(10), mark(11), mark(10**9)))
    assert ruling.store == (mark(10),)
    assert ruling.refused == (mark(11), mark(10**9))
    assert ruling.epoch.greatest_e == 10


def test_the_usual_check_in_looks_nothing_up() -> None:
    desk = Desk()
    desk.take(arrival(1, mark(1), mark(2)))
    epoch = desk.epochs["a"]
    assert wanted(epoch, arrival(2)) == frozenset()
    assert wanted(epoch, arrival(2, mark(3))) == frozenset()
    assert wanted(None, arrival(2, mark(3))) == frozenset()
    assert wanted(epoch, arrival(2, mark(2), mark(3))) == {2}
    desk.take(arrival(2, mark(5)))
    assert wanted(desk.epochs["a"], arrival(3, mark(1))) == {1, 3, 4, 5}


# -- the clock -----------------------------------------------------------------------------------


def test_the_offset_of_a_slow_clock_is_measured() -> None:
    ruling = Desk().take(arrival(1, delay=timedelta(minutes=42)))
    assert ruling.clock.offset == timedelta(minutes=42)
    assert ruling.seen == START + MINUTE + timedelta(minutes=42)


def test_a_relay_that_holds_check_ins_back_does_not_make_a_host_look_alive() -> None:
    """The relay delivers an hour late, each in turn; the host is seen an hour ago."""
    desk = Desk()
    desk.take(*(arrival(n) for n in range(1, 10)))
    ruling = desk.take(arrival(10, delay=timedelta(hours=1)))
    assert ruling.seen is not None
    assert START + 10 * MINUTE <= ruling.seen <= START + 20 * MINUTE


def test_a_clock_that_was_set_back_is_believed_after_a_while() -> None:
    desk = Desk()
    desk.take(arrival(1))
    step = timedelta(minutes=10)
    for n in range(2, 200):
        desk.take(arrival(n, sent=n * MINUTE - step, delay=step))
    assert desk.clock is not None
    assert desk.clock.offset == step


def test_a_clock_set_forward_is_believed_at_once() -> None:
    ruling = Desk().take(arrival(1), arrival(2, sent=timedelta(hours=5), delay=-timedelta(hours=4)))
    assert ruling.clock.offset == -timedelta(hours=4)


def test_a_newer_one_that_another_relay_received_earlier_moves_the_measure_not_back() -> None:
    desk = Desk()
    desk.take(arrival(3, delay=5 * MINUTE))
    ruling = desk.take(arrival(4))
    assert ruling.clock == Clock(timedelta(), START + 8 * MINUTE)
    assert ruling.seen == START + 4 * MINUTE


def test_a_replay_is_no_sign_of_life_and_says_nothing_of_the_clock() -> None:
    """A relay drops what is new and sends the old again, for hours."""
    desk = Desk()
    desk.take(arrival(1), arrival(2))
    known = desk.clock
    for hours in range(1, 30):
        late = timedelta(hours=hours)
        assert desk.take(arrival(2, delay=late)).seen is None
        assert desk.take(arrival(1, delay=late)).seen is None
    assert desk.clock == known


# -- properties ----------------------------------------------------------------------------------


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[int, list[Arrival]]:
    """One honest host's check-ins, each carrying some unacknowledged events, badly delivered."""
    last_e, sent = 0, []
    for n in range(1, draw(st.integers(1, 12)) + 1):
        last_e += draw(st.integers(0, 2))
        first = draw(st.integers(1, last_e)) if last_e else 1
        sent.append(arrival(n, *(mark(e) for e in range(first, last_e + 1))))
    chosen = draw(st.lists(st.sampled_from(sent), max_size=30))
    return last_e, [*chosen, *draw(st.permutations(sent))]


@given(deliveries())
def test_loss_repetition_and_order_change_nothing_in_the_end(
    delivered: tuple[int, list[Arrival]],
) -> None:
    last_e, arrivals = delivered
    desk = Desk()
    desk.take(*arrivals)
    newest = max(arrivals, key=lambda one: one.n)
    assert desk.status == newest.digest
    assert desk.epochs["a"].greatest_n == newest.n
    everything = {m.e for one in arrivals for m in one.events}
    assert desk.numbers() == sorted(everything)
    if everything == set(range(1, last_e + 1)):
        assert desk.epochs["a"].contiguous_e == last_e
    assert not desk.signs


@given(deliveries())
def test_what_is_acknowledged_is_stored(delivered: tuple[int, list[Arrival]]) -> None:
    desk = Desk(CheckInLimits(window=3))
    for one in delivered[1]:
        ruling = desk.take(one)
        stored = set(desk.numbers())
        assert set(range(1, ruling.epoch.contiguous_e + 1)) <= stored
        assert ruling.epoch.greatest_e == max(stored, default=0)


@given(deliveries(), st.integers(1, 11), st.data())
def test_two_hosts_with_one_state_are_always_found(
    delivered: tuple[int, list[Arrival]], fork: int, data: st.DataObject
) -> None:
    """From number `fork` on there are two machines; whatever the order, the twin shows."""
    honest = sorted({one.n: one for one in delivered[1]}.values(), key=lambda one: one.n)
    both = [one for one in honest if one.n >= fork]
    if not both:
        return
    pairs = [(one, replace(one, digest=digest(f"twin {one.n}"))) for one in both]
    desk = Desk()
    for pair in pairs:
        desk.take(*data.draw(st.permutations(pair)))
    assert CloneSign.ONE_NUMBER in desk.signs


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5), st.integers(0, 900)), max_size=20)
)
def test_any_sequence_has_a_ruling(steps: list[tuple[str, int, int]]) -> None:
    desk = Desk()
    for epoch, n, minutes in steps:
        ruling = desk.take(arrival(n, epoch=epoch, sent=minutes * MINUTE))
        assert ruling.epoch.greatest_n >= n
        assert bool(ruling.clones) or ruling.standing is not Standing.TWIN
