"""The token bucket against its definition, and the table of clients against a model."""

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.relay.bucket import Bucket, Buckets, client_of, retry_after

PAUSES = st.floats(0, 100, allow_nan=False)
RATES = st.floats(0.1, 1e6)
BURSTS = st.floats(0, 1e6)
STEPS = st.lists(st.tuples(PAUSES, st.floats(0, 1e6)), max_size=40)


@given(RATES, BURSTS, STEPS)
def test_it_never_grants_more_than_the_burst_the_rate_and_one_spend(
    rate: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    """Over any span from the start, whoever asks `wait` first and spends only at 0."""
    bucket = Bucket(rate, burst, 0.0)
    now = granted = last = 0.0
    for pause, count in steps:
        now += pause
        if bucket.wait(now) == 0:
            granted, last = granted + count, count
        assert granted - last <= (burst + rate * now) * (1 + 1e-9) + 1e-6
        if last == count and bucket.wait(now) == 0:
            bucket.spend(count, now)
        elif last == count:
            granted -= count
            last = 0.0


@given(RATES, BURSTS, st.floats(0, 1e7))
def test_a_debt_is_paid_exactly_when_it_says(rate: float, burst: float, count: float) -> None:
    bucket = Bucket(rate, burst, 50.0)
    bucket.spend(count, 50.0)
    wait = bucket.wait(50.0)
    assert wait == pytest.approx(max(0.0, (count - burst) / rate), abs=2e-6)
    if wait > 1:
        assert bucket.wait(50.0 + wait * 0.9) > 0
    assert bucket.wait(50.0 + wait * 1.001 + 1e-6) == 0


@given(st.lists(st.tuples(PAUSES, st.integers(1, 5)), max_size=50))
def test_take_spends_whole_tokens_or_nothing(steps: list[tuple[float, int]]) -> None:
    bucket = Bucket(2.0, 10.0, 0.0)
    now, tokens = 0.0, 10.0
    for pause, count in steps:
        now += pause
        tokens = min(10.0, tokens + 2.0 * pause)
        wait = bucket.take(count, now)
        if wait == 0:
            tokens -= count
            assert tokens >= -1e-6
        else:
            assert wait == pytest.approx((count - tokens) / 2.0, abs=1e-6)


def test_no_rate_is_no_limit() -> None:
    bucket = Bucket(0, 0, 0.0)
    bucket.spend(1e12, 0.0)
    assert bucket.wait(0.0) == 0
    assert bucket.take(1e12, 0.0) == 0


def test_a_new_rate_holds_at_once_for_old_debts_too() -> None:
    bucket = Bucket(10, 100, 0.0)
    bucket.spend(300, 0.0)
    assert bucket.wait(0.0) == 20
    bucket.set_rate(100, 100, 10.0)
    assert bucket.wait(10.0) == 1
    bucket.set_rate(0, 0, 10.0)
    assert bucket.wait(10.0) == 0
    bucket.set_rate(10, 50, 20.0)
    bucket.spend(60, 20.0)
    assert bucket.wait(20.0) == 1


def test_a_clock_that_stands_still_or_goes_back_grants_nothing() -> None:
    bucket = Bucket(1, 0, 100.0)
    bucket.spend(1, 100.0)
    assert bucket.wait(50.0) == 1
    assert bucket.wait(100.0) == 1


@given(st.lists(st.sampled_from("abcdefgh"), max_size=60), st.integers(1, 5))
def test_the_table_keeps_the_most_recent_clients(asked: list[str], bound: int) -> None:
    table = Buckets(1, 5, bound)
    model: OrderedDict[str, Bucket] = OrderedDict()
    for name in asked:
        bucket = table.of(name, 0.0)
        if name in model:
            assert bucket is model[name]
            model.move_to_end(name)
        else:
            assert all(bucket is not other for other in model.values())
            model[name] = bucket
            if len(model) > bound:
                model.popitem(last=False)
        assert len(table) == len(model) <= bound


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("nonsense", "nonsense"),
    ],
)
def test_what_counts_as_one_client(address: str, client: str) -> None:
    """A host with a /64 of its own takes a fresh address for each request, and gains nothing."""
    assert client_of(address) == client


def test_a_client_is_told_to_come_back_in_whole_seconds() -> None:
    assert retry_after(0.0) == ("Retry-After", "1")
    assert retry_after(1.2) == ("Retry-After", "2")
