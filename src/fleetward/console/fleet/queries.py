"""Which hosts: the filters that API and pages share; each is indexed or one pass over 50,000 rows."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Exists, OuterRef, Q, QuerySet

from fleetward.console.access import Reach
from fleetward.console.fleet.models import Host, HostKey, ProductState
from fleetward.console.fleet.standings import HostStanding
from fleetward.console.web.reaching import within

SILENT_AFTER: Final = timedelta(minutes=15)
"""A host that was not seen for so long is shown as silent (check-ins come each minute)."""

FEW: Final = 500
"""Hosts that a query names one by one; SQLite of old takes 999 values in a query."""

_HEX = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFilter:
    """Which hosts; what is empty does not narrow.

    Attributes:
        search: a part of the name, or the beginning of a record's or key's id.
        standing: pending, active, retired or revoked; empty for all but revoked and retired.
        site: a site's name.
        tag: a tag's name.
        product: hosts that have it.
        release: of that product; hosts that run it.
        state: of an installation.
        silent: hosts that were not seen for `SILENT_AFTER`.
        cloned: hosts that look like two.
        unexpected: hosts with listeners that nobody expects.
    """

    search: str = ""
    standing: str = ""
    site: str = ""
    tag: str = ""
    product: str = ""
    release: str = ""
    state: str = ""
    silent: bool = False
    cloned: bool = False
    unexpected: bool = False


def hosts(reach: Reach, wanted: HostFilter, now: datetime) -> QuerySet[Host]:
    """Return the hosts at the sites of `reach` that `wanted` names.

    Args:
        reach: from `request.access.reach("hosts.view")`.
        wanted: the filters.
        now: the console's clock.
    """
    rows = within(Host.objects.all(), reach)
    if wanted.standing:
        rows = rows.filter(standing=wanted.standing)
    else:
        # Said by what is left out, so that SQLite walks hosts in their order and stops after a page
        # instead of sorting all that are active.
        rows = rows.exclude(standing__in=[HostStanding.RETIRED, HostStanding.REVOKED])
    if wanted.search:
        rows = rows.filter(_search(wanted.search))
    if wanted.site:
        rows = rows.filter(site__name=wanted.site)
    if wanted.tag:
        rows = rows.filter(tags__name=wanted.tag)
    if wanted.product or wanted.release or wanted.state:
        rows = rows.filter(_runs(wanted))
    if wanted.silent:
        rows = rows.filter(silence(now))
    if wanted.cloned:
        rows = rows.filter(cloned__isnull=False)
    if wanted.unexpected:
        rows = rows.filter(key__presence__unexpected__gt=0)
    return rows


def _search(text: str) -> Q:
    found = Q(name__icontains=text)
    if _HEX.fullmatch(text):
        keys = HostKey.objects.filter(key__gte=text, key__lt=f"{text}g")
        found |= Q(record__gte=text, record__lt=f"{text}g") | Q(pk__in=keys.values("host"))
    return found


def _runs(wanted: HostFilter) -> Q:
    """Return what picks hosts by what they run: a list of few, or a look at each host's rows.

    A list of all hosts that run a common release takes longer to make than the page that it is for;
    a rare one is found at once in the list, and only at the end by looking at each host.
    """
    columns = ("product", "release", "state")
    named = {column: value for column in columns if (value := getattr(wanted, column))}
    states = ProductState.objects.order_by().filter(**named)
    few = list(states.values_list("host", flat=True)[: FEW + 1])
    if len(few) <= FEW:
        return Q(pk__in=few)
    return Q(Exists(states.filter(host=OuterRef("pk"))))


def silence(now: datetime) -> Q:
    """Return what tells hosts that were not seen lately."""
    return Q(key__presence__seen__lt=now - SILENT_AFTER) | Q(key__presence__isnull=True)


def shown(rows: QuerySet[Host]) -> QuerySet[Host]:
    """Return the rows with all that a list shows, in few queries."""
    return rows.select_related("site", "key__presence").prefetch_related("tags", "products")
