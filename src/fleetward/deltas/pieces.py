"""A payload as pieces of its reference with fresh bytes between them.

A row of pieces is coded with deltas.adaptive. Where the next is expected is the end of the piece
before in the reference, 0 at first. Of each piece: the count of fresh bytes before it (family 0);
its length, less 7, or 0 at the end of the row (family 1); then where it starts. Two bits at most
say where: first whether it does not start at the expected place moved on by the fresh bytes
(context 131072, or 131073 where there are fresh ones); if so and there are fresh bytes, whether it
does not start at the expected place either (context 131074). Else follows the distance from the
expected place: whether it is negative (context 131075), and its amount (family 3 forwards, 4
backwards).

Deliberately not here: finding pieces (deltas.alignment) and the fresh bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fleetward.deltas.adaptive import Coder, Reader, Writer, code_number
from fleetward.errors import DocumentError

SHORTEST = 8
"""Bytes of a piece: stops a row of pieces that make nothing."""

MOST_PIECES = 1 << 16
"""Pieces of a payload: half a second of a host's time."""

_FRESH, _LENGTH, _PLACE, _FORWARDS, _BACKWARDS = range(5)
_MOVED, _MOVED_FRESH, _STAYED, _NEGATIVE = range(_PLACE << 16, (_PLACE << 16) + 4)


@dataclass(frozen=True, slots=True)
class Piece:
    """Fresh bytes, then bytes of the reference.

    Attributes:
        fresh: bytes of payload before the piece, which travel.
        start: where the piece lies in the reference.
        length: its bytes; 0 in the last.
    """

    fresh: int
    start: int
    length: int


def write_pieces(pieces: Sequence[Piece]) -> bytes:
    """Return `pieces`, the last of which has length 0, as coded."""
    writer = Writer()
    expected = 0
    for piece in pieces:
        _code(writer, piece, expected)
        expected = piece.start + piece.length
    return writer.finish()


def read_pieces(content: bytes, near_length: int, payload_length: int) -> list[Piece]:
    """Return the pieces that make a payload.

    Raises:
        DocumentError: they reach past the reference, make another length, or are cut off.
    """
    reader = Reader(content)
    pieces: list[Piece] = []
    expected = made = 0
    while not pieces or pieces[-1].length:
        piece = _code(reader, Piece(0, 0, 0), expected)
        expected = piece.start + piece.length
        made += piece.fresh + piece.length
        if piece.start < 0 or expected > near_length or made > payload_length:
            raise DocumentError("a piece of the delta reaches past what there is")
        if len(pieces) >= MOST_PIECES:
            raise DocumentError(f"the delta has more than {MOST_PIECES} pieces")
        pieces.append(piece)
    if made != payload_length or reader.left:
        raise DocumentError("the pieces of the delta do not make its payload")
    return pieces


def _code(coder: Coder, piece: Piece, expected: int) -> Piece:
    """Code `piece` and return it; with a reader, return the one that is read."""
    fresh = code_number(coder, _FRESH, piece.fresh)
    coded = code_number(coder, _LENGTH, max(0, piece.length - SHORTEST + 1))
    if not coded:
        return Piece(fresh, 0, 0)
    some = int(fresh > 0)
    length = coded + SHORTEST - 1
    if not coder.bit(_MOVED_FRESH if some else _MOVED, int(piece.start != expected + fresh)):
        return Piece(fresh, expected + fresh, length)
    if some and not coder.bit(_STAYED, int(piece.start != expected)):
        return Piece(fresh, expected, length)
    distance = piece.start - expected
    if coder.bit(_NEGATIVE, int(distance < 0)):
        return Piece(fresh, expected - code_number(coder, _BACKWARDS, abs(distance)), length)
    return Piece(fresh, expected + code_number(coder, _FORWARDS, abs(distance)), length)
