"""The overview, /healthz and /metrics."""

from collections.abc import Iterator

from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from fleetward import __version__
from fleetward.console.api.security import Forbidden, Unauthorised, needs
from fleetward.console.catalogue.models import Product
from fleetward.console.fleet.models import Host
from fleetward.console.organisation.models import Site, User
from fleetward.console.overview.views import fleet
from fleetward.console.parts import Panel, parts
from fleetward.console.web.asking import AskedByPerson
from fleetward.console.wiring import wired

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def overview(request: AskedByPerson) -> HttpResponse:
    """Show the fleet and the panels that parts add; what to begin with while there are no hosts.

    A page that shows what to begin with asks again, and becomes the fleet's with the first host.
    """
    panels = [
        {"title": panel.title, "url": reverse(panel.route), "wide": panel.wide}
        for panel in sorted(_panels(), key=lambda panel: panel.order)
        if request.access.may(panel.action)
    ]
    if request.access.may("overview.view") and Host.objects.exists():
        return fleet(request, panels=panels)
    words = {
        "panels": panels,
        "sites": Site.objects.count(),
        "people": User.objects.count(),
        "follows": wired().settings.repository is not None,
        "products": Product.objects.filter(listed=True).count(),
    }
    return render(request, "home/begin.html" if request.htmx else "home/overview.html", words)


def _panels() -> Iterator[Panel]:
    for part in parts():
        yield from part.panels


def health(request: HttpRequest) -> HttpResponse:
    """Return 200 where the database answers, 503 where it does not."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return HttpResponse("database\n", status=503, content_type="text/plain")
    return HttpResponse("ok\n", content_type="text/plain")


def metrics(request: HttpRequest) -> HttpResponse:
    """Return the figures of all parts in Prometheus' text format; needs a token."""
    try:
        needs("metrics.view")(request)
    except Unauthorised as error:
        headers = {"WWW-Authenticate": 'Bearer realm="fleetward"'}
        return HttpResponse(f"{error}\n", status=401, content_type="text/plain", headers=headers)
    except Forbidden as error:
        return HttpResponse(f"{error}\n", status=403, content_type="text/plain")
    return HttpResponse("".join(_figures()), content_type=PROMETHEUS)


def _figures() -> Iterator[str]:
    yield "# TYPE fleetward_console_info gauge\n"
    yield f'fleetward_console_info{{version="{__version__}"}} 1\n'
    for part in parts():
        if part.metrics is not None:
            yield part.metrics()
