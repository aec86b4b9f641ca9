"""Facts about listeners: suspicious ones by program and site, others that nobody agreed to by site.

What is suspicious is named by port and digest, so that a second program is news while people still
look at the first. A host counts under `LISTENER` for what is unexpected beside that: the rest of
its own count, which an operator's rule or `ports accept` brings down.
"""

from collections.abc import Iterator
from typing import Final

from django.db.models import Count, F, IntegerField, Max, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.urls import reverse

from fleetward.console.alerts.deciding import Fact
from fleetward.console.alerts.kinds import Kind
from fleetward.console.fleet.models import Host
from fleetward.console.organisation.models import Site
from fleetward.console.ports.counting import current
from fleetward.console.ports.models import Listener
from fleetward.console.ports.showing import NO_DIGEST
from fleetward.core.portrules import Verdict

NAMES: Final = 3
"""Hosts that a fact names."""

MOST: Final = 50
"""Facts of suspicious listeners, those on the most hosts first (an alert storm)."""


def suspicious(sites: dict[int, Site]) -> Iterator[Fact]:
    """Yield a fact for each suspicious program at each site.

    Args:
        sites: by primary key.
    """
    found = current().filter(verdict=Verdict.SUSPICIOUS)
    place = ("host__site_id", "protocol", "port", "sha256")
    counted = (
        found.order_by()
        .values(*place)
        .annotate(hosts=Count("host", distinct=True), name=Max("name"))
        .order_by("-hosts", *place)
    )
    for each in counted[:MOST]:
        there = found.filter(**{column: each[column] for column in place})
        yield _fact(each, there, sites.get(each["host__site_id"]))


def _fact(each: dict[str, object], there: QuerySet[Listener], site: Site | None) -> Fact:
    hosts = int(str(each["hosts"]))
    names = there.order_by("host_id").values_list("host__name", flat=True).distinct()[:NAMES]
    rest = hosts - len(names)
    socket = f"{each['protocol']}/{each['port']}"
    digest = str(each["sha256"]) or NO_DIGEST
    link = reverse(
        "ports:group", args=[each["protocol"], each["port"], digest, Verdict.SUSPICIOUS.value]
    )
    where, query = (f" at {site}", f"?site={site.name}") if site else ("", "")
    return Fact(
        kind=Kind.SUSPICIOUS_LISTENER,
        subject=f"{socket} {digest}:{f'site:{site.name}' if site else 'no site'}",
        title=f"{hosts:,} host{'' if hosts == 1 else 's'} with suspicious {socket} {each['name']}"
        f"{where}",
        detail=", ".join(names) + (f" and {rest:,} more" if rest else ""),
        site=site.pk if site else None,
        hosts=hosts,
        link=f"{link}{query}",
    )


def unexpected(hosts: QuerySet[Host]) -> QuerySet[Host]:
    """Return those of `hosts` that have listeners nobody agreed to, beside suspicious ones."""
    worse = (
        Listener.objects.filter(
            host=OuterRef("pk"), key=OuterRef("key"), is_open=True, verdict=Verdict.SUSPICIOUS
        )
        .order_by()
        .values("host")
        .annotate(n=Count("pk"))
        .values("n")
    )
    counted = Coalesce(Subquery(worse, output_field=IntegerField()), 0)
    return (
        hosts.filter(key__presence__unexpected__gt=0)
        .alias(worse=counted)
        .filter(key__presence__unexpected__gt=F("worse"))
    )
