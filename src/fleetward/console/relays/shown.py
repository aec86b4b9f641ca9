"""What the pages and the API show of relays: rows with their standing and their history."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import QuerySet, Sum
from django.utils.safestring import SafeString

from fleetward.console.access import Reach
from fleetward.console.relays.charts import sparkline
from fleetward.console.relays.judging import Facts, Standing, judge, lag_of
from fleetward.console.relays.models import HOUR, MINUTE, Listed, Relay, Sample
from fleetward.console.relays.polling import newest_version
from fleetward.console.relays.reading import Said, said_of
from fleetward.console.web.reaching import within

DAY = timedelta(days=1)

WORDS = {
    Standing.LOST: "does not answer",
    Standing.FROZEN: "freezes",
    Standing.BEHIND: "behind",
    Standing.FILLING: "spool filling",
    Standing.TROUBLED: "has problems",
    Standing.UNKNOWN: "not asked yet",
    Standing.WELL: "well",
}

TONES = {
    Standing.LOST: "bad",
    Standing.FROZEN: "bad",
    Standing.BEHIND: "warn",
    Standing.FILLING: "warn",
    Standing.TROUBLED: "warn",
    Standing.UNKNOWN: "",
    Standing.WELL: "good",
}

STEPS = {
    Standing.LOST: "Look whether it runs and whether this console may reach it on port 2967.",
    Standing.FROZEN: (
        "Its hosts are not told what is new. Look at its upstreams; if others at the same "
        "upstream are fresh, take it out of the list: it may freeze them on purpose."
    ),
    Standing.BEHIND: "It is a little late; if this stays, look at its upstreams and its rate limit.",
    Standing.FILLING: "It cannot forward check-ins: look at its way to this console.",
    Standing.TROUBLED: "It says itself what is wrong; see below.",
    Standing.UNKNOWN: "",
    Standing.WELL: "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What one or more relays did in a span of time.

    Attributes:
        hits: requests answered from the cache.
        misses: requests that waited for an upstream.
        upstream_bytes: what came over the WAN.
        delivered_bytes: what clients got.
    """

    hits: int = 0
    misses: int = 0
    upstream_bytes: int = 0
    delivered_bytes: int = 0

    def hit_ratio(self) -> float | None:
        """Return the share of requests answered from the cache; None where there were none."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None

    def hit_percent(self) -> float | None:
        """Return the same in percent."""
        ratio = self.hit_ratio()
        return None if ratio is None else 100 * ratio

    def saved_ratio(self) -> float | None:
        """Return how many bytes were delivered per byte over the WAN; None without any."""
        return self.delivered_bytes / self.upstream_bytes if self.upstream_bytes else None

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            hits=self.hits + other.hits,
            misses=self.misses + other.misses,
            upstream_bytes=self.upstream_bytes + other.upstream_bytes,
            delivered_bytes=self.delivered_bytes + other.delivered_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A relay as shown.

    Attributes:
        row: the relay.
        said: what it said when it last answered.
        standing: how it stands.
        lag: versions by which its timestamp stands behind the newest known.
        day: what it did in the last 24 hours.
        spark: bytes delivered by the hour of the last day, as a drawing.
    """

    row: Relay
    said: Said
    standing: Standing
    lag: int
    day: Traffic
    spark: SafeString

    @property
    def word(self) -> str:
        """The standing for people."""
        return WORDS[self.standing]

    @property
    def tone(self) -> str:
        """The class of its badge."""
        return TONES[self.standing]

    @property
    def step(self) -> str:
        """What to do next."""
        return STEPS[self.standing]

    @property
    def spool_percent(self) -> float | None:
        """How full its spool is."""
        return 100 * self.said.spool_bytes / self.said.spool_max if self.said.spool_max else None


def facts_of(row: Relay, newest: int) -> Facts:
    """Return what is known of a relay, for `judge`."""
    said = said_of(row.said)
    # That it did not answer this once is no trouble of its own; `judge` sees it when it stays away.
    is_odd = bool(row.problem) and row.answered == row.polled
    return Facts(
        added=row.added,
        answered=row.answered,
        version=row.version,
        newest=newest,
        spool_bytes=said.spool_bytes,
        spool_max=said.spool_max,
        problems=len(said.problems) + is_odd,
    )


def relays(reach: Reach) -> QuerySet[Relay]:
    """Return the listed relays that somebody may see; one of no site is for who sees all."""
    listed = Relay.objects.exclude(listed=Listed.NOBODY).select_related("site")
    return within(listed, reach)


def show(rows: Sequence[Relay], now: datetime) -> list[Shown]:
    """Return relays as shown, the worst first."""
    newest = newest_version()
    days, sparks = _days(rows, now), _hours(rows, now)
    order = list(Standing)
    found = [
        Shown(
            row=row,
            said=said_of(row.said),
            standing=judge(facts_of(row, newest), now),
            lag=lag_of(row.version, newest),
            day=days[row.pk],
            spark=sparkline(sparks[row.pk], f"Bytes delivered by the hour, {row.name}"),
        )
        for row in rows
    ]
    return sorted(found, key=lambda each: (order.index(each.standing), each.row.name))


def standings_of(rows: Sequence[Relay], now: datetime) -> list[Standing]:
    """Return how each relay stands."""
    newest = newest_version()
    return [judge(facts_of(row, newest), now) for row in rows]


def _days(rows: Sequence[Relay], now: datetime) -> dict[int, Traffic]:
    sums = (
        Sample.objects.filter(relay__in=rows, span=HOUR, at__gt=now - DAY)
        .values("relay_id")
        .annotate(
            h=Sum("hits"), m=Sum("misses"), up=Sum("upstream_bytes"), out=Sum("delivered_bytes")
        )
    )
    found: dict[int, Traffic] = defaultdict(Traffic)
    for each in sums:
        found[each["relay_id"]] = Traffic(
            hits=each["h"],
            misses=each["m"],
            upstream_bytes=each["up"],
            delivered_bytes=each["out"],
        )
    return found


def _hours(rows: Sequence[Relay], now: datetime) -> dict[int, list[float | None]]:
    samples = Sample.objects.filter(relay__in=rows, span=HOUR, at__gt=now - DAY)
    found: dict[int, list[float | None]] = defaultdict(lambda: [None] * 24)
    for sample in samples:
        age = int((now - sample.at).total_seconds() // HOUR)
        if 0 <= age < 24 and sample.answered:
            found[sample.relay_id][23 - age] = float(sample.delivered_bytes)
    return found


@dataclass(frozen=True, slots=True)
class Series:
    """A relay's history of one figure.

    Attributes:
        title: what it is.
        now: the last value for people; `most` the greatest.
        drawing: the values.
    """

    title: str
    now: str
    most: str
    drawing: SafeString


def history(row: Relay, now: datetime, *, long: bool = False) -> list[Sample | None]:
    """Return a relay's samples without holes: the last day by minutes, or 90 days by hours."""
    span, count = (HOUR, 90 * 24) if long else (MINUTE, 24 * 60)
    first = now.timestamp() // span - count + 1
    samples = row.samples.filter(span=span, at__gt=now - timedelta(seconds=span * count))
    found: list[Sample | None] = [None] * count
    for sample in samples:
        place = int(sample.at.timestamp() // span - first)
        if 0 <= place < count:
            found[place] = sample
    return found
