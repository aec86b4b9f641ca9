"""Conditional and range requests (RFC 9110), without a socket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.httpd.conditional import (
    NOT_MODIFIED,
    WHOLE,
    NotSatisfiable,
    Part,
    Selection,
    http_date,
    parse_http_date,
    represent,
    select,
)

ETAG = b'"0123456789abcdef"'


@pytest.mark.parametrize(
    ("wanted", "selection"),
    [
        (b"bytes=0-0", Part(0, 1)),
        (b"bytes=0-511", Part(0, 100)),
        (b"bytes=90-", Part(90, 10)),
        (b"bytes=90-94", Part(90, 5)),
        (b"BYTES=99-99", Part(99, 1)),
        (b"bytes=-10", Part(90, 10)),
        (b"bytes=-1000", Part(0, 100)),
        (b"bytes=-0", NotSatisfiable()),
        (b"bytes=100-", NotSatisfiable()),
        (b"bytes=100-200", NotSatisfiable()),
        (b"bytes=5-4", WHOLE),
        (b"bytes=-", WHOLE),
        (b"bytes=", WHOLE),
        (b"bytes=0-1,5-6", WHOLE),
        (b"lines=0-1", WHOLE),
        (b"bytes=a-b", WHOLE),
        (b"bytes=0-1-2", WHOLE),
        (b"bytes=+0-1", WHOLE),
        (b"bytes=0000000000000000000000-1", WHOLE),
    ],
)
def test_a_range_header(wanted: bytes, selection: Selection) -> None:
    assert select("GET", {b"range": wanted}, ETAG, 100) == selection
    assert select("HEAD", {b"range": wanted}, ETAG, 100) == WHOLE


@pytest.mark.parametrize(
    ("condition", "is_known"),
    [
        (ETAG, True),
        (b"*", True),
        (b" * ", True),
        (b"W/" + ETAG, True),
        (b'"x", ' + ETAG + b' , "y"', True),
        (b'"x"', False),
        (b"0123456789abcdef", False),
        (b"", False),
    ],
)
def test_if_none_match(condition: bytes, is_known: bool) -> None:  # noqa: FBT001
    headers = {b"if-none-match": condition, b"range": b"bytes=0-0"}
    expected = NOT_MODIFIED if is_known else Part(0, 1)
    assert select("GET", headers, ETAG, 100) == expected


@pytest.mark.parametrize(
    ("condition", "selection"),
    [
        (ETAG, Part(0, 1)),
        (b'"other"', WHOLE),
        (b"W/" + ETAG, WHOLE),
        (b"Tue, 24 Nov 2026 03:00:08 GMT", WHOLE),
    ],
)
def test_if_range_needs_the_same_strong_tag(condition: bytes, selection: Selection) -> None:
    headers = {b"range": b"bytes=0-0", b"if-range": condition}
    assert select("GET", headers, ETAG, 100) == selection


@given(st.binary(max_size=40), st.integers(0, 1000))
def test_a_part_lies_inside_the_file(wanted: bytes, length: int) -> None:
    selection = select("GET", {b"range": b"bytes=" + wanted}, ETAG, length)
    if isinstance(selection, Part):
        assert selection.length >= 1
        assert 0 <= selection.first <= selection.first + selection.length <= length


def test_each_selection_has_its_response() -> None:
    content = bytes(range(100))
    headers = (("ETag", ETAG.decode()),)

    def body(first: int, length: int) -> bytes:
        return content[first : first + length]

    part = represent(Part(10, 5), headers, 100, body)
    assert (part.status, part.body) == (206, content[10:15])
    assert ("Content-Range", "bytes 10-14/100") in part.headers
    assert represent(WHOLE, headers, 100, body).body == content
    assert represent(NOT_MODIFIED, headers, 100, body).encoded == b"ETag: " + ETAG + b"\r\n"
    beyond = represent(NotSatisfiable(), headers, 100, body)
    assert beyond.headers == (("Content-Range", "bytes */100"),)


WHEN = 784_111_777
"""Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110 section 5.6.7."""


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        (b"Sun, 06 Nov 1994 08:49:37 GMT", WHEN),
        (b" Sun, 06 Nov 1994 08:49:37 GMT ", WHEN),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", WHEN),
        (b"Sun Nov  6 08:49:37 1994", WHEN),
        (b"Sun, 06 Nov 1994 10:49:37 +0200", WHEN),
        (b"", None),
        (b"yesterday", None),
        (b"Sun, 06 Nov 99999999 08:49:37 GMT", None),
        (b"Sun, 66 Nov 1994 08:49:37 GMT", None),
        (b"\xff\xfe", None),
        (b"0", None),
    ],
)
def test_a_date_has_three_forms(text: bytes, instant: int | None) -> None:
    assert parse_http_date(text) == instant


def test_a_date_is_written_in_the_preferred_form() -> None:
    assert http_date(WHEN) == "Sun, 06 Nov 1994 08:49:37 GMT"


@given(st.integers(0, 4_000_000_000))
def test_a_written_date_reads_back(instant: int) -> None:
    assert parse_http_date(http_date(instant).encode()) == instant


@pytest.mark.parametrize(
    ("since", "is_known"), [(WHEN - 1, False), (WHEN, True), (WHEN + 1, True), (4 * WHEN, True)]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_modified_since(method: str, since: int, *, is_known: bool) -> None:
    headers = {b"if-modified-since": http_date(since).encode()}
    expected = NOT_MODIFIED if is_known else WHOLE
    assert select(method, headers, ETAG, 100, WHEN) == expected
    assert select(method, headers, ETAG, 100) == WHOLE, "a file without a date has no opinion"


def test_a_tag_outweighs_a_date() -> None:
    """RFC 9110 section 13.1.3: If-Modified-Since is passed over where If-None-Match is sent."""
    later = http_date(WHEN + 9).encode()
    headers = {b"if-none-match": b'"other"', b"if-modified-since": later}
    assert select("GET", headers, ETAG, 100, WHEN) == WHOLE


def test_a_date_that_is_none_is_passed_over() -> None:
    assert select("GET", {b"if-modified-since": b"never"}, ETAG, 100, WHEN) == WHOLE


@pytest.mark.parametrize(
    ("condition", "modified", "is_part"),
    [
        (http_date(WHEN).encode(), WHEN, True),
        (http_date(WHEN + 1).encode(), WHEN, False),
        (http_date(WHEN - 1).encode(), WHEN, False),
        (http_date(WHEN).encode(), None, False),
        (b"W/" + ETAG, WHEN, False),
        (ETAG, WHEN, True),
        (b"rubbish", WHEN, False),
    ],
)
def test_a_resume_needs_the_very_same_content(
    condition: bytes, modified: int | None, *, is_part: bool
) -> None:
    headers = {b"range": b"bytes=10-", b"if-range": condition}
    selection = select("GET", headers, ETAG, 100, modified)
    assert selection == (Part(10, 90) if is_part else WHOLE)
