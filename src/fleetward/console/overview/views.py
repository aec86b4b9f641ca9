"""The overview's page; `home` shows it once there are hosts."""

from django.http import HttpResponse
from django.shortcuts import render

from fleetward.console.overview.counting import count
from fleetward.console.overview.showing import (
    figures,
    last_count,
    products,
    wrong_now,
)
from fleetward.console.relays.judging import Standing
from fleetward.console.relays.shown import relays, standings_of
from fleetward.console.web.asking import AskedByPerson
from fleetward.console.wiring import wired


def fleet(request: AskedByPerson, **more: object) -> HttpResponse:
    """Show the fleet; a part of the page where htmx asks.

    Args:
        request: of a person who may do `overview.view`.
        more: what else the template gets, as panels of other parts.
    """
    template = "overview/now.html" if request.htmx else "overview/fleet.html"
    return render(request, template, {**_words(request), **more})


def _words(request: AskedByPerson) -> dict[str, object]:
    reach, now = request.access.reach("overview.view"), wired().clock.now()
    counted = last_count()
    if counted is None:
        count(now, wired().clock)
        counted = last_count()
    standings = standings_of(list(relays(reach)), now)
    return {
        "figures": figures(reach),
        "counted": counted,
        "products": products(reach, now),
        "wrong": wrong_now(reach),
        "relays": len(standings),
        "relays_well": sum(standing is Standing.WELL for standing in standings),
    }
