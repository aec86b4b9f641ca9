"""Gzip members inside a file, opened where making them again gives the same bytes.

A **recipe** says how a file's content travels: a row of members, each with the plain bytes that
stand before it, and the plain bytes behind the last one. A file without members is plain.
"""

from dataclasses import dataclass

from fleetward.core.limits import TreeLimits
from fleetward.deltas.cursor import Cursor, number
from fleetward.errors import DocumentError

_LIMITS = TreeLimits()


@dataclass(frozen=True, slots=True)
class Member:
    """One deflate stream of a file, travelling inflated.

    Attributes:
        gap: plain bytes before it.
        inflated: bytes of its content.
        encoder: index of what makes it again in the delta's list of encoders.
        cuts: tokens in each of its blocks; empty where the encoder's own blocks are right.
    """

    gap: int
    inflated: int
    encoder: int
    cuts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one file's content travels.

    Attributes:
        members: what was opened, in the file's order.
        tail: plain bytes behind the last member; all bytes where there is none.
    """

    members: tuple[Member, ...]
    tail: int

    @property
    def body(self) -> int:
        """How many bytes of payload the file takes."""
        return sum(member.gap + member.inflated for member in self.members) + self.tail


def recipe_bytes(recipe: Recipe) -> bytes:
    """Return `recipe` as it stands in a script."""
    out = bytearray()
    for member in recipe.members:
        out += number(member.gap) + number(member.inflated) + number(member.encoder)
        out += number(len(member.cuts)) + b"".join(map(number, member.cuts))
    return bytes(out + number(recipe.tail))


def read_recipe(cursor: Cursor, members: int) -> Recipe:
    """Return the recipe of `members` members at `cursor`.

    Raises:
        DocumentError: it is cut off or has a number above the tree's limits.
    """
    if members > cursor.left:
        raise DocumentError("the delta opens more members than it describes")
    most = _LIMITS.max_bytes
    rows = []
    for _ in range(members):
        gap, inflated, encoder = (cursor.take_number(most) for _ in range(3))
        cuts = tuple(cursor.take_number(most) for _ in range(cursor.take_number(cursor.left)))
        rows.append(Member(gap, inflated, encoder, cuts))
    return Recipe(tuple(rows), cursor.take_number(most))
