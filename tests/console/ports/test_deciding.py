"""What listens is the same in whatever order, and however often, events come."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleetward.console.ports.deciding import (
    LISTED,
    MAX_LISTENERS,
    NOTHING_LISTENS,
    SUPERSEDED,
    Identity,
    Kept,
    Told,
    rows_of,
)
from fleetward.core.listeners import Reach, Transport
from fleetward.core.portchanges import Change, Known, Observation
from fleetward.core.portchanges import Identity as HostIdentity
from fleetward.core.portrules import Verdict
from fleetward.core.status import EventKind
from fleetward.wire.ports import event_of
from support.fakes import START

DIGESTS = ("ab" * 32, "cd" * 32, "")
REACHES = (Reach.LOOPBACK, Reach.EVERY_ADDRESS)


def known(port: int, digest: str, verdict: Verdict, reach: Reach = Reach.LOOPBACK) -> Known:
    identity = HostIdentity(Transport.TCP, port, reach, digest)
    return Known(identity=identity, verdict=verdict, reasons=("shared-port",), name="nc")


def told(e: int, observation: Observation, epoch: str = "a" * 16) -> Told:
    kind, subject, detail = event_of(observation)
    at = START + timedelta(seconds=e)
    return Told(1, 1, epoch, e, at, kind.value, subject, detail)


def answer(e: int, text: str) -> Told:
    at = START + timedelta(seconds=e)
    return Told(1, 1, "a" * 16, e, at, EventKind.DIRECTIVE_DONE.value, "d" * 16, text)


_KNOWN = st.builds(
    known,
    st.sampled_from([80, 2967]),
    st.sampled_from(DIGESTS),
    st.sampled_from(Verdict),
    st.sampled_from(REACHES),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Told]:
    """Events as an agent numbers them, of one epoch or of two that follow each other."""
    found = []
    break_at = draw(st.integers(0, 12))
    for e in range(1, draw(st.integers(1, 12)) + 1):
        epoch = ("b" if e > break_at else "a") * 16
        if draw(st.integers(0, 5)) == 0:
            listed = draw(st.sampled_from([NOTHING_LISTENS, "tcp/80 nc unknown", "cut tcp/80…"]))
            found.append(answer(e, listed))
            continue
        change = draw(st.sampled_from([Change.OPENED, Change.CLOSED, Change.CHANGED]))
        now = draw(_KNOWN)
        before = draw(_KNOWN) if change is Change.CHANGED else None
        found.append(told(e, Observation(change=change, now=now, before=before), epoch))
    return found


def after(events: list[Told]) -> dict[Identity, tuple[object, ...]]:
    """Everything that is kept, each event in a batch of its own."""
    kept = Kept({})
    for event in events:
        kept.take([event])
    return {
        name: (row.is_open, row.verdict, row.reasons, row.first_seen, row.at, row.epoch, row.e)
        for name, row in kept.rows.items()
    }


@given(histories(), st.data())
def test_any_order_and_any_repetition_end_in_the_same_state(
    history: list[Told], data: st.DataObject
) -> None:
    again = data.draw(st.lists(st.sampled_from(history), max_size=5))
    shuffled = data.draw(st.permutations([*history, *again]))
    assert after(list(shuffled)) == after(history)


@given(histories(), st.integers(0, 12))
def test_batches_of_any_size_end_in_the_same_state(history: list[Told], cut: int) -> None:
    kept = Kept({})
    kept.take(history[:cut])
    kept.take(history[cut:])
    assert {name: row.is_open for name, row in kept.rows.items()} == {
        name: state[0] for name, state in after(history).items()
    }


@given(histories())
def test_what_is_written_is_what_is_kept(history: list[Told]) -> None:
    """Rows that are returned, written over those before, make the kept state."""
    kept, stored = Kept({}), {}
    for event in history:
        for row in kept.take([event]):
            stored[row.identity] = (row.is_open, row.verdict, row.e, row.first_seen)
    assert stored == {
        name: (row.is_open, row.verdict, row.e, row.first_seen) for name, row in kept.rows.items()
    }


@given(histories())
def test_no_mark_is_open_and_no_listener_is_a_mark(history: list[Told]) -> None:
    kept = Kept({})
    kept.take(history)
    for row in kept.rows.values():
        assert row.is_mark == (row.unit in {SUPERSEDED, LISTED})
        assert not (row.is_mark and row.is_open)


@given(histories())
def test_the_newest_event_about_a_listener_decides(history: list[Told]) -> None:
    """Where nothing closes others, a listener is open as its last event says."""
    plain = [one for one in history if one.kind in {"listener-opened", "listener-closed"}]
    last = {rows_of(one)[0].identity: one.kind for one in plain}
    state = after(plain)
    assert {name: bool(row[0]) for name, row in state.items()} == {
        name: kind == "listener-opened" for name, kind in last.items()
    }


def test_two_machines_with_one_number_end_alike_in_both_orders() -> None:
    """A clone: one epoch and number, two contents. Either is shown, and always the same one."""
    one = told(1, Observation(change=Change.OPENED, now=known(80, DIGESTS[0], Verdict.EXPECTED)))
    two = told(1, Observation(change=Change.CLOSED, now=known(80, DIGESTS[0], Verdict.UNKNOWN)))
    assert after([one, two]) == after([two, one])


def test_what_a_change_supersedes_is_found_by_its_digest_alone() -> None:
    opened = told(1, Observation(change=Change.OPENED, now=known(80, DIGESTS[0], Verdict.UNKNOWN)))
    other = told(
        2,
        Observation(
            change=Change.OPENED, now=known(80, DIGESTS[0], Verdict.UNKNOWN, Reach.EVERY_ADDRESS)
        ),
    )
    changed = told(
        3,
        Observation(
            change=Change.CHANGED,
            now=known(80, DIGESTS[1], Verdict.UNKNOWN),
            before=known(80, DIGESTS[0], Verdict.UNKNOWN),
        ),
    )
    kept = Kept({})
    kept.take([opened, other, changed])
    still = {(row.reach, row.sha256[:2]) for row in kept.rows.values() if row.is_open}
    assert still == {("every-address", "ab"), ("loopback", "cd")}


def test_a_container_is_known_by_what_an_event_never_cuts() -> None:
    """Opened and changed are cut at different places of a long container."""
    place = HostIdentity(
        Transport.TCP, 80, Reach.EVERY_ADDRESS, DIGESTS[0], "u" * 60, "docker:" + "f" * 64
    )
    now = Known(identity=place, verdict=Verdict.SUSPICIOUS, name="nc", path="/x" * 100)
    before = Known(
        identity=HostIdentity(Transport.TCP, 80, Reach.EVERY_ADDRESS, DIGESTS[1]),
        verdict=Verdict.UNKNOWN,
    )
    opened = rows_of(told(1, Observation(change=Change.OPENED, now=now)))[0]
    changed = rows_of(told(2, Observation(change=Change.CHANGED, now=now, before=before)))[0]
    assert opened.identity == changed.identity


def test_a_key_has_room_for_so_many() -> None:
    kept = Kept({}, room=2)
    events = [
        told(e, Observation(change=Change.OPENED, now=known(e, "", Verdict.UNKNOWN)))
        for e in range(1, 5)
    ]
    assert len(kept.take(events)) == 2
    assert len(kept.rows) == 2 < MAX_LISTENERS
