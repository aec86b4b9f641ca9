"""Announcing, damping, delivering, trying again.

Invariants: what is announced inside a transaction goes out only if it commits; one key is told once
in `[notices] quiet`, and how often it was kept back is told the next time; a delivery is tried again
after 1, 2, 4… minutes, for a day, and no delivery is tried by two consoles at once.
"""

import asyncio
import logging
from datetime import datetime, timedelta

from django.db import DatabaseError, close_old_connections, transaction

from fleetward.console.notices.models import Channel, Delivery, Level, Notice, State
from fleetward.console.notices.sending import send
from fleetward.console.notices.webhook import NotSent
from fleetward.console.pruning import prune
from fleetward.console.wiring import wired

EVERY = timedelta(seconds=5)
"""How often the outbox is looked at."""

AT_ONCE = 50
"""Deliveries in one look."""

FOR = timedelta(days=1)
"""How long a delivery is tried."""

CLAIM = timedelta(minutes=2)
"""For how long whoever tries a delivery keeps others off it; longer than any way's own limit."""

_log = logging.getLogger(__name__)


def announce(level: Level, key: str, title: str, *, body: str = "", link: str = "") -> Notice:
    """Tell people something, unless the same key was told a short while ago.

    Args:
        level: how bad it is.
        key: what it is about, as `silent:site:berlin`.
        title: one line.
        body: more.
        link: a path of the console.
    """
    now = wired().clock.now()
    quiet = wired().settings.notices.quiet
    with transaction.atomic():
        last = Notice.objects.filter(key=key[:200]).first()
        if last is not None and now - last.at < quiet and level <= last.level:
            last.repeats += 1
            last.save(update_fields=["repeats"])
            return last
        notice = Notice.objects.create(
            key=key[:200],
            level=level,
            title=title[:200],
            body=body,
            link=link[:300],
            at=now,
            repeats=last.repeats if last is not None else 0,
        )
        takers = Channel.objects.filter(is_on=True, least__lte=level)
        Delivery.objects.bulk_create(
            Delivery(notice=notice, channel=channel, due=now) for channel in takers
        )
    return notice


def try_channel(channel: Channel) -> str:
    """Send a channel something now; return what went wrong, or nothing."""
    now = wired().clock.now()
    notice = Notice(
        pk=0,
        key="test",
        level=Level.NOTE,
        title="This is a test",
        body="Somebody pressed the test button.",
        link="/settings/notifications/",
        at=now,
    )
    try:
        send(channel, notice, wired().settings, now)
    except NotSent as error:
        return str(error)
    return ""


def deliver_due(now: datetime) -> int:
    """Try what is due; return how many there were."""
    due = Delivery.objects.filter(state=State.QUEUED, due__lte=now).order_by("due")
    found = list(due.select_related("notice", "channel")[:AT_ONCE])
    for delivery in found:
        # Whoever moves `due` first has it; another console finds it moved already.
        mine = Delivery.objects.filter(pk=delivery.pk, state=State.QUEUED, due=delivery.due)
        if mine.update(due=now + CLAIM):
            _deliver(delivery, now)
    return len(found)


def _deliver(delivery: Delivery, now: datetime) -> None:
    delivery.attempts += 1
    try:
        send(delivery.channel, delivery.notice, wired().settings, now)
    except NotSent as error:
        delivery.complaint = str(error)[:300]
        delivery.due = now + timedelta(minutes=2 ** min(delivery.attempts - 1, 8))
        if delivery.due - delivery.notice.at > FOR:
            delivery.state = State.GIVEN_UP
    else:
        delivery.state, delivery.complaint = State.SENT, ""
    delivery.save()


async def deliver_for_ever() -> None:
    """Deliver until cancelled."""
    while True:
        try:
            await asyncio.to_thread(_round)
        except DatabaseError:
            _log.exception("the outbox could not be read; it is tried again")
        await asyncio.sleep(EVERY.total_seconds())


def _round() -> None:
    close_old_connections()
    try:
        now = wired().clock.now()
        deliver_due(now)
        kept = timedelta(days=wired().settings.history.notices)
        prune(Notice.objects.filter(at__lt=now - kept).order_by("at"))
    finally:
        close_old_connections()
