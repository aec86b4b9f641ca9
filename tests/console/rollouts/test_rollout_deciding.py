"""How a host stands in a rollout, as a table and as properties."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.console.fleet.queries import SILENT_AFTER
from fleetward.console.rollouts.deciding import MEANING, TOOK, WRONG, Seen, Standing, stands
from fleetward.core.install import State
from support.fakes import START

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
POINTED = START - 4 * HOUR
OPENED = START - 2 * HOUR


def seen(
    state: State = State.CONFIRMED,
    *,
    has_it: bool = False,
    since: datetime = START - 24 * HOUR,
    heard: datetime | None = START - MINUTE,
    said_failed: bool = False,
) -> Seen:
    return Seen(has_it, state, since, heard, said_failed)


LONG_AGO = START - 24 * HOUR

CASES: list[tuple[str, Seen, datetime | None, Standing]] = [
    ("runs it", seen(has_it=True, since=START - HOUR), OPENED, Standing.CONFIRMED),
    ("its wave is closed", seen(), None, Standing.WAITING),
    ("its wave is closed, and it is away", seen(heard=LONG_AGO), None, Standing.WAITING),
    ("it has not taken it", seen(), OPENED, Standing.BEHIND),
    ("it has nothing", seen(State.NONE), OPENED, Standing.BEHIND),
    ("it fetches", seen(State.STAGING), OPENED, Standing.TRYING),
    ("it is on trial", seen(State.TRIAL, has_it=True, since=START - HOUR), OPENED, Standing.TRYING),
    (
        "on trial, and gone",
        seen(State.TRIAL, has_it=True, since=START - HOUR, heard=START - HOUR),
        OPENED,
        Standing.SILENT,
    ),
    (
        "confirmed, and never heard again",
        seen(has_it=True, since=START - HOUR, heard=START - HOUR),
        OPENED,
        Standing.SILENT,
    ),
    (
        "confirmed, heard for a while, and gone home",
        seen(has_it=True, since=START - 2 * HOUR, heard=START - HOUR),
        OPENED,
        Standing.CONFIRMED,
    ),
    ("gone as the wave opened", seen(heard=OPENED + MINUTE), OPENED, Standing.VANISHED),
    ("gone just before", seen(heard=OPENED - SILENT_AFTER), OPENED, Standing.VANISHED),
    ("gone long before", seen(heard=OPENED - SILENT_AFTER - MINUTE), OPENED, Standing.AWAY),
    ("never heard", seen(heard=None), OPENED, Standing.AWAY),
    ("rolled back", seen(State.ROLLED_BACK, since=START - HOUR), OPENED, Standing.FAILED),
    (
        "rolled back before the console saw the channel move",
        seen(State.ROLLED_BACK, since=POINTED - MINUTE, said_failed=True),
        OPENED,
        Standing.FAILED,
    ),
    ("rejected another one", seen(State.REJECTED, since=LONG_AGO), OPENED, Standing.BEHIND),
    (
        "failed, and silent",
        seen(State.REJECTED, since=START - HOUR, heard=START - HOUR),
        OPENED,
        Standing.FAILED,
    ),
    (
        "failed once, and took it after all",
        seen(has_it=True, since=START - HOUR, said_failed=True),
        OPENED,
        Standing.CONFIRMED,
    ),
    ("goes back", seen(State.ROLLING_BACK, has_it=True, since=LONG_AGO), OPENED, Standing.FAILED),
    (
        "has nothing to run, for another release",
        seen(State.UNPROTECTED, since=START - HOUR),
        OPENED,
        Standing.BEHIND,
    ),
    (
        "has nothing to run, for this one",
        seen(State.UNPROTECTED, since=START - HOUR, said_failed=True),
        OPENED,
        Standing.FAILED,
    ),
    ("has it before its wave", seen(has_it=True, since=START - HOUR), None, Standing.CONFIRMED),
]


@pytest.mark.parametrize(("words", "host", "opened", "expected"), CASES, ids=lambda each: each)
def test_how_a_host_stands(
    words: str, host: Seen, opened: datetime | None, expected: Standing
) -> None:
    assert stands(host, opened, POINTED, START) is expected, words


def test_every_standing_is_met_by_a_case_and_has_a_meaning() -> None:
    assert {case[3] for case in CASES} == set(Standing)
    assert set(MEANING) == set(Standing)
    assert set(WRONG) - TOOK == {Standing.VANISHED}


INSTANTS = st.timedeltas(timedelta(), timedelta(days=3)).map(lambda age: START - age)
HOSTS = st.builds(
    Seen,
    st.booleans(),
    st.sampled_from(State),
    INSTANTS,
    st.none() | INSTANTS,
    st.booleans(),
)


@given(host=HOSTS, opened=st.none() | INSTANTS, pointed=INSTANTS)
def test_nobody_is_blamed_for_a_wave_that_is_not_open(
    host: Seen, opened: datetime | None, pointed: datetime
) -> None:
    standing = stands(host, opened, pointed, START)
    if opened is None:
        assert standing not in {Standing.BEHIND, Standing.VANISHED, Standing.AWAY}
    else:
        assert standing is not Standing.WAITING


@given(host=HOSTS, opened=st.none() | INSTANTS, pointed=INSTANTS)
def test_who_was_heard_just_now_is_never_silent(
    host: Seen, opened: datetime | None, pointed: datetime
) -> None:
    now_heard = Seen(host.has_it, host.state, host.since, START, host.said_failed)
    standing = stands(now_heard, opened, pointed, START)
    assert standing not in {Standing.SILENT, Standing.VANISHED, Standing.AWAY}


@given(host=HOSTS, opened=INSTANTS, pointed=INSTANTS)
def test_confirmed_means_that_it_runs_it(host: Seen, opened: datetime, pointed: datetime) -> None:
    standing = stands(host, opened, pointed, START)
    if standing in {Standing.CONFIRMED, Standing.SILENT}:
        assert host.has_it
    if standing in {Standing.BEHIND, Standing.VANISHED, Standing.AWAY}:
        assert not host.has_it
