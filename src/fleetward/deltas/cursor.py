"""Whole numbers and byte strings inside a delta, read with typed errors and bounds.

A number is written in groups of seven bits, least significant group first; every byte but the
last has its top bit set; the last byte of a number of two or more bytes is not zero, so that each
number has one form. A signed number is folded first: to `2n` for `n >= 0`, else to `-2n - 1`.

Deliberately not here: what the numbers mean.
"""

from fleetward.errors import DocumentError


class UnusableDeltaError(DocumentError):
    """A sound delta that this host cannot apply: the caller takes another delta or the pack.

    Its codec is unknown here, it takes more memory than the host allows, or this host's zlib does
    not make the bytes that the origin's made.
    """


MAX_NUMBER_BYTES = 9
"""63 bits: more than any length; stops a number without end."""


def number(value: int) -> bytes:
    """Return `value` (0 or more, under 2**63) as written in a delta."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def folded(value: int) -> int:
    """Return `value`, of either sign, as a number that is small where it is near zero."""
    return 2 * value if value >= 0 else -2 * value - 1


def unfolded(value: int) -> int:
    """Return the number that `folded` made `value` of."""
    return -(value + 1 >> 1) if value & 1 else value >> 1


class Cursor:
    """A place in bytes that were received; each `take_…` moves it on."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes follow."""
        return len(self._content) - self._at

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes.

        Raises:
            DocumentError: fewer follow.
        """
        if length > self.left:
            raise DocumentError(f"the delta ends {length - self.left} bytes too early")
        self._at += length
        return self._content[self._at - length : self._at]

    def take_number(self, most: int) -> int:
        """Return the next number.

        Raises:
            DocumentError: it is cut off, above `most`, or not in its shortest form.
        """
        value = 0
        for place in range(MAX_NUMBER_BYTES):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                if value > most or (place and not byte):
                    break
                return value
        raise DocumentError(f"the delta has a number above {most} or in a wrong form")

    def take_rest(self) -> bytes:
        """Return all that follows."""
        return self.take(self.left)
