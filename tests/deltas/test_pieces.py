"""Numbers and pieces as coded bits; searches that find pieces."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward.deltas import pieces as pieces_module
from fleetward.deltas.adaptive import Reader, Writer, code_number
from fleetward.deltas.alignment import THRIFTS, Alignment
from fleetward.deltas.cursor import Cursor, folded, number, unfolded
from fleetward.deltas.pieces import SHORTEST, Piece, read_pieces, write_pieces
from fleetward.errors import DocumentError


@given(st.integers(0, 2**62))
def test_a_number_has_one_form(value: int) -> None:
    cursor = Cursor(number(value))
    assert cursor.take_number(2**62) == value
    assert not cursor.left


@given(st.integers(-(2**40), 2**40))
def test_a_folded_number_unfolds(value: int) -> None:
    assert folded(value) >= 0
    assert unfolded(folded(value)) == value


@pytest.mark.parametrize("content", [b"", b"\x80", b"\x80\x00", b"\xff" * 12, b"\x7f"])
def test_a_number_in_another_form_or_too_large_is_refused(content: bytes) -> None:
    with pytest.raises(DocumentError):
        Cursor(content).take_number(100)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2**39))))
@settings(deadline=None)
def test_numbers_come_back(numbers: list[tuple[int, int]]) -> None:
    writer = Writer()
    for family, value in numbers:
        code_number(writer, family, value)
    content = writer.finish()
    reader = Reader(content)
    assert [(f, code_number(reader, f, 0)) for f, _ in numbers] == numbers
    assert not reader.left


def test_alike_numbers_take_less_than_a_byte() -> None:
    writer = Writer()
    for _ in range(1000):
        code_number(writer, 0, 66)
    assert len(writer.finish()) < 80


def test_numbers_without_end_are_cut_off() -> None:
    with pytest.raises(DocumentError):
        reader = Reader(b"\xff")
        while True:
            code_number(reader, 0, 0)


def test_a_number_of_too_many_bits_is_refused() -> None:
    with pytest.raises(DocumentError, match="40 bits"):
        code_number(Reader(bytes(20)), 0, 0)


rows = st.lists(
    st.tuples(st.integers(0, 90), st.integers(0, 5000), st.integers(SHORTEST, 900)), max_size=40
)


@given(rows, st.integers(0, 50))
@settings(deadline=None)
def test_pieces_come_back(row: list[tuple[int, int, int]], last: int) -> None:
    pieces = [Piece(*each) for each in row] + [Piece(last, 0, 0)]
    total = sum(piece.fresh + piece.length for piece in pieces)
    assert read_pieces(write_pieces(pieces), 6000, total) == pieces


@pytest.mark.parametrize(
    ("content", "near", "total"),
    [
        (write_pieces([Piece(0, 50, 60), Piece(0, 0, 0)]), 100, 60),
        (write_pieces([Piece(9, 0, 60), Piece(0, 0, 0)]), 100, 60),
        (write_pieces([Piece(0, 0, 60), Piece(0, 0, 0)]), 100, 61),
        (write_pieces([Piece(0, 0, 60), Piece(0, 0, 0)]) + b"more than four", 100, 60),
        (write_pieces([Piece(0, 0, 8), Piece(0, -8, 9), Piece(0, 0, 0)]), 100, 17),
    ],
)
def test_pieces_that_do_not_fit_are_refused(content: bytes, near: int, total: int) -> None:
    with pytest.raises(DocumentError):
        read_pieces(content, near, total)


def test_too_many_pieces_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = write_pieces([Piece(0, 0, 8)] * 20 + [Piece(0, 0, 0)])
    monkeypatch.setattr(pieces_module, "MOST_PIECES", 10)
    with pytest.raises(DocumentError, match="more than"):
        read_pieces(content, 100, 160)


texts = st.lists(st.sampled_from([b"a line of a rule\n", b"another line\n", b"x", b"\0"])).map(
    b"".join
)


@given(texts, texts, st.sampled_from(THRIFTS))
@settings(deadline=None)
def test_pieces_that_are_found_make_the_payload(near: bytes, payload: bytes, thrift: float) -> None:
    assert _made(near, payload, Alignment(near).pieces(payload, thrift)) == payload


def test_a_moved_line_is_found() -> None:
    lines = [b"line %d of %d\n" % (i, i * i) for i in range(400)]
    moved = [*lines[100:], b"fresh\n", *lines[:100]]
    near, payload = b"".join(lines), b"".join(moved)
    pieces = Alignment(near).pieces(payload, THRIFTS[1])
    assert _made(near, payload, pieces) == payload
    assert sum(piece.fresh for piece in pieces) < 20


def test_a_long_fresh_stretch_is_passed_in_a_hurry() -> None:
    payload = random.Random(1).randbytes(60_000)
    assert Alignment(b"abcdefgh" * 9).pieces(payload, 0.6) == [Piece(60_000, 0, 0)]


def _made(near: bytes, payload: bytes, pieces: list[Piece]) -> bytes:
    out, at = [], 0
    for piece in pieces:
        out += [payload[at : at + piece.fresh], near[piece.start : piece.start + piece.length]]
        at += piece.fresh + piece.length
    return b"".join(out)
