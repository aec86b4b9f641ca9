"""The pages of sites and relays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from django.http import HttpResponse
from django.shortcuts import render
from django.template.defaultfilters import filesizeformat

from fleetward.console.organisation.models import Site
from fleetward.console.relays.charts import sparkline
from fleetward.console.relays.judging import Standing
from fleetward.console.relays.models import Relay, Sample
from fleetward.console.relays.shown import Series, Shown, Traffic, history, relays, show
from fleetward.console.web.asking import AskedByPerson
from fleetward.console.web.reaching import one_within
from fleetward.console.wiring import wired

POINTS = 120
"""Points of a curve on a page; a day of minutes is added up to so many."""


@dataclass(frozen=True, slots=True)
class AtSite:
    """A site's relays.

    Attributes:
        site: the site; None for relays of no site.
        rows: its relays, the worst first.
        day: what they did together in the last 24 hours.
    """

    site: Site | None
    rows: list[Shown]
    day: Traffic

    @property
    def hosts(self) -> int:
        """How many hosts they served last."""
        return sum(each.row.hosts for each in self.rows)


def sites(request: AskedByPerson) -> HttpResponse:
    """List relays by site."""
    shown = show(list(relays(request.access.reach("sites.view"))), wired().clock.now())
    words = {
        "places": by_site(shown),
        "relays": len(shown),
        "well": sum(each.standing is Standing.WELL for each in shown),
        "hosts": sum(each.row.hosts for each in shown),
        "day": sum((each.day for each in shown), Traffic()),
    }
    page = "relays/list.html" if request.htmx else "relays/sites.html"
    return render(request, page, words)


def by_site(shown: Sequence[Shown]) -> list[AtSite]:
    """Return relays by their site: sites with the worst relay first, else by name."""

    def name(each: Shown) -> tuple[bool, str]:
        return each.row.site is None, str(each.row.site or "")

    # `shown` comes worst first, and sorting keeps that order within a site.

    found = []
    for _, group in groupby(sorted(shown, key=name), key=name):
        rows = list(group)
        day = sum((each.day for each in rows), Traffic())
        found.append(AtSite(rows[0].row.site, rows, day))
    order = list(Standing)
    return sorted(found, key=lambda place: min(order.index(each.standing) for each in place.rows))


def relay(request: AskedByPerson, pk: int) -> HttpResponse:
    """Show a relay."""
    reach = request.access.reach("sites.view")
    row: Relay = one_within(Relay.objects.select_related("site"), reach, pk=pk)
    now = wired().clock.now()
    is_long = request.GET.get("span") == "90d"
    words = {
        "shown": show([row], now)[0],
        "series": series(history(row, now, long=is_long), "18 h" if is_long else "12 min"),
        "is_long": is_long,
    }
    page = "relays/relay-now.html" if request.htmx else "relays/relay.html"
    return render(request, page, words)


def series(samples: Sequence[Sample | None], span: str) -> list[Series]:
    """Return a relay's curves; `span` says of how long each of their points is."""
    pieces = _pieces(samples)
    bytes_of = filesizeformat
    return [
        _one("Hit ratio", pieces, _hit_percent, lambda value: f"{value:.1f} %"),
        _one(f"Over the WAN per {span}", pieces, _sum("upstream_bytes"), bytes_of),
        _one(f"Delivered per {span}", pieces, _sum("delivered_bytes"), bytes_of),
        _one("Spool", pieces, _most("spool_bytes"), bytes_of, tone="warn"),
        _one("Lag in versions", pieces, _most("lag"), lambda value: f"{value:.0f}", tone="bad"),
        _one(f"Refused per {span}, full", pieces, _sum("overloaded"), lambda v: f"{v:.0f}"),
    ]


Piece = Sequence[Sample]


def _pieces(samples: Sequence[Sample | None]) -> list[Piece]:
    width = max(1, -(-len(samples) // POINTS))
    return [
        [sample for sample in samples[start : start + width] if sample is not None]
        for start in range(0, len(samples), width)
    ]


def _one(
    title: str,
    pieces: Sequence[Piece],
    figure: Callable[[Piece], float | None],
    word: Callable[[float], str],
    *,
    tone: str = "",
) -> Series:
    values = [figure(piece) if piece else None for piece in pieces]
    known = [value for value in values if value is not None]
    said, most = (word(known[-1]), word(max(known))) if known else ("unknown", "unknown")
    label = f"{title}; now {said}, at most {most}"
    return Series(title, said, most, sparkline(values, label, tone=tone))


def _sum(name: str) -> Callable[[Piece], float | None]:
    return lambda piece: float(sum(getattr(sample, name) for sample in piece))


def _most(name: str) -> Callable[[Piece], float | None]:
    return lambda piece: float(max(getattr(sample, name) for sample in piece))


def _hit_percent(piece: Piece) -> float | None:
    hits = sum(sample.hits for sample in piece)
    asked = hits + sum(sample.misses for sample in piece)
    return 100 * hits / asked if asked else None
