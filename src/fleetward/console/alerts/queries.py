"""Which alerts: the filters that API and pages share."""

from dataclasses import dataclass

from django.db.models import Q, QuerySet

from fleetward.console.access import Reach
from fleetward.console.alerts.models import Alert
from fleetward.console.web.reaching import within


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFilter:
    """Which alerts; what is empty does not narrow.

    Attributes:
        state: open, unacknowledged, resolved or all; empty for open.
        severity: the least: 1 to 3.
        kind: a kind.
        site: a site's name.
        search: a part of title, subject or detail.
    """

    state: str = ""
    severity: int = 0
    kind: str = ""
    site: str = ""
    search: str = ""


def alerts(reach: Reach, wanted: AlertFilter) -> QuerySet[Alert]:
    """Return the alerts at the sites of `reach` that `wanted` names.

    What concerns the whole organisation is for those who see every site.
    """
    rows = within(Alert.objects.select_related("site"), reach)
    if wanted.state == "resolved":
        rows = rows.filter(is_open=False)
    elif wanted.state != "all":
        rows = rows.filter(is_open=True)
    if wanted.state == "unacknowledged":
        rows = rows.filter(acknowledged=None)
    if wanted.severity:
        rows = rows.filter(severity__gte=wanted.severity)
    if wanted.kind:
        rows = rows.filter(kind=wanted.kind)
    if wanted.site:
        rows = rows.filter(site__name=wanted.site)
    if wanted.search:
        text = wanted.search
        rows = rows.filter(
            Q(title__icontains=text) | Q(subject__icontains=text) | Q(detail__icontains=text)
        )
    return rows
