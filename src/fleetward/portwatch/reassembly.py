"""The first 4 KiB of one direction of a TCP stream, from segments in any order.

Invariants: what came first for a byte is kept, and a later segment that says something else of it
is counted (an attacker can show two receivers two streams so); at most `PREFIX_BYTES` are held,
in at most `stream_pieces` pieces besides the beginning; a sequence number may wrap round.

Where no SYN was seen, the beginning of the stream is the least sequence number that was, and that
is known at the end alone: until then segments wait in the order in which they came.

Deliberately not here: what the bytes are (core.portclass), windows, checksums, acknowledgements.
"""

from typing import Final

from fleetward.core.portclass import PREFIX_BYTES

_WRAP: Final = 0xFFFFFFFF
_HALF: Final = 1 << 31
PIECE_COST: Final = 120
"""Bytes that a waiting piece costs besides its content."""


class Stream:
    """One direction of a connection.

    Args:
        max_pieces: that wait for a gap to close, or for the SYN.

    Attributes:
        base: the sequence number of the first byte; None until a SYN said it.
        prefix: the beginning, without gaps.
        contradictions: segments that said something else of bytes that were there.
        dropped: segments that found no place to wait.
        cost: bytes that the stream holds, with what they cost besides.
    """

    __slots__ = ("_max_pieces", "_waiting", "base", "contradictions", "cost", "dropped", "prefix")

    def __init__(self, max_pieces: int) -> None:
        self.base: int | None = None
        self.prefix = b""
        self.contradictions = 0
        self.dropped = 0
        self.cost = 0
        self._max_pieces = max_pieces
        self._waiting: list[tuple[int, bytes]] = []

    @property
    def is_full(self) -> bool:
        """Return whether the beginning is complete."""
        return len(self.prefix) >= PREFIX_BYTES

    def begin(self, sequence: int) -> None:
        """Take note of the SYN: the first byte has the number after it."""
        if self.base is None:
            self.base = (sequence + 1) & _WRAP
            self._place_waiting(self._waiting)

    def add(self, sequence: int, content: bytes) -> None:
        """Take a segment.

        Args:
            sequence: of its first byte.
            content: not empty; only the first `PREFIX_BYTES` can matter.
        """
        base = self.base
        if base is None:
            self._wait(sequence, content[:PREFIX_BYTES])
            return
        place = (sequence - base) & _WRAP
        if place == len(self.prefix) and not self._waiting:
            self._grow(content)
        else:
            self._put(place if place < _HALF else place - _WRAP - 1, content)

    def close(self) -> bytes:
        """Return the beginning; without a SYN, from the least number that was seen."""
        if self.base is None and self._waiting:
            first = self._waiting[0][0]
            least = min(((at - first + _HALF) & _WRAP) - _HALF for at, _ in self._waiting)
            self.begin((first + least - 1) & _WRAP)
        return self.prefix

    def nearness(self, sequence: int) -> int:
        """Return how far waiting segments lie from a SYN: 0 where none waits."""
        return max((((at - sequence) & _WRAP for at, _ in self._waiting)), default=0)

    def _place_waiting(self, waiting: list[tuple[int, bytes]]) -> None:
        base, self._waiting, self.cost = self.base or 0, [], 0
        for sequence, content in waiting:
            place = (sequence - base) & _WRAP
            self._put(place if place < _HALF else place - _WRAP - 1, content)

    def _grow(self, content: bytes) -> None:
        content = content[: PREFIX_BYTES - len(self.prefix)]
        self.prefix += content
        self.cost += len(content)

    def _wait(self, place: int, content: bytes) -> None:
        held = self.cost + len(content) + PIECE_COST
        allowed = PREFIX_BYTES + self._max_pieces * PIECE_COST
        if len(self._waiting) >= self._max_pieces or held > allowed:
            self.dropped += 1
            return
        self._waiting.append((place, content))
        self.cost = held

    def _put(self, place: int, content: bytes) -> None:
        """Store what is new of a segment, and compare what is not."""
        if place < 0:
            content, place = content[-place:], 0
        content = content[: max(0, PREFIX_BYTES - place)]
        pieces = sorted([(0, self.prefix), *self._waiting])
        at, end, fresh, contradicts = place, place + len(content), [], False
        for start, held in pieces:
            stop = start + len(held)
            if stop <= at or start >= end:
                continue
            if at < start:
                fresh.append((at, content[at - place : start - place]))
            low, high = max(at, start), min(stop, end)
            contradicts |= held[low - start : high - start] != content[low - place : high - place]
            at = high
        if at < end:
            fresh.append((at, content[at - place :]))
        self.contradictions += contradicts
        for where, piece in fresh:
            if where == len(self.prefix):
                self._grow(piece)
            else:
                self._wait(where, piece)
        self._close_gap()

    def _close_gap(self) -> None:
        self._waiting.sort()
        while self._waiting and self._waiting[0][0] == len(self.prefix):
            _, content = self._waiting.pop(0)
            self.cost -= len(content) + PIECE_COST
            self._grow(content)
