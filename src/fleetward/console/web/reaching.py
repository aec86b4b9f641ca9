"""Rows narrowed to the sites that somebody may see."""

from typing import TypeVar

from django.db.models import Model, QuerySet
from django.http import Http404

from fleetward.console.access import Reach

Row = TypeVar("Row", bound=Model)


def within(rows: QuerySet[Row], reach: Reach, column: str = "site_id") -> QuerySet[Row]:
    """Return the rows at the sites of `reach`.

    Args:
        rows: any query.
        reach: from `request.access.reach(action)`.
        column: where a row names its site, as a path of a query.
    """
    return rows if reach.every else rows.filter(**{f"{column}__in": reach.sites})


def one_within(rows: QuerySet[Row], reach: Reach, column: str = "site_id", **named: object) -> Row:
    """Return the row that `named` picks. Raises Http404: none, or at another site."""
    row = within(rows, reach, column).filter(**named).first()
    if row is None:
        raise Http404("nothing there, or not at your sites")
    return row
