"""The pages Hosts and Host: who is there, what each runs, what happened, what to do about it."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse

from fleetward.console.audit.chain import Actor
from fleetward.console.fleet import enrolment
from fleetward.console.fleet.asks import KINDS, LENGTHS
from fleetward.console.fleet.bulk import draw_nonce
from fleetward.console.fleet.models import CheckIn, Host, HostKey, ProductState, Tag
from fleetward.console.fleet.queries import SILENT_AFTER, HostFilter, hosts, shown
from fleetward.console.fleet.savedviews import views_for
from fleetward.console.fleet.shapes import presence_of
from fleetward.console.fleet.standings import HostStanding, KeyStanding
from fleetward.console.organisation.models import Site
from fleetward.console.web.asking import AskedByPerson
from fleetward.console.web.paging import cursor_in, slice_after
from fleetward.console.web.reaching import one_within, within
from fleetward.console.wiring import wired

ROWS = 50
"""Hosts on a page."""

LATEST = 30
"""Rows of each list on a host's page."""

_TEXTS = ("search", "standing", "site", "tag", "product", "release", "state")
_MARKS = ("silent", "cloned", "unexpected")


def hosts_page(request: AskedByPerson) -> HttpResponse:
    """List hosts by the filters in the URL; htmx gets the table alone."""
    wanted = filter_in(request.GET)
    reach = request.access.reach("hosts.view")
    now = wired().clock.now()
    cursor = cursor_in(request.GET.get("after", ""))
    found = slice_after(shown(hosts(reach, wanted, now)), cursor, ROWS)
    query = query_of(wanted)
    words = {
        "shown": found,
        "rows": [_row(host) for host in found.rows],
        "wanted": wanted,
        "query": query,
        "is_filtered": bool(query),
        "here": request.get_full_path(),
        "sites": within(Site.objects.all(), reach, "pk"),
        "tags": Tag.objects.all()[:200],
        "standings": list(HostStanding),
        "products": products(),
        "kinds": KINDS,
        "lengths": LENGTHS,
        "views": _views(request, query),
        "nonce": draw_nonce(),
    }
    part = "fleet/hosts_table.html" if request.htmx else "fleet/hosts.html"
    return render(request, part, words)


def _views(request: AskedByPerson, query: str) -> list[dict[str, object]]:
    shares = request.access.may("hosts.direct")
    return [
        {
            "view": view,
            "here": view.query == query,
            "mine": view.owner_id == request.user.pk,
            "may_remove": shares or view.owner_id == request.user.pk,
        }
        for view in views_for(request.user)
    ]


def filter_in(said: QueryDict) -> HostFilter:
    """Return the filters in a URL; what is unknown there counts as absent."""
    texts = {name: line(said.get(name, "")) for name in _TEXTS}
    if texts["standing"] not in set(HostStanding):
        texts["standing"] = ""
    marks = {name: said.get(name, "") in {"1", "true", "on"} for name in _MARKS}
    return replace(HostFilter(**texts), **marks)  # type: ignore[arg-type]


def line(text: str) -> str:
    """Return a text that databases take: PostgreSQL's has no NUL."""
    return text.replace("\x00", "").strip()[:200]


def query_of(wanted: HostFilter) -> str:
    """Return filters as a URL's query."""
    pairs = {name: getattr(wanted, name) for name in _TEXTS if getattr(wanted, name)}
    pairs |= {name: "1" for name in _MARKS if getattr(wanted, name)}
    return urlencode(pairs)


def products() -> list[str]:
    """Return the products that any host has, to choose from."""
    names = ProductState.objects.order_by("product").values_list("product", flat=True)
    return list(names.distinct()[:100])


def _row(host: Host) -> dict[str, object]:
    presence = presence_of(host)
    silent = presence is None or wired().clock.now() - presence.seen > SILENT_AFTER
    seen = presence.seen if presence else None
    return {"host": host, "presence": presence, "seen": seen, "silent": silent}


def hosts_csv(request: AskedByPerson) -> HttpResponse:
    """Give all hosts that fit the filters as CSV, a line for each product of each."""
    now = wired().clock.now()
    found = shown(hosts(request.access.reach("hosts.view"), filter_in(request.GET), now))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["record", "name", "site", "standing", "seen", "product", "release", "state"])
    for host in found.order_by("pk").iterator(chunk_size=500):
        presence = presence_of(host)
        head = [host.record, _plain(host.name), host.site.name if host.site else ""]
        head += [host.standing, presence.seen.isoformat() if presence else ""]
        states = [[s.product, s.release, s.state] for s in host.products.all()]
        writer.writerows([*head, *state] for state in states or [["", "", ""]])
    headers = {"Content-Disposition": 'attachment; filename="hosts.csv"'}
    return HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)


def _plain(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula (a host chooses its own name)."""
    return f"'{text}" if text[:1] in "=+-@\t\r" else text


def host_page(request: AskedByPerson, record: str) -> HttpResponse:
    """Show a host; htmx gets what changes by itself alone."""
    host = _one(request, "hosts.view", record)
    words = _row(host) | {
        "keys": host.keys.order_by("-pk"),
        "waiting": host.keys.filter(standing=KeyStanding.PENDING).first(),
        "transitions": host.transitions.order_by("-pk")[:LATEST],
        "events": host.events.order_by("-pk")[:LATEST],
        "directives": host.directives.order_by("-pk")[:LATEST],
        "check_ins": CheckIn.objects.filter(key__host=host).order_by("-pk")[:LATEST],
        "kinds": KINDS,
        "lengths": LENGTHS,
    }
    part = "fleet/host_live.html" if request.htmx else "fleet/host.html"
    return render(request, part, words)


def to_page(host: Host) -> HttpResponse:
    """Lead to a host's page."""
    return HttpResponseRedirect(reverse("fleet:host", args=[host.record]))


def _one(request: AskedByPerson, action: str, record: str) -> Host:
    return one_within(shown(Host.objects.all()), request.access.reach(action), record=record)


# -- what people decide ------------------------------------------------------------------------------


def decide(request: AskedByPerson, record: str, act: str) -> HttpResponse:
    """Approve or refuse a host that waits."""
    host = _one(request, "hosts.enrol", record)
    key = host.keys.filter(standing=KeyStanding.PENDING).first()
    if key is None or act not in _DECISIONS:
        messages.warning(request, "Nothing of this host waits for a decision.")
        return to_page(host)
    _DECISIONS[act](request.actor, key)
    messages.success(request, f"{host} is {_WORDS[act]}.")
    return to_page(host)


_DECISIONS: dict[str, Callable[[Actor, HostKey], None]] = {
    "approve": enrolment.approve,
    "refuse": enrolment.refuse,
}


def end(request: AskedByPerson, record: str, act: str) -> HttpResponse:
    """Revoke or decommission a host, or settle that it looks like two."""
    host = _one(request, "hosts.revoke", record)
    if act in _ENDS:
        _ENDS[act](request.actor, host)
        messages.success(request, f"{host} is {_WORDS[act]}.")
    return to_page(host)


_ENDS: dict[str, Callable[[Actor, Host], None]] = {
    "revoke": enrolment.revoke,
    "retire": enrolment.retire,
    "settle": enrolment.settle_clone,
}
_WORDS = {
    "approve": "approved",
    "refuse": "refused",
    "revoke": "revoked: its check-ins are taken no more",
    "retire": "decommissioned; it returns by itself when it reports",
    "settle": "settled; the next sign of a clone is shown again",
}
