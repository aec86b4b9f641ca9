"""Finding which long pieces of a payload stand in its reference, in what order; origin only.

The reference is indexed at every fourth byte; a piece is looked for at each byte of the payload,
preferably near where the piece before it ended, and grown to both sides. Only long pieces pay:
what lies between them goes through Zstandard, whose prefix has the whole reference, so short
likenesses are not lost.

Deliberately not here: pieces that differ in a few bytes, as in programs; hdiffpatch sees to them.
"""

from bisect import bisect_left

from fleetward.deltas.pieces import MOST_PIECES, SHORTEST, Piece

_KEY = 16
"""Bytes by which a place in the reference is found."""

_STRIDE = 4
"""Every so many bytes the reference is indexed; every piece of 19 bytes holds an indexed key."""

_INDEXED = 1_000_000
"""Places that are indexed at most (some 150 bytes of memory each); the stride grows to keep it."""

_HURRY = 1 << 12
"""Fresh bytes after which the search takes longer steps, by one byte for each so many."""

_NEAREST = 4
"""Starts of alike lines that are looked at, on either side of where the next is expected."""

_JUMP_COST, _STEP_COST = 20, 9
"""Bits that a piece takes which starts anywhere, and where the one before suggests; measured."""

THRIFTS = (0.25, 0.4, 0.6)
"""Bits that each byte of a piece may save, as assumptions to try: few long pieces to many short."""

_Found = tuple[float, int, int, int]
"""Gain in bits, length, and places in payload and reference."""


class Alignment:
    """The index of one reference, for several searches."""

    def __init__(self, near: bytes) -> None:
        self._near = near
        self._places: dict[bytes, list[int]] = {}
        stride = max(_STRIDE, len(near) // _INDEXED)
        for at in range(0, len(near) - _KEY + 1, stride):
            self._places.setdefault(near[at : at + _KEY], []).append(at)

    def pieces(self, payload: bytes, thrift: float) -> list[Piece]:
        """Return pieces that make `payload`; the last has length 0.

        Args:
            payload: what to make.
            thrift: bits that each byte of a piece saves.
        """
        pieces: list[Piece] = []
        at = fresh_from = expected = 0
        while at < len(payload) and len(pieces) < MOST_PIECES - 1:
            ended = (expected, fresh_from)
            found = self._best(payload, at, ended, thrift)
            if found is None:
                at += 1 + (at - fresh_from) // _HURRY
                continue
            tries = range(at + 1, min(at + _STRIDE, len(payload)))
            later = (self._best(payload, place, ended, thrift) for place in tries)
            _, length, at, start = max([found, *filter(None, later)])
            pieces.append(Piece(at - fresh_from, start, length))
            at, expected = at + length, start + length
            fresh_from = at
        return [*pieces, Piece(len(payload) - fresh_from, 0, 0)]

    def _best(
        self, payload: bytes, at: int, ended: tuple[int, int], thrift: float
    ) -> _Found | None:
        """Return the most useful piece through `payload[at]`; None where none is of use.

        Args:
            payload: what to make.
            at: a byte of it that the piece covers.
            ended: where the piece before ended in the reference and in the payload.
            thrift: as in `pieces`.
        """
        inserted, replaced = ended[0], ended[0] + at - ended[1]
        places = self._places.get(payload[at : at + _KEY], [])
        middle = bisect_left(places, inserted)
        best: _Found | None = None
        for start in (replaced, inserted, *places[max(0, middle - _NEAREST) : middle + _NEAREST]):
            if self._near[start : start + 4] != payload[at : at + 4]:
                continue
            back = _common_before(self._near, start, payload, at, at - ended[1])
            length = back + _common(self._near, start, payload, at)
            cost = _STEP_COST if start in {inserted, replaced} else _JUMP_COST
            gain = length * thrift - cost
            if gain > 0 and length >= SHORTEST and (best is None or gain > best[0]):
                best = gain, length, at - back, start - back
        return best


def _common(one: bytes, at_one: int, two: bytes, at_two: int) -> int:
    """Return how many bytes `one[at_one:]` and `two[at_two:]` have in common."""
    most = max(0, min(len(one) - at_one, len(two) - at_two))
    length, step, growing = 0, 64, True
    while length < most and step:
        step = min(step, most - length)
        here, there = at_one + length, at_two + length
        if one[here : here + step] == two[there : there + step]:
            length += step
            step = step * 2 if growing else step
        else:
            step, growing = step // 2, False
    return length


def _common_before(one: bytes, at_one: int, two: bytes, at_two: int, most: int) -> int:
    """Return how many bytes before the two places agree, `most` at most."""
    most = min(most, at_one)
    length = 0
    while length < most and one[at_one - length - 1] == two[at_two - length - 1]:
        length += 1
    return length
