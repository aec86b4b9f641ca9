"""Which groups, listeners and events: the queries that pages and API share, narrowed by sites."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Case, Count, IntegerField, Max, Min, Q, QuerySet, Sum, Value, When

from fleetward.console.access import Reach
from fleetward.console.fleet.models import Event, Host
from fleetward.console.ports.counting import current
from fleetward.console.ports.deciding import LISTENER_KINDS
from fleetward.console.ports.models import Group, Listener
from fleetward.console.web.reaching import within
from fleetward.core.portrules import Verdict
from fleetward.errors import DocumentError
from fleetward.wire.ports import ListenerNote, parse_listener_event

NEW: Final = timedelta(days=7)
"""How long a group is new."""

NO_DIGEST: Final = "unknown"
"""What a URL says for an executable whose digest nobody could see."""

REASONS_OF: Final = 500
"""Listeners of a group whose reasons are gathered."""

VERDICTS: Final = (Verdict.SUSPICIOUS, Verdict.UNKNOWN, Verdict.EXPECTED)
"""The worst first."""

MOST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFilter:
    """Which groups; what is empty does not narrow.

    Attributes:
        search: a part of the program's name or path, or the beginning of its digest.
        port: the port; 0 for any.
        verdict: one verdict.
        site: a site's name.
        new: seen first within `NEW`.
    """

    search: str = ""
    port: int = 0
    verdict: str = ""
    site: str = ""
    new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What makes a group: protocol, port, digest (empty for unknown) and verdict."""

    protocol: str
    port: int
    sha256: str
    verdict: str

    @property
    def digest(self) -> str:
        """The digest as a URL has it."""
        return self.sha256 or NO_DIGEST

    @property
    def named(self) -> dict[str, object]:
        """The columns that name the group."""
        return {
            "protocol": self.protocol,
            "port": self.port,
            "sha256": self.sha256,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """A group over the sites that somebody may see.

    Attributes:
        place: what makes it.
        name: of the program; what it calls itself.
        path: of its file, as far as hosts told.
        hosts: how many active hosts have it.
        sites: at how many sites; those without a site count as one.
        first_seen: when the first of them told of it.
        is_new: whether that is within `NEW`.
    """

    place: Place
    name: str
    path: str
    hosts: int
    sites: int
    first_seen: datetime
    is_new: bool


def groups(reach: Reach, wanted: GroupFilter, now: datetime) -> QuerySet[Any, Any]:
    """Return the groups at the sites of `reach` that `wanted` names, the worst first.

    Args:
        reach: from `request.access.reach("ports.view")`.
        wanted: the filters.
        now: the console's clock.
    """
    rows = within(Group.objects.filter(hosts__gt=0), reach)
    if wanted.port:
        rows = rows.filter(port=wanted.port)
    if wanted.verdict:
        rows = rows.filter(verdict=wanted.verdict)
    if wanted.site:
        rows = rows.filter(site__name=wanted.site)
    if wanted.search:
        text = wanted.search
        rows = rows.filter(
            Q(name__icontains=text) | Q(path__icontains=text) | Q(sha256__istartswith=text)
        )
    summed = rows.values("protocol", "port", "sha256", "verdict").annotate(
        hosts_sum=Sum("hosts"),
        sites=Count("site", distinct=True),
        siteless=Max(Case(When(site=None, then=Value(1)), default=Value(0))),
        first=Min("first_seen"),
        a_name=Max("name"),
        a_path=Max("path"),
        badness=_badness(),
    )
    if wanted.new:
        summed = summed.filter(first__gte=now - NEW)
    return summed.order_by("badness", "port", "protocol", "-hosts_sum", "sha256", "verdict")


def _badness() -> Case:
    ranked = [When(verdict=word.value, then=Value(rank)) for rank, word in enumerate(VERDICTS)]
    return Case(*ranked, default=Value(len(VERDICTS)), output_field=IntegerField())


def group_view(row: dict[str, Any], now: datetime) -> GroupView:
    """Return a row of `groups`."""
    return GroupView(
        place=Place(
            protocol=row["protocol"],
            port=row["port"],
            sha256=row["sha256"],
            verdict=row["verdict"],
        ),
        name=row["a_name"],
        path=row["a_path"],
        hosts=row["hosts_sum"],
        sites=row["sites"] + row["siteless"],
        first_seen=row["first"],
        is_new=row["first"] >= now - NEW,
    )


def totals(reach: Reach, site: str, now: datetime) -> list[tuple[str, int, int]]:
    """Return for each verdict how many groups there are, and how many of them are new."""
    rows = groups(reach, GroupFilter(site=site), now).values_list("verdict", "first")
    found = {word.value: [0, 0] for word in VERDICTS}
    for verdict, first in rows:
        if verdict in found:
            found[verdict][0] += 1
            found[verdict][1] += first >= now - NEW
    return [(verdict, every, new) for verdict, (every, new) in found.items()]


def listeners(reach: Reach, place: Place | None = None, site: str = "") -> QuerySet[Listener]:
    """Return what listens now at the sites of `reach`; of one group and site, where given."""
    rows = within(current(), reach, "host__site_id").select_related("host", "host__site")
    rows = rows.filter(host__site__name=site) if site else rows
    return rows if place is None else rows.filter(**place.named)


def reasons_of(rows: QuerySet[Listener]) -> list[tuple[str, int]]:
    """Return the reasons of a group's first listeners, with how many of those have each."""
    counted: dict[str, int] = {}
    for row in rows.select_related(None).only("reasons").order_by("pk")[:REASONS_OF]:
        for reason in row.reason_ids:
            counted[reason] = counted.get(reason, 0) + 1
    return sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))


def listening_on(host: Host) -> list[Listener]:
    """Return what listens on a host, the worst first; nothing for one that does not report."""
    rows = Listener.objects.filter(host=host, is_open=True, key=host.key)
    return list(rows.annotate(badness=_badness()).order_by("badness", "port", "protocol", "pk"))


def history_of(host: Host) -> QuerySet[Event]:
    """Return the events of a host's listeners."""
    return Event.objects.filter(host=host, kind__in=LISTENER_KINDS)


def note_of(event: Event) -> ListenerNote | None:
    """Return what an event says of a listener; None for a count of what was not told one by one."""
    try:
        return parse_listener_event(event.subject, event.detail)
    except DocumentError:
        return None
