"""What the overview shows: counted rows added up for the sites that somebody may see."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from django.db.models import Sum
from django.urls import reverse
from django.utils.safestring import SafeString

from fleetward.console.access import Reach
from fleetward.console.alerts.gathering import hosts_link
from fleetward.console.alerts.kinds import Kind
from fleetward.console.alerts.models import Alert
from fleetward.console.alerts.queries import AlertFilter, alerts
from fleetward.console.catalogue.models import Channel
from fleetward.console.overview.deciding import (
    MEANING,
    PROTECTED,
    STOP_WORDS,
    Freshness,
    climb,
    reached,
    stops_for,
)
from fleetward.console.overview.models import Arrival, Counted, Health, Tally
from fleetward.console.relays.charts import Curve, Piece, bar, curves
from fleetward.console.web.reaching import within

NAMED_SITES: Final = 3
"""Sites that a line about many alerts names."""

SHARES: Final = (0.5, 0.9, 0.99)
"""Shares of the fleet whose time is told."""

TONES: Final = ("first", "second", "third", "fourth")
"""Classes of a product's curves, the newest release first."""

SHOWN_RELEASES: Final = 6
"""Releases of a product that are listed by name."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The hosts that somebody sees.

    Attributes:
        hosts: active ones.
        at_risk: not protected with something.
        silent: not heard of lately; among those at risk.
        bare: without any product; among those at risk.
    """

    hosts: int
    at_risk: int
    silent: int
    bare: int

    @property
    def protected(self) -> int:
        """Hosts that are protected."""
        return self.hosts - self.at_risk

    @property
    def percent(self) -> float | None:
        """The same in percent, never rounded up to 100."""
        if not self.hosts:
            return None
        share = 100 * self.protected / self.hosts
        return share if self.at_risk == 0 else min(share, 99.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """Open alerts of one kind.

    Attributes:
        kind: an `alerts.kinds.Kind`.
        rank: how bad, as a number; `severity` and `tone` for people.
        title: one line.
        where: how many alerts, and where; empty for one.
        step: what to do next.
        since: when the first of them was opened.
        is_taken: whether somebody works on each of them.
        link: to the alert, or to all of them.
    """

    kind: str
    rank: int
    severity: str
    tone: str
    title: str
    where: str
    step: str
    since: datetime
    is_taken: bool
    link: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How many hosts stand alike.

    Attributes:
        word: a `Freshness`.
        meaning: what that is.
        hosts: how many; `percent` of the product's.
        link: to those hosts; empty where there is no such page.
    """

    word: str
    meaning: str
    hosts: int
    percent: float
    link: str


@dataclass(frozen=True, slots=True)
class Running:
    """How many hosts run a release; `is_current` where a channel points at it."""

    release: str
    hosts: int
    percent: float
    is_current: bool
    bar: SafeString
    link: str


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a release reached the fleet.

    Attributes:
        release: its name.
        tone: the class of its curve.
        created: when the origin made it.
        times: until 50, 90 and 99 % of the hosts had it; None where not yet.
        percent: of the hosts that have had it by now.
    """

    release: str
    tone: str
    created: datetime
    times: tuple[str, ...]
    percent: float


@dataclass(frozen=True, slots=True)
class ProductView:
    """A product on the overview.

    Attributes:
        name: its name.
        hosts: that have it.
        protected: of them.
        bar: its standings as a drawing.
        standings: those that any host has, the best first.
        releases: what runs, the newest first.
        paces: of its last releases.
        plot: their curves; None where there are none.
        marks: words along its axis.
    """

    name: str
    hosts: int
    protected: int
    bar: SafeString
    standings: tuple[Standing, ...]
    releases: tuple[Running, ...]
    others: int
    paces: tuple[Pace, ...]
    plot: SafeString | None
    marks: tuple[str, ...]

    @property
    def percent(self) -> float:
        """Hosts that are protected, in percent, never rounded up to 100."""
        share = 100 * self.protected / max(1, self.hosts)
        return share if self.protected == self.hosts else min(share, 99.9)


def figures(reach: Reach) -> Figures:
    """Return the hosts of the sites of `reach`."""
    names = ("hosts", "at_risk", "silent", "bare")
    sums = within(Health.objects.all(), reach).aggregate(**{name: Sum(name) for name in names})
    return Figures(**{name: sums[name] or 0 for name in names})


def last_count() -> Counted | None:
    """Return when the fleet was last counted."""
    return Counted.objects.first()


def wrong_now(reach: Reach) -> list[Wrong]:
    """Return what is wrong, each kind of it once, the worst first; what nobody has taken on before."""
    by_kind: dict[str, list[Alert]] = defaultdict(list)
    for row in alerts(reach, AlertFilter()).order_by("-severity", "id"):
        by_kind[row.kind].append(row)
    order = [kind.value for kind in Kind]
    found = [_wrong(rows) for rows in by_kind.values()]
    found.sort(key=lambda each: (-each.rank, each.is_taken, order.index(each.kind)))
    return found


def _wrong(rows: Sequence[Alert]) -> Wrong:
    first = rows[0]
    hosts = sum(row.hosts for row in rows)
    places = sorted({str(row.site) for row in rows if row.site})
    is_one = len(rows) == 1
    alert = reverse("alerts:alert", args=[first.pk])
    count = f"{hosts:,} host{'' if hosts == 1 else 's'} in " if hosts else ""
    return Wrong(
        kind=first.kind,
        rank=max(row.severity for row in rows),
        severity=first.severity_word,
        tone=first.tone,
        title=first.title if is_one else first.get_kind_display(),
        where="" if is_one else f"{count}{len(rows)} alerts{_places(places)}",
        step=first.step,
        since=min(row.opened for row in rows),
        is_taken=all(row.acknowledged for row in rows),
        link=alert if is_one else f"{reverse('alerts:listing')}?{urlencode({'kind': first.kind})}",
    )


def _places(names: Sequence[str]) -> str:
    if not names:
        return ""
    rest = len(names) - NAMED_SITES
    shown = ", ".join(names[:NAMED_SITES])
    return f" at {shown}" + (f" and {rest} more site{'' if rest == 1 else 's'}" if rest > 0 else "")


def products(reach: Reach, now: datetime) -> list[ProductView]:
    """Return every product that hosts have, the least protected first."""
    by_product: dict[str, list[Tally]] = defaultdict(list)
    for row in _tallies(reach):
        by_product[row.product].append(row)
    arrivals = _arrivals(reach)
    current = _current()
    found = [
        _product(name, rows, current.get(name, frozenset()), arrivals.get(name, {}), now)
        for name, rows in by_product.items()
    ]
    return sorted(found, key=lambda each: (each.percent, each.name))


def _tallies(reach: Reach) -> Iterable[Tally]:
    rows = within(Tally.objects.order_by(), reach)
    same = ("product", "release", "seq", "freshness")
    for row in rows.values(*same).annotate(count=Sum("hosts")):
        yield Tally(**{name: row[name] for name in same}, hosts=row["count"])


def _current() -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = defaultdict(frozenset)
    for row in Channel.objects.filter(listed=True).select_related("product", "release"):
        found[row.product.name] |= {row.release.name if row.release else row.points_at}
    return found


def _product(
    name: str,
    rows: Sequence[Tally],
    current: frozenset[str],
    arrivals: dict[str, "Race"],
    now: datetime,
) -> ProductView:
    hosts = sum(row.hosts for row in rows)
    counted: Counter[str] = Counter()
    for row in rows:
        counted[row.freshness] += row.hosts
    standings = tuple(
        Standing(
            word.value, MEANING[word], counted[word], 100 * counted[word] / hosts, _link(name, word)
        )
        for word in Freshness
        if counted[word]
    )
    pieces = [Piece(each.hosts, each.word, each.word) for each in standings]
    said = ", ".join(f"{each.hosts:,} {each.word}" for each in standings)
    running = _running(name, rows, hosts, current)
    paces, plot, marks = _paces(arrivals, hosts, now)
    return ProductView(
        name=name,
        hosts=hosts,
        protected=sum(counted[word] for word in PROTECTED),
        bar=bar(pieces, f"{name}: {said}"),
        standings=standings,
        releases=running[:SHOWN_RELEASES],
        others=sum(each.hosts for each in running[SHOWN_RELEASES:]),
        paces=paces,
        plot=plot,
        marks=marks,
    )


def _link(product: str, word: Freshness) -> str:
    if word is Freshness.SILENT:
        return hosts_link(product=product, silent="true")
    if word is Freshness.UNPROTECTED:
        return hosts_link(product=product, state="unprotected")
    return ""


def _running(
    product: str, rows: Sequence[Tally], hosts: int, current: frozenset[str]
) -> tuple[Running, ...]:
    counted: Counter[tuple[int, str]] = Counter()
    for row in rows:
        counted[(row.seq, row.release)] += row.hosts
    found = []
    for (_, release), count in sorted(counted.items(), reverse=True):
        is_current = release in current
        tone = "current" if is_current else "rest"
        drawn = bar([Piece(count, release, tone), Piece(hosts - count, "others", "ground")], "")
        link = hosts_link(product=product, release=release) if release else ""
        share = 100 * count / hosts
        found.append(Running(release or "none", count, share, is_current, drawn, link))
    return tuple(found)


# -- curves ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Race:
    """A release on its way to the fleet: when it was made, and who arrived when."""

    seq: int
    created: datetime
    arrivals: dict[int, int]


def _arrivals(reach: Reach) -> dict[str, dict[str, Race]]:
    found: dict[str, dict[str, Race]] = defaultdict(dict)
    rows = within(Arrival.objects.order_by(), reach)
    # When each was made comes once per release: 2,000 buckets would be 2,000 dates to read.
    made = rows.values_list("product", "release", "seq", "created").distinct()
    for product, release, seq, created in made:
        found[product][release] = Race(seq, created, {})
    counted = rows.values_list("product", "release", "minutes").annotate(count=Sum("hosts"))
    for product, release, minutes, hosts in counted:
        # A count may have come between the two questions.
        if race := found[product].get(release):
            race.arrivals[minutes] = hosts
    return found


def _paces(
    races: dict[str, Race], hosts: int, now: datetime
) -> tuple[tuple[Pace, ...], SafeString | None, tuple[str, ...]]:
    newest = sorted(races.items(), key=lambda pair: -pair[1].seq)[: len(TONES)]
    if not newest:
        return (), None, ()
    # A release's curve ends where the next one began to take its place.
    ages = _ages(newest, now)
    stops = stops_for(max(max(race.arrivals, default=0) for _, race in newest))
    paces, drawn = [], []
    for (release, race), tone, age in zip(newest, TONES, ages, strict=False):
        of = max(hosts, sum(race.arrivals.values()))
        points = climb(race.arrivals, of, age, stops)
        drawn.append(Curve(tuple(points), tone))
        times = tuple(_said(reached(race.arrivals, of, share)) for share in SHARES)
        percent = 100 * sum(race.arrivals.values()) / max(1, of)
        paces.append(Pace(release, tone, race.created, times, percent))
    said = "; ".join(f"{pace.release}: {pace.percent:.0f} %" for pace in paces)
    plot = curves(list(reversed(drawn)), f"Hosts with a release over time. {said}", (0.5, 0.9))
    return tuple(paces), plot, STOP_WORDS[:stops]


def _ages(newest: Sequence[tuple[str, Race]], now: datetime) -> list[int]:
    ends = [now, *(race.created for _, race in newest)]
    return [
        int((end - race.created).total_seconds() // 60)
        for (_, race), end in zip(newest, ends, strict=False)
    ]


def _said(span: timedelta | None) -> str:
    if span is None:
        return "not yet"
    minutes = int(span.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes / 60:.1f} h"
    return f"{minutes / 1440:.1f} d"
