"""How fresh a host is, and how long a release takes."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.console.overview.deciding import (
    MEANING,
    PROTECTED,
    STOP_WORDS,
    STOPS,
    Freshness,
    Lag,
    Pointer,
    bucket,
    climb,
    freshness,
    place,
    reached,
    stops_for,
)
from fleetward.core.install import State

POINTER = Pointer("r3", frozenset({"r2"}))


@pytest.mark.parametrize(
    ("state", "release", "silent", "lag", "stands"),
    [
        ("confirmed", "r3", False, Lag.FRESH, Freshness.CURRENT),
        ("trial", "r3", False, Lag.FRESH, Freshness.INSTALLING),
        ("staging", "", False, Lag.FRESH, Freshness.INSTALLING),
        ("confirmed", "r2", False, Lag.FRESH, Freshness.WAITING),
        ("confirmed", "r1", False, Lag.FRESH, Freshness.BEHIND),
        ("rolled-back", "r2", False, Lag.FRESH, Freshness.FAILED),
        ("rejected", "r1", False, Lag.FRESH, Freshness.FAILED),
        ("rejected", "r3", False, Lag.FRESH, Freshness.CURRENT),
        ("confirmed", "r3", False, Lag.FROZEN, Freshness.FROZEN),
        ("confirmed", "r3", False, Lag.EXPIRED, Freshness.EXPIRED),
        ("confirmed", "r3", True, Lag.EXPIRED, Freshness.SILENT),
        ("unprotected", "r3", True, Lag.FRESH, Freshness.UNPROTECTED),
        ("none", "", False, Lag.FRESH, Freshness.UNPROTECTED),
        ("rejected", "", False, Lag.FRESH, Freshness.UNPROTECTED),
    ],
)
def test_the_worst_that_holds_is_how_a_host_stands(
    state: str,
    release: str,
    silent: bool,  # noqa: FBT001 (a column of the table)
    lag: Lag,
    stands: Freshness,
) -> None:
    assert freshness(State(state), release, POINTER, silent=silent, lag=lag) is stands


@pytest.mark.parametrize(
    ("state", "seq", "stands"),
    [
        ("confirmed", 8, Freshness.CURRENT),
        ("confirmed", 7, Freshness.BEHIND),
        ("rolled-back", 8, Freshness.FAILED),
        ("rejected", 8, Freshness.FAILED),
        ("trial", 8, Freshness.INSTALLING),
        ("unprotected", 8, Freshness.UNPROTECTED),
    ],
)
def test_a_release_that_the_console_has_not_read_yet(
    state: str, seq: int, stands: Freshness
) -> None:
    """Newer than everything read is not behind; without a repository nothing is known of order."""
    read = Pointer("r7", read=7)
    how = {"silent": False, "lag": Lag.FRESH}
    assert freshness(State(state), "r8", read, seq=seq, **how) is stands  # type: ignore[arg-type]
    unread = freshness(State(state), "r8", Pointer("r7"), seq=seq, **how)  # type: ignore[arg-type]
    assert unread is (Freshness.BEHIND if state == "confirmed" else stands)
    silent = freshness(State(state), "r8", read, seq=seq, silent=True, lag=Lag.FRESH)
    assert silent in {Freshness.SILENT, Freshness.UNPROTECTED}


def test_nothing_that_is_wrong_counts_as_protected() -> None:
    assert {Freshness.CURRENT, Freshness.INSTALLING, Freshness.WAITING} == PROTECTED
    assert set(MEANING) == set(Freshness)


@pytest.mark.parametrize(
    ("seconds", "minutes"),
    [
        (-50, 0),
        (0, 0),
        (1, 1),
        (60, 1),
        (61, 2),
        (3_601, 70),
        (86_400, 1_440),
        (86_401, 1_500),
        (9 * 86_400 - 1, 9 * 1_440),
    ],
)
def test_ages_fall_into_buckets_that_grow(seconds: int, minutes: int) -> None:
    assert bucket(timedelta(seconds=seconds)) == minutes


@given(st.floats(0, 60 * 86_400))
def test_a_bucket_ends_after_the_age_and_not_long_after(seconds: float) -> None:
    age = timedelta(seconds=seconds)
    over = timedelta(minutes=bucket(age)) - age
    assert timedelta() <= over <= max(timedelta(minutes=1), age / 5, timedelta(minutes=10))


def test_the_time_to_a_share_is_when_enough_had_arrived() -> None:
    arrivals = {10: 50, 30: 40, 600: 9}
    assert reached(arrivals, 100, 0.5) == timedelta(minutes=10)
    assert reached(arrivals, 100, 0.9) == timedelta(minutes=30)
    assert reached(arrivals, 100, 0.99) == timedelta(minutes=600)
    assert reached(arrivals, 101, 0.99) is None
    assert reached({}, 5, 0.5) is None


def test_an_axis_has_the_stops_that_it_needs() -> None:
    assert len(STOPS) == len(STOP_WORDS)
    assert [STOP_WORDS[stops_for(m) - 1] for m in (0, 5, 61, 1_441, 10**6)] == [
        "1 h",
        "1 h",
        "6 h",
        "3 d",
        "30 d",
    ]


@given(st.lists(st.floats(0, 50_000), max_size=30), st.integers(3, len(STOPS)))
def test_places_on_an_axis_keep_their_order(minutes: list[float], stops: int) -> None:
    places = [place(each, stops) for each in sorted(minutes)]
    assert places == sorted(places)
    assert all(0.0 <= each <= 1.0 for each in places)


@given(
    st.dictionaries(st.integers(0, 50_000), st.integers(1, 1_000), max_size=20),
    st.integers(0, 5_000),
    st.integers(0, 60_000),
)
def test_a_curve_only_climbs(arrivals: dict[int, int], hosts: int, age: int) -> None:
    points = climb(arrivals, hosts, age, stops_for(age))
    assert points[0] == (0.0, 0.0)
    assert list(points) == sorted(points)
    assert all(0.0 <= y <= 1.0 for _, y in points)
