"""The catalogue's pages: products, one product, one release with its changes, trust."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.db.models import Prefetch, Q, QuerySet
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode

from fleetward.console.catalogue.charts import size_chart
from fleetward.console.catalogue.comparing import ask, ask_again
from fleetward.console.catalogue.models import (
    Channel,
    Comparison,
    Delta,
    Move,
    Product,
    Release,
    Repository,
    Role,
    Stage,
)
from fleetward.console.catalogue.standing import (
    Share,
    badges,
    fault_of,
    hosts_by_release,
    problems,
    product_or_none,
    role_line,
    role_lines,
    share_at,
    shares,
)
from fleetward.console.web.asking import AskedByPerson
from fleetward.console.web.paging import cursor_in
from fleetward.console.wiring import wired

ROWS: Final = 50
"""Releases on a page."""

CHARTED: Final = 24
"""Releases in the chart of sizes."""

MOVES: Final = 40
"""Moves of channels on a page."""

OFFERED: Final = 100
"""Releases offered to compare with, at most."""

SHOWN: Final = 200
"""Changes of a kind on a page, at most; the API has them all."""

NEWEST: Final = 6
"""Releases in the overview's panel."""

WAITING: Final = 50
"""Comparisons that may wait at once (a page that is asked for endless pairs)."""


@dataclass(frozen=True, slots=True)
class ChannelLine:
    """A channel as shown.

    Attributes:
        row: the channel.
        fault: why hosts refuse what it points at; empty where they do not.
        shares: its hosts by release, as pieces of a bar; None where the console has no fleet.
        hosts: all of them.
    """

    row: Channel
    fault: str
    shares: list[Share] | None
    hosts: int


def _channel_lines(
    channels: Sequence[Channel], counts: Mapping[tuple[str, str], Mapping[str, int]] | None
) -> list[ChannelLine]:
    lines = []
    for row in channels:
        of_channel = {} if counts is None else counts.get((row.product.name, row.name), {})
        pieces = None if counts is None else shares(row, of_channel)
        lines.append(ChannelLine(row, fault_of(row), pieces, sum(of_channel.values())))
    return lines


def products(request: AskedByPerson) -> HttpResponse:
    """List products with their channels."""
    q = _text(request, "q")
    rows = Product.objects.all()
    if q:
        rows = rows.filter(Q(name__icontains=q) | Q(channels__name__icontains=q)).distinct()
    if request.GET.get("listed") != "all":
        rows = rows.filter(listed=True)
    channels = Channel.objects.filter(listed=True).select_related("product", "release", "previous")
    counts = hosts_by_release(request.access.reach("hosts.view"))
    expiries = {role.role: role for role in Role.objects.all()}
    now = wired().clock.now()
    listed = []
    for product in rows.prefetch_related(Prefetch("channels", channels)):
        role = expiries.get(f"releases-{product.name}")
        lines = _channel_lines(list(product.channels.all()), counts)
        listed.append({"row": product, "lines": lines, "role": role and role_line(role, now)})
    words = {
        "products": listed,
        "has_fleet": counts is not None,
        "q": q,
        "listed": request.GET.get("listed", ""),
        "is_filtered": bool(q),
        **_repository(),
    }
    return _page(request, "products", words)


def product(request: AskedByPerson, product: str) -> HttpResponse:
    """Show one product: channels, releases, signers, history."""
    row = _product(product)
    now = wired().clock.now()
    counts = hosts_by_release(request.access.reach("hosts.view"), row.name)
    channels = list(
        row.channels.filter(listed=True).select_related("product", "release", "previous")
    )
    role = Role.objects.filter(role=f"releases-{row.name}").first()
    by_role = Role.objects.filter(role="channels").first()
    words = {
        "product": row,
        "lines": _channel_lines(channels, counts),
        "has_fleet": counts is not None,
        "signers": [role_line(each, now) for each in (role, by_role) if each],
        "ramp": _ramp(row),
        **_releases(request, row, channels, counts),
        **_moves(request, row),
    }
    return _page(request, "product", words)


def _ramp(product: Product) -> list[dict[str, object]]:
    return [
        {"age": timedelta(seconds=step["age"]), "percent": step["percent"]} for step in product.ramp
    ]


_STATES: Final[dict[str, dict[str, Any]]] = {
    "listed": {"listed": True},
    "revoked": {"revoked": True},
    "urgent": {"urgent": True},
    "gone": {"listed": False},
}


def _releases(
    request: AskedByPerson,
    product: Product,
    channels: Sequence[Channel],
    counts: Mapping[tuple[str, str], Mapping[str, int]] | None,
) -> dict[str, object]:
    q, state = _text(request, "q"), _text(request, "state")
    before = cursor_in(request.GET.get("before", ""))
    rows = product.releases.filter(**_STATES.get(state, {}))
    if q:
        rows = rows.filter(name__icontains=q)
    if before is not None:
        rows = rows.filter(seq__lt=before)
    deltas = Prefetch("deltas", Delta.objects.order_by("length"))
    found = list(rows.order_by("-seq").prefetch_related(deltas)[: ROWS + 1])
    hosts: dict[str, int] = {}
    for of_channel in (counts or {}).values():
        for name, number in of_channel.items():
            hosts[name] = hosts.get(name, 0) + number
    lines = [
        {
            "row": release,
            "badges": badges(release, product.floor),
            "channels": [c.name for c in channels if c.release_id == release.pk],
            "delta": next(iter(release.deltas.all()), None),
            "hosts": hosts.get(release.name, 0),
        }
        for release in found[:ROWS]
    ]
    query = urlencode({key: value for key, value in (("q", q), ("state", state)) if value})
    return {
        "releases": lines,
        "chart": _chart(product),
        "q": q,
        "state": state,
        "query": query,
        "before": found[ROWS - 1].seq if len(found) > ROWS else None,
    }


def _chart(product: Product) -> object:
    deltas = Prefetch("deltas", Delta.objects.order_by("length"))
    rows = product.releases.filter(listed=True).order_by("-seq").prefetch_related(deltas)
    drawn = list(reversed(rows[:CHARTED]))
    if len(drawn) < 2:
        return None
    smallest = [next((delta.length for delta in row.deltas.all()), None) for row in drawn]
    return size_chart([row.name for row in drawn], [row.pack_length for row in drawn], smallest)


def _moves(request: AskedByPerson, product: Product) -> dict[str, object]:
    channel = _text(request, "channel")
    after = cursor_in(request.GET.get("older", ""))
    rows: QuerySet[Move] = Move.objects.filter(channel__product=product)
    if channel:
        rows = rows.filter(channel__name=channel)
    if after is not None:
        rows = rows.filter(pk__lt=after)
    found = list(rows.select_related("channel").order_by("-id")[: MOVES + 1])
    return {
        "moves": found[:MOVES],
        "channel": channel,
        "older": found[MOVES - 1].pk if len(found) > MOVES else None,
    }


def release(request: AskedByPerson, product: str, release: str) -> HttpResponse:
    """Show one release: its manifest, its deltas, and what changed against another."""
    owner = _product(product)
    row = _release(owner, release)
    others = owner.releases.exclude(pk=row.pk).filter(listed=True).order_by("-seq")
    against = _against(request, owner, row)
    now = wired().clock.now()
    channels = owner.channels.filter(listed=True).filter(Q(release=row) | Q(previous=row))
    words = {
        "product": owner,
        "release": row,
        "badges": badges(row, owner.floor),
        "deltas": _deltas(row),
        "channels": list(channels),
        "share": share_at(owner.ramp, now - row.created),
        "others": list(others[:OFFERED]),
        "against": against,
        **_changes(request, row, against),
    }
    return _page(request, "release", words)


def _deltas(row: Release) -> list[Delta]:
    """Return a release's deltas, from the newest base to the oldest."""
    bases = Release.objects.filter(product=row.product, seq__lt=row.seq)
    seqs = dict(bases.values_list("name", "seq"))
    return sorted(row.deltas.all(), key=lambda delta: (-seqs.get(delta.base, 0), delta.length))


def changes(request: AskedByPerson, product: str, release: str) -> HttpResponse:
    """Show what changed between two releases, as a part of the release's page."""
    owner = _product(product)
    row = _release(owner, release)
    against = _against(request, owner, row)
    words = {"product": owner, "release": row, "against": against}
    return render(request, "catalogue/changes.html", words | _changes(request, row, against))


def compare_again(request: AskedByPerson, product: str, release: str) -> HttpResponse:
    """Queue a comparison that failed once more."""
    owner = _product(product)
    row = _release(owner, release)
    against = _against(request, owner, row)
    if against is not None:
        ask_again(ask(against, row, wired().clock.now()), wired().clock.now())
    back = reverse("catalogue:release", args=[owner.name, row.name])
    query = urlencode({"against": against.name}) if against else ""
    return HttpResponseRedirect(f"{back}?{query}")


def _against(request: AskedByPerson, product: Product, row: Release) -> Release | None:
    """Return the release to compare with: the one that was named, or the one before."""
    named = _text(request, "against") or request.POST.get("against", "").replace("\0", "")
    if named:
        return _release(product, named)
    return product.releases.filter(seq__lt=row.seq, listed=True).order_by("-seq").first()


def _changes(request: AskedByPerson, row: Release, against: Release | None) -> dict[str, object]:
    if against is None:
        return {"comparison": None}
    found = Comparison.objects.filter(old=against, new=row).first()
    waiting = Comparison.objects.filter(stage=Stage.QUEUED).count()
    if waiting < WAITING:
        found = ask(against, row, wired().clock.now())
    q = _text(request, "rule")
    # Names of the query, so that a part of the page that fetches itself keeps the filter.
    query = urlencode({"against": against.name, **({"rule": q} if q else {})})
    return {
        "comparison": found,
        "is_busy": found is None,
        "rule": q,
        "changes_url": f"{reverse('catalogue:changes', args=[row.product.name, row.name])}?{query}",
        "result": _filtered(found.result, q) if found and found.result else None,
        "follows": wired().settings.repository is not None,
    }


_FILES: Final = (("added", "Added"), ("removed", "Removed"), ("changed", "Changed"))
_RULES: Final = (
    ("added", "Added"),
    ("removed", "Removed"),
    ("changed", "Changed"),
    ("disabled", "Disabled"),
    ("enabled", "Enabled again"),
)


def _filtered(result: Mapping[str, Any], q: str) -> dict[str, object]:
    """Return a result as lists to show, limited to what has `q` in it."""
    files = [
        _some(title, result[kind], result["counts"][kind], q, ("path",)) for kind, title in _FILES
    ]
    families = []
    for family in result["families"]:
        lists = [
            _some(title, family[kind], family["counts"][kind], q, ("key", "title", "file"))
            for kind, title in _RULES
        ]
        families.append({"name": family["name"], "counts": family["counts"], "lists": lists})
    return {
        "counts": result["counts"],
        "files": files,
        "families": families,
        "unread": result["unread"],
    }


def _some(
    title: str, entries: Sequence[Mapping[str, Any]], count: int, q: str, keys: tuple[str, ...]
) -> dict[str, object]:
    small = q.lower()
    fits = [e for e in entries if not q or any(small in str(e[key]).lower() for key in keys)]
    return {"title": title, "count": count, "fits": len(fits), "entries": fits[:SHOWN]}


def trust(request: AskedByPerson) -> HttpResponse:
    """Show every role, its expiry and its keys; when the repository was last verified; problems."""
    now = wired().clock.now()
    words = {"roles": role_lines(now), "problems": problems(now), **_repository()}
    return _page(request, "trust", words)


def releases_panel(request: AskedByPerson) -> HttpResponse:
    """Show what the origin made last, and where it is, as a panel of the overview."""
    channels = list(
        Channel.objects.filter(listed=True, product__listed=True)
        .select_related("product", "release")
        .order_by("product__name", "name")
    )
    at: dict[int | None, list[Channel]] = {}
    for row in channels:
        at.setdefault(row.release_id, []).append(row)
    deltas = Prefetch("deltas", Delta.objects.order_by("length"))
    newest = Release.objects.filter(listed=True, product__listed=True)
    newest = newest.select_related("product").prefetch_related(deltas).order_by("-created", "-seq")
    words = {
        "lines": [
            {
                "row": row,
                "badges": badges(row, row.product.floor),
                "channels": at.get(row.pk, ()),
                "delta": next(iter(row.deltas.all()), None),
            }
            for row in newest[:NEWEST]
        ],
        "faults": [(row, fault) for row in channels if (fault := fault_of(row))],
        **_repository(),
    }
    return render(request, "catalogue/panel-releases.html", words)


def trust_panel(request: AskedByPerson) -> HttpResponse:
    """Show what is wrong with the repository and what expires next, as a panel of the overview."""
    now = wired().clock.now()
    soonest = [line for line in role_lines(now) if line.row.expires is not None]
    soonest.sort(key=lambda line: line.row.expires or now)
    words = {"problems": problems(now), "roles": soonest[:4], **_repository()}
    return render(request, "catalogue/panel-trust.html", words)


def _repository() -> dict[str, object]:
    return {
        "repository": Repository.objects.first(),
        "configured": wired().settings.repository,
    }


def _page(request: AskedByPerson, name: str, words: dict[str, object]) -> HttpResponse:
    """Render a page, or the part of it that refreshes itself."""
    part = "-part" if request.htmx else ""
    return render(
        request, f"catalogue/{name}{part}.html", {**words, "url": request.get_full_path()}
    )


def _text(request: AskedByPerson, name: str) -> str:
    return request.GET.get(name, "").replace("\0", "")[:200].strip()


def _product(name: str) -> Product:
    found = product_or_none(name)
    if found is None:
        raise Http404("no such product")
    return found


def _release(product: Product, name: str) -> Release:
    found = None if "\0" in name else product.releases.filter(name=name).first()
    if found is None:
        raise Http404("no such release")
    found.product = product
    return found
