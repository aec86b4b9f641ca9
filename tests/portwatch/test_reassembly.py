"""Streams from segments: any order, any cut, overlaps, lies, and numbers that wrap round."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.portclass import PREFIX_BYTES
from fleetward.portwatch.reassembly import PIECE_COST, Stream

CONTENT = random.Random(5).randbytes(PREFIX_BYTES + 1_000)
PIECES = 32


def stream_at(isn: int, segments: list[tuple[int, bytes]], *, syn_after: int = 0) -> Stream:
    """Return a stream that got segments by their place; the SYN after so many of them."""
    stream = Stream(PIECES)
    for number, (place, content) in enumerate(segments):
        if number == syn_after:
            stream.begin(isn)
        stream.add((isn + 1 + place) & 0xFFFFFFFF, content)
    if syn_after >= len(segments):
        stream.begin(isn)
    return stream


@st.composite
def cuts(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    """Segments that cover the beginning of `CONTENT`, some twice, in any order."""
    length = draw(st.integers(1, 2_000))
    edges = sorted({0, length, *draw(st.lists(st.integers(0, length), max_size=10))})
    segments = [(a, CONTENT[a:b]) for a, b in pairwise(edges)]
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, length - 1))
        segments.append((start, CONTENT[start : draw(st.integers(start + 1, length))]))
    return draw(st.permutations(segments))


@given(cuts(), st.sampled_from([0, 7, 0xFFFFFFFF, 0xFFFFFF00, 1 << 31]), st.data())
def test_any_order_and_cut_gives_the_same_beginning(
    segments: list[tuple[int, bytes]], isn: int, data: st.DataObject
) -> None:
    stream = stream_at(isn, segments, syn_after=data.draw(st.integers(0, len(segments))))
    length = max(place + len(content) for place, content in segments)
    assert stream.close() == CONTENT[:length]
    assert (stream.contradictions, stream.dropped) == (0, 0)


@given(cuts(), st.sampled_from([0, 0xFFFFFF00]))
def test_without_a_syn_the_least_number_is_the_beginning(
    segments: list[tuple[int, bytes]], isn: int
) -> None:
    stream = Stream(PIECES)
    for place, content in segments:
        stream.add((isn + place) & 0xFFFFFFFF, content)
    if not stream.dropped:
        length = max(place + len(content) for place, content in segments)
        assert stream.close() == CONTENT[:length]


def test_a_stream_is_full_at_its_prefix() -> None:
    stream = stream_at(5, [(0, CONTENT[:3_000]), (3_000, CONTENT[3_000:])])
    assert stream.is_full
    assert stream.close() == CONTENT[:PREFIX_BYTES]
    stream.add(6 + PREFIX_BYTES, b"later")
    assert stream.cost == PREFIX_BYTES


@pytest.mark.parametrize("gap", [0, 5])
def test_a_retransmission_with_other_content_is_counted_and_loses(gap: int) -> None:
    """The attacker sends a harmless segment, then another one with the same number."""
    stream = stream_at(
        5, [(gap, b"GET / HT"), (gap, b"\\\\\\\\\\\\\\\\"), (0, b"12345"[:gap] or b"G")]
    )
    assert stream.close() == b"12345"[:gap] + b"GET / HT"
    assert stream.contradictions == 1


def test_an_overlap_adds_only_what_is_new() -> None:
    stream = stream_at(5, [(4, b"efgh"), (10, b"kl"), (2, b"cdXfghijkl"), (0, b"ab")])
    assert stream.close() == b"abcdefghijkl"
    assert stream.contradictions == 1


def test_what_lies_before_the_beginning_is_cut_off() -> None:
    stream = stream_at(5, [(-3, b"xyzabc"), (-1, b"?"), (1, b"bcd")])
    assert stream.close() == b"abcd"
    assert stream.contradictions == 0


def test_segments_past_the_prefix_are_not_kept() -> None:
    stream = stream_at(5, [(PREFIX_BYTES, b"far"), (1 << 30, b"farther"), (0, b"a")])
    assert (stream.close(), stream.cost) == (b"a", 1)


@pytest.mark.parametrize("syn", [0, 999])
def test_a_flood_of_single_bytes_holds_a_bounded_amount(syn: int) -> None:
    segments = [(place, b"x") for place in range(1, 600, 2)]
    stream = stream_at(5, segments, syn_after=syn)
    assert stream.dropped >= len(segments) - PIECES
    assert stream.cost <= PREFIX_BYTES + PIECES * (PIECE_COST + 1)
    stream.add(6, b"a")
    assert stream.close()[:2] == b"ax"


def test_without_a_syn_long_segments_are_bounded_too() -> None:
    stream = Stream(PIECES)
    for place in range(5):
        stream.add(place * 4_096, CONTENT)
    assert stream.dropped >= 3
    assert stream.close() == CONTENT[:PREFIX_BYTES]


def test_a_second_syn_moves_nothing() -> None:
    stream = stream_at(5, [(0, b"ab")])
    stream.begin(900)
    stream.add(8, b"c")
    assert stream.close() == b"abc"


def test_an_empty_stream() -> None:
    stream = Stream(PIECES)
    assert (stream.close(), stream.nearness(5)) == (b"", 0)
    stream.add(9, b"a")
    assert stream.nearness(5) == 4
