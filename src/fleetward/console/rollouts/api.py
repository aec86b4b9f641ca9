"""The API of rollouts: what is open to whom, what the hosts did, and why one has a release or not."""

from datetime import datetime
from typing import Annotated, Any, Literal

from ninja import Path, Query, Router, Schema
from ninja.errors import HttpError
from pydantic import Field

from fleetward.console.api.paging import Listing, Rows, listing
from fleetward.console.api.problems import answers
from fleetward.console.api.security import needs
from fleetward.console.catalogue.models import Channel
from fleetward.console.fleet.models import Event
from fleetward.console.fleet.shapes import presence_of
from fleetward.console.rollouts.deciding import Standing
from fleetward.console.rollouts.explaining import explain
from fleetward.console.rollouts.finding import HOST_CHARS, channel_named, hosts_named
from fleetward.console.rollouts.models import Member
from fleetward.console.rollouts.showing import (
    Evidence,
    RolloutFilter,
    RolloutView,
    WaveView,
    channels,
    last_words,
    members,
    reasons,
    views,
)
from fleetward.console.rollouts.telling import sentences
from fleetward.console.web.asking import Asked
from fleetward.console.wiring import wired

router = Router(tags=["rollouts"])

_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
_TEXT = r"^[^\x00]*$"
Name = Annotated[str, Path(max_length=64, pattern=_PATTERN)]
State = Literal["running", "paused", "halted", "reverting", "complete", "open"]
Word = Literal["confirmed", "trying", "failed", "silent", "vanished", "behind", "away", "waiting"]


class EvidenceOut(Schema):
    """Hosts by how they stand; `took` counts those that took the release, whatever came of it."""

    hosts: int
    took: int
    confirmed: int
    trying: int
    failed: int
    silent: int
    vanished: int
    behind: int
    away: int
    waiting: int


class WaveOut(Schema):
    """A wave; `number` counts from 1 and is null for the hosts that no wave holds."""

    number: int | None
    rings: list[str]
    percent: float
    opened: datetime | None
    evidence: EvidenceOut


class RolloutOut(Schema):
    """A channel and what its hosts did; `counted` says when, null before the first time."""

    product: str
    channel: str
    release: str
    seq: int | None
    previous: str | None
    state: str
    plan: str
    open: int
    since: datetime
    counted: datetime | None
    evidence: EvidenceOut
    waves: list[WaveOut]


class FailureReasonOut(Schema):
    """Why the release failed: an event's kind, the hosts' words, and how many hosts."""

    kind: str
    words: str
    hosts: int


class RolloutDetail(RolloutOut):
    """A rollout, with sentences for people."""

    sentences: list[str]
    reasons: list[FailureReasonOut]


class MemberOut(Schema):
    """A host of a rollout; `wave` counts from 1, `reason` is its word on a failure."""

    record: str
    name: str
    site: str | None
    wave: int | None
    standing: str
    seen: datetime | None
    reason: str


class RolloutStepOut(Schema):
    """A question and its answer; `holds` is null where it does not matter or is not known."""

    id: str
    holds: bool | None
    words: str


class ExplanationOut(Schema):
    """Why a host has a release, or does not; `wave` from 1, `place` in percent."""

    product: str
    channel: str
    release: str
    record: str
    name: str
    site: str | None
    has_it: bool
    standing: str | None
    wave: int | None
    place: float | None
    state: str
    reason: str
    conclusion: str
    steps: list[RolloutStepOut]


class RolloutQuery(Schema):
    """Which rollouts; absent fields limit nothing. `state=open` is all but complete ones."""

    search: Annotated[str, Field(max_length=64, pattern=_TEXT)] = ""
    state: State | None = None
    site: Annotated[str, Field(max_length=64, pattern=_TEXT)] = ""


class SiteQuery(Schema):
    """Whose hosts are counted; absent: all that the token may see."""

    site: Annotated[str, Field(max_length=64, pattern=_TEXT)] = ""


class MemberQuery(SiteQuery):
    """Which hosts; `wave` counts from 1."""

    standing: Word | None = None
    wave: Annotated[int, Field(ge=1, le=1_000)] | None = None


class RolloutHostQuery(Schema):
    """Which host: the id of its record, its own id, or its name."""

    host: Annotated[str, Field(min_length=1, max_length=HOST_CHARS, pattern=_TEXT)]


@router.get("", response=answers(Listing[RolloutOut]), auth=needs("rollouts.view"))
def list_rollouts(
    request: Asked, paging: Rows, asked: Annotated[RolloutQuery, Query()]
) -> Listing[RolloutOut]:
    """List rollouts, one for each channel."""
    reach = request.access.reach("rollouts.view")
    rows = channels(RolloutFilter(asked.search, asked.state or "", asked.site))

    def show(row: Channel) -> RolloutOut:
        return RolloutOut(**_fields(views([row], reach, asked.site)[0]))

    return listing(rows, paging, show)


@router.get(
    "/{product}/{channel}", response=answers(RolloutDetail, 404), auth=needs("rollouts.view")
)
def get_rollout(
    request: Asked, product: Name, channel: Name, asked: Annotated[SiteQuery, Query()]
) -> RolloutDetail:
    """Give one rollout, in figures and in sentences."""
    row, reach = channel_named(product, channel), request.access.reach("rollouts.view")
    view, why = views([row], reach, asked.site)[0], reasons(row, reach, asked.site)
    told = [FailureReasonOut(kind=each.kind, words=each.words, hosts=each.hosts) for each in why]
    return RolloutDetail(**_fields(view), sentences=sentences(view, why), reasons=told)


@router.get(
    "/{product}/{channel}/hosts",
    response=answers(Listing[MemberOut], 404),
    auth=needs("rollouts.view"),
)
def list_members(
    request: Asked,
    product: Name,
    channel: Name,
    paging: Rows,
    asked: Annotated[MemberQuery, Query()],
) -> Listing[MemberOut]:
    """List the hosts of a rollout with their wave and how they stand."""
    row, reach = channel_named(product, channel), request.access.reach("rollouts.view")
    wave = None if asked.wave is None else asked.wave - 1
    rows = members(row, reach, standing=asked.standing or "", wave=wave, site=asked.site)
    found = listing(rows, paging, _member_out)
    failed = {each.record: each for each in found.items if each.standing == Standing.FAILED}
    told = last_words(row, rows.filter(host__record__in=failed).values_list("host_id", flat=True))
    for event in told.values():
        failed[event.host.record].reason = _why(event)
    return found


@router.get(
    "/{product}/{channel}/explain",
    response=answers(ExplanationOut, 404, 409),
    auth=needs("rollouts.view"),
)
def explain_host(
    request: Asked, product: Name, channel: Name, asked: Annotated[RolloutHostQuery, Query()]
) -> ExplanationOut:
    """Say why a host has the channel's release, or does not."""
    row = channel_named(product, channel)
    hosts = list(hosts_named(asked.host, request.access.reach("rollouts.view"))[:2])
    if not hosts:
        raise HttpError(404, f"there is no host {asked.host!r}, or not at your sites")
    if len(hosts) > 1:
        raise HttpError(409, f"several hosts are called {asked.host!r}: give a record's id")
    host, told = hosts[0], explain(row, hosts[0], wired().clock.now())
    return ExplanationOut(
        product=row.product.name,
        channel=row.name,
        release=told.release,
        record=host.record,
        name=host.name,
        site=host.site.name if host.site else None,
        has_it=told.has_it,
        standing=told.standing,
        wave=_number(told.wave),
        place=told.place,
        state=told.state,
        reason=told.reason,
        conclusion=told.conclusion,
        steps=[
            RolloutStepOut(id=step.id, holds=step.holds, words=step.words) for step in told.steps
        ],
    )


def _fields(view: RolloutView) -> dict[str, Any]:
    row = view.row
    return {
        "product": row.product.name,
        "channel": row.name,
        "release": row.points_at,
        "seq": row.release.seq if row.release else None,
        "previous": row.previous.name if row.previous else None,
        "state": row.state,
        "plan": row.plan,
        "open": row.open,
        "since": row.since,
        "counted": view.counted.at if view.counted else None,
        "evidence": _evidence_out(view.evidence),
        "waves": [_wave_out(wave) for wave in view.waves],
    }


def _wave_out(wave: WaveView) -> WaveOut:
    return WaveOut(
        number=_number(wave.index),
        rings=list(wave.wave.rings),
        percent=wave.wave.percent,
        opened=wave.opened,
        evidence=_evidence_out(wave.evidence),
    )


def _evidence_out(evidence: Evidence) -> EvidenceOut:
    counts = {word.value: evidence.of(word) for word in Standing}
    return EvidenceOut(hosts=evidence.hosts, took=evidence.took, **counts)


def _member_out(row: Member) -> MemberOut:
    presence = presence_of(row.host)
    return MemberOut(
        record=row.host.record,
        name=row.host.name,
        site=row.host.site.name if row.host.site else None,
        wave=_number(row.wave),
        standing=row.standing,
        seen=presence.seen if presence else None,
        reason="",
    )


def _why(event: Event) -> str:
    return f"{event.kind}: {event.detail}" if event.detail else event.kind


def _number(index: int | None) -> int | None:
    return None if index is None else index + 1
