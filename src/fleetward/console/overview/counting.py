"""Counting the fleet in the background, into `models`' rows.

One pass groups all states of products by site, channel, release and standing in the database; a
second counts hosts with anything at risk; curves are counted anew only for releases whose
transitions have grown. The pause until the next count is at least twenty times what one takes, so
that counting never costs more than a twentieth of a core.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import (
    Case,
    CharField,
    Count,
    Exists,
    Max,
    Min,
    OuterRef,
    Q,
    QuerySet,
    Value,
    When,
)

from fleetward.adapters.clock import Clock
from fleetward.console.catalogue.models import Channel, Release, Repository
from fleetward.console.fleet.models import Host, ProductState, Transition
from fleetward.console.fleet.queries import SILENT_AFTER, silence
from fleetward.console.fleet.standings import HostStanding
from fleetward.console.overview.deciding import (
    FAILED_STATES,
    MOVING,
    Lag,
    Pointer,
    bucket,
    freshness,
)
from fleetward.console.overview.models import Arrival, Counted, Health, Tally
from fleetward.console.relays.judging import FROZEN_AFTER
from fleetward.console.relays.polling import newest_version
from fleetward.console.wiring import wired
from fleetward.core.install import State

ROW: Final = 1
"""The key of the row of `Counted`."""

EVERY: Final = timedelta(seconds=5)
"""How often the background looks whether to count."""

PAUSE: Final = 20
"""How many times as long as a count takes the pause after it is, at least."""

LONGEST: Final = timedelta(minutes=1)
"""The longest pause, however long a count took."""

RELEASES: Final = 4
"""Releases of a product that have a curve, the newest first."""

EXPIRES_AFTER: Final = timedelta(days=7)
"""How long a timestamp holds (DESIGN, Trust)."""

Pointers = dict[tuple[str, str], Pointer]


def count_when_due(now: datetime) -> bool:
    """Count unless the last count was a moment ago; return whether it was done."""
    last = Counted.objects.filter(pk=ROW).first()
    if last is not None:
        pause = min(timedelta(seconds=PAUSE * last.seconds), LONGEST)
        if timedelta() <= now - last.at < pause:
            return False
    count(now, wired().clock)
    return True


def count(now: datetime, clock: Clock) -> None:
    """Count the fleet now.

    Args:
        now: the instant that silence is judged by.
        clock: measures how long counting takes.
    """
    begun = clock.monotonic()
    known = pointers()
    tallies, health = list(_tallies(now, known)), list(_health(now, known))
    newest = Transition.objects.aggregate(newest=Max("id"))["newest"] or 0
    last = Counted.objects.filter(pk=ROW).first()
    grown = _grown(last.transition if last else 0)
    arrivals = [arrival for release in grown for arrival in _arrivals(release)]
    with transaction.atomic():
        Tally.objects.all().delete()
        Tally.objects.bulk_create(tallies)
        Health.objects.all().delete()
        Health.objects.bulk_create(health)
        for release in grown:
            Arrival.objects.filter(product=release.product.name, release=release.name).delete()
        Arrival.objects.bulk_create(arrivals)
        _forget_old_releases()
        taken = (clock.monotonic() - begun).total_seconds()
        row = {"at": now, "seconds": taken, "transition": newest}
        Counted.objects.update_or_create(pk=ROW, defaults=row)


# -- what hosts should run ---------------------------------------------------------------------------


def pointers() -> Pointers:
    """Return what hosts of each (product, channel) should run.

    From the repository's channels; for channels that it does not name, the newest release by number
    that any host has confirmed there.
    """
    found = _newest_confirmed()
    rows = Channel.objects.filter(listed=True).select_related("product", "release", "previous")
    read = Release.objects.order_by().values("product").annotate(newest=Max("seq"))
    newest = dict(read.values_list("product", "newest"))
    for row in rows:
        found[(row.product.name, row.name)] = replace(
            _pointer(row), read=newest.get(row.product_id)
        )
    return found


def _pointer(row: Channel) -> Pointer:
    current = row.release.name if row.release else row.points_at
    is_whole = row.state == "complete" or row.open >= len(row.waves)
    waiting = frozenset() if is_whole or row.previous is None else frozenset({row.previous.name})
    if row.state == "reverting" and row.previous is not None:
        return Pointer(row.previous.name, frozenset({current}))
    return Pointer(current, waiting)


def _newest_confirmed() -> Pointers:
    confirmed = ProductState.objects.filter(state=State.CONFIRMED.value)
    rows = confirmed.order_by().values("product", "channel").annotate(newest=Max("seq"))
    found = {}
    for row in rows:
        same = confirmed.filter(
            product=row["product"], channel=row["channel"], seq=row["newest"]
        ).first()
        found[(row["product"], row["channel"])] = Pointer(same.release if same else "")
    return found


# -- how hosts stand ---------------------------------------------------------------------------------

_PRESENCE: Final = "host__key__presence__"


def _tallies(now: datetime, known: Pointers) -> Iterable[Tally]:
    rows = (
        ProductState.objects.filter(host__standing=HostStanding.ACTIVE)
        .annotate(silent=_silent_case(now), lag=_lag_case())
        .order_by()
        .values("host__site_id", "product", "channel", "release", "seq", "state", "silent", "lag")
        .annotate(count=Count("pk"))
    )
    counted: Counter[tuple[int | None, str, str, str, int, str]] = Counter()
    for row in rows:
        pointer = known.get((row["product"], row["channel"]), Pointer(""))
        stands = freshness(
            State(row["state"]),
            row["release"],
            pointer,
            silent=row["silent"] == "yes",
            lag=Lag(row["lag"]),
            seq=row["seq"],
        )
        key = (row["host__site_id"], row["product"], row["channel"], row["release"], row["seq"])
        counted[(*key, stands.value)] += row["count"]
    for (site, product, channel, release, seq, stands_as), hosts in counted.items():
        yield Tally(
            site_id=site,
            product=product,
            channel=channel,
            release=release,
            seq=seq,
            freshness=stands_as,
            hosts=hosts,
        )


def _silent_case(now: datetime) -> Case:
    is_heard = Q(**{f"{_PRESENCE}seen__gte": now - SILENT_AFTER})
    return Case(When(is_heard, then=Value("no")), default=Value("yes"), output_field=CharField())


def _lag_case() -> Case:
    frozen, expired = _versions()
    stamp = f"{_PRESENCE}tuf_timestamp"
    return Case(
        When(Q(**{f"{stamp}__isnull": True}) | Q(**{stamp: 0}), then=Value(Lag.FRESH.value)),
        When(Q(**{f"{stamp}__lt": expired}), then=Value(Lag.EXPIRED.value)),
        When(Q(**{f"{stamp}__lt": frozen}), then=Value(Lag.FROZEN.value)),
        default=Value(Lag.FRESH.value),
        output_field=CharField(),
    )


def _versions() -> tuple[int, int]:
    """Return the versions of the timestamp under which a host is frozen, and expired."""
    newest = newest_version()
    row = Repository.objects.first()
    interval = row.interval if row and row.interval else 600
    return newest - FROZEN_AFTER, newest - int(EXPIRES_AFTER.total_seconds() // interval)


def _health(now: datetime, known: Pointers) -> Iterable[Health]:
    active = Host.objects.filter(standing=HostStanding.ACTIVE).order_by()
    states = ProductState.objects.filter(host=OuterRef("pk"))
    silent = _by_site(active.filter(silence(now)))
    talking = active.exclude(silence(now))
    frozen, _ = _versions()
    is_frozen = Q(key__presence__tuf_timestamp__gt=0, key__presence__tuf_timestamp__lt=frozen)
    is_wrong = Exists(states.filter(_wrong(known)))
    bare = _by_site(talking.filter(~Exists(states)))
    at_risk = _by_site(talking.filter(is_frozen | is_wrong | Q(~Exists(states))))
    for site, hosts in _by_site(active).items():
        yield Health(
            site_id=site,
            hosts=hosts,
            at_risk=at_risk[site] + silent[site],
            bare=bare[site],
            silent=silent[site],
        )


def _by_site(hosts: QuerySet[Host]) -> Counter[int | None]:
    rows = hosts.values("site_id").annotate(count=Count("pk"))
    return Counter({row["site_id"]: row["count"] for row in rows})


def _wrong(known: Pointers) -> Q:
    """Return what tells states of a talking, fresh host that are not protected; as `freshness`."""
    moving = Q(state__in=[state.value for state in MOVING])
    wrong = Q(state=State.UNPROTECTED.value) | (Q(release="") & ~moving)
    failed = Q(state__in=[state.value for state in FAILED_STATES])
    listed = Q()
    for (product, channel), pointer in known.items():
        here = Q(product=product, channel=channel)
        good = Q(release=pointer.current) | (Q(release__in=pointer.waiting) & ~failed)
        if pointer.read is not None:
            good |= Q(seq__gt=pointer.read) & ~failed
        wrong |= here & ~moving & ~good
        listed |= here
    return wrong | (~listed & ~moving) if known else wrong | ~moving


# -- curves ------------------------------------------------------------------------------------------


def _followed() -> list[Release]:
    """Return the releases that have a curve: the newest of each product."""
    found: list[Release] = []
    rows = Release.objects.filter(listed=True).select_related("product")
    seen: Counter[int] = Counter()
    for row in rows.order_by("product_id", "-seq"):
        if seen[row.product_id] < RELEASES:
            seen[row.product_id] += 1
            found.append(row)
    return found


def _grown(since: int) -> list[Release]:
    """Return the followed releases that hosts confirmed after transition `since`."""
    moved = set(
        Transition.objects.filter(pk__gt=since, state=State.CONFIRMED.value)
        .order_by()
        .values_list("product", "release")
        .distinct()
    )
    counted = set(Arrival.objects.order_by().values_list("product", "release").distinct())
    return [
        row
        for row in _followed()
        if (row.product.name, row.name) in moved or (row.product.name, row.name) not in counted
    ]


def _arrivals(release: Release) -> Iterable[Arrival]:
    product = release.product.name
    firsts = (
        Transition.objects.filter(
            product=product,
            release=release.name,
            state=State.CONFIRMED.value,
            host__standing=HostStanding.ACTIVE,
        )
        .order_by()
        .values("host_id", "host__site_id")
        .annotate(first=Min("at"))
    )
    counted: Counter[tuple[int | None, int]] = Counter()
    for row in firsts.iterator(chunk_size=5_000):
        counted[(row["host__site_id"], bucket(row["first"] - release.created))] += 1
    for (site, minutes), hosts in counted.items():
        yield Arrival(
            site_id=site,
            product=product,
            release=release.name,
            seq=release.seq,
            created=release.created,
            minutes=minutes,
            hosts=hosts,
        )


def _forget_old_releases() -> None:
    followed = {(row.product.name, row.name) for row in _followed()}
    kept = set(Arrival.objects.order_by().values_list("product", "release").distinct())
    for product, release in kept - followed:
        Arrival.objects.filter(product=product, release=release).delete()
