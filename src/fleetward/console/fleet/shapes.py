"""What the fleet's API says and takes: the shapes of its documents, and how rows become them."""

from datetime import datetime
from typing import Annotated, Any

from ninja import Schema
from pydantic import Field

from fleetward.console.fleet.models import (
    CheckIn,
    Directive,
    EnrolmentToken,
    Event,
    Host,
    Presence,
    ProductState,
)
from fleetward.console.fleet.queries import SILENT_AFTER
from fleetward.console.fleet.standings import DirectiveState, HostStanding, KeyStanding
from fleetward.console.wiring import wired
from fleetward.core.inbox import DirectiveKind
from fleetward.core.status import EventKind

MAX_NAMED = 1_000
"""Hosts that one request may name; more are told apart by a filter, one request for each page."""

Word = Annotated[str, Field(max_length=64, pattern=r"^[^\x00]*$")]
Line = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
RecordId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class ProductOut(Schema):
    """What a host runs of a product, and since when."""

    product: str
    channel: str
    release: str
    seq: int
    state: str
    tree: str
    wave: int | None
    since: datetime


class HostOut(Schema):
    """A host; what is null was not seen yet.

    `seen` is when it was certainly alive; `clock_offset_ms` by how much its clock stands behind.
    """

    record: str
    name: str
    standing: HostStanding
    site: str | None
    tags: list[str]
    key: str | None
    os: str
    agent: str
    seen: datetime | None
    silent: bool
    clock_offset_ms: int | None
    relay: str
    unexpected_listeners: int | None
    clone_sign: str
    products: list[ProductOut]


class KeyOut(Schema):
    """A key of a host."""

    key: str
    standing: KeyStanding
    enrolled: datetime
    peer: str
    token: str | None


class PresenceOut(Schema):
    """The newest check-in of the key that the host reports with."""

    epoch: str
    n: int
    events: int
    sent: datetime
    received: datetime
    peer: str
    tuf_root: int
    tuf_timestamp: int
    tuf_snapshot: int
    listeners: int | None
    ports: str


class HostDetail(HostOut):
    """A host with its keys."""

    created: datetime
    standing_since: datetime
    cloned: datetime | None
    keys: list[KeyOut]
    presence: PresenceOut | None


class HostQuery(Schema):
    """Which hosts; see `GET /hosts`."""

    search: Line = ""
    standing: HostStanding | None = None
    site: Word = ""
    tag: Word = ""
    product: Word = ""
    release: Word = ""
    state: Word = ""
    silent: bool = False
    cloned: bool = False
    unexpected: bool = False


class HostChange(Schema):
    """What to change of a host; what is absent stays."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")] | None = None
    site: Word | None = None
    tags: list[Word] | None = None


class TransitionOut(Schema):
    """That a host changed what it runs."""

    at: datetime
    product: str
    release_before: str
    release: str
    seq: int
    state_before: str
    state: str


class EventOut(Schema):
    """What happened on a host."""

    record: str
    epoch: str
    e: int
    at: datetime
    received: datetime
    kind: str
    product: str
    release: str
    subject: str
    detail: str


class CheckInOut(Schema):
    """A check-in that was kept whole; `said` is what the host said, as JSON."""

    epoch: str
    n: int
    sent: datetime
    received: datetime
    peer: str
    standing: str
    said: str


class EnrolmentTokenOut(Schema):
    """An enrolment token; its secret is only in its file."""

    token: str
    note: str
    site: str | None
    tags: list[str]
    record: str | None
    uses: int
    used: int
    approval: bool
    created: datetime
    created_by: str
    expires: datetime
    revoked: datetime | None


class EnrolmentTokenIn(Schema):
    """An enrolment token to make; with a record it brings that host back, once."""

    note: Line = ""
    site: Word | None = None
    tags: Annotated[list[Word], Field(max_length=20)] = []
    record: RecordId | None = None
    uses: Annotated[int, Field(ge=1, le=100_000)] = 1
    approval: bool = False
    hours: Annotated[int, Field(ge=1, le=2160)] = 24


class TokenFileOut(Schema):
    """A token file, as `fleetward agent enroll --token-file` takes it; it is a secret."""

    schema_: Annotated[str, Field(alias="schema")]
    console: str
    signing: list[str]
    sealing: str
    token: str


class Decision(Schema):
    """Into which record an approved host goes; its own where none is named."""

    joins: RecordId | None = None


class DirectiveOut(Schema):
    """A directive and its life."""

    directive: str
    record: str
    kind: DirectiveKind
    product: str
    until: datetime | None
    state: DirectiveState
    created: datetime
    created_by: str
    expires: datetime
    answered: datetime | None
    answer: str


class DirectiveIn(Schema):
    """What hosts are to do; `minutes` is the length of a pause."""

    records: Annotated[list[RecordId], Field(min_length=1, max_length=MAX_NAMED)]
    kind: DirectiveKind
    product: Word = ""
    minutes: Annotated[int, Field(ge=1, le=1440)] | None = None


class DirectiveQuery(Schema):
    """Which directives."""

    record: RecordId | None = None
    state: DirectiveState | None = None


class EventQuery(Schema):
    """Which events."""

    kind: EventKind | None = None


# -- rows ---------------------------------------------------------------------------------------


def host_fields(host: Host, now: datetime) -> dict[str, Any]:
    """Return what every answer says of a host."""
    presence = presence_of(host)
    return {
        "record": host.record,
        "name": host.name,
        "standing": host.standing,
        "site": host.site.name if host.site else None,
        "tags": [tag.name for tag in host.tags.all()],
        "key": host.key.key if host.key else None,
        "os": host.os,
        "agent": host.agent,
        "seen": presence.seen if presence else None,
        "silent": presence is None or now - presence.seen > SILENT_AFTER,
        "clock_offset_ms": presence.offset_ms if presence else None,
        "relay": presence.relay if presence else "",
        "unexpected_listeners": presence.unexpected if presence else None,
        "clone_sign": host.clone_sign,
        "products": [product_out(state) for state in host.products.all()],
    }


def presence_of(host: Host) -> Presence | None:
    """Return the newest of the key that a host reports with, where it did."""
    return getattr(host.key, "presence", None) if host.key else None


def product_out(state: ProductState) -> ProductOut:
    """Return a product's row."""
    return ProductOut(
        product=state.product,
        channel=state.channel,
        release=state.release,
        seq=state.seq,
        state=state.state,
        tree=state.tree,
        wave=state.wave,
        since=state.since,
    )


def detail_out(host: Host) -> HostDetail:
    """Return a host with its keys."""
    presence = presence_of(host)
    keys = host.keys.select_related("token").order_by("-pk")
    return HostDetail(
        **host_fields(host, wired().clock.now()),
        created=host.created,
        standing_since=host.standing_since,
        cloned=host.cloned,
        keys=[
            KeyOut(
                key=key.key,
                standing=KeyStanding(key.standing),
                enrolled=key.enrolled,
                peer=key.peer,
                token=key.token.token if key.token else None,
            )
            for key in keys
        ],
        presence=presence_out(presence) if presence else None,
    )


def presence_out(presence: Presence) -> PresenceOut:
    """Return the newest check-in of a key."""
    return PresenceOut(
        epoch=presence.epoch,
        n=presence.greatest_n,
        events=presence.contiguous_e,
        sent=presence.newest_sent,
        received=presence.received,
        peer=presence.peer,
        tuf_root=presence.tuf_root,
        tuf_timestamp=presence.tuf_timestamp,
        tuf_snapshot=presence.tuf_snapshot,
        listeners=presence.listeners,
        ports=presence.ports,
    )


def event_out(event: Event) -> EventOut:
    """Return an event."""
    return EventOut(
        record=event.host.record,
        epoch=event.epoch,
        e=event.e,
        at=event.at,
        received=event.received,
        kind=event.kind,
        product=event.product,
        release=event.release,
        subject=event.subject,
        detail=event.detail,
    )


def check_in_out(row: CheckIn) -> CheckInOut:
    """Return a check-in that was kept whole."""
    return CheckInOut(
        epoch=row.epoch,
        n=row.n,
        sent=row.sent,
        received=row.received,
        peer=row.peer,
        standing=row.standing,
        said=bytes(row.content).decode(),
    )


def token_out(token: EnrolmentToken) -> EnrolmentTokenOut:
    """Return an enrolment token."""
    return EnrolmentTokenOut(
        token=token.token,
        note=token.note,
        site=token.site.name if token.site else None,
        tags=[tag.name for tag in token.tags.all()],
        record=token.host.record if token.host else None,
        uses=token.uses,
        used=token.used,
        approval=token.needs_approval,
        created=token.created,
        created_by=token.created_by,
        expires=token.expires,
        revoked=token.revoked,
    )


def directive_out(row: Directive) -> DirectiveOut:
    """Return a directive."""
    return DirectiveOut(
        directive=row.directive,
        record=row.host.record,
        kind=DirectiveKind(row.kind),
        product=row.product,
        until=row.until,
        state=DirectiveState(row.state),
        created=row.created,
        created_by=row.created_by,
        expires=row.expires,
        answered=row.answered,
        answer=row.answer,
    )
