"""The API of the fleet: hosts, their history, enrolment, directives."""

import json
from datetime import timedelta
from typing import Annotated

from django.db import transaction
from django.db.models import QuerySet
from ninja import Query, Router
from ninja.errors import HttpError

from fleetward.console.api.paging import Listing, Rows, listing
from fleetward.console.api.problems import answers
from fleetward.console.api.security import needs
from fleetward.console.audit.chain import record
from fleetward.console.fleet import enrolment
from fleetward.console.fleet.directives import Wish, direct, withdraw
from fleetward.console.fleet.keys import console_keys
from fleetward.console.fleet.models import (
    CheckIn,
    Directive,
    EnrolmentToken,
    Event,
    Host,
    HostKey,
    Tag,
    Transition,
)
from fleetward.console.fleet.queries import HostFilter, hosts, shown
from fleetward.console.fleet.shapes import (
    CheckInOut,
    Decision,
    DirectiveIn,
    DirectiveOut,
    DirectiveQuery,
    EnrolmentTokenIn,
    EnrolmentTokenOut,
    EventOut,
    EventQuery,
    HostChange,
    HostDetail,
    HostOut,
    HostQuery,
    RecordId,
    TokenFileOut,
    TransitionOut,
    check_in_out,
    detail_out,
    directive_out,
    event_out,
    host_fields,
    token_out,
)
from fleetward.console.fleet.standings import HostStanding, KeyStanding
from fleetward.console.fleet.tokens import (
    TokenWish,
    make_token,
    revoke_token,
    tags_named,
    token_file,
)
from fleetward.console.organisation.models import Site
from fleetward.console.web.asking import Asked
from fleetward.console.web.reaching import one_within, within
from fleetward.console.wiring import wired
from fleetward.errors import UsageError

router = Router(tags=["fleet"])


# -- hosts -------------------------------------------------------------------------------------------


@router.get("/hosts", auth=needs("hosts.view"), response=answers(Listing[HostOut]))
def list_hosts(
    request: Asked, wanted: Annotated[HostQuery, Query()], paging: Rows
) -> Listing[HostOut]:
    """List hosts; without `standing`, those that are active or wait for approval."""
    given = wanted.dict()
    given["standing"] = wanted.standing or ""
    now = wired().clock.now()
    found = hosts(request.access.reach("hosts.view"), HostFilter(**given), now)
    return listing(shown(found), paging, lambda host: HostOut(**host_fields(host, now)))


@router.get("/hosts/{record_id}", auth=needs("hosts.view"), response=answers(HostDetail, 404))
def show_host(request: Asked, record_id: RecordId) -> HostDetail:
    """Show a host."""
    return detail_out(_one(request, "hosts.view", record_id))


@router.patch("/hosts/{record_id}", auth=needs("hosts.enrol"), response=answers(HostDetail, 404))
def change_host(request: Asked, record_id: RecordId, change: HostChange) -> HostDetail:
    """Change a host's name, site or tags."""
    host = _one(request, "hosts.enrol", record_id)
    before: dict[str, object] = {
        "name": host.name,
        "site": host.site.name if host.site else None,
    }
    with transaction.atomic():
        if change.name is not None:
            host.name = change.name
        if change.site is not None:
            host.site = _site(request, change.site)
        host.save(update_fields=["name", "site"])
        if change.tags is not None:
            host.tags.set(_tags(change.tags))
        after = change.dict(exclude_none=True)
        record(request.actor, "hosts.enrol", f"host:{host.record}", before=before, after=after)
    return detail_out(_one(request, "hosts.enrol", record_id))


@router.get(
    "/hosts/{record_id}/transitions",
    auth=needs("hosts.view"),
    response=answers(Listing[TransitionOut], 404),
)
def list_transitions(request: Asked, record_id: RecordId, paging: Rows) -> Listing[TransitionOut]:
    """List what a host ran, the newest first."""
    host = _one(request, "hosts.view", record_id)
    rows = Transition.objects.filter(host=host)
    return listing(rows, paging, TransitionOut.from_orm, descending=True)


@router.get(
    "/hosts/{record_id}/events",
    auth=needs("hosts.view"),
    response=answers(Listing[EventOut], 404),
)
def list_host_events(request: Asked, record_id: RecordId, paging: Rows) -> Listing[EventOut]:
    """List what happened on a host, the newest first."""
    host = _one(request, "hosts.view", record_id)
    rows = Event.objects.filter(host=host).select_related("host")
    return listing(rows, paging, event_out, descending=True)


@router.get(
    "/hosts/{record_id}/check-ins",
    auth=needs("hosts.view"),
    response=answers(Listing[CheckInOut], 404),
)
def list_check_ins(request: Asked, record_id: RecordId, paging: Rows) -> Listing[CheckInOut]:
    """List the check-ins of a host that were kept whole, the newest first."""
    host = _one(request, "hosts.view", record_id)
    rows = CheckIn.objects.filter(key__host=host)
    return listing(rows, paging, check_in_out, descending=True)


@router.get("/events", auth=needs("hosts.view"), response=answers(Listing[EventOut]))
def list_events(
    request: Asked, wanted: Annotated[EventQuery, Query()], paging: Rows
) -> Listing[EventOut]:
    """List what happened on all hosts, the newest first."""
    reach = request.access.reach("hosts.view")
    rows = within(Event.objects.select_related("host"), reach, "host__site_id")
    if wanted.kind is not None:
        rows = rows.filter(kind=wanted.kind)
    return listing(rows, paging, event_out, descending=True)


# -- what people decide of hosts ---------------------------------------------------------------------


@router.post(
    "/hosts/{record_id}/approve",
    auth=needs("hosts.enrol"),
    response=answers(HostDetail, 404, 409),
)
def approve_host(request: Asked, record_id: RecordId, decision: Decision) -> HostDetail:
    """Take a host that waits for approval, into its own record or into one that exists."""
    host = _one(request, "hosts.enrol", record_id)
    joins = _one(request, "hosts.enrol", decision.joins) if decision.joins else None
    enrolment.approve(request.actor, _waiting(host), joins=joins)
    return detail_out(_one(request, "hosts.enrol", (joins or host).record))


@router.post(
    "/hosts/{record_id}/refuse", auth=needs("hosts.enrol"), response=answers(HostDetail, 404, 409)
)
def refuse_host(request: Asked, record_id: RecordId) -> HostDetail:
    """Refuse a host that waits for approval."""
    enrolment.refuse(request.actor, _waiting(_one(request, "hosts.enrol", record_id)))
    return detail_out(_one(request, "hosts.enrol", record_id))


@router.post(
    "/hosts/{record_id}/revoke", auth=needs("hosts.revoke"), response=answers(HostDetail, 404)
)
def revoke_host(request: Asked, record_id: RecordId) -> HostDetail:
    """Take no more check-ins of a host; a token for its record brings it back."""
    enrolment.revoke(request.actor, _one(request, "hosts.revoke", record_id))
    return detail_out(_one(request, "hosts.revoke", record_id))


@router.post(
    "/hosts/{record_id}/retire",
    auth=needs("hosts.revoke"),
    response=answers(HostDetail, 404, 409),
)
def retire_host(request: Asked, record_id: RecordId) -> HostDetail:
    """Decommission a host; it comes back by itself when it reports."""
    host = _one(request, "hosts.revoke", record_id)
    if host.standing != HostStanding.ACTIVE:
        raise HttpError(409, f"the host is {host.standing}, not active")
    enrolment.retire(request.actor, host)
    return detail_out(_one(request, "hosts.revoke", record_id))


@router.post(
    "/hosts/{record_id}/settle-clone",
    auth=needs("hosts.revoke"),
    response=answers(HostDetail, 404),
)
def settle_clone(request: Asked, record_id: RecordId) -> HostDetail:
    """Take the mark of a cloned host away; the next sign brings it back."""
    enrolment.settle_clone(request.actor, _one(request, "hosts.revoke", record_id))
    return detail_out(_one(request, "hosts.revoke", record_id))


# -- enrolment tokens --------------------------------------------------------------------------------


@router.get(
    "/enrolment-tokens",
    auth=needs("hosts.enrol"),
    response=answers(Listing[EnrolmentTokenOut]),
)
def list_enrolment_tokens(request: Asked, paging: Rows) -> Listing[EnrolmentTokenOut]:
    """List enrolment tokens, the newest first."""
    return listing(_tokens(request), paging, token_out, descending=True)


@router.post(
    "/enrolment-tokens", auth=needs("hosts.enrol"), response=answers(EnrolmentTokenOut, 404)
)
def create_enrolment_token(request: Asked, wish: EnrolmentTokenIn) -> EnrolmentTokenOut:
    """Make an enrolment token; fetch its file to hand it over."""
    host = _one(request, "hosts.enrol", wish.record) if wish.record else None
    site = _site(request, wish.site) if wish.site else None
    if site is None and host is None and not request.access.reach("hosts.enrol").every:
        raise HttpError(403, "name one of your sites: this token may enrol hosts there alone")
    try:
        made = make_token(
            request.actor,
            TokenWish(
                note=wish.note,
                site=site,
                tags=tuple(wish.tags),
                host=host,
                uses=wish.uses,
                needs_approval=wish.approval,
                lifetime=timedelta(hours=wish.hours),
            ),
        )
    except UsageError as error:
        raise HttpError(422, str(error)) from error
    return token_out(made)


@router.get(
    "/enrolment-tokens/{token}/file",
    auth=needs("hosts.enrol"),
    response=answers(TokenFileOut, 404, 409),
    by_alias=True,
)
def show_token_file(request: Asked, token: RecordId) -> TokenFileOut:
    """Give the file that enrols hosts; each time is in the audit log."""
    row = _one_token(request, token)
    try:
        content = token_file(request.actor, row, console_keys()[0])
    except UsageError as error:
        raise HttpError(409, str(error)) from error
    return TokenFileOut.model_validate(json.loads(content))


@router.post(
    "/enrolment-tokens/{token}/revoke",
    auth=needs("hosts.enrol"),
    response=answers(EnrolmentTokenOut, 404),
)
def end_enrolment_token(request: Asked, token: RecordId) -> EnrolmentTokenOut:
    """End an enrolment token; hosts that it enrolled stay."""
    row = _one_token(request, token)
    if row.revoked is None:
        revoke_token(request.actor, row)
    return token_out(row)


# -- directives --------------------------------------------------------------------------------------


@router.get("/directives", auth=needs("hosts.view"), response=answers(Listing[DirectiveOut]))
def list_directives(
    request: Asked, wanted: Annotated[DirectiveQuery, Query()], paging: Rows
) -> Listing[DirectiveOut]:
    """List directives, the newest first."""
    reach = request.access.reach("hosts.view")
    rows = within(Directive.objects.select_related("host"), reach, "host__site_id")
    if wanted.record is not None:
        rows = rows.filter(host__record=wanted.record)
    if wanted.state is not None:
        rows = rows.filter(state=wanted.state)
    return listing(rows, paging, directive_out, descending=True)


@router.post("/directives", auth=needs("hosts.direct"), response=answers(list[DirectiveOut], 404))
def create_directives(request: Asked, wish: DirectiveIn) -> list[DirectiveOut]:
    """Ask hosts to do something, once; hosts that are not active are passed over."""
    reach = request.access.reach("hosts.direct")
    named = list(within(Host.objects.filter(record__in=wish.records), reach))
    missing = set(wish.records) - {host.record for host in named}
    if missing:
        raise HttpError(404, f"not among your hosts: {', '.join(sorted(missing)[:5])}")
    pause = None if wish.minutes is None else timedelta(minutes=wish.minutes)
    try:
        made = direct(request.actor, named, Wish(kind=wish.kind, product=wish.product, pause=pause))
    except UsageError as error:
        raise HttpError(422, str(error)) from error
    return [directive_out(row) for row in made]


@router.delete(
    "/directives/{directive}",
    auth=needs("hosts.direct"),
    response=answers(DirectiveOut, 404, 409),
)
def withdraw_directive(request: Asked, directive: RecordId) -> DirectiveOut:
    """Take a directive back that its host has not answered."""
    reach = request.access.reach("hosts.direct")
    rows = Directive.objects.select_related("host")
    row = one_within(rows, reach, "host__site_id", directive=directive)
    if not withdraw(request.actor, row):
        raise HttpError(409, f"it is {row.state} already")
    row.refresh_from_db()
    return directive_out(row)


# -- rows --------------------------------------------------------------------------------------------


def _one(request: Asked, action: str, record_id: str) -> Host:
    return one_within(shown(Host.objects.all()), request.access.reach(action), record=record_id)


def _waiting(host: Host) -> HostKey:
    key = host.keys.filter(standing=KeyStanding.PENDING).first()
    if key is None:
        raise HttpError(409, "nothing of this host waits for approval")
    return key


def _site(request: Asked, name: str) -> Site:
    return one_within(Site.objects.all(), request.access.reach("hosts.enrol"), "pk", name=name)


def _tags(names: list[str]) -> list[Tag]:
    try:
        return tags_named(names)
    except UsageError as error:
        raise HttpError(422, str(error)) from error


def _tokens(request: Asked) -> "QuerySet[EnrolmentToken]":
    rows = EnrolmentToken.objects.select_related("site", "host").prefetch_related("tags")
    return within(rows, request.access.reach("hosts.enrol"))


def _one_token(request: Asked, token: str) -> EnrolmentToken:
    return one_within(_tokens(request), request.access.reach("hosts.enrol"), token=token)
