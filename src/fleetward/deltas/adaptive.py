"""An adaptive binary range coder: numbers in less than a byte where they are alike.

Each bit has a context, and each context a probability that follows the bits seen in it. A number
`v` is written as the bit count `k` of `v + 1` in unary (`k - 1` ones, then a zero), then the `k - 1`
bits under the top one, most significant first. The contexts of the unary part are its places; of
the bits under the top one, `k` and the bits before, as far as the first six; the rest have even
odds. All is whole-number arithmetic, so that every machine decodes the same.

The coder keeps a range of 32 bits, `low` to `high`; a bit that is 1 with the probability `p / 2**16`
keeps the part up to `low + ((high - low) * p >> 16)`, a 0 the part above; top bytes that agree are
written. At the end the fewest bytes that lie in the range are written; zeros follow them. A
context's probability begins at `2**15` and moves by `1 / (n + 1.5)` of the way at its n-th bit
(n from 0, 30 at most), and stays within 32 and `2**16 - 32`.

Deliberately not here: what the numbers mean (deltas.pieces).
"""

from typing import Protocol

from fleetward.errors import DocumentError

_ONE = 1 << 16
_LEAST = 32
_SLOWEST = 30
_RATES = [2 * _ONE // (2 * n + 3) for n in range(_SLOWEST + 1)]
_EVEN = -1
_MODELLED_BITS = 6
_MAX_NUMBER_BITS = 40

_ALL = 0xFFFFFFFF
_TOP = 0xFF000000


class Coder(Protocol):
    """Either end: the writer takes a bit and returns it, the reader ignores it and returns one."""

    def bit(self, context: int, bit: int) -> int:
        """Code one bit in `context` (a number from 0; -1 for even odds) and return it."""
        ...


class _Contexts:
    """The probability of a one in each context."""

    def __init__(self) -> None:
        self._states: dict[int, tuple[int, int]] = {}

    def odds(self, context: int) -> int:
        """Return the probability of a one, of 65,536."""
        return self._states.get(context, (_ONE // 2, 0))[0] if context >= 0 else _ONE // 2

    def learn(self, context: int, bit: int) -> None:
        """Move the probability towards `bit`."""
        if context < 0:
            return
        odds, seen = self._states.get(context, (_ONE // 2, 0))
        odds += ((_ONE if bit else 0) - odds) * _RATES[seen] >> 16
        odds = min(max(odds, _LEAST), _ONE - _LEAST)
        self._states[context] = odds, min(seen + 1, _SLOWEST)


class Writer:
    """Codes bits into bytes."""

    def __init__(self) -> None:
        self._contexts = _Contexts()
        self._low, self._high = 0, _ALL
        self._out = bytearray()

    def bit(self, context: int, bit: int) -> int:
        """Write `bit` and return it."""
        middle = self._low + ((self._high - self._low) * self._contexts.odds(context) >> 16)
        if bit:
            self._high = middle
        else:
            self._low = middle + 1
        self._contexts.learn(context, bit)
        while not (self._low ^ self._high) & _TOP:
            self._out.append(self._high >> 24)
            self._low = self._low << 8 & _ALL
            self._high = self._high << 8 & _ALL | 0xFF
        return bit

    def finish(self) -> bytes:
        """Return all bytes; the shortest that decode to what was written."""
        for count in range(5):
            kept = (_ALL >> 8 * count) if count < 4 else 0
            value = (self._low + kept) & ~kept & _ALL
            if self._low <= value <= self._high:
                self._out += value.to_bytes(4, "big")[:count]
                break
        while self._out and not self._out[-1]:
            self._out.pop()
        return bytes(self._out)


class Reader:
    """Decodes what `Writer` made; zeros follow the end, so it never runs dry in a bounded loop."""

    def __init__(self, content: bytes) -> None:
        self._contexts = _Contexts()
        self._low, self._high = 0, _ALL
        self._content = content
        self._at = 4
        self._value = int.from_bytes(content[:4].ljust(4, b"\0"), "big")

    @property
    def left(self) -> int:
        """How many bytes of content no bit has come from yet."""
        return max(0, len(self._content) - self._at)

    def bit(self, context: int, bit: int) -> int:
        """Return the next bit.

        Raises:
            DocumentError: the end lies far behind.
        """
        del bit
        middle = self._low + ((self._high - self._low) * self._contexts.odds(context) >> 16)
        found = int(self._value <= middle)
        if found:
            self._high = middle
        else:
            self._low = middle + 1
        self._contexts.learn(context, found)
        while not (self._low ^ self._high) & _TOP:
            self._shift()
        return found

    def _shift(self) -> None:
        following = self._content[self._at] if self._at < len(self._content) else 0
        self._at += 1
        if self._at > len(self._content) + 8:
            raise DocumentError("the delta's numbers are cut off")
        self._low = self._low << 8 & _ALL
        self._high = self._high << 8 & _ALL | 0xFF
        self._value = self._value << 8 & _ALL | following


def code_number(coder: Coder, family: int, value: int) -> int:
    """Code `value` (0 or more) among the numbers of `family` and return it.

    Args:
        coder: a writer, or a reader (which ignores `value`).
        family: a number from 0 that keeps the contexts of unlike numbers apart.
        value: what a writer writes.

    Raises:
        DocumentError: a reader finds more than 40 bits.
    """
    above = family << 16
    wanted = (value + 1).bit_length()
    bits = 1
    while coder.bit(above | bits, int(bits < wanted)):
        bits += 1
        if bits > _MAX_NUMBER_BITS:
            raise DocumentError("the delta has a number of more than 40 bits")
    made = 1
    for place in reversed(range(bits - 1)):
        known = bits - 1 - place
        context = above | bits << 8 | 1 << 14 | made if known <= _MODELLED_BITS else _EVEN
        made = made << 1 | coder.bit(context, (value + 1) >> place & 1)
    return made - 1
