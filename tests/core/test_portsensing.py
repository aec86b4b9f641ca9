"""What of a sensor's sightings is told: soon, once, and never more than some an hour."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.listeners import Transport
from fleetward.core.portclass import TrafficClass
from fleetward.core.portsensing import (
    TELLING,
    Heard,
    Rest,
    Sensed,
    Subject,
    Telling,
    TellingLimits,
    counted,
    network_of,
    sense,
    untold,
)
from support.fakes import START

MINUTE = timedelta(minutes=1)
PROBE, KNOCK = TrafficClass.NMAP_PROBE, TrafficClass.NO_DATA


def heard(
    kind: TrafficClass = PROBE,
    source: str = "10.1.2.7",
    count: int = 1,
    at: datetime = START,
    transport: Transport = Transport.TCP,
) -> Heard:
    subject = Subject(transport=transport, port=2967, kind=kind, network=network_of(source))
    return Heard(subject=subject, source=source, count=count, first=at, last=at)


def times(tellings: tuple[Telling, ...]) -> list[int]:
    return [one.count for one in tellings]


class TestSubjects:
    @pytest.mark.parametrize(
        ("address", "network"),
        [
            ("10.1.2.7", "10.1.2.0/24"),
            ("2001:db8:1:2::3", "2001:db8:1::/48"),
            ("fe80::1%eth0", "fe80::/48"),
        ],
    )
    def test_senders_are_counted_by_network(self, address: str, network: str) -> None:
        assert network_of(address) == network

    def test_a_first_sighting_is_told_at_once(self) -> None:
        after, tellings = sense(Sensed(), [heard(count=3)], Rest(), START)
        assert times(tellings) == [3]
        assert after.kept == ()

    def test_of_one_network_only_the_first_look_is_told(self) -> None:
        after, _ = sense(Sensed(), [heard()], Rest(), START)
        for minute in range(1, 60):
            now = START + minute * MINUTE
            after, tellings = sense(after, [heard(source="10.1.2.99", at=now)], Rest(), now)
            assert tellings == ()
        after, tellings = sense(after, [], Rest(), START + 60 * MINUTE)
        (told,) = tellings
        assert isinstance(told, Heard)
        assert (told.count, told.source) == (59, "10.1.2.99")
        assert (told.first, told.last) == (START + MINUTE, START + 59 * MINUTE)
        assert after.kept == ()

    def test_another_class_port_or_network_is_another_subject(self) -> None:
        after, _ = sense(Sensed(), [heard()], Rest(), START)
        first = heard()
        others = [
            heard(kind=TrafficClass.RTVSCAN_OVERFLOW),
            heard(source="10.1.3.7"),
            heard(transport=Transport.UDP),
            replace(first, subject=replace(first.subject, port=2968)),
        ]
        _, tellings = sense(after, [first, *others], Rest(), START + MINUTE)
        assert len(tellings) == 4

    def test_what_is_quiet_is_told_no_more(self) -> None:
        after, _ = sense(Sensed(), [heard()], Rest(), START)
        for hours in (1, 2, 30):
            after, tellings = sense(after, [], Rest(), START + timedelta(hours=hours))
            assert tellings == ()
        assert after == Sensed()

    def test_rows_of_one_network_are_one(self) -> None:
        rows = [heard(source=f"10.1.2.{n}", at=START + n * MINUTE) for n in (5, 3, 9)]
        rows[2] = replace(rows[2], detail="a detail")
        _, tellings = sense(Sensed(), rows, Rest(), START + 10 * MINUTE)
        (told,) = tellings
        assert isinstance(told, Heard)
        assert (told.source, told.count, told.detail) == ("10.1.2.5", 3, "a detail")
        assert (told.first, told.last) == (START + 3 * MINUTE, START + 9 * MINUTE)


class TestFloods:
    def flood(self, kind: TrafficClass, transport: Transport, count: int = 500) -> list[Heard]:
        return [
            heard(kind, f"10.{n // 250}.{n % 250}.1", transport=transport) for n in range(count)
        ]

    def test_forged_senders_fill_their_own_bucket_alone(self) -> None:
        """The attacker forges 500 networks by UDP; then a real connection comes by TCP."""
        rows = self.flood(PROBE, Transport.UDP)
        after, tellings = sense(Sensed(), rows, Rest(), START)
        assert times(tellings) == [1] * TELLING.burst + [500 - TELLING.burst]
        assert tellings[-1] == Rest(count=494, suspicious=494)
        _, tellings = sense(after, [heard()], Rest(), START + MINUTE)
        assert times(tellings) == [1]

    def test_noise_keeps_nothing_suspicious_from_being_told(self) -> None:
        after, _ = sense(Sensed(), self.flood(KNOCK, Transport.TCP), Rest(), START)
        after, tellings = sense(after, [heard(KNOCK), heard(PROBE)], Rest(), START + MINUTE)
        (told,) = tellings
        assert isinstance(told, Heard)
        assert told.subject.kind is PROBE
        assert after.rest == Rest(count=1)

    def test_of_one_look_the_most_frequent_are_told(self) -> None:
        rows = [heard(KNOCK, f"10.0.{n}.1", count=n) for n in range(1, 20)]
        _, tellings = sense(Sensed(), rows, Rest(), START, TellingLimits(burst=2))
        assert times(tellings) == [19, 18, sum(range(18))]

    def test_the_rest_is_one_line_in_each_window(self) -> None:
        after, tellings = sense(Sensed(), [], Rest(count=7, suspicious=2), START)
        assert tellings == (Rest(count=7, suspicious=2),)
        after, tellings = sense(after, [], Rest(count=5), START + 59 * MINUTE)
        assert (tellings, after.rest) == ((), Rest(count=5))
        after, tellings = sense(after, [], Rest(), START + 60 * MINUTE)
        assert (tellings, after.rest) == ((Rest(count=5),), Rest())

    def test_a_clock_that_was_set_back_makes_no_silence(self) -> None:
        after, _ = sense(Sensed(), [heard()], Rest(count=1), START)
        _, tellings = sense(after, [heard()], Rest(count=1), START - timedelta(days=400))
        assert times(tellings) == [1, 1]

    def test_what_nobody_had_room_for_is_counted(self) -> None:
        sensed = counted(counted(Sensed(), heard(count=4)), Rest(count=6, suspicious=1))
        assert counted(sensed, heard(KNOCK)).rest == Rest(count=11, suspicious=5)

    def test_what_failed_is_told_the_next_time(self) -> None:
        after, tellings = sense(Sensed(), [heard(count=4), heard(KNOCK)], Rest(count=2), START)
        for one in tellings:
            after = untold(after, one)
        _, again = sense(after, [heard(count=1)], Rest(count=3), START + MINUTE)
        assert times(again) == [5, 1, 5]


ROWS = st.builds(
    heard,
    kind=st.sampled_from(TrafficClass),
    source=st.integers(0, 30).map(lambda n: f"10.0.{n}.1"),
    count=st.integers(1, 10**6),
    transport=st.sampled_from(Transport),
)


@given(
    st.lists(
        st.tuples(st.lists(ROWS, max_size=30), st.integers(0, 9), st.integers(0, 7_300)),
        max_size=12,
    ),
    st.integers(1, 4),
)
def test_every_sighting_is_told_or_counted_and_a_window_holds_no_more_than_it_may(
    looks: list[tuple[list[Heard], int, int]], burst: int
) -> None:
    """Whatever comes whenever: nothing is lost, nothing is told twice, and the bounds hold."""
    limits = TellingLimits(burst=burst)
    sensed, now, came, told = Sensed(), START, 0, 0
    at: list[datetime] = []
    for rows, only_counted, seconds in looks:
        now += timedelta(seconds=seconds)
        sensed, tellings = sense(sensed, rows, Rest(count=only_counted), now, limits)
        came += only_counted + sum(one.count for one in rows)
        told += sum(times(tellings))
        at += [now] * len(tellings)
        held = sensed.rest.count + sum(one.count for one in sensed.kept)
        assert came == told + held
        assert len(sensed.kept) <= len(sensed.told) <= 4 * burst
        assert max(Counter(one.subject.bucket for one in sensed.told).values(), default=0) <= burst
        within = [one for one in at if now - one < limits.window]
        assert len(within) <= 4 * burst + 1
