"""The usual way of deciding says what the rules say, whatever comes and in whatever order."""

from copy import deepcopy
from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fleetward.console.fleet.standings import HostStanding, KeyStanding
from fleetward.console.ingest import deciding
from fleetward.console.ingest.deciding import (
    advance,
    arrival_of,
    decide,
    is_usual,
)
from fleetward.console.ingest.opening import Opened, OpenedProduct
from fleetward.console.ingest.rows import (
    Changes,
    Delivery,
    KnownKey,
    PresenceRow,
    Verdict,
)
from fleetward.core.checkins import Known, Standing, rule

START = datetime(2026, 11, 24, tzinfo=UTC)
ZERO = int(START.timestamp())
MILLISECOND = timedelta(milliseconds=1)
HOST = "ab" * 32

instants = st.integers(-20_000_000, 20_000_000).map(lambda ms: START + ms * MILLISECOND)
seconds = st.integers(ZERO - 20_000, ZERO + 20_000)
epochs = st.sampled_from(["0" * 16, "1" * 16, "2" * 16])
products = st.sampled_from(
    [(), (OpenedProduct("yara", "stable", "r1", 1, "confirmed", "5f" * 16, None),)]
)


def said(
    n: int = 1, sent: int = ZERO, epoch: str = "0" * 16, rows: tuple[OpenedProduct, ...] = ()
) -> Opened:
    return Opened(
        host=HOST,
        epoch=epoch,
        n=n,
        sent=sent,
        digest=f"{n:032x}{sent:032x}",
        content=rows[0].tree if rows else "0" * 32,
        relay="relay-1",
        clock=None,
        tuf=(1, n, 3),
        ports=None,
        products=rows,
        events=(),
    )


check_ins = st.builds(said, st.integers(1, 12), seconds, epochs, products)


@st.composite
def presences(draw: st.DrawFn) -> PresenceRow:
    return PresenceRow(
        key_id=1,
        epoch="0" * 16,
        greatest_n=draw(st.integers(1, 5)),
        digest="5" * 64,
        first_sent=draw(instants),
        newest_sent=draw(instants),
        contiguous_e=(contiguous := draw(st.integers(0, 9))),
        greatest_e=contiguous + draw(st.integers(0, 9)),
        seen=draw(instants),
        received=draw(instants),
        offset_ms=draw(st.integers(-40_000_000, 40_000_000)),
        measured=draw(instants),
        content="0" * 32,
        kept=draw(st.none() | instants),
    )


@given(presences(), st.integers(6, 9), seconds, instants)
def test_the_usual_way_is_the_rules(
    presence: PresenceRow, n: int, sent: int, received: datetime
) -> None:
    one = said(n, sent)
    known = Known(current=presence.current(), clock=presence.believed())
    ruling = rule(known, arrival_of(one, received), {})
    before = presence.seen
    alive = advance(presence, one, received)
    assert ruling.standing is Standing.NEWEST
    assert not ruling.clones
    assert presence.current() == ruling.epoch
    assert alive == ruling.seen
    assert presence.seen == max(before, alive)
    assert presence.measured == ruling.clock.measured
    assert presence.offset_ms == ruling.clock.offset // MILLISECOND


def _key(standing: str, host_standing: str) -> KnownKey:
    return KnownKey(1, HOST, standing, 7, host_standing)


standings = st.sampled_from([KeyStanding.ACTIVE, KeyStanding.ACTIVE, KeyStanding.REPLACED])
host_standings = st.sampled_from([HostStanding.ACTIVE, HostStanding.ACTIVE, HostStanding.RETIRED])


@given(
    st.lists(st.tuples(check_ins, instants), max_size=12),
    standings,
    host_standings,
)
def test_a_batch_comes_to_the_same_either_way(
    arrivals: list[tuple[Opened, datetime]], standing: KeyStanding, host_standing: HostStanding
) -> None:
    """A host's check-ins in any order: presence, rows and verdicts as if every one took the long way."""
    batch: list[tuple[Delivery, Opened | None]] = [
        (Delivery(b"envelope", received, "10.0.0.7"), one) for one, received in arrivals
    ]
    quick, slow = _key(standing, host_standing), _key(standing, host_standing)
    found = decide(batch, {HOST: quick}, {}, START)
    expected = Changes()
    for delivery, one in batch:
        assert one is not None
        expected.verdicts.append(Verdict.STORED)
        deciding._Decision(expected, slow, one, delivery, {}, START).take()
    assert quick == slow
    assert found.verdicts == expected.verdicts
    for name in ("retired", "kept", "events", "statuses", "clones", "returned", "left"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.keys.keys() | found.advanced.keys() == expected.keys.keys()


@given(presences(), seconds, instants)
def test_what_advances_is_all_that_changed(
    presence: PresenceRow, sent: int, received: datetime
) -> None:
    """Where only `_ADVANCED_NAMES` are written, no other column differs from what is stored."""
    from fleetward.console.ingest.storing import _ADVANCED_NAMES  # noqa: PLC0415 (needs Django)

    key = _key("active", "active")
    key.presence = presence
    before = deepcopy(presence)
    changes = decide([(Delivery(b"e", received, "p"), said(9, sent))], {HOST: key}, {}, received)
    written = _ADVANCED_NAMES if not changes.keys else PresenceRow.__struct_fields__
    for name in PresenceRow.__struct_fields__:
        if name not in written:
            assert getattr(presence, name) == getattr(before, name), name
    assert changes.keys or changes.advanced


def test_what_is_not_usual() -> None:
    presence = PresenceRow(
        1, "0" * 16, 5, "5" * 64, START, START, 0, 0, START, START, 0, START, content="x"
    )
    active = _key("active", "active")
    assert is_usual(active, presence, said(6))
    assert not is_usual(active, presence, said(5))
    assert not is_usual(active, presence, said(6, epoch="1" * 16))
    assert not is_usual(_key("replaced", "active"), presence, said(6))
    assert not is_usual(_key("active", "retired"), presence, said(6))
    with_event = msgspec.structs.replace(said(6), events=(None,))
    assert not is_usual(active, presence, with_event)
