"""How a relay stands beside the others."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleetward.console.relays.judging import LOST_AFTER, Facts, Standing, judge, lag_of
from support.fakes import START

WELL = Facts(added=START - timedelta(days=9), answered=START, version=100, newest=100)


@pytest.mark.parametrize(
    ("facts", "standing"),
    [
        (WELL, Standing.WELL),
        (replace(WELL, version=99), Standing.WELL),
        (replace(WELL, version=98), Standing.BEHIND),
        (replace(WELL, version=97), Standing.BEHIND),
        (replace(WELL, version=96), Standing.FROZEN),
        (replace(WELL, version=0), Standing.WELL),
        (replace(WELL, problems=1), Standing.TROUBLED),
        (replace(WELL, spool_bytes=69, spool_max=100), Standing.WELL),
        (replace(WELL, spool_bytes=70, spool_max=100, problems=1), Standing.FILLING),
        (replace(WELL, answered=START - LOST_AFTER), Standing.WELL),
        (replace(WELL, answered=START - 2 * LOST_AFTER, version=1), Standing.LOST),
        (replace(WELL, answered=None), Standing.LOST),
        (replace(WELL, answered=None, added=START), Standing.UNKNOWN),
    ],
)
def test_the_worst_that_holds_is_its_standing(facts: Facts, standing: Standing) -> None:
    assert judge(facts, START) is standing


def test_a_relay_ahead_of_what_is_known_does_not_lag() -> None:
    assert (lag_of(105, 100), lag_of(0, 100), lag_of(90, 100)) == (0, 0, 10)
