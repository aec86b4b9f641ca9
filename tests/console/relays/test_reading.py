"""What a relay says of itself, whoever speaks."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.console.relays.reading import (
    MAX_NUMBER,
    MAX_ROWS,
    MAX_TEXT,
    Counters,
    Said,
    counters_of,
    read_status,
    said_of,
    stored,
)
from fleetward.errors import DocumentError

STATUS = {
    "schema": "fleetward.relay-status/1",
    "upstreams": [{"url": "https://origin.example", "state": "ready"}],
    "upstream_bytes": 1_000,
    "delivered_bytes": 90_000,
    "hits": 90,
    "misses": 10,
    "overloaded": 1,
    "server": {"connections": 12},
    "closure": {"version": 77, "is_complete": False, "problem": "a manifest is missing"},
    "spool": {"bytes": 5, "max_bytes": 50, "check_ins": 3, "hosts": 2, "damaged": 1},
    "storage": {"bytes": 400, "free_bytes": 9_000},
    "watchers": {"waiting": 11},
    "limits": {"bandwidth": {"rate": 125_000, "hours": [1]}, "clients": {"per_second": 5.5}},
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=20,
)


def test_a_usual_answer_is_read() -> None:
    reading = read_status(json.dumps(STATUS).encode())
    assert reading.counters == Counters(
        hits=90, misses=10, upstream_bytes=1_000, delivered_bytes=90_000, overloaded=1
    )
    said = reading.said
    assert (said.closure, said.is_complete, said.connections, said.watchers) == (77, False, 12, 11)
    assert (said.spool_bytes, said.spool_max, said.free_bytes) == (5, 50, 9_000)
    assert said.upstreams == (("https://origin.example", "ready"),)
    assert said.problems == ("closure: a manifest is missing", "spool: 1 stretches damaged")
    assert said.limits == (("bandwidth.rate", "125000"), ("clients.per_second", "5.5"))


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"7", b"\xff", b"[" * 100_000])
def test_what_is_no_status_is_refused(content: bytes) -> None:
    with pytest.raises(DocumentError):
        read_status(content)


@given(st.dictionaries(st.sampled_from([*STATUS, "other"]), json_values))
def test_whatever_a_relay_says_is_bounded_and_comes_back_from_a_row(
    document: dict[str, object],
) -> None:
    reading = read_status(json.dumps(document).encode())
    counters = json.loads(json.dumps(stored(reading.counters)))
    said = json.loads(json.dumps(stored(reading.said)))
    assert counters_of(counters) == reading.counters
    assert said_of(said) == reading.said
    assert all(0 <= value <= MAX_NUMBER for value in counters.values())


def test_a_relay_that_says_endless_things_is_cut() -> None:
    """An attacker's relay sends megabytes of upstreams, problems and limits to fill the database."""
    endless = {f"part{n}": {"problem": "x" * 10_000} for n in range(1_000)}
    document = {
        **endless,
        "hits": 1 << 80,
        "misses": -5,
        "upstreams": [{"url": "u" * 9_000, "state": "s"}] * 1_000,
        "limits": {f"g{n}": {f"k{m}": 1 for m in range(100)} for n in range(100)},
    }
    reading = read_status(json.dumps(document).encode())
    assert (reading.counters.hits, reading.counters.misses) == (MAX_NUMBER, 0)
    assert len(reading.said.upstreams) == len(reading.said.problems) == MAX_ROWS
    assert len(reading.said.limits) == MAX_ROWS * MAX_ROWS
    assert all(len(problem) <= MAX_TEXT for problem in reading.said.problems)


def test_terminal_escapes_become_spaces() -> None:
    reading = read_status(json.dumps({"mdns": {"problem": "a\x1b[2Jb\x00"}}).encode())
    assert reading.said.problems == ("mdns: a [2Jb ",)


def test_differences_are_what_happened_since() -> None:
    before, now = Counters(hits=10, misses=2), Counters(hits=25, misses=2)
    assert now.since(before) == Counters(hits=15)


def test_a_relay_that_started_anew_counts_from_nothing() -> None:
    before, now = Counters(hits=1_000, upstream_bytes=5), Counters(hits=3, upstream_bytes=7)
    assert now.since(before) == now


def test_a_relay_that_never_answered_said_nothing() -> None:
    assert said_of({}) == Said()
    assert counters_of({"hits": "many"}) == Counters()
