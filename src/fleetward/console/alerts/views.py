"""The pages of alerts."""

from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from fleetward.console.alerts.keeping import acknowledge, hand_back
from fleetward.console.alerts.kinds import TITLE, Kind, Severity
from fleetward.console.alerts.models import Alert
from fleetward.console.alerts.queries import AlertFilter, alerts
from fleetward.console.organisation.models import Site
from fleetward.console.web.asking import AskedByPerson
from fleetward.console.web.reaching import one_within, within

ROWS = 100
"""Alerts on a page."""

FIELDS = ("state", "severity", "kind", "site", "q")


def listing(request: AskedByPerson) -> HttpResponse:
    """List alerts, the worst first, by what is asked for."""
    asked = {name: request.GET.get(name, "").strip()[:200] for name in FIELDS}
    reach = request.access.reach("alerts.view")
    rows = alerts(reach, filter_of(asked))
    page = _page(request.GET.get("page", ""))
    found = list(rows.order_by("-is_open", "-severity", "-id")[page * ROWS : (page + 1) * ROWS + 1])
    query = urlencode({name: value for name, value in asked.items() if value})
    words = {
        "shown": found[:ROWS],
        "asked": asked,
        "is_filtered": any(asked.values()),
        "here": f"{request.path}?{query}",
        "query": query,
        "next_page": page + 1 if len(found) > ROWS else None,
        "before_page": page - 1 if page else None,
        "counts": _counts(request),
        "kinds": [(kind.value, TITLE[kind]) for kind in Kind],
        "sites": within(Site.objects.all(), reach, "pk"),
    }
    template = "alerts/list.html" if request.htmx else "alerts/alerts.html"
    return render(request, template, words)


def _page(text: str) -> int:
    return min(int(text), 1_000) if text.isascii() and text.isdigit() and len(text) < 6 else 0


def filter_of(asked: dict[str, str]) -> AlertFilter:
    """Return the filter that a URL asks for; what cannot be read does not narrow."""
    severity = asked.get("severity", "")
    return AlertFilter(
        state=asked.get("state", ""),
        severity=int(severity) if severity in {"1", "2", "3"} else 0,
        kind=asked.get("kind", ""),
        site=asked.get("site", ""),
        search=asked.get("q", "").replace("\x00", ""),
    )


def _counts(request: AskedByPerson) -> dict[str, int]:
    still = within(Alert.objects.filter(is_open=True), request.access.reach("alerts.view"))
    return still.aggregate(
        critical=Count("pk", filter=Q(severity=Severity.CRITICAL)),
        warning=Count("pk", filter=Q(severity=Severity.WARNING)),
        info=Count("pk", filter=Q(severity=Severity.INFO)),
        taken=Count("pk", filter=Q(acknowledged__isnull=False)),
    )


def alert(request: AskedByPerson, pk: int) -> HttpResponse:
    """Show an alert and its life."""
    rows = Alert.objects.select_related("site").prefetch_related("steps")
    row = one_within(rows, request.access.reach("alerts.view"), pk=pk)
    template = "alerts/alert-now.html" if request.htmx else "alerts/alert.html"
    return render(request, template, {"alert": row})


def take_on(request: AskedByPerson) -> HttpResponse:
    """Acknowledge the alerts that are ticked, or the one of the page."""
    reach = request.access.reach("alerts.work")
    pks = [int(text) for text in request.POST.getlist("alert") if text.isdigit() and len(text) < 19]
    note = request.POST.get("note", "").strip().replace("\x00", "")
    rows = list(within(Alert.objects.filter(pk__in=pks[:ROWS]), reach))
    count = sum(acknowledge(request.actor, row, note) for row in rows)
    if count:
        plural = "" if count == 1 else "s"
        messages.success(request, f"{count} alert{plural} acknowledged.")
    else:
        messages.warning(request, "Nothing to acknowledge: tick an alert that nobody has taken on.")
    return HttpResponseRedirect(_back(request))


def give_back(request: AskedByPerson, pk: int) -> HttpResponse:
    """Undo an acknowledgement."""
    row = one_within(Alert.objects.all(), request.access.reach("alerts.work"), pk=pk)
    if hand_back(request.actor, row):
        messages.success(request, "Handed back: people are told of it again.")
    return HttpResponseRedirect(reverse("alerts:alert", args=[pk]))


def _back(request: AskedByPerson) -> str:
    wanted = request.POST.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, request.is_secure())
    return wanted if wanted and is_ours else reverse("alerts:listing")
