"""The target of a long poll, both ways."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.errors import DocumentError
from fleetward.wire.announcement import MAX_VERSION
from fleetward.wire.watch import WATCH_PATH, parse_after, watch_target


@given(st.integers(min_value=0, max_value=MAX_VERSION))
def test_what_is_written_is_read(after: int) -> None:
    path, _, query = watch_target(after).partition("?")
    assert path == WATCH_PATH
    assert parse_after(query) == after


@pytest.mark.parametrize(
    "query",
    [
        "",
        "after",
        "after=",
        "after=-1",
        "after=+1",
        "after=01",
        "after=1.0",
        "after=0x10",
        "after=1&after=2",
        "after=1&b=2",
        "b=2&after=1",
        "AFTER=1",
        "after= 1",
        "after=1\n",
        "after=%31",
        "after=\N{ARABIC-INDIC DIGIT ONE}",
        "after=9223372036854775808",
        "after=99999999999999999999",
    ],
)
def test_nonsense_is_one_error(query: str) -> None:
    with pytest.raises(DocumentError):
        parse_after(query)


@given(st.text(max_size=40))
def test_any_text_is_a_version_or_one_error(query: str) -> None:
    with contextlib.suppress(DocumentError):
        assert 0 <= parse_after(query) <= MAX_VERSION
