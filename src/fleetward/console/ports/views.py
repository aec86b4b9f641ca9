"""The pages of ports: the fleet's groups, one group's hosts, one host's listeners and history."""

import csv
import io
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from fleetward.console.access import Reach
from fleetward.console.fleet.models import Event, Host
from fleetward.console.fleet.shapes import presence_of
from fleetward.console.organisation.models import Site
from fleetward.console.ports.models import Group, Listener
from fleetward.console.ports.showing import (
    MOST_PORT,
    NO_DIGEST,
    VERDICTS,
    GroupFilter,
    GroupView,
    Place,
    group_view,
    groups,
    history_of,
    listeners,
    listening_on,
    note_of,
    reasons_of,
    totals,
)
from fleetward.console.ports.words import MEANING, TONES, ReasonWords, words_of
from fleetward.console.web.asking import AskedByPerson
from fleetward.console.web.paging import cursor_in, slice_after
from fleetward.console.web.reaching import one_within, within
from fleetward.console.wiring import wired
from fleetward.core.portrules import Verdict
from fleetward.core.status import EventKind
from fleetward.wire.ports import ListenerNote

ROWS: Final = 50
"""Rows of a page."""

MOST_OFFSET: Final = 1_000_000
"""Groups that can be paged through."""

WORDS: Final = {
    EventKind.LISTENER_OPENED.value: "opened",
    EventKind.LISTENER_CLOSED.value: "closed",
    EventKind.LISTENER_CHANGED.value: "changed",
}


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group in the list."""

    view: GroupView

    @property
    def url(self) -> str:
        """Its page."""
        return group_url(self.view.place)

    @property
    def tone(self) -> str:
        """The class of its verdict's badge."""
        return TONES.get(self.view.place.verdict, "plain")


@dataclass(frozen=True, slots=True)
class ListenerLine:
    """A listener in a list, with the words of its reasons."""

    row: Listener

    @property
    def tone(self) -> str:
        """The class of its verdict's badge."""
        return TONES.get(self.row.verdict, "plain")

    @property
    def reasons(self) -> list[ReasonWords]:
        """Why."""
        return [words_of(reason) for reason in self.row.reason_ids]

    @property
    def group_url(self) -> str:
        """The page of all that are alike."""
        row = self.row
        place = Place(protocol=row.protocol, port=row.port, sha256=row.sha256, verdict=row.verdict)
        return group_url(place)


@dataclass(frozen=True, slots=True)
class Moment:
    """Something in a host's history; `note` is None for a count of what was not told one by one."""

    event: Event
    note: ListenerNote | None

    @property
    def word(self) -> str:
        """What happened."""
        return WORDS.get(self.event.kind, self.event.kind) if self.note else "not told"

    @property
    def tone(self) -> str:
        """The class of its verdict's badge."""
        return TONES.get(self.note.verdict, "plain") if self.note else "plain"

    @property
    def before(self) -> str:
        """What it was before a change, as a sentence's end; empty where that is not known."""
        was = self.note.was if self.note else ""
        if not was:
            return ""
        return was if was in set(Verdict) else f"another file (sha256 {was[:12]}…)"


def group_url(place: Place) -> str:
    """Return the path of a group's page."""
    return reverse("ports:group", args=[place.protocol, place.port, place.digest, place.verdict])


def ports(request: AskedByPerson) -> HttpResponse:
    """List the fleet's groups by the filters in the URL; htmx gets the list alone."""
    wanted, now = filter_of(request), wired().clock.now()
    reach = request.access.reach("ports.view")
    start = min(cursor_in(request.GET.get("after", "")) or 0, MOST_OFFSET)
    found = list(groups(reach, wanted, now)[start : start + ROWS + 1])
    query = query_of(wanted)
    words = {
        "rows": [GroupRow(group_view(row, now)) for row in found[:ROWS]],
        "after": start + ROWS if len(found) > ROWS else None,
        "start": start,
        "wanted": wanted,
        "query": query,
        "here": request.get_full_path(),
        "totals": [
            (verdict, TONES[verdict], MEANING[verdict], every, new)
            for verdict, every, new in totals(reach, wanted.site, now)
        ],
        "verdicts": [word.value for word in VERDICTS],
        "sites": within(Site.objects.all(), reach, "pk"),
    }
    return render(request, f"ports/{'list' if request.htmx else 'ports'}.html", words)


def filter_of(request: AskedByPerson) -> GroupFilter:
    """Return the filters in a URL; what is unknown there counts as absent."""
    port, verdict = cursor_in(request.GET.get("port", "")) or 0, request.GET.get("verdict", "")
    return GroupFilter(
        search=_line(request, "search"),
        port=port if port <= MOST_PORT else 0,
        verdict=verdict if verdict in set(VERDICTS) else "",
        site=_line(request, "site"),
        new=request.GET.get("new", "") in {"1", "true", "on"},
    )


def _line(request: AskedByPerson, name: str) -> str:
    """Return a text of the URL that databases take: PostgreSQL's has no NUL."""
    return request.GET.get(name, "").replace("\x00", "").strip()[:100]


def query_of(wanted: GroupFilter) -> str:
    """Return filters as a URL's query."""
    pairs = {
        "search": wanted.search,
        "port": wanted.port,
        "verdict": wanted.verdict,
        "site": wanted.site,
        "new": int(wanted.new),
    }
    return urlencode({name: value for name, value in pairs.items() if value})


def ports_csv(request: AskedByPerson) -> HttpResponse:
    """Give all groups that fit the filters as CSV."""
    now = wired().clock.now()
    text = io.StringIO()
    writer = csv.writer(text)
    head = ["protocol", "port", "verdict", "name", "path", "sha256", "hosts", "sites"]
    writer.writerow([*head, "first_seen", "new"])
    reach = request.access.reach("ports.view")
    for row in groups(reach, filter_of(request), now).iterator(chunk_size=1_000):
        view = group_view(row, now)
        place = view.place
        texts = [place.verdict, _plain(view.name), _plain(view.path), place.sha256]
        counts = [view.hosts, view.sites, view.first_seen.isoformat(), int(view.is_new)]
        writer.writerow([place.protocol, place.port, *texts, *counts])
    headers = {"Content-Disposition": 'attachment; filename="ports.csv"'}
    return HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)


def _plain(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula (a program chooses its own name)."""
    return f"'{text}" if text[:1] in "=+-@\t\r" else text


def group(
    request: AskedByPerson, protocol: str, port: int, digest: str, verdict: str
) -> HttpResponse:
    """Show a group: which hosts have it, why it is judged so, what to do; htmx gets what changes."""
    place = place_of(protocol, port, digest, verdict)
    reach, now = request.access.reach("ports.view"), wired().clock.now()
    site = _line(request, "site")
    rows = listeners(reach, place, site)
    found = slice_after(rows, cursor_in(request.GET.get("after", "")), ROWS)
    counted = groups(reach, GroupFilter(port=place.port, verdict=place.verdict, site=site), now)
    same = counted.filter(protocol=place.protocol, sha256=place.sha256).first()
    if same is None and not found.rows and not _was_here(reach, place):
        raise Http404("nobody at your sites has told of such a listener")
    words = {
        "place": place,
        "view": group_view(same, now) if same else None,
        "tone": TONES.get(place.verdict, "plain"),
        "meaning": MEANING.get(place.verdict, ""),
        "reasons": [(words_of(reason), count) for reason, count in reasons_of(rows)],
        "rows": [ListenerLine(row) for row in found.rows],
        "after": found.after,
        "site": site,
        "sites": within(Site.objects.all(), reach, "pk"),
        "here": request.get_full_path(),
    }
    return render(request, f"ports/{'group_live' if request.htmx else 'group'}.html", words)


def place_of(protocol: str, port: int, digest: str, verdict: str) -> Place:
    """Return what a URL names. Raises Http404: no such thing can be."""
    is_right = protocol in {"tcp", "udp"} and 0 < port <= MOST_PORT and verdict in set(VERDICTS)
    if not is_right or "\x00" in digest or len(digest) > 64:
        raise Http404("no such group")
    sha256 = "" if digest == NO_DIGEST else digest[:32]
    return Place(protocol=protocol, port=port, sha256=sha256, verdict=verdict)


def _was_here(reach: Reach, place: Place) -> bool:
    return within(Group.objects.filter(**place.named), reach).exists()


def host(request: AskedByPerson, record: str) -> HttpResponse:
    """Show a host's listeners and their history; htmx gets what changes by itself alone."""
    reach = request.access.reach("ports.view")
    rows = Host.objects.select_related("site", "key__presence")
    found = one_within(rows, reach, record=record.replace("\x00", ""))
    cursor = cursor_in(request.GET.get("after", ""))
    events = slice_after(history_of(found), cursor, ROWS, descending=True)
    words = {
        "host": found,
        "presence": presence_of(found),
        "rows": [ListenerLine(row) for row in listening_on(found)],
        "moments": [Moment(event, note_of(event)) for event in events.rows],
        "after": events.after,
        "here": request.get_full_path(),
    }
    return render(request, f"ports/{'host_live' if request.htmx else 'host'}.html", words)


def guide(request: AskedByPerson) -> HttpResponse:
    """Show how to investigate a packet or a listener on port 2967; needs no internet."""
    return render(request, "ports/guide.html", {})
