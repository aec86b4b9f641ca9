"""One process at a time does a piece of background work, however many consoles share a database."""

import asyncio
import logging
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from django.db import DatabaseError, IntegrityError, close_old_connections, transaction
from django.db.models import Q

from fleetward.console.relays.models import Turn
from fleetward.console.wiring import wired

_log = logging.getLogger(__name__)

LEASE: Final = timedelta(minutes=5)
"""How long a process that works may be silent before another one takes over."""

_OWN: Final = os.urandom(8).hex()
"""This process's own name."""


def take_turn(work: str, now: datetime, holder: str = _OWN) -> bool:
    """Return whether this process does `work` now; whoever has it keeps it until it is silent.

    Args:
        work: a name of at most 32 characters.
        now: the console's clock.
        holder: who asks.
    """
    mine = Q(holder=holder) | Q(until__lt=now)
    if Turn.objects.filter(mine, work=work).update(holder=holder, until=now + LEASE):
        return True
    if Turn.objects.filter(work=work).exists():
        return False
    try:
        with transaction.atomic():
            Turn.objects.create(work=work, holder=holder, until=now + LEASE)
    except IntegrityError:
        return False
    return True


async def repeat(work: str, act: Callable[[datetime], None], pause: timedelta) -> None:
    """Do `act` in a thread, whenever it is this process's turn, until cancelled."""
    while True:
        try:
            await asyncio.to_thread(_once, work, act)
        except DatabaseError:
            _log.exception("%s could not use the database; the next round tries again", work)
        await asyncio.sleep(pause.total_seconds())


def _once(work: str, act: Callable[[datetime], None]) -> None:
    close_old_connections()
    try:
        now = wired().clock.now()
        if take_turn(work, now):
            act(now)
    finally:
        close_old_connections()
