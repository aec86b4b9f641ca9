"""The API of what is asked of many hosts at once, and of saved views."""

from datetime import datetime, timedelta
from typing import Annotated
from urllib.parse import urlencode

from django.http import QueryDict
from ninja import Router, Schema
from ninja.errors import HttpError
from pydantic import Field

from fleetward.console.api.paging import Listing, Rows, listing
from fleetward.console.api.problems import answers
from fleetward.console.api.security import needs
from fleetward.console.fleet.bulk import Order, ask, draw_nonce, progress, withdraw_all
from fleetward.console.fleet.directives import MAX_HOSTS, Wish
from fleetward.console.fleet.models import BulkDirective
from fleetward.console.fleet.pages import filter_in, query_of
from fleetward.console.fleet.queries import hosts
from fleetward.console.fleet.shapes import HostQuery, Word
from fleetward.console.web.asking import Asked
from fleetward.console.wiring import wired
from fleetward.core.inbox import DirectiveKind
from fleetward.errors import UsageError

router = Router(tags=["fleet"])

Nonce = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class BulkIn(Schema):
    """What many hosts are to do.

    `most` is how many hosts are agreed to: where more fit, none is asked. Sent again with the same
    `nonce`, an act that was cut off goes on, and nobody is asked twice.
    """

    hosts: HostQuery
    kind: DirectiveKind
    product: Word = ""
    minutes: Annotated[int, Field(ge=1, le=1440)] | None = None
    most: Annotated[int, Field(ge=1, le=MAX_HOSTS)]
    nonce: Nonce | None = None


class BulkOut(Schema):
    """What was asked of many hosts; `states` counts their answers, at the sites that you may see."""

    nonce: str
    kind: DirectiveKind
    product: str
    until: datetime | None
    query: str
    most: int
    asked: int
    passed_over: int
    is_complete: bool
    created: datetime
    created_by: str
    states: dict[str, int]


@router.get("", auth=needs("hosts.view"), response=answers(Listing[BulkOut]))
def list_bulk_directives(request: Asked, paging: Rows) -> Listing[BulkOut]:
    """List what was asked of many hosts, the newest first."""
    rows = BulkDirective.objects.all()
    return listing(rows, paging, lambda act: _shown(request, act), descending=True)


@router.post("", auth=needs("hosts.direct"), response=answers(BulkOut))
def create_bulk_directive(request: Asked, wish: BulkIn) -> BulkOut:
    """Ask all active hosts that fit, once; those that are not active are passed over."""
    given = wish.hosts.dict()
    said = {name: "1" if value is True else value for name, value in given.items() if value}
    wanted = filter_in(QueryDict(urlencode(said)))
    chosen = hosts(request.access.reach("hosts.direct"), wanted, wired().clock.now())
    pause = None if wish.minutes is None else timedelta(minutes=wish.minutes)
    try:
        order = Order(
            wish=Wish(kind=wish.kind, product=wish.product, pause=pause),
            nonce=wish.nonce or draw_nonce(),
            most=wish.most,
            query=query_of(wanted),
        )
        return _shown(request, ask(request.actor, chosen, order))
    except UsageError as error:
        raise HttpError(422, str(error)) from error


@router.get("/{nonce}", auth=needs("hosts.view"), response=answers(BulkOut, 404))
def show_bulk_directive(request: Asked, nonce: Nonce) -> BulkOut:
    """Show what was asked of many hosts, and how far it has come."""
    return _shown(request, _one(nonce))


@router.delete("/{nonce}", auth=needs("hosts.direct"), response=answers(BulkOut, 404))
def withdraw_bulk_directive(request: Asked, nonce: Nonce) -> BulkOut:
    """Take back what no host has answered."""
    act = _one(nonce)
    withdraw_all(request.actor, act, request.access.reach("hosts.direct"))
    return _shown(request, act)


def _one(nonce: str) -> BulkDirective:
    act = BulkDirective.objects.filter(nonce=nonce).first()
    if act is None:
        raise HttpError(404, "nothing was asked under this name")
    return act


def _shown(request: Asked, act: BulkDirective) -> BulkOut:
    states = progress(act, request.access.reach("hosts.view"))
    return BulkOut(
        nonce=act.nonce,
        kind=DirectiveKind(act.kind),
        product=act.product,
        until=act.until,
        query=act.query,
        most=act.most,
        asked=act.asked,
        passed_over=act.passed_over,
        is_complete=act.is_complete,
        created=act.created,
        created_by=act.created_by,
        states={state.value: count for state, count in states.items()},
    )
