"""Pages of rows by a cursor.

The cursor is the key of the last row shown, so that rows that come meanwhile shift nothing, and the
last page costs what the first does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.db.models import Model, QuerySet

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True, slots=True)
class Slice(Generic[Row]):
    """Some rows, and where the next begin.

    Attributes:
        rows: at most as many as were asked for.
        after: the cursor for the next; None at the end.
    """

    rows: Sequence[Row]
    after: int | None


def slice_after(
    rows: QuerySet[Row], cursor: int | None, limit: int, *, descending: bool = False
) -> Slice[Row]:
    """Return the rows after a cursor, by primary key.

    Args:
        rows: any query; its order is replaced.
        cursor: the `after` of the slice before; None for the first.
        limit: how many rows at most.
        descending: newest first.
    """
    if cursor is not None:
        rows = rows.filter(**{"pk__lt" if descending else "pk__gt": cursor})
    found = list(rows.order_by("-pk" if descending else "pk")[: limit + 1])
    has_more = len(found) > limit
    found = found[:limit]
    return Slice(found, found[-1].pk if has_more else None)


def cursor_in(text: str) -> int | None:
    """Return a cursor out of a URL; one that is none begins at the start."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
