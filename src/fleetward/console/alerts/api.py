"""The API of alerts."""

from datetime import datetime
from typing import Annotated, Any, Literal

from ninja import Query, Router, Schema
from pydantic import Field

from fleetward.console.alerts.keeping import acknowledge, hand_back
from fleetward.console.alerts.kinds import Kind
from fleetward.console.alerts.models import Alert
from fleetward.console.alerts.queries import AlertFilter, alerts
from fleetward.console.api.paging import MAX_CURSOR, Listing, Rows, listing
from fleetward.console.api.problems import answers
from fleetward.console.api.security import needs
from fleetward.console.web.asking import Asked
from fleetward.console.web.reaching import one_within

router = Router(tags=["alerts"])

AlertId = Annotated[int, Field(ge=0, le=MAX_CURSOR)]
Words = Annotated[str, Field(max_length=300, pattern=r"^[^\x00]*$")]

_LEAST = {"info": 1, "warning": 2, "critical": 3}


class AlertOut(Schema):
    """An alert; `step` is what to do next."""

    id: int
    kind: Kind
    subject: str
    site: str | None
    severity: str
    title: str
    detail: str
    step: str
    hosts: int
    most_hosts: int
    open: bool
    opened: datetime
    last_seen: datetime
    resolved: datetime | None
    returns: int
    acknowledged: datetime | None
    acknowledged_by: str
    note: str


class AlertStepOut(Schema):
    """Something in the life of an alert."""

    at: datetime
    what: str
    by: str
    words: str


class AlertDetail(AlertOut):
    """An alert with its life."""

    steps: list[AlertStepOut]


class AlertQuery(Schema):
    """Which alerts."""

    state: Literal["open", "unacknowledged", "resolved", "all"] = "open"
    least: Literal["info", "warning", "critical"] = "info"
    kind: Kind | None = None
    site: Words | None = None
    search: Words | None = None


class Acknowledgement(Schema):
    """What to say with it; `acknowledged` false hands the alert back."""

    note: Words = ""
    acknowledged: bool = True


@router.get("/alerts", auth=needs("alerts.view"), response=answers(Listing[AlertOut]))
def list_alerts(
    request: Asked, wanted: Annotated[AlertQuery, Query()], paging: Rows
) -> Listing[AlertOut]:
    """List alerts, the newest first; open ones unless another state is asked for."""
    narrowed = AlertFilter(
        state=wanted.state,
        severity=_LEAST[wanted.least],
        kind=wanted.kind or "",
        site=wanted.site or "",
        search=wanted.search or "",
    )
    found = alerts(request.access.reach("alerts.view"), narrowed)
    return listing(found, paging, lambda row: AlertOut(**_fields(row)), descending=True)


@router.get("/alerts/{alert_id}", auth=needs("alerts.view"), response=answers(AlertDetail, 404))
def show_alert(request: Asked, alert_id: AlertId) -> AlertDetail:
    """Show an alert and its life."""
    return _detail(_one(request, "alerts.view", alert_id))


@router.post(
    "/alerts/{alert_id}/acknowledgement",
    auth=needs("alerts.work"),
    response=answers(AlertDetail, 404),
)
def acknowledge_alert(request: Asked, alert_id: AlertId, said: Acknowledgement) -> AlertDetail:
    """Take an alert on, or hand it back; one that is resolved stays as it is."""
    row = _one(request, "alerts.work", alert_id)
    if said.acknowledged:
        acknowledge(request.actor, row, said.note)
    else:
        hand_back(request.actor, row)
    return _detail(_one(request, "alerts.view", alert_id))


def _one(request: Asked, action: str, alert_id: int) -> Alert:
    rows = Alert.objects.select_related("site")
    return one_within(rows, request.access.reach(action), pk=alert_id)


def _fields(row: Alert) -> dict[str, Any]:
    same = (
        "id kind subject title detail step hosts most_hosts opened last_seen resolved returns "
        "acknowledged acknowledged_by note"
    )
    return {
        **{name: getattr(row, name) for name in same.split()},
        "site": row.site.name if row.site else None,
        "severity": row.severity_word,
        "open": row.is_open,
    }


def _detail(row: Alert) -> AlertDetail:
    steps = [
        AlertStepOut(at=step.at, what=step.what, by=step.by, words=step.words)
        for step in row.steps.all()
    ]
    return AlertDetail(**_fields(row), steps=steps)
