"""Counting alike listeners in the background, and what time does to their rows.

The pages read the groups, so that they cost the same for any fleet. A count follows within
`EVERY` of a change, and each minute in any case (hosts that moved, left or came back); the pause
until the next is ten times what one took.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, F, Max, Min, Q, QuerySet

from fleetward.adapters.clock import Clock
from fleetward.console.fleet.standings import HostStanding
from fleetward.console.ports.models import Counted, Group, Listener
from fleetward.console.pruning import prune
from fleetward.console.wiring import wired

ROW: Final = 1
"""The key of the row of `Counted`."""

EVERY: Final = timedelta(seconds=1)
"""How often the background looks whether to count."""

PAUSE: Final = 10
"""How many times as long as a count takes the pause after it is, at least."""

LONGEST: Final = timedelta(minutes=1)
"""The longest pause."""

KEPT: Final = timedelta(days=90)
"""How long what nobody has any more is kept: closed listeners, and groups (`first_seen`)."""

_Key = tuple[int | None, str, int, str, str]


def current() -> QuerySet[Listener]:
    """Return what listens now: on active hosts, as told by the key that they report with."""
    return Listener.objects.filter(
        is_open=True, host__standing=HostStanding.ACTIVE, host__key=F("key")
    )


def count_when_due(now: datetime) -> bool:
    """Count where something changed, or a minute is over; return whether it was done."""
    last = Counted.objects.filter(pk=ROW).first()
    if last is not None:
        since = now - last.at
        is_early = timedelta() <= since < min(timedelta(seconds=PAUSE * last.seconds), LONGEST)
        has_news = _newest() != last.stored
        if is_early or (not has_news and timedelta() <= since < LONGEST):
            return False
    count(now, wired().clock)
    return True


def _newest() -> datetime | None:
    newest: datetime | None = Listener.objects.aggregate(newest=Max("stored"))["newest"]
    return newest


def count(now: datetime, clock: Clock) -> None:
    """Count the groups now, and let old rows go.

    Args:
        now: the console's clock.
        clock: measures how long counting takes.
    """
    begun = clock.monotonic()
    _forget(now)
    stored = _newest()
    known = {_key_of(group): group for group in Group.objects.all()}
    changed = list(_changed(known, now))
    fresh, told = [g for g in changed if not g.pk], [g for g in changed if g.pk]
    with transaction.atomic():
        Group.objects.bulk_create(fresh, batch_size=1_000)
        Group.objects.bulk_update(told, _TOLD, batch_size=200)
        taken = (clock.monotonic() - begun).total_seconds()
        row = {"at": now, "seconds": taken, "stored": stored}
        Counted.objects.update_or_create(pk=ROW, defaults=row)


_TOLD: Final = ("hosts", "name", "path", "first_seen", "counted")


def _key_of(group: Group) -> _Key:
    return (group.site_id, group.protocol, group.port, group.sha256, group.verdict)


def _changed(known: dict[_Key, Group], now: datetime) -> Iterator[Group]:
    """Yield the groups that are new or not what they were, brought up to date."""
    gone = {key: group for key, group in known.items() if group.hosts}
    for row in _counted():
        key = (row["host__site_id"], row["protocol"], row["port"], row["sha256"], row["verdict"])
        gone.pop(key, None)
        group = known.get(key) or Group(
            site_id=key[0], protocol=key[1], port=key[2], sha256=key[3], verdict=key[4]
        )
        is_known = bool(group.pk)
        first = min(group.first_seen, row["first"]) if is_known else row["first"]
        said = (row["hosts"], row["name"], row["path"], first)
        if not is_known or said != (group.hosts, group.name, group.path, group.first_seen):
            group.hosts, group.name, group.path, group.first_seen = said
            group.counted = now
            yield group
    for group in gone.values():
        group.hosts, group.counted = 0, now
        yield group


def _counted() -> QuerySet[Any, Any]:
    return (
        current()
        .order_by()
        .values("host__site_id", "protocol", "port", "sha256", "verdict")
        .annotate(
            hosts=Count("host", distinct=True),
            name=Max("name"),
            path=Max("path"),
            first=Min("first_seen"),
        )
    )


def _forget(now: datetime) -> None:
    """Let one piece of each go: what keys told that hosts no longer report with, what is long gone."""
    # A key that waits for approval is no reason: the host still reports with the one before.
    replaced = Q(host__key__isnull=False) & ~Q(host__key=F("key"))
    prune(Listener.objects.filter(replaced).order_by("pk"))
    prune(Listener.objects.filter(is_open=False, stored__lt=now - KEPT).order_by("stored"))
    prune(Group.objects.filter(hosts=0, counted__lt=now - KEPT).order_by("pk"))
