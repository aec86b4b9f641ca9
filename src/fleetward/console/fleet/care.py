"""What time does to the fleet's rows: old ones go, directives expire, silent hosts are retired.

How long rows stay is `[history]` in the settings. They go in small pieces with pauses between, so that
ingest never waits long for the writer's lock, however much there is to remove.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import DatabaseError, close_old_connections, transaction
from django.db.models import Q

from fleetward.config.console import HistorySettings
from fleetward.console.audit.chain import SYSTEM, record
from fleetward.console.fleet.directives import expire
from fleetward.console.fleet.models import CheckIn, Event, Host, Transition
from fleetward.console.fleet.standings import HostStanding
from fleetward.console.pruning import is_piece, prune
from fleetward.console.wiring import wired

_log = logging.getLogger(__name__)

EVERY: Final = timedelta(minutes=1)
"""How often the background looks."""

PAUSE: Final = timedelta(milliseconds=250)
"""Before the next piece, where there is one: what waits to be stored goes in between."""

HOSTS: Final = 500
"""Hosts retired in one transaction, with one entry of the audit log."""


@dataclass(frozen=True, slots=True)
class Cared:
    """What one round did, in rows; `is_more` says whether the next one has work already."""

    pruned: int
    expired: int
    retired: int
    is_more: bool


def care(now: datetime, history: HistorySettings | None = None) -> Cared:
    """Do one round: a piece of everything that is old.

    Args:
        now: the console's clock.
        history: how long rows stay; the console's settings unless given.
    """
    kept = history or wired().settings.history
    old = (
        CheckIn.objects.filter(received__lt=_ago(now, kept.check_ins)).order_by("received"),
        Event.objects.filter(received__lt=_ago(now, kept.events)).order_by("received"),
        Transition.objects.filter(at__lt=_ago(now, kept.transitions)).order_by("at"),
    )
    pieces = [prune(rows) for rows in old]
    retired = _retire_silent(now, _ago(now, kept.silent_hosts))
    is_more = retired == HOSTS or any(map(is_piece, pieces))
    return Cared(sum(pieces), expire(now), retired, is_more)


def _ago(now: datetime, days: int) -> datetime:
    return now - timedelta(days=days)


def _retire_silent(now: datetime, before: datetime) -> int:
    silent = Q(key__presence__seen__lt=before) | Q(
        key__presence__isnull=True, standing_since__lt=before
    )
    hosts = list(Host.objects.filter(silent, standing=HostStanding.ACTIVE)[:HOSTS])
    if not hosts:
        return 0
    with transaction.atomic():
        Host.objects.filter(pk__in=[host.pk for host in hosts]).update(
            standing=HostStanding.RETIRED, standing_since=now
        )
        after: dict[str, object] = {"hosts": [h.record for h in hosts], "standing": "retired"}
        record(SYSTEM, "hosts.revoke", f"hosts:{len(hosts)}", after=after)
    return len(hosts)


async def care_for_ever() -> None:
    """Do a round now and then, until cancelled; one after the other while there is more."""
    while True:
        pause = EVERY
        try:
            if await asyncio.to_thread(_round):
                pause = PAUSE
        except DatabaseError:
            _log.exception("a round of care failed; the next one tries again")
        await asyncio.sleep(pause.total_seconds())


def _round() -> bool:
    close_old_connections()
    return care(wired().clock.now()).is_more
