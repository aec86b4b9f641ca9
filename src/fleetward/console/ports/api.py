"""The API of ports: the fleet's groups, who has one, a host's listeners and their history."""

from datetime import datetime
from typing import Annotated, Any, Literal

from ninja import Path, Query, Router, Schema
from pydantic import Field

from fleetward.console.api.paging import Listing, Rows, listing
from fleetward.console.api.problems import answers
from fleetward.console.api.security import needs
from fleetward.console.fleet.models import Event, Host
from fleetward.console.ports.models import Listener
from fleetward.console.ports.showing import (
    MOST_PORT,
    GroupFilter,
    group_view,
    groups,
    history_of,
    listeners,
    note_of,
)
from fleetward.console.ports.words import words_of
from fleetward.console.web.asking import Asked
from fleetward.console.web.reaching import one_within
from fleetward.console.wiring import wired

router = Router(tags=["ports"])

_TEXT = r"^[^\x00]*$"
Record = Annotated[str, Path(max_length=16, pattern=r"^[0-9a-f]+$")]
Verdict = Literal["suspicious", "unknown", "expected"]
Protocol = Literal["tcp", "udp"]
Port = Annotated[int, Field(ge=1, le=MOST_PORT)]
Text = Annotated[str, Field(max_length=100, pattern=_TEXT)]


class ListenerGroupOut(Schema):
    """Alike listeners; `sha256` is the digest's first 32 digits, null where nobody could see it."""

    protocol: str
    port: int
    sha256: str | None
    verdict: str
    name: str
    path: str
    hosts: int
    sites: int
    first_seen: datetime
    new: bool


class ListenerReasonOut(Schema):
    """Why; the sentence is empty for an id that this console does not know."""

    id: str
    sentence: str
    next_step: str


class ListenerOut(Schema):
    """A listener of a host; times are of the host's clock."""

    record: str
    host: str
    site: str | None
    protocol: str
    port: int
    reach: str
    sha256: str | None
    unit: str
    container: str
    name: str
    path: str
    verdict: str
    reasons: list[ListenerReasonOut]
    first_seen: datetime
    changed: datetime


class MomentOut(Schema):
    """An event of a host's listeners; `protocol` to `path` are null for a mere count of changes."""

    at: datetime
    received: datetime
    kind: str
    subject: str
    detail: str
    protocol: str | None
    port: int | None
    name: str | None
    verdict: str | None
    reach: str | None
    sha256: str | None
    was: str | None
    reasons: list[str]
    path: str | None


class GroupQuery(Schema):
    """Which groups; absent fields limit nothing. `new`: first seen within seven days."""

    search: Text = ""
    port: Port | None = None
    verdict: Verdict | None = None
    site: Text = ""
    new: bool = False


class ListenerQuery(Schema):
    """Which listeners; absent fields limit nothing. An empty `sha256` is one nobody could see."""

    protocol: Protocol | None = None
    port: Port | None = None
    verdict: Verdict | None = None
    sha256: Annotated[str | None, Field(max_length=64, pattern=r"^[0-9a-f]*$")] = None
    site: Text = ""


@router.get("", response=answers(Listing[ListenerGroupOut]), auth=needs("ports.view"))
def list_port_groups(
    request: Asked, paging: Rows, asked: Annotated[GroupQuery, Query()]
) -> Listing[ListenerGroupOut]:
    """List alike listeners over the fleet, the worst first; the cursor counts rows."""
    now = wired().clock.now()
    wanted = GroupFilter(
        search=asked.search.strip(),
        port=asked.port or 0,
        verdict=asked.verdict or "",
        site=asked.site,
        new=asked.new,
    )
    start = min(paging.cursor or 0, 1 << 31)
    rows = list(
        groups(request.access.reach("ports.view"), wanted, now)[start : start + paging.limit + 1]
    )
    shown = [_group_out(row, now) for row in rows[: paging.limit]]
    after = start + paging.limit if len(rows) > paging.limit else None
    # Unchecked here, since the operation's own response type checks every item.
    return Listing.model_construct(items=shown, next=after)


@router.get("/listeners", response=answers(Listing[ListenerOut]), auth=needs("ports.view"))
def list_listeners(
    request: Asked, paging: Rows, asked: Annotated[ListenerQuery, Query()]
) -> Listing[ListenerOut]:
    """List what listens now on active hosts."""
    rows = listeners(request.access.reach("ports.view"), site=asked.site)
    named = {"protocol": asked.protocol, "port": asked.port, "verdict": asked.verdict}
    rows = rows.filter(**{name: value for name, value in named.items() if value is not None})
    if asked.sha256 is not None:
        rows = rows.filter(sha256=asked.sha256[:32])
    return listing(rows, paging, _listener_out)


@router.get(
    "/hosts/{record}", response=answers(Listing[ListenerOut], 404), auth=needs("ports.view")
)
def list_host_listeners(request: Asked, record: Record, paging: Rows) -> Listing[ListenerOut]:
    """List what listens on a host, as it last told."""
    host = _host(request, record)
    rows = Listener.objects.filter(host=host, is_open=True, key=host.key)
    return listing(rows.select_related("host", "host__site"), paging, _listener_out)


@router.get(
    "/hosts/{record}/history", response=answers(Listing[MomentOut], 404), auth=needs("ports.view")
)
def list_host_history(request: Asked, record: Record, paging: Rows) -> Listing[MomentOut]:
    """List what opened, changed and closed on a host, the newest first."""
    return listing(history_of(_host(request, record)), paging, _moment_out, descending=True)


def _host(request: Asked, record: str) -> Host:
    return one_within(Host.objects.all(), request.access.reach("ports.view"), record=record)


def _group_out(row: dict[str, Any], now: datetime) -> ListenerGroupOut:
    view = group_view(row, now)
    return ListenerGroupOut(
        protocol=view.place.protocol,
        port=view.place.port,
        sha256=view.place.sha256 or None,
        verdict=view.place.verdict,
        name=view.name,
        path=view.path,
        hosts=view.hosts,
        sites=view.sites,
        first_seen=view.first_seen,
        new=view.is_new,
    )


def _listener_out(row: Listener) -> ListenerOut:
    words = [words_of(reason) for reason in row.reason_ids]
    return ListenerOut(
        record=row.host.record,
        host=row.host.name,
        site=row.host.site.name if row.host.site else None,
        protocol=row.protocol,
        port=row.port,
        reach=row.reach,
        sha256=row.sha256 or None,
        unit=row.unit,
        container=row.container,
        name=row.name,
        path=row.path,
        verdict=row.verdict,
        reasons=[
            ListenerReasonOut(id=w.id, sentence=w.sentence, next_step=w.next_step) for w in words
        ],
        first_seen=row.first_seen,
        changed=row.at,
    )


def _moment_out(event: Event) -> MomentOut:
    note = note_of(event)
    return MomentOut(
        at=event.at,
        received=event.received,
        kind=event.kind,
        subject=event.subject,
        detail=event.detail,
        protocol=note.protocol if note else None,
        port=note.port if note else None,
        name=note.name if note else None,
        verdict=note.verdict if note else None,
        reach=note.reach if note else None,
        sha256=(note.sha256 or None) if note else None,
        was=(note.was or None) if note else None,
        reasons=list(note.reasons) if note else [],
        path=(note.path or None) if note else None,
    )
