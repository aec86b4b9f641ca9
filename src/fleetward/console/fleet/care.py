"""What time does to the fleet's rows: old ones go, directives expire, silent hosts are retired.

Each step deletes in small pieces, so that ingest never waits long for the writer's lock.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import DatabaseError, close_old_connections, transaction
from django.db.models import Model, Q

from fleetward.console.audit.chain import SYSTEM, record
from fleetward.console.fleet.directives import expire
from fleetward.console.fleet.models import CheckIn, Event, Host, Transition
from fleetward.console.fleet.standings import HostStanding
from fleetward.console.wiring import wired

_log = logging.getLogger(__name__)

EVERY: Final = timedelta(minutes=1)
"""How often the background looks."""

PIECE: Final = 2_000
"""Rows deleted in one transaction."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long rows stay.

    Attributes:
        check_ins: whole check-ins; what they said is in states and transitions for longer.
        events: what happened on hosts.
        transitions: what hosts ran.
        silent: a host that was not seen for so long is retired; it returns when it reports.
    """

    check_ins: timedelta = timedelta(days=3)
    events: timedelta = timedelta(days=400)
    transitions: timedelta = timedelta(days=5 * 365)
    silent: timedelta = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Cared:
    """What one round did, in rows."""

    pruned: int
    expired: int
    retired: int


def care(now: datetime, retention: Retention | None = None) -> Cared:
    """Do one round."""
    kept = retention or Retention()
    pruned = (
        _prune(CheckIn, "received", now - kept.check_ins)
        + _prune(Event, "received", now - kept.events)
        + _prune(Transition, "at", now - kept.transitions)
    )
    return Cared(pruned, expire(now), _retire_silent(now, now - kept.silent))


def _prune(kind: type[Model], column: str, before: datetime) -> int:
    """Delete one piece of rows; the next round takes the next."""
    old = kind._default_manager.filter(**{f"{column}__lt": before}).order_by(column)  # noqa: SLF001 (Django's name for it)
    pks = list(old.values_list("pk", flat=True)[:PIECE])
    if not pks:
        return 0
    with transaction.atomic():
        return kind._default_manager.filter(pk__in=pks).delete()[0]  # noqa: SLF001 (as above)


def _retire_silent(now: datetime, before: datetime) -> int:
    silent = Q(key__presence__seen__lt=before) | Q(
        key__presence__isnull=True, standing_since__lt=before
    )
    hosts = list(Host.objects.filter(silent, standing=HostStanding.ACTIVE)[:PIECE])
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
    """Do a round now and then, until cancelled."""
    while True:
        try:
            await asyncio.to_thread(_round)
        except DatabaseError:
            _log.exception("a round of care failed; the next one tries again")
        await asyncio.sleep(EVERY.total_seconds())


def _round() -> None:
    close_old_connections()
    care(wired().clock.now())
