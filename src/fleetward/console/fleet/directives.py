"""What people ask hosts to do: queued, withdrawn, expired; the answer comes as an event (ingest)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from fleetward.console.audit.chain import Actor, record
from fleetward.console.fleet.inboxes import renumber
from fleetward.console.fleet.models import Directive, Host
from fleetward.console.fleet.standings import LIVE_DIRECTIVES, DirectiveState, HostStanding
from fleetward.console.wiring import wired
from fleetward.core.inbox import Directive as Asked
from fleetward.core.inbox import DirectiveKind
from fleetward.core.limits import STATUS
from fleetward.errors import DocumentError, UsageError

LIFETIME: Final = timedelta(days=1)
"""How long a directive waits for its host."""

MAX_HOSTS: Final = 60_000
"""Hosts of one bulk directive."""

_ID_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What hosts are to do.

    Attributes:
        kind: what.
        product: of which product; empty for all.
        pause: how long, for a pause.
    """

    kind: DirectiveKind
    product: str = ""
    pause: timedelta | None = None


def direct(actor: Actor, hosts: Sequence[Host], wish: Wish) -> list[Directive]:
    """Queue a directive for each host.

    Raises:
        UsageError: the wish is none of the closed list's, or there are too many hosts.
    """
    now = wired().clock.now()
    until = end_of(wish, now)
    if len(hosts) > MAX_HOSTS:
        raise UsageError(f"a directive goes to {MAX_HOSTS} hosts at most")
    rows = rows_for(actor, hosts, wish, until=until, now=now)
    with transaction.atomic():
        made = Directive.objects.bulk_create(rows, batch_size=1000)
        renumber([row.host_id for row in made], now)
        _audit(actor, wish, made)
    return made


def rows_for(
    actor: Actor, hosts: Sequence[Host], wish: Wish, *, until: datetime | None, now: datetime
) -> list[Directive]:
    """Return a directive for each active host, in no database yet."""
    entropy = wired().entropy
    return [
        Directive(
            directive=entropy.token(_ID_BYTES).hex(),
            host=host,
            kind=wish.kind,
            product=wish.product,
            until=until,
            state=DirectiveState.QUEUED,
            created=now,
            created_by=actor.name[:200],
            expires=min(now + LIFETIME, until) if until else now + LIFETIME,
        )
        for host in hosts
        if host.standing == HostStanding.ACTIVE
    ]


def end_of(wish: Wish, now: datetime) -> datetime | None:
    """Return the end of a pause that is wished for now; None for anything else.

    Raises:
        UsageError: the wish is none of the closed list's.
    """
    until = _until(wish, now)
    _require_form(wish, until)
    return until


def _until(wish: Wish, now: datetime) -> datetime | None:
    if (wish.kind is DirectiveKind.PAUSE) != (wish.pause is not None):
        raise UsageError("a pause, and only a pause, has a length")
    if wish.pause is None:
        return None
    if not timedelta() < wish.pause <= STATUS.pause:
        raise UsageError(f"a pause lasts up to {STATUS.pause}")
    return (now + wish.pause).replace(microsecond=0)


def _require_form(wish: Wish, until: datetime | None) -> None:
    try:
        Asked(id="0" * 16, kind=wish.kind, product=wish.product, until=until)
    except DocumentError as error:
        raise UsageError(str(error)) from error


def _audit(actor: Actor, wish: Wish, made: list[Directive]) -> None:
    hosts = [row.host.record for row in made]
    subject = f"host:{hosts[0]}" if len(hosts) == 1 else f"hosts:{len(hosts)}"
    after: dict[str, object] = {"kind": str(wish.kind), "product": wish.product, "hosts": hosts}
    if wish.pause is not None:
        after["pause"] = str(wish.pause)
    record(actor, "hosts.direct", subject, after=after)


def withdraw(actor: Actor, directive: Directive) -> bool:
    """Take a directive back; return False where the host has answered it, or it has expired."""
    with transaction.atomic():
        changed = Directive.objects.filter(pk=directive.pk, state__in=LIVE_DIRECTIVES).update(
            state=DirectiveState.WITHDRAWN
        )
        if changed:
            renumber([directive.host_id], wired().clock.now())
            subject = f"host:{directive.host.record}"
            after: dict[str, object] = {"withdrawn": directive.directive}
            record(actor, "hosts.direct", subject, after=after)
    return bool(changed)


def expire(now: datetime) -> int:
    """Mark directives that nobody has answered in time; return how many."""
    return Directive.objects.filter(state__in=LIVE_DIRECTIVES, expires__lte=now).update(
        state=DirectiveState.EXPIRED
    )
