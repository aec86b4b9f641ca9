"""The API of relays."""

from datetime import datetime
from typing import Annotated, Literal

from ninja import Query, Router, Schema
from pydantic import Field

from fleetward.console.api.paging import MAX_CURSOR, Listing, Rows, listing
from fleetward.console.api.problems import answers
from fleetward.console.api.security import needs
from fleetward.console.relays.judging import Standing
from fleetward.console.relays.models import Relay, Sample
from fleetward.console.relays.shown import Shown, history, relays, show
from fleetward.console.web.asking import Asked
from fleetward.console.web.reaching import one_within
from fleetward.console.wiring import wired

router = Router(tags=["relays"])

RelayId = Annotated[int, Field(ge=0, le=MAX_CURSOR)]


class RelayOut(Schema):
    """A relay as it stands now; `lag` in versions of the timestamp, `day` over 24 hours."""

    id: int
    url: str
    site: str | None
    listed: str
    standing: Standing
    polled: datetime | None
    answered: datetime | None
    problem: str
    timestamp: int
    lag: int
    hosts: int
    hosts_behind: int
    spool_bytes: int
    spool_max_bytes: int
    day_hit_ratio: float | None
    day_upstream_bytes: int
    day_delivered_bytes: int


class SampleOut(Schema):
    """What a relay did in one minute or hour."""

    at: datetime
    asked: int
    answered: int
    hits: int
    misses: int
    upstream_bytes: int
    delivered_bytes: int
    overloaded: int
    spool_bytes: int
    lag: int


class HistoryQuery(Schema):
    """Which history: the last day by minutes, or 90 days by hours."""

    span: Literal["day", "90d"] = "day"


@router.get("/relays", auth=needs("sites.view"), response=answers(Listing[RelayOut]))
def list_relays(request: Asked, paging: Rows) -> Listing[RelayOut]:
    """List relays."""
    now = wired().clock.now()
    found = relays(request.access.reach("sites.view"))
    return listing(found, paging, lambda row: relay_out(show([row], now)[0]))


@router.get("/relays/{relay_id}", auth=needs("sites.view"), response=answers(RelayOut, 404))
def show_relay(request: Asked, relay_id: RelayId) -> RelayOut:
    """Show a relay."""
    return relay_out(show([_one(request, relay_id)], wired().clock.now())[0])


@router.get(
    "/relays/{relay_id}/history", auth=needs("sites.view"), response=answers(list[SampleOut], 404)
)
def show_relay_history(
    request: Asked, relay_id: RelayId, wanted: Annotated[HistoryQuery, Query()]
) -> list[SampleOut]:
    """Show what a relay did, minute by minute or hour by hour."""
    row = _one(request, relay_id)
    samples = history(row, wired().clock.now(), long=wanted.span == "90d")
    return [_sample_out(sample) for sample in samples if sample is not None]


def _one(request: Asked, relay_id: int) -> Relay:
    reach = request.access.reach("sites.view")
    return one_within(Relay.objects.select_related("site"), reach, pk=relay_id)


def relay_out(shown: Shown) -> RelayOut:
    """Return a relay as the API shows it."""
    row = shown.row
    return RelayOut(
        id=row.pk,
        url=row.url,
        site=row.site.name if row.site else None,
        listed=row.listed,
        standing=shown.standing,
        polled=row.polled,
        answered=row.answered,
        problem=row.problem,
        timestamp=row.version,
        lag=shown.lag,
        hosts=row.hosts,
        hosts_behind=row.hosts_behind,
        spool_bytes=shown.said.spool_bytes,
        spool_max_bytes=shown.said.spool_max,
        day_hit_ratio=shown.day.hit_ratio(),
        day_upstream_bytes=shown.day.upstream_bytes,
        day_delivered_bytes=shown.day.delivered_bytes,
    )


def _sample_out(sample: Sample) -> SampleOut:
    return SampleOut(**{name: getattr(sample, name) for name in SampleOut.model_fields})
