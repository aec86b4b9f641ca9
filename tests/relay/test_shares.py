"""Who has how much of a spool: nobody more than his share, and nothing that is left is counted."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fleetward.config.relay import SpoolSettings
from fleetward.core.limits import MIB, STATUS
from fleetward.relay.segments import Record, Way
from fleetward.relay.shares import Fate, Shares
from relay.spools import record

SETTINGS = SpoolSettings(
    max_bytes=2 * MIB, max_share=0.2, max_peer_share=0.3, max_datagram_share=0.25
)
FLOOR = 2 * STATUS.envelope_bytes
RECORDS = st.builds(
    record,
    number=st.integers(0, 400),
    host=st.integers(0, 3),
    source=st.sampled_from(["", "192.0.2.1", "192.0.2.2", "2001:db8::/64"]),
    way=st.sampled_from(Way),
    length=st.sampled_from([40, 1_100, 30_000, 60_000]),
)


def most(share: float) -> float:
    return max(share * SETTINGS.max_bytes, FLOOR)


def total(records: list[Record], **wanted: object) -> int:
    return sum(
        one.size
        for one in records
        if all(getattr(one, name) == value for name, value in wanted.items())
    )


@given(st.lists(st.tuples(RECORDS, st.booleans()), max_size=120))
def test_nobody_has_more_than_his_share(steps: list[tuple[Record, bool]]) -> None:
    shares, waiting = Shares(SETTINGS), list[Record]()
    for one, is_taken in steps:
        fate = shares.fate_of(one)
        if fate is Fate.KEPT:
            shares.add(one)
            waiting.append(one)
        elif fate is Fate.REPEATED:
            assert one.carried.envelope in [other.carried.envelope for other in waiting]
        if is_taken and waiting:
            shares.drop(waiting.pop(0))
        assert shares.bytes == total(waiting) <= SETTINGS.max_bytes
        assert shares.count == len(waiting)
        assert total(waiting, way=Way.DATAGRAM) <= most(SETTINGS.max_datagram_share)
        for host in {other.host for other in waiting}:
            assert total(waiting, host=host) <= most(SETTINGS.max_share)
        for source in {other.source for other in waiting} - {""}:
            assert total(waiting, source=source) <= most(SETTINGS.max_peer_share)
    for one in waiting:
        shares.drop(one)
    assert (shares.bytes, shares.count, shares.hosts) == (0, 0, {})


def test_a_refusal_says_the_nearest_reason() -> None:
    shares = Shares(replace(SETTINGS, max_share=1.0, max_peer_share=1.0, max_datagram_share=1.0))
    for number in range(40):
        one = record(number, length=60_000)
        if shares.fate_of(one) is not Fate.KEPT:
            break
        shares.add(one)
    assert shares.fate_of(record(99, host=9, source="", length=60_000)) is Fate.FULL
    assert shares.fate_of(record(0, length=60_000)) is Fate.REPEATED


def test_what_is_counted_twice_or_never_changes_nothing() -> None:
    shares = Shares(SETTINGS)
    shares.drop(record(1))
    shares.add(record(1))
    shares.add(record(1))
    assert (shares.count, shares.bytes) == (1, record(1).size)
    shares.drop(record(1))
    shares.drop(record(1))
    assert (shares.count, shares.bytes) == (0, 0)


def test_only_kept_and_repeated_are_durable() -> None:
    assert {fate for fate in Fate if fate.is_durable} == {Fate.KEPT, Fate.REPEATED}
