"""Status and freshness, as documents say them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleetward.agent.records import Installed, Record
from fleetward.agent.reporting import TimestampAge, freshness, product_status, status_document
from fleetward.agent.updating import LastCheck
from fleetward.core.install import State
from fleetward.core.names import ReleaseName
from support.fakes import START
from support.samples import DIGEST
from support.world import PRODUCT, STABLE

STAMP = TimestampAge(START, timedelta(minutes=10), START + timedelta(days=7))
CHECK = LastCheck(START, "http://relay.test", frozen=False, error=None)
FAILED = replace(CHECK, error="no route")
R2 = Installed(release=ReleaseName("r2"), seq=2, tree=DIGEST, length=1, engine="files", slot="s")
CURRENT = Record(
    product=PRODUCT,
    channel=STABLE,
    state=State.CONFIRMED,
    current=R2,
    greatest_seq=2,
    channel_release=ReleaseName("r2"),
)


@pytest.mark.parametrize(
    ("after", "check", "record", "expected"),
    [
        (timedelta(), CHECK, CURRENT, "current"),
        (timedelta(days=1), CHECK, CURRENT, "current"),
        (timedelta(days=8), CHECK, CURRENT, "expired"),
        (timedelta(), replace(CHECK, frozen=True), CURRENT, "frozen"),
        (timedelta(minutes=29), FAILED, CURRENT, "current"),
        (timedelta(minutes=31), FAILED, CURRENT, "frozen"),
        (timedelta(), CHECK, CURRENT.having(channel_release=ReleaseName("r3")), "behind"),
        (timedelta(), CHECK, CURRENT.having(current=None), "behind"),
    ],
)
def test_freshness(after: timedelta, check: LastCheck, record: Record, expected: str) -> None:
    assert freshness(START + after, check, STAMP, (record,)) == expected


def test_a_host_that_never_checked_has_no_freshness() -> None:
    assert freshness(START, None, STAMP, (CURRENT,)) is None
    assert freshness(START, CHECK, None, (CURRENT,)) is None
    document = status_document("h", (), None, None)
    assert (document["checked"], document["remarks"]) == (None, [])


def test_a_product_says_where_it_went_back() -> None:
    went_back = CURRENT.having(greatest_seq=5)
    assert "went back to sequence number 2" in str(product_status(went_back)["reason"])
    assert product_status(CURRENT)["reason"] is None
    empty = product_status(Record(product=PRODUCT, channel=STABLE))
    assert (empty["release"], empty["state"], empty["previous"]) == (None, "none", None)
