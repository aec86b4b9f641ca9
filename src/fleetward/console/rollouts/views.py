"""The pages of rollouts. They show and explain; acts will stand in the `actions` of the detail page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import render

from fleetward.console.access import Reach
from fleetward.console.catalogue.models import Channel, Move
from fleetward.console.fleet.models import Event, Host
from fleetward.console.fleet.shapes import presence_of
from fleetward.console.organisation.models import Site
from fleetward.console.rollouts.deciding import MEANING, Standing
from fleetward.console.rollouts.explaining import Explanation, explain
from fleetward.console.rollouts.finding import HOST_CHARS, channel_named, hosts_named
from fleetward.console.rollouts.models import Member
from fleetward.console.rollouts.showing import (
    STATES,
    RolloutFilter,
    channels,
    last_words,
    members,
    reasons,
    views,
)
from fleetward.console.rollouts.telling import sentences
from fleetward.console.web.asking import AskedByPerson
from fleetward.console.web.paging import cursor_in, slice_after
from fleetward.console.web.reaching import within
from fleetward.console.wiring import wired

ROWS: Final = 50
"""Hosts on a page."""

MOVES: Final = 30
"""Changes of a channel on a page, the newest first."""

ROLLOUTS: Final = 100
"""Channels on a page."""

BADGES: Final = {
    Standing.CONFIRMED: "good",
    Standing.FAILED: "bad",
    Standing.SILENT: "bad",
    Standing.VANISHED: "bad",
    Standing.BEHIND: "warn",
    Standing.TRYING: "warn",
}
"""Classes of a standing's badge; the others have none."""


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A host in the list: how it stands, and its own words where the release failed."""

    row: Member
    seen: object
    event: Event | None

    @property
    def badge(self) -> str:
        """The class of its badge."""
        return BADGES.get(Standing(self.row.standing), "plain")

    @property
    def meaning(self) -> str:
        """What its standing means."""
        return MEANING[Standing(self.row.standing)]

    @property
    def number(self) -> int:
        """Its wave for people, from 1; 0 for none."""
        return 0 if self.row.wave is None else self.row.wave + 1


def rollouts(request: AskedByPerson) -> HttpResponse:
    """List rollouts by the filters in the URL; htmx gets the list alone."""
    wanted, reach = filter_of(request), request.access.reach("rollouts.view")
    rows = channels(wanted)
    shown = views(list(rows[:ROLLOUTS]), reach, wanted.site)
    words = {
        "shown": sorted(shown, key=lambda view: view.row.state == "complete"),
        "more": max(0, rows.count() - ROLLOUTS),
        "wanted": wanted,
        "query": _query(search=wanted.search, state=wanted.state, site=wanted.site),
        "here": request.get_full_path(),
        "states": STATES,
        "sites": within(Site.objects.all(), reach, "pk"),
    }
    return render(request, f"rollouts/{'list' if request.htmx else 'rollouts'}.html", words)


def panel(request: AskedByPerson) -> HttpResponse:
    """Show the rollouts under way, for the overview."""
    rows = channels(RolloutFilter(state="open"))[:ROLLOUTS]
    shown = views(list(rows), request.access.reach("rollouts.view"))
    return render(request, "rollouts/panel.html", {"shown": shown})


def filter_of(request: AskedByPerson) -> RolloutFilter:
    """Return the filters in a URL; what is unknown there counts as absent."""
    state = request.GET.get("state", "")
    return RolloutFilter(
        search=_line(request, "search"),
        state=state if state in {*STATES, "open"} else "",
        site=_line(request, "site"),
    )


def _line(request: AskedByPerson, name: str, most: int = 64) -> str:
    """Return a text of the URL that databases take: PostgreSQL's has no NUL."""
    return request.GET.get(name, "").replace("\x00", "").strip()[:most]


def rollout(request: AskedByPerson, product: str, channel: str) -> HttpResponse:
    """Show a rollout: what is open, what its hosts did, who needs a look, what happened when."""
    row, reach = channel_named(product, channel), request.access.reach("rollouts.view")
    site = _line(request, "site")
    view, why = views([row], reach, site)[0], reasons(row, reach, site)
    words = {
        "view": view,
        "sentences": sentences(view, why),
        "site": site,
        "here": request.get_full_path(),
        "sites": within(Site.objects.all(), reach, "pk"),
        **_hosts(request, row, reach, site),
        **_explained(request, row, reach),
    }
    if not request.htmx:
        words["moves"] = Move.objects.filter(channel=row)[:MOVES]
    return render(request, f"rollouts/rollout{'-now' if request.htmx else ''}.html", words)


def _hosts(request: AskedByPerson, row: Channel, reach: Reach, site: str) -> dict[str, object]:
    standing, wave = request.GET.get("standing", "wrong"), _wave(request)
    if standing not in {*Standing, "all"}:
        standing = "wrong"
    chosen = "" if standing == "all" else standing
    found = slice_after(
        members(row, reach, standing=chosen, wave=wave, site=site),
        cursor_in(request.GET.get("after", "")),
        ROWS,
    )
    return {
        "members": _member_rows(row, found.rows),
        "after": found.after,
        "standing": standing,
        "wave": "" if wave is None else wave + 1,
        "standings": [(word.value, MEANING[word]) for word in Standing],
        "query": _query(standing=standing, wave="" if wave is None else wave + 1, site=site),
    }


def _wave(request: AskedByPerson) -> int | None:
    number = cursor_in(request.GET.get("wave", ""))
    return number - 1 if number and number <= 1_000 else None


def _member_rows(row: Channel, found: Sequence[Member]) -> list[MemberRow]:
    failed = [member.host_id for member in found if member.standing == Standing.FAILED]
    told = last_words(row, failed)
    rows = []
    for member in found:
        presence = presence_of(member.host)
        seen = presence.seen if presence else None
        rows.append(MemberRow(member, seen, told.get(member.host_id)))
    return rows


def _explained(request: AskedByPerson, row: Channel, reach: Reach) -> dict[str, object]:
    """Return the explanation of the host in the URL, where there is one."""
    text = _line(request, "host", HOST_CHARS)
    if not text:
        return {}
    hosts = list(hosts_named(text, reach)[:2])
    told: Explanation | None = None
    host: Host | None = None
    if len(hosts) == 1:
        host = hosts[0]
        told = explain(row, host, wired().clock.now())
    return {"asked": text, "told": told, "host": host, "several": len(hosts) > 1}


def _query(**pairs: object) -> str:
    return urlencode({name: value for name, value in pairs.items() if value != ""})
