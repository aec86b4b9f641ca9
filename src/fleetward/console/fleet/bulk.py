"""One act that asks many hosts for the same: agreed to by number, queued piece by piece, asked once.

The July of 2024 is why: what goes to every host at once is confirmed by typing how many hosts that is,
and never reaches more than were agreed to, whatever the filter finds by then.

Invariants:

- A nonce is one act: pressing twice, or trying again after a console died, goes on with the same one,
  and no host gets its directive twice.
- A transaction asks `PIECE` hosts at most, so that check-ins are stored meanwhile.
- One entry of the audit log says who asked whom for what, before the first host is asked.

Deliberately not here: what a directive is, and one for a single host (fleet.directives).
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import IntegrityError, transaction
from django.db.models import Count, QuerySet

from fleetward.console.access import Reach
from fleetward.console.audit.chain import Actor, record
from fleetward.console.fleet.directives import MAX_HOSTS, Wish, end_of, rows_for
from fleetward.console.fleet.inboxes import renumber
from fleetward.console.fleet.models import BulkDirective, Directive, Host
from fleetward.console.fleet.standings import LIVE_DIRECTIVES, DirectiveState, HostStanding
from fleetward.console.web.reaching import within
from fleetward.console.wiring import wired
from fleetward.errors import UsageError

CAREFUL: Final = 20
"""Asking more hosts than this wants the number typed: nobody means 40,000 hosts by accident."""

OVERSHOOT: Final = 1.1
"""By how much the typed number may exceed the hosts that fit: some fall silent while it is typed, and a
number out of the air is no agreement."""

PIECE: Final = 1000
"""Hosts asked in one transaction: some ten milliseconds in which no check-in is stored."""

_NONCE: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a person agreed to.

    Attributes:
        wish: what hosts are to do.
        nonce: 32 hex digits, drawn when the question was put.
        most: how many hosts at most.
        query: the filter, for people; empty for all hosts.
        records: what was ticked by hand, for the audit log; none where a filter chose.
    """

    wish: Wish
    nonce: str
    most: int
    query: str = ""
    records: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NONCE.fullmatch(self.nonce):
            raise UsageError("the nonce of a bulk directive is 32 hex digits")
        if not 0 < self.most <= MAX_HOSTS:
            raise UsageError(f"agree to 1 to {MAX_HOSTS} hosts")


def draw_nonce() -> str:
    """Return a new nonce."""
    return wired().entropy.token(16).hex()


@dataclass(frozen=True, slots=True)
class Crowd:
    """Whom a question is about.

    Attributes:
        active: hosts that would be asked.
        passed_over: hosts that fit and are not active.
        by_site: active hosts for each site; the name is empty for none.
    """

    active: int
    passed_over: int
    by_site: tuple[tuple[str, int], ...]


def crowd_of(hosts: QuerySet[Host]) -> Crowd:
    """Return how many hosts a question would go to."""
    active = _active(hosts)
    counted = active.order_by().values_list("site__name").annotate(hosts=Count("pk", distinct=True))
    by_site = tuple(sorted(((name or "", count) for name, count in counted), key=_greatest_first))
    number = sum(count for _, count in by_site)
    return Crowd(number, hosts.order_by().distinct().count() - number, by_site)


def _greatest_first(row: tuple[str, int]) -> tuple[int, str]:
    return -row[1], row[0]


def _active(hosts: QuerySet[Host]) -> QuerySet[Host]:
    return hosts.filter(standing=HostStanding.ACTIVE).distinct()


def ask(actor: Actor, hosts: QuerySet[Host], order: Order) -> BulkDirective:
    """Ask all active hosts among some, or go on with an act that was cut off.

    Args:
        actor: who asks.
        hosts: already narrowed to the sites at which he may.
        order: what he agreed to.

    Raises:
        UsageError: no host fits, more fit than were agreed to, or the wish is none of the closed
            list's.
    """
    now = wired().clock.now()
    until = end_of(order.wish, now)
    act = BulkDirective.objects.filter(nonce=order.nonce).first()
    if act is None:
        act = _begin(actor, crowd_of(hosts), order, until)
    if (act.kind, act.product, act.created_by) != _words(actor, order):
        raise UsageError("this question was answered otherwise before: ask anew")
    if not act.is_complete and act.until is not None and act.until <= now:
        raise UsageError("the pause is over: ask anew")
    while not act.is_complete:
        act = _ask_piece(act, hosts, actor, order.wish)
    return act


def _words(actor: Actor, order: Order) -> tuple[str, str, str]:
    return order.wish.kind.value, order.wish.product, actor.name[:200]


def _begin(actor: Actor, crowd: Crowd, order: Order, until: datetime | None) -> BulkDirective:
    if not crowd.active:
        raise UsageError("no active host fits")
    if crowd.active > order.most:
        raise UsageError(
            f"{crowd.active:,} hosts fit now, and you agreed to {order.most:,}: look again"
        )
    if order.most > crowd.active * OVERSHOOT:
        raise UsageError(
            f"{crowd.active:,} hosts fit, and you agreed to {order.most:,}: type the number shown"
        )
    kind, product, name = _words(actor, order)
    after: dict[str, object] = {
        "kind": kind,
        "product": product,
        "filter": order.query,
        "hosts": crowd.active,
        "passed_over": crowd.passed_over,
    }
    if order.records:
        after["records"] = list(order.records)
    if order.wish.pause is not None:
        after["pause"] = str(order.wish.pause)
    try:
        with transaction.atomic():
            act = BulkDirective.objects.create(
                nonce=order.nonce,
                kind=kind,
                product=product,
                until=until,
                query=order.query[:2000],
                most=order.most,
                passed_over=crowd.passed_over,
                created=wired().clock.now(),
                created_by=name,
            )
            record(actor, "hosts.direct", f"bulk:{order.nonce}", after=after)
    except IntegrityError:  # pressed twice at once
        return BulkDirective.objects.get(nonce=order.nonce)
    return act


def _ask_piece(
    act: BulkDirective, hosts: QuerySet[Host], actor: Actor, wish: Wish
) -> BulkDirective:
    """Ask the next hosts in one transaction; whoever comes second waits for the row."""
    now = wired().clock.now()
    with transaction.atomic():
        act = BulkDirective.objects.select_for_update().get(pk=act.pk)
        if act.is_complete:
            return act
        room = min(PIECE, act.most - act.asked)
        found = list(_active(hosts).filter(pk__gt=act.reached).order_by("pk")[:room])
        made = rows_for(actor, found, wish, until=act.until, now=now)
        for row in made:
            row.bulk = act
        Directive.objects.bulk_create(made, batch_size=PIECE)
        renumber([row.host_id for row in made], now)
        act.asked += len(made)
        act.reached = found[-1].pk if found else act.reached
        act.is_complete = len(found) < PIECE or act.asked >= act.most
        act.save(update_fields=["asked", "reached", "is_complete"])
    return act


def progress(act: BulkDirective, reach: Reach) -> dict[DirectiveState, int]:
    """Return how many directives of an act are where, of the hosts that somebody may see."""
    rows = within(Directive.objects.filter(bulk=act), reach, "host__site_id")
    counted = rows.order_by().values_list("state").annotate(hosts=Count("pk"))
    found = {DirectiveState(state): count for state, count in counted}
    return {state: found.get(state, 0) for state in DirectiveState}


def withdraw_all(actor: Actor, act: BulkDirective, reach: Reach) -> int:
    """Take back what no host has answered; return how many directives that were."""
    rows = within(Directive.objects.filter(bulk=act), reach, "host__site_id")
    taken = 0
    while True:
        with transaction.atomic():
            live = rows.filter(state__in=LIVE_DIRECTIVES).order_by("pk")
            piece = dict(live.values_list("pk", "host_id")[:PIECE])
            Directive.objects.filter(pk__in=piece).update(state=DirectiveState.WITHDRAWN)
            renumber(list(piece.values()), wired().clock.now())
            taken += len(piece)
            if len(piece) < PIECE:
                after: dict[str, object] = {"withdrawn": taken}
                record(actor, "hosts.direct", f"bulk:{act.nonce}", after=after)
                return taken
