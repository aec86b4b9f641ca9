"""What is wrong now, read from the rows of hosts, relays and the repository.

Invariant: facts about hosts are counted per site in the database; no fact lists more than a few of
their names, and no query brings one row per host.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.urls import NoReverseMatch, reverse

from fleetward.console.alerts.deciding import Fact
from fleetward.console.alerts.kinds import Kind
from fleetward.console.alerts.listeners import suspicious, unexpected
from fleetward.console.catalogue.models import Channel, Repository, Role
from fleetward.console.catalogue.models import Kind as RepositoryProblem
from fleetward.console.fleet.models import Event, Host, ProductState
from fleetward.console.fleet.queries import silence
from fleetward.console.fleet.standings import HostStanding
from fleetward.console.organisation.models import Site
from fleetward.console.relays.judging import FROZEN_AFTER, Standing, judge
from fleetward.console.relays.models import Listed, Relay
from fleetward.console.relays.polling import newest_version
from fleetward.console.relays.shown import facts_of
from fleetward.core.install import State
from fleetward.core.status import EventKind

NAMES: Final = 3
"""Hosts that a fact names."""

MOST_SINGLE: Final = 50
"""Facts about single hosts of one kind, at most (an alert storm)."""

RECENT: Final = timedelta(hours=24)
"""How long an event is news."""

UNREACHABLE_AFTER: Final = timedelta(minutes=15)
"""How long the repository may be unreachable before it is worth an alert."""

ONLINE_ROLES: Final = frozenset({"timestamp", "snapshot", "channels"})
EXPIRY_ONLINE: Final = timedelta(days=2)
EXPIRY_RELEASES: Final = timedelta(days=7)
EXPIRY_OFFLINE: Final = timedelta(days=30)
"""How long before its expiry a role is worth an alert: as long as renewing it may take."""


def gather(now: datetime) -> list[Fact]:
    """Return everything that is wrong now."""
    sites = {site.pk: site for site in Site.objects.all()}
    found = [*_of_hosts(now, sites), *_of_events(now, sites), *_of_relays(now)]
    return [*found, *_of_repository(now), *_of_roles(now), *_of_rollouts()]


# -- hosts -------------------------------------------------------------------------------------------


def _of_hosts(now: datetime, sites: dict[int, Site]) -> Iterator[Fact]:
    active = Host.objects.filter(standing=HostStanding.ACTIVE)
    talking = active.exclude(silence(now))
    silent = active.filter(silence(now))
    yield from _by_site(Kind.SILENT, silent, sites, "silent", silent="true")
    behind = newest_version() - FROZEN_AFTER
    frozen = talking.filter(
        key__presence__tuf_timestamp__gt=0, key__presence__tuf_timestamp__lt=behind
    )
    yield from _by_site(Kind.HOST_FROZEN, frozen, sites, "frozen")
    words = "with unexpected listeners"
    yield from _by_site(Kind.LISTENER, unexpected(talking), sites, words, unexpected="true")
    yield from suspicious(sites)
    yield from _unprotected(sites)
    yield from _cloned(active.filter(cloned__gt=now - RECENT))


def _by_site(
    kind: Kind, hosts: QuerySet[Host], sites: dict[int, Site], words: str, **query: str
) -> Iterator[Fact]:
    counted = hosts.order_by().values("site_id").annotate(count=Count("pk"))
    for each in counted:
        site = sites.get(each["site_id"])
        there = hosts.filter(site_id=each["site_id"]).order_by("pk")
        names = list(there.values_list("name", flat=True)[:NAMES])
        yield Fact(
            kind=kind,
            subject=_subject(site),
            title=_counted(each["count"], words, site),
            detail=_named(names, each["count"]),
            site=each["site_id"],
            hosts=each["count"],
            link=hosts_link(site, **query),
        )


def _subject(site: Site | None) -> str:
    return "no site" if site is None else f"site:{site.name}"


def _counted(count: int, words: str, site: Site | None) -> str:
    where = f" at {site}" if site else ""
    return f"{count:,} host{'' if count == 1 else 's'} {words}{where}"


def _named(names: list[str], count: int) -> str:
    rest = count - len(names)
    return ", ".join(names) + (f" and {rest:,} more" if rest else "")


def hosts_link(site: Site | None = None, **query: str) -> str:
    """Return the path of the hosts that a query names; empty where there is no such page."""
    try:
        path = reverse("fleet:hosts")
    except NoReverseMatch:
        return ""
    wanted = query if site is None else {"site": site.name, **query}
    return f"{path}?{urlencode(wanted)}" if wanted else path


def _unprotected(sites: dict[int, Site]) -> Iterator[Fact]:
    states = ProductState.objects.filter(
        state=State.UNPROTECTED.value, host__standing=HostStanding.ACTIVE
    )
    counted = states.order_by().values("product", "host__site_id").annotate(count=Count("pk"))
    for each in counted:
        site, product = sites.get(each["host__site_id"]), each["product"]
        there = {"product": product, "host__site_id": each["host__site_id"]}
        named = states.filter(**there).order_by("host_id")
        names = list(named.values_list("host__name", flat=True)[:NAMES])
        yield Fact(
            kind=Kind.UNPROTECTED,
            subject=f"{product}:{_subject(site)}",
            title=_counted(each["count"], f"without {product}", site),
            detail=_named(names, each["count"]),
            site=each["host__site_id"],
            hosts=each["count"],
            link=hosts_link(site, product=product, state="unprotected"),
        )


def _cloned(hosts: QuerySet[Host]) -> Iterator[Fact]:
    for host in hosts.order_by("-cloned")[:MOST_SINGLE]:
        yield Fact(
            kind=Kind.HOST_CLONED,
            subject=f"host:{host.record}",
            title=f"{host.name} looks like two hosts",
            detail=host.clone_sign,
            site=host.site_id,
            hosts=1,
            link=hosts_link(cloned="true"),
        )


# -- events ------------------------------------------------------------------------------------------

_EVENTS: Final = {
    EventKind.ROLLED_BACK: (Kind.ROLLED_BACK, "rolled back"),
    EventKind.REJECTED: (Kind.REJECTED, "rejected"),
    EventKind.DRIFT: (Kind.DRIFT, "found changed files of"),
    EventKind.REFUSED_SOURCE: (Kind.REFUSED_SOURCE, "refused a source"),
    EventKind.FROZEN_SOURCE: (Kind.RELAY_FROZEN, "were served old metadata"),
    EventKind.EVENTS_DROPPED: (Kind.EVENTS_DROPPED, "lost events"),
}

_MENDED: Final = (EventKind.ROLLED_BACK, EventKind.REJECTED, EventKind.DRIFT)
"""What is over once the host has confirmed a release of the product again (a repair does)."""


def _is_mended() -> Q:
    later = Event.objects.filter(
        host=OuterRef("host"),
        product=OuterRef("product"),
        kind=EventKind.CONFIRMED.value,
        pk__gt=OuterRef("pk"),
    )
    return Q(Exists(later), kind__in=[kind.value for kind in _MENDED])


def _of_events(now: datetime, sites: dict[int, Site]) -> Iterator[Fact]:
    # A host that all sources keep in the past names none: that is a frozen host or repository.
    recent = (
        Event.objects.filter(
            kind__in=[kind.value for kind in _EVENTS],
            received__gt=now - RECENT,
            host__standing=HostStanding.ACTIVE,
        )
        .exclude(kind=EventKind.FROZEN_SOURCE.value, subject="")
        .exclude(_is_mended())
    )
    counted = (
        recent.order_by()
        .values("kind", "product", "release", "host__site_id")
        .annotate(count=Count("host_id", distinct=True))
    )
    for each in counted:
        kind, words = _EVENTS[EventKind(each["kind"])]
        site = sites.get(each["host__site_id"])
        what = " ".join(part for part in (each["product"], each["release"]) if part)
        same = {key: each[key] for key in ("kind", "product", "release", "host__site_id")}
        newest = recent.filter(**same).select_related("host").order_by("-id").first()
        if newest is None:
            continue
        yield Fact(
            kind=kind,
            subject=f"{each['product']}/{each['release']}:{_subject(site)}",
            title=_counted(each["count"], f"{words} {what}".strip(), site),
            detail=_said(newest),
            site=each["host__site_id"],
            hosts=each["count"],
            link=_hosts_of(newest, each["count"], site),
        )


def _said(event: Event) -> str:
    return ": ".join(part for part in (event.host.name, event.subject, event.detail) if part)


def _hosts_of(newest: Event, hosts: int, site: Site | None) -> str:
    if hosts == 1:
        return reverse("fleet:host", args=[newest.host.record])
    wanted = {"product": newest.product} if newest.product else {}
    return hosts_link(site, **wanted)


# -- relays ------------------------------------------------------------------------------------------

_RELAYS: Final = {
    Standing.LOST: (Kind.RELAY_LOST, "does not answer"),
    Standing.FROZEN: (Kind.RELAY_FROZEN, "freezes"),
    Standing.BEHIND: (Kind.RELAY_BEHIND, "is behind"),
    Standing.FILLING: (Kind.SPOOL_FILLING, "has a filling spool"),
}


def _of_relays(now: datetime) -> Iterator[Fact]:
    newest = newest_version()
    for row in Relay.objects.exclude(listed=Listed.NOBODY):
        standing = judge(facts_of(row, newest), now)
        if standing in _RELAYS:
            kind, words = _RELAYS[standing]
            yield Fact(
                kind=kind,
                subject=f"relay:{row.name}"[:200],
                title=f"Relay {row.name} {words}",
                detail=_relay_detail(row, standing, newest),
                site=row.site_id,
                hosts=row.hosts,
                link=reverse("relays:relay", args=[row.pk]),
            )


def _relay_detail(row: Relay, standing: Standing, newest: int) -> str:
    if standing is Standing.LOST:
        return row.problem
    if standing in {Standing.FROZEN, Standing.BEHIND}:
        return f"It serves timestamp {row.version:,} where {newest:,} is known."
    return f"{row.said.get('spool_check_ins', 0):,} check-ins wait in it."


# -- repository and rollouts -------------------------------------------------------------------------


def _of_repository(now: datetime) -> Iterator[Fact]:
    for row in Repository.objects.all():
        since = row.problem_since or now
        if row.problem_kind == RepositoryProblem.TRUST:
            title = "The repository's metadata was refused"
            yield Fact(
                kind=Kind.REPOSITORY_TRUST, subject="repository", title=title, detail=row.problem
            )
        elif row.problem_kind and now - since >= UNREACHABLE_AFTER:
            title = "The repository cannot be followed"
            yield Fact(
                kind=Kind.REPOSITORY_PROBLEM, subject="repository", title=title, detail=row.problem
            )
        if row.frozen:
            issued = f"{row.issued:%Y-%m-%d %H:%M} UTC" if row.issued else "an unknown time"
            yield Fact(
                kind=Kind.REPOSITORY_FROZEN,
                subject="repository",
                title="The repository's timestamp is overdue",
                detail=f"The newest one is {row.timestamp:,}, signed at {issued}.",
            )


def _of_roles(now: datetime) -> Iterator[Fact]:
    for role in Role.objects.filter(expires__lt=now + EXPIRY_OFFLINE):
        if role.expires is None:
            continue
        when = f"{role.expires:%Y-%m-%d %H:%M} UTC"
        if role.expires <= now:
            kind, title = Kind.ROLE_EXPIRED, f"The role {role.role} has expired"
        elif role.expires - now < notice_of(role.role):
            kind, title = Kind.ROLE_EXPIRING, f"The role {role.role} expires soon"
        else:
            continue
        detail = (
            f"Version {role.version}: {when}. {role.threshold} of {len(role.keyids)} keys sign it."
        )
        yield Fact(kind=kind, subject=f"role:{role.role}", title=title, detail=detail)


def notice_of(role: str) -> timedelta:
    """Return how long before its expiry a role is worth an alert."""
    if role in ONLINE_ROLES:
        return EXPIRY_ONLINE
    return EXPIRY_RELEASES if role.startswith("releases-") else EXPIRY_OFFLINE


def _of_rollouts() -> Iterator[Fact]:
    halted = Q(state__in=["halted", "reverting"])
    for channel in Channel.objects.filter(halted, listed=True).select_related("product"):
        yield Fact(
            kind=Kind.ROLLOUT_HALTED,
            subject=f"channel:{channel.product.name}/{channel.name}",
            title=f"The rollout of {channel.product.name} {channel.points_at} is {channel.state}",
            detail=f"{channel.open} of {len(channel.waves)} waves of {channel.name} are open.",
        )
