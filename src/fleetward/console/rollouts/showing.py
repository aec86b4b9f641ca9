"""What pages and API show of a rollout: the channel's words beside what its hosts did.

Counted rows are added up for the sites that somebody may see; nothing here walks over hosts.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db.models import Count, Q, QuerySet, Sum
from django.utils.safestring import SafeString

from fleetward.console.access import Reach
from fleetward.console.catalogue.models import Channel
from fleetward.console.fleet.models import Event
from fleetward.console.relays.charts import Piece, bar
from fleetward.console.rollouts.counting import failures
from fleetward.console.rollouts.deciding import MEANING, TOOK, WRONG, Standing
from fleetward.console.rollouts.models import Counted, Member, Tally
from fleetward.console.rollouts.planning import Plan, plan_of
from fleetward.console.web.reaching import within
from fleetward.core.documents import Wave

STATES: Final = ("running", "paused", "halted", "reverting", "complete")
"""States of a rollout (core.documents.ChannelState)."""

STATE_TONES: Final = {"running": "", "complete": "good", "halted": "bad"}
"""Classes of a state's badge; the others warn."""

TONES: Final = {
    Standing.CONFIRMED: "current",
    Standing.TRYING: "installing",
    Standing.FAILED: "failed",
    Standing.SILENT: "silent",
    Standing.VANISHED: "expired",
    Standing.BEHIND: "behind",
    Standing.AWAY: "rest",
    Standing.WAITING: "waiting",
}
"""Classes of a bar's parts."""

REASONS: Final = 5
"""Reasons of failures that are told, the most frequent first."""


@dataclass(frozen=True, slots=True)
class RolloutFilter:
    """Which rollouts; what is empty does not narrow.

    Attributes:
        search: a part of the product's or the channel's name.
        state: of the rollout; `open` for all but complete ones.
        site: a site's name: its hosts alone are counted.
    """

    search: str = ""
    state: str = ""
    site: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What hosts did, in numbers.

    Attributes:
        counts: hosts by standing.
    """

    counts: Mapping[str, int]

    @property
    def hosts(self) -> int:
        """All of them."""
        return sum(self.counts.values())

    @property
    def took(self) -> int:
        """Who took the release, whatever came of it."""
        return sum(self.counts.get(word, 0) for word in TOOK)

    @property
    def percent(self) -> float:
        """The same in percent, never rounded up to 100."""
        if self.took == self.hosts:
            return 100.0 if self.hosts else 0.0
        return min(100 * self.took / self.hosts, 99.9)

    def of(self, word: Standing) -> int:
        """Return how many hosts stand so."""
        return self.counts.get(word, 0)

    def bar(self, name: str) -> SafeString:
        """Return them as a drawing; `name` says of what, for who cannot see it."""
        present = [word for word in Standing if self.of(word)]
        said = ", ".join(f"{self.of(word):,} {word.value}" for word in present) or "no host"
        pieces = [Piece(self.of(word), word.value, TONES[word]) for word in present]
        return bar(pieces, f"{name}: {said}")

    def legend(self) -> list[tuple[str, str, str, int]]:
        """Return tone, word, meaning and hosts of each standing that any host has."""
        return [
            (TONES[word], word.value, MEANING[word], self.of(word))
            for word in Standing
            if self.of(word)
        ]

    def cells(self) -> list[tuple[str, int, bool]]:
        """Return what a table shows: word, hosts, whether a person should look at them."""
        shown = (Standing.CONFIRMED, Standing.TRYING, *WRONG, Standing.BEHIND)
        return [(word.value, self.of(word), word in WRONG) for word in shown]


@dataclass(frozen=True, slots=True)
class WaveView:
    """A wave.

    Attributes:
        index: from 0; None for the hosts that no wave holds.
        wave: who is in it.
        opened: when it was opened; None where it is not.
        evidence: its hosts.
        is_now: whether it stands for a channel without a plan.
    """

    index: int | None
    wave: Wave
    opened: datetime | None
    evidence: Evidence
    is_now: bool = False

    @property
    def number(self) -> int:
        """Its place for people, from 1; 0 for none."""
        return 0 if self.index is None else self.index + 1

    @property
    def title(self) -> str:
        """What a line calls it."""
        if self.is_now:
            return "All at once"
        return "In no wave" if self.index is None else f"Wave {self.number}"

    @property
    def who(self) -> str:
        """Who is in it, in words."""
        return "hosts that no wave holds" if self.index is None else who(self.wave)

    @property
    def bar(self) -> SafeString:
        """Its hosts as a drawing."""
        return self.evidence.bar(self.title)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a release failed: the host's words, and on how many."""

    kind: str
    words: str
    hosts: int


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A channel and what its hosts did.

    Attributes:
        row: the channel.
        plan: its plan.
        waves: in their order; the hosts that no wave holds last, where there are any.
        evidence: all its hosts.
        counted: when they were counted; None where they were not yet.
    """

    row: Channel
    plan: Plan
    waves: tuple[WaveView, ...]
    evidence: Evidence
    counted: Counted | None

    @property
    def name(self) -> str:
        """Product and channel, as commands take them."""
        return f"{self.row.product.name}@{self.row.name}"

    @property
    def release(self) -> str:
        """What the channel points at."""
        return self.row.points_at

    @property
    def tone(self) -> str:
        """The class of its state's badge."""
        return STATE_TONES.get(self.row.state, "warn")

    @property
    def in_open(self) -> Evidence:
        """The hosts of the open waves together."""
        return _sum(wave.evidence for wave in self.waves if wave.opened is not None)

    @property
    def bar(self) -> SafeString:
        """All its hosts as a drawing."""
        return self.evidence.bar(self.name)

    @property
    def newest(self) -> WaveView | None:
        """The last wave that is open."""
        return next((wave for wave in reversed(self.waves) if wave.opened is not None), None)

    @property
    def next(self) -> WaveView | None:
        """The first wave that is not open."""
        planned = (wave for wave in self.waves if wave.index is not None)
        return next((wave for wave in planned if wave.opened is None), None)


def who(wave: Wave) -> str:
    """Return who is in a wave: `ring canary`, `10 % of the hosts`, or both."""
    rings = " and ".join(wave.rings)
    named = f"ring{'s' if len(wave.rings) > 1 else ''} {rings}" if rings else ""
    share = f"{wave.percent:g} % of the hosts" if wave.percent else ""
    return ", and ".join(part for part in (named, share) if part) or "nobody"


def channels(wanted: RolloutFilter) -> QuerySet[Channel]:
    """Return the channels that fit, with what a rollout shows of them."""
    rows = Channel.objects.filter(listed=True).select_related(
        "product", "release__product", "previous", "counted"
    )
    if wanted.search:
        found = Q(product__name__icontains=wanted.search) | Q(name__icontains=wanted.search)
        rows = rows.filter(found)
    if wanted.state == "open":
        rows = rows.exclude(state="complete")
    elif wanted.state:
        rows = rows.filter(state=wanted.state)
    return rows.order_by("product__name", "name")


def views(rows: Sequence[Channel], reach: Reach, site: str = "") -> list[RolloutView]:
    """Return rollouts with the evidence of the sites of `reach`, or of one of them."""
    sums = _sums(rows, reach, site)
    return [_view(row, sums[row.pk]) for row in rows]


def _sums(
    rows: Sequence[Channel], reach: Reach, site: str
) -> Mapping[int, Mapping[int | None, Evidence]]:
    tallies = within(Tally.objects.filter(channel__in=rows).order_by(), reach)
    if site:
        tallies = tallies.filter(site__name=site)
    found: dict[int, dict[int | None, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    same = ("channel_id", "wave", "standing")
    for row in tallies.values(*same).annotate(count=Sum("hosts")):
        found[row["channel_id"]][row["wave"]][row["standing"]] = row["count"]
    sums: dict[int, dict[int | None, Evidence]] = defaultdict(dict)
    for channel, waves in found.items():
        sums[channel] = {wave: Evidence(counts) for wave, counts in waves.items()}
    return sums


def _view(row: Channel, sums: Mapping[int | None, Evidence]) -> RolloutView:
    plan, none = plan_of(row), Evidence({})
    counted: Counted | None = getattr(row, "counted", None)
    # What was counted for another release says nothing of this one.
    if counted is not None and counted.release != row.points_at:
        counted, sums = None, {}
    waves = [
        WaveView(index, wave, opened, sums.get(index, none), is_now=plan.is_now)
        for index, (wave, opened) in enumerate(zip(plan.waves, plan.opened, strict=True))
    ]
    if outside := sums.get(None):
        waves.append(WaveView(None, Wave(), None, outside))
    return RolloutView(row, plan, tuple(waves), _sum(sums.values()), counted)


def _sum(parts: Iterable[Evidence]) -> Evidence:
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.counts)
    return Evidence(counts)


def members(
    row: Channel, reach: Reach, *, standing: str = "", wave: int | None = None, site: str = ""
) -> QuerySet[Member]:
    """Return the hosts of a channel at the sites of `reach`.

    Args:
        row: the channel.
        reach: from `request.access.reach("rollouts.view")`.
        standing: a standing; `wrong` for those that people look at; empty for all.
        wave: of this wave alone, from 0.
        site: of this site alone.
    """
    rows = within(
        row.members.select_related("host__site", "host__key__presence"), reach, "host__site_id"
    )
    if standing == "wrong":
        rows = rows.filter(standing__in=[word.value for word in WRONG])
    elif standing:
        rows = rows.filter(standing=standing)
    if wave is not None:
        rows = rows.filter(wave=wave)
    return rows.filter(host__site__name=site) if site else rows


def last_words(row: Channel, hosts: Iterable[int]) -> dict[int, Event]:
    """Return, by host, the last event in which it said that the channel's release failed."""
    found = failures(row).filter(host_id__in=list(hosts)).select_related("host").order_by("id")
    return {event.host_id: event for event in found}


def reasons(row: Channel, reach: Reach, site: str = "") -> list[Reason]:
    """Return why the channel's release failed, the most frequent reason first; sites as `members`."""
    still = members(row, reach, standing=Standing.FAILED, site=site)
    told = failures(row).filter(host_id__in=still.values("host_id"))
    groups = told.order_by().values("kind", "detail").annotate(count=Count("host", distinct=True))
    return [
        Reason(group["kind"], group["detail"], group["count"])
        for group in groups.order_by("-count", "detail")[:REASONS]
    ]
