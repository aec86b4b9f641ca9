"""What the console signs for each host: what it has stored, and what it asks for.

An inbox is signed when it is asked for. Its number (`Presence.inbox_seq`) rises with each change
and is the time in milliseconds, so it rises also over a console that was restored from a backup;
a host that asks for what comes after a number from before the restore gets a new one at once, and
so learns that events are missing.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.db import connection, transaction
from django.db.models import Case, F, Value, When
from django.db.models.functions import Greatest

from fleetward.console.fleet.models import Directive, Host, HostKey, Presence, RetiredEpoch
from fleetward.console.fleet.numbering import next_inbox
from fleetward.console.fleet.standings import LIVE_DIRECTIVES, DirectiveState, KeyStanding
from fleetward.core.inbox import Acknowledgement, DirectiveKind, Inbox
from fleetward.core.inbox import Directive as Asked
from fleetward.core.limits import STATUS
from fleetward.core.status import Epoch, HostId
from fleetward.identity.checkins import sign_inbox
from fleetward.identity.consoles import ConsoleKeys

LIFETIME: Final = timedelta(days=1)
"""How long a host may act on an inbox; a relay that holds it back longer holds back nothing."""

SET_BACK_EVERY: Final = timedelta(minutes=1)
"""How often a number from the future makes a new inbox (anybody can ask with any number)."""

_SKEW_MS: Final = 5 * 60 * 1000


_TAKEN: Final = (KeyStanding.ACTIVE, KeyStanding.REPLACED)
"""Standings of keys that have an inbox."""

_NUMBERS: Final = """
SELECT k.key, p.inbox_seq FROM fleet_hostkey k LEFT JOIN fleet_presence p ON p.key_id = k.id
WHERE k.standing IN (%s, %s) AND k.key IN ({places})
"""


def inbox_numbers(hosts: Iterable[HostId]) -> dict[str, int | None]:
    """Return the numbers of inboxes, None before the first check-in; keys without one are left out.

    Nearly every host that asks has seen that number already, so this is one plain query for all
    that ask at once; only the others need `inbox_for`.
    """
    wanted = sorted(set(hosts))
    if not wanted:
        return {}
    with connection.cursor() as cursor:
        query = _NUMBERS.format(places=", ".join(["%s"] * len(wanted)))
        cursor.execute(query, [*map(str, _TAKEN), *wanted])
        return dict(cursor.fetchall())


def inbox_for(host: HostId, after: int, keys: ConsoleKeys, now: datetime) -> bytes | None:
    """Return the signed inbox of a key, or None where nothing came after number `after`.

    Raises:
        LookupError: no such key, or one whose check-ins are not taken.
    """
    key = HostKey.objects.select_related("presence", "host").filter(key=host).first()
    if key is None or key.standing not in _TAKEN:
        raise LookupError(f"{host} is not enrolled here")
    presence = getattr(key, "presence", None)
    if presence is None:
        return None
    if presence.inbox_seq < after:
        _catch_up(presence, after, now)
    if presence.inbox_seq <= after:
        return None
    inbox = Inbox(
        host=host,
        seq=presence.inbox_seq,
        issued=now,
        expires=now + LIFETIME,
        acks=_acknowledgements(presence),
        directives=_directives(key, now) if key.standing == KeyStanding.ACTIVE else (),
    )
    return sign_inbox(inbox, keys)


def _catch_up(presence: Presence, after: int, now: datetime) -> None:
    """Make a number above one that the host has seen, where this console was set back."""
    seq = next_inbox(presence.inbox_seq, now)
    waited = seq - presence.inbox_seq > SET_BACK_EVERY // timedelta(milliseconds=1)
    if waited and after <= seq + _SKEW_MS:
        presence.inbox_seq = max(seq, after + 1)
        Presence.objects.filter(pk=presence.pk).update(
            inbox_seq=Greatest(F("inbox_seq"), Value(presence.inbox_seq))
        )


def _acknowledgements(presence: Presence) -> tuple[Acknowledgement, ...]:
    others = RetiredEpoch.objects.filter(key_id=presence.pk).order_by("-newest_sent")
    epochs = [
        (presence.epoch, presence.contiguous_e),
        *others.values_list("epoch", "contiguous_e")[: STATUS.acknowledgements - 1],
    ]
    return tuple(Acknowledgement(epoch=Epoch(epoch), e=e) for epoch, e in epochs if e)


def _directives(key: HostKey, now: datetime) -> tuple[Asked, ...]:
    live = list(
        Directive.objects.filter(
            host_id=key.host_id, state__in=LIVE_DIRECTIVES, expires__gt=now
        ).order_by("id")[: STATUS.directives]
    )
    queued = [row.pk for row in live if row.state == DirectiveState.QUEUED]
    if queued:
        Directive.objects.filter(pk__in=queued, state=DirectiveState.QUEUED).update(
            state=DirectiveState.CARRIED
        )
    asked = (_asked(row, now) for row in live)
    return tuple(one for one in asked if one is not None)


def _asked(row: Directive, now: datetime) -> Asked | None:
    if row.until is not None and not now < row.until <= now + STATUS.pause:
        return None
    return Asked(
        id=row.directive, kind=DirectiveKind(row.kind), product=row.product, until=row.until
    )


def renumber(hosts: list[int], now: datetime) -> None:
    """Give hosts' inboxes new numbers, since what is in them changed; inside a transaction.

    Args:
        hosts: primary keys of records.
        now: the console's clock.
    """
    seq = next_inbox(0, now)
    with transaction.atomic():
        keys = Host.objects.filter(pk__in=hosts, key__isnull=False).values("key_id")
        Presence.objects.filter(key_id__in=keys).update(
            inbox_seq=Case(When(inbox_seq__lt=seq, then=Value(seq)), default=F("inbox_seq") + 1)
        )
