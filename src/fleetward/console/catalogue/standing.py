"""How products, releases and roles stand: what pages, panels and alerts say of the rows.

Nothing here writes. Which host runs what comes from the fleet's rows where that part is installed;
the hosts counted are those at the sites of whoever asks.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from django.apps import apps
from django.db.models import Aggregate, Count, QuerySet, Sum
from django.urls import reverse

from fleetward.console.access import Reach
from fleetward.console.catalogue.models import Channel, Kind, Product, Release, Repository, Role
from fleetward.console.web.reaching import within
from fleetward.console.web.tags import distance

Tone = Literal["good", "warn", "bad", ""]

SILENCE: Final = timedelta(hours=1)
"""A repository that did not answer for so long is worth a person's time."""


@dataclass(frozen=True, slots=True)
class Margin:
    """How long before its expiry a role should have been renewed.

    Attributes:
        warn: from here on it is late.
        bad: from here on somebody must act today.
    """

    warn: timedelta
    bad: timedelta


_ONLINE: Final = Margin(timedelta(days=3), timedelta(days=1))
_PRODUCT: Final = Margin(timedelta(days=7), timedelta(days=2))
_OFFLINE: Final = Margin(timedelta(days=30), timedelta(days=7))


def margin_of(role: str) -> Margin:
    """Return the margin of a role, by how long it lives (docs/threat-model.md, "Roles")."""
    if role in {"root", "targets", "fleet"}:
        return _OFFLINE
    return _ONLINE if role in {"timestamp", "snapshot", "channels"} else _PRODUCT


def tone_of_expiry(role: str, expires: datetime | None, now: datetime) -> Tone:
    """Return how a role's expiry stands."""
    if expires is None:
        return "warn"
    left, margin = expires - now, margin_of(role)
    if left <= margin.bad:
        return "bad"
    return "warn" if left <= margin.warn else "good"


@dataclass(frozen=True, slots=True)
class RoleLine:
    """A role as shown.

    Attributes:
        row: the role.
        tone: how its expiry stands.
        left: what is left, in words.
        signer: who holds its keys, in words.
    """

    row: Role
    tone: Tone
    left: str
    signer: str


def role_lines(now: datetime) -> list[RoleLine]:
    """Return all roles, top-level ones first."""
    return [role_line(row, now) for row in Role.objects.all()]


def role_line(row: Role, now: datetime) -> RoleLine:
    """Return one role as shown."""
    tone = tone_of_expiry(row.role, row.expires, now)
    if row.expires is None:
        left = "not read yet"
    else:
        words = distance(row.expires, now)
        left = f"expired {words}" if row.expires <= now else f"expires {words}"
    return RoleLine(row, tone, left, _signer(row.role))


def _signer(role: str) -> str:
    if role in {"root", "targets", "fleet"}:
        return "offline keys"
    if role in {"timestamp", "snapshot", "channels"}:
        return "the steward's online key"
    return "the product's own keys"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with the repository or with what it says.

    Attributes:
        tone: `bad` or `warn`.
        words: what is wrong.
        step: what to do next.
        url: where more is to be seen.
        key: what it is about, the same in every round (for a damper of alerts).
        since: when it began, where that is known.
    """

    tone: Tone
    words: str
    step: str
    url: str
    key: str
    since: datetime | None = None


def problems(now: datetime) -> list[Problem]:
    """Return what is wrong now, the worst first; nothing where no repository is followed."""
    row = Repository.objects.first()
    if row is None:
        return []
    found = [*_of_repository(row, now), *_of_roles(now), *_of_channels()]
    return sorted(found, key=lambda problem: problem.tone != "bad")


def _of_repository(row: Repository, now: datetime) -> Iterator[Problem]:
    url = reverse("catalogue:trust")
    if row.problem_kind == Kind.TRUST:
        yield Problem(
            "bad",
            f"The repository was refused: {row.problem}",
            "Compare with the origin itself; hosts refuse it as well and keep what they have.",
            url,
            "repository:trust",
            row.problem_since,
        )
    elif row.problem_kind:
        is_long = row.problem_since is not None and now - row.problem_since > SILENCE
        yield Problem(
            "bad" if is_long else "warn",
            f"The repository cannot be followed: {row.problem}",
            "What is shown may be old until this works again.",
            url,
            f"repository:{row.problem_kind}",
            row.problem_since,
        )
    if row.frozen and row.issued is not None:
        yield Problem(
            "bad",
            f"The repository is frozen: its newest timestamp was signed {distance(row.issued, now)}.",
            "See whether `origin steward` runs; if it does, somebody holds news back.",
            url,
            "repository:frozen",
        )
    if row.clock_ahead is not None:
        ahead = timedelta(seconds=row.clock_ahead)
        yield Problem(
            "warn",
            f"This machine's clock is {ahead.days} d ahead of the newest signed time.",
            "Set the clock, or see why nothing was signed for so long.",
            url,
            "repository:clock",
        )


def _of_roles(now: datetime) -> Iterator[Problem]:
    for line in role_lines(now):
        if line.tone in {"bad", "warn"} and line.row.expires is not None:
            yield Problem(
                line.tone,
                f"The role {line.row.role} {line.left}.",
                f"Have it signed anew by {line.signer}: `fleetward origin doctor` says how.",
                reverse("catalogue:trust"),
                f"role:{line.row.role}",
            )


def _of_channels() -> Iterator[Problem]:
    rows = Channel.objects.filter(listed=True, product__listed=True)
    for row in rows.select_related("product", "release"):
        words = fault_of(row)
        if words:
            yield Problem(
                "bad",
                f"{row.product.name}/{row.name} points at {row.points_at}, {words}.",
                "Hosts refuse it and keep what they have; point the channel at another release.",
                reverse("catalogue:product", args=[row.product.name]),
                f"channel:{row.product.name}/{row.name}",
            )


def fault_of(channel: Channel) -> str:
    """Return why hosts refuse what a channel points at; empty where they do not."""
    release = channel.release
    if release is None:
        return "which the release keys do not vouch for"
    if release.revoked:
        return "which is revoked"
    return "which lies under the floor" if release.seq < channel.product.floor else ""


# -- hosts ---------------------------------------------------------------------------------------------

Counts = Mapping[tuple[str, str], Mapping[str, int]]
"""(product, channel) -> release -> hosts that run it."""


def hosts_by_release(reach: Reach, product: str | None = None) -> Counts | None:
    """Return how many active hosts run what; None where the console has no fleet.

    From what the overview has counted lately, where it has: a large fleet is not counted for a page.

    Args:
        reach: the sites whose hosts count.
        product: one product alone.
    """
    rows = _tallies(reach)
    if rows is None:
        rows = _states(reach)
    if rows is None:
        return None
    if product is not None:
        rows = rows.filter(product=product)
    found: dict[tuple[str, str], dict[str, int]] = {}
    for name, channel, release, hosts in rows:
        found.setdefault((name, channel), {})[release] = hosts
    return found


def _tallies(reach: Reach) -> QuerySet[Any, Any] | None:
    """Return the overview's counts; by its models' names, since it builds on this part."""
    if not apps.is_installed("fleetward.console.overview"):
        return None
    if not apps.get_model("overview", "Counted").objects.exists():
        return None
    rows = within(apps.get_model("overview", "Tally").objects.all(), reach)
    return _counted(rows, Sum("hosts"))


def _states(reach: Reach) -> QuerySet[Any, Any] | None:
    if not apps.is_installed("fleetward.console.fleet"):
        return None
    rows = apps.get_model("fleet", "ProductState").objects.filter(host__standing="active")
    return _counted(within(rows, reach, "host__site_id"), Count("id"))


def _counted(rows: QuerySet[Any, Any], how: Aggregate) -> QuerySet[Any, Any]:
    names = ("product", "channel", "release")
    counted: QuerySet[Any, Any] = rows.order_by().values(*names).annotate(number=how)
    return counted.values_list(*names, "number")


@dataclass(frozen=True, slots=True)
class Share:
    """The hosts of a channel that run one release, or several old ones together.

    Attributes:
        words: which.
        hosts: how many.
        start: where its piece of the bar begins, of 100.
        width: how wide that is.
        tone: `current`, `previous`, `older`, `none`: its colour.
    """

    words: str
    hosts: int
    start: float
    width: float
    tone: str


def shares(channel: Channel, counts: Mapping[str, int]) -> list[Share]:
    """Return the pieces of a channel's bar: current, previous, others, none."""
    current = channel.points_at
    previous = channel.previous.name if channel.previous else ""
    sorts = {"current": 0, "previous": 0, "older": 0, "none": 0}
    for release, hosts in counts.items():
        sort = {current: "current", previous: "previous", "": "none"}.get(release, "older")
        sorts["none" if not release else sort] += hosts
    words = {
        "current": current,
        "previous": previous,
        "older": "another release",
        "none": "none yet",
    }
    return list(_pieces([(words[tone], hosts, tone) for tone, hosts in sorts.items() if hosts]))


def _pieces(parts: Iterable[tuple[str, int, str]]) -> Iterator[Share]:
    listed = list(parts)
    total = sum(hosts for _, hosts, _ in listed)
    start = 0.0
    for words, hosts, tone in listed:
        width = round(100 * hosts / total, 2)
        yield Share(words, hosts, round(start, 2), width, tone)
        start += width


# -- releases ------------------------------------------------------------------------------------------


def badges(release: Release, floor: int) -> list[tuple[Tone, str]]:
    """Return what people should know of a release at a glance."""
    found: list[tuple[Tone, str]] = []
    if release.revoked:
        found.append(("bad", "revoked"))
    if release.seq < floor:
        found.append(("warn", "under the floor"))
    if release.urgent:
        found.append(("warn", "urgent"))
    if not release.listed:
        found.append(("", "no longer listed"))
    return found


def share_at(ramp: list[dict[str, float]], age: timedelta) -> float:
    """Return the percentage of hosts that a ramp admits to a release of this age."""
    reached = [step["percent"] for step in ramp if timedelta(seconds=step["age"]) <= age]
    return (reached[-1] if reached else 0.0) if ramp else 100.0


def product_or_none(name: str) -> Product | None:
    """Return a product by a name out of a URL, which may hold anything."""
    return None if "\0" in name else Product.objects.filter(name=name).first()
