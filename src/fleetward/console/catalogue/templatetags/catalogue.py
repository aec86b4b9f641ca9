"""Filters of the catalogue's templates: `{% load catalogue %}`."""

from datetime import datetime

from django import template

from fleetward.console.catalogue.charts import in_bytes
from fleetward.console.web.tags import distance
from fleetward.console.wiring import wired

register = template.Library()


@register.filter
def size(length: int | None) -> str:
    """Return a length in bytes for people; empty where there is none."""
    return "" if length is None else in_bytes(length)


@register.filter
def age(moment: datetime) -> str:
    """Return how old something is: `3 d`."""
    return distance(moment, wired().clock.now()).removesuffix(" ago")


@register.filter
def short(digest: str) -> str:
    """Return the beginning of a digest or key id."""
    return digest[:12]
