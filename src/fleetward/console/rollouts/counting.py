"""Counting in the background how the hosts of each channel stand.

One pass over the hosts of a channel: their wave is computed as they do it, what changed is written.
A channel whose document changed is counted at once; else the pause until the next count is at least
twenty times what the last one took, so that counting costs at most a twentieth of a core.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, TypeVar

from django.db import transaction
from django.db.models import Max, QuerySet, Sum

from fleetward.adapters.clock import Clock
from fleetward.console.catalogue.models import Channel
from fleetward.console.fleet.models import Event, ProductState
from fleetward.console.fleet.standings import HostStanding
from fleetward.console.rollouts.deciding import FAILURES, Seen, Standing, stands
from fleetward.console.rollouts.models import Counted, Member, Tally
from fleetward.console.rollouts.planning import Plan, plan_of
from fleetward.console.wiring import wired
from fleetward.core.install import State

EVERY: Final = timedelta(seconds=5)
"""How often the background looks whether to count."""

PAUSE: Final = 20
"""How many times as long as a count takes the pause after it is, at least."""

LONGEST: Final = timedelta(minutes=1)
"""The longest pause, however long a count took."""

WRITTEN: Final = 1_000
"""Rows of one transaction, so that check-ins never wait long for the database."""

Row = TypeVar("Row")

Key = tuple[int | None, int | None, Standing]
"""Site, wave, standing."""


def count_when_due(now: datetime) -> int:
    """Count the channels that are due; return how many were."""
    due = [row for row in _channels() if _has_moved(row)] or list(_due(now))
    for row in due:
        count(row, now, wired().clock)
    return len(due)


def _channels() -> Iterable[Channel]:
    return Channel.objects.filter(listed=True).select_related("product", "release", "counted")


def _has_moved(row: Channel) -> bool:
    last: Counted | None = getattr(row, "counted", None)
    said = (row.points_at, row.state, row.open)
    return last is None or (last.release, last.state, last.open) != said


def _due(now: datetime) -> Iterable[Channel]:
    last = Counted.objects.aggregate(at=Max("at"), seconds=Sum("seconds"))
    if last["at"] is None:
        return ()
    pause = min(timedelta(seconds=PAUSE * last["seconds"]), LONGEST)
    return () if timedelta() <= now - last["at"] < pause else _channels()


def count(row: Channel, now: datetime, clock: Clock) -> None:
    """Count a channel's hosts now.

    Args:
        row: the channel, with its product.
        now: the instant that silence is judged by.
        clock: measures how long counting takes.
    """
    begun, plan = clock.monotonic(), plan_of(row)
    known = {
        host: (wave, standing)
        for host, wave, standing in row.members.values_list("host_id", "wave", "standing")
    }
    counted: Counter[Key] = Counter()
    changed: list[Member] = []
    for host, site, wave, standing in _standings(row, plan, now):
        counted[(site, wave, standing)] += 1
        if known.pop(host, None) != (wave, standing):
            changed.append(Member(channel=row, host_id=host, wave=wave, standing=standing))
    _write_members(row, changed, known)
    _write_tallies(row, counted, now, (clock.monotonic() - begun).total_seconds())


def _standings(
    row: Channel, plan: Plan, now: datetime
) -> Iterator[tuple[int, int | None, int | None, Standing]]:
    """Yield host, site, wave and standing of every active host that follows the channel."""
    if not plan.is_known:
        return
    failed = set(failures(row).values_list("host_id", flat=True))
    states = ProductState.objects.filter(
        product=row.product.name, channel=row.name, host__standing=HostStanding.ACTIVE
    ).order_by()
    columns = ("host_id", "host__site_id", "host__record", "release", "state", "since", "wave")
    rows = states.values_list(*columns, "host__key__presence__seen")
    for host, site, record, release, state, since, reported, heard in rows.iterator(5_000):
        wave = plan.wave_of(record, reported)
        seen = Seen(release == row.points_at, State(state), since, heard, host in failed)
        yield host, site, wave, stands(seen, plan.opened_at(wave), row.since, now)


def failures(row: Channel) -> QuerySet[Event]:
    """Return the events by which hosts said that the channel's release failed on them."""
    return Event.objects.filter(kind__in=FAILURES, product=row.product.name, release=row.points_at)


def _write_members(row: Channel, changed: list[Member], gone: Iterable[int]) -> None:
    for some in _slices(changed):
        Member.objects.bulk_create(
            some,
            update_conflicts=True,
            unique_fields=["channel", "host"],
            update_fields=["wave", "standing"],
        )
    for hosts in _slices(list(gone)):
        row.members.filter(host_id__in=hosts).delete()


def _slices(rows: list[Row]) -> Iterator[list[Row]]:
    for start in range(0, len(rows), WRITTEN):
        yield rows[start : start + WRITTEN]


def _write_tallies(row: Channel, counted: Counter[Key], now: datetime, seconds: float) -> None:
    with transaction.atomic():
        row.tallies.all().delete()
        Tally.objects.bulk_create(
            Tally(channel=row, site_id=site, wave=wave, standing=standing, hosts=hosts)
            for (site, wave, standing), hosts in counted.items()
        )
        said = {"release": row.points_at, "state": row.state, "open": row.open}
        Counted.objects.update_or_create(
            channel=row, defaults={"at": now, "seconds": seconds, **said}
        )
