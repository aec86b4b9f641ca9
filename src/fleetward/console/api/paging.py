"""Lists of the API: some rows, and the cursor that brings the next."""

from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

from django.db.models import Model, QuerySet
from ninja import Query, Schema
from pydantic import Field

from fleetward.console.web.paging import slice_after

MAX_ROWS = 500
"""Rows of one answer, at most (endless data)."""

Item = TypeVar("Item", bound=Schema)
Row = TypeVar("Row", bound=Model)

MAX_CURSOR = (1 << 63) - 1
"""The greatest key that the databases have."""


class Paging(Schema):
    """Which rows of a list.

    Attributes:
        limit: how many at most.
        cursor: the `next` of the answer before.
    """

    limit: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 100
    cursor: Annotated[int | None, Field(ge=0, le=MAX_CURSOR)] = None


class Listing(Schema, Generic[Item]):
    """Some rows of a list.

    Attributes:
        items: the rows.
        next: the cursor for the next; null at the end.
    """

    items: list[Item]
    next: int | None


Rows = Annotated[Paging, Query()]
"""The parameter of an operation that lists: `paging: Rows`."""


def listing(
    rows: QuerySet[Row], asked: Paging, show: Callable[[Row], Item], *, descending: bool = False
) -> Listing[Item]:
    """Return the rows that were asked for, each as `show` gives it."""
    found = slice_after(rows, asked.cursor, asked.limit, descending=descending)
    # Unchecked here, since the operation's own response type checks every item.
    return Listing.model_construct(items=[show(row) for row in found.rows], next=found.after)
