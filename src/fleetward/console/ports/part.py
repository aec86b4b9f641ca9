"""What the fleet's listeners add to the console."""

from datetime import datetime

from django.db.models import Sum

from fleetward.console.parts import Page, Part, Place
from fleetward.console.ports import views
from fleetward.console.ports.api import router
from fleetward.console.ports.counting import EVERY, count_when_due
from fleetward.console.ports.models import Group
from fleetward.console.ports.showing import VERDICTS
from fleetward.console.relays.turns import repeat

_SEE = {"GET": "ports.view"}


async def _count_for_ever() -> None:
    def act(now: datetime) -> None:
        count_when_due(now)

    await repeat("ports", act, EVERY)


def _metrics() -> str:
    rows = Group.objects.order_by().values("verdict").annotate(hosts=Sum("hosts"))
    counted = {row["verdict"]: row["hosts"] for row in rows}
    lines = [
        "# HELP fleetward_console_port_listeners Listeners of active hosts by verdict.\n",
        "# TYPE fleetward_console_port_listeners gauge\n",
    ]
    for verdict in VERDICTS:
        count = counted.get(verdict.value, 0)
        lines.append(f'fleetward_console_port_listeners{{verdict="{verdict.value}"}} {count}\n')
    return "".join(lines)


PART = Part(
    name="ports",
    pages=(
        Page("ports/", "ports", views.ports, _SEE),
        Page("ports.csv", "ports-csv", views.ports_csv, _SEE),
        Page("ports/guide/", "guide", views.guide, _SEE),
        Page("ports/hosts/<str:record>/", "host", views.host, _SEE),
        Page(
            "ports/<str:protocol>/<int:port>/<str:digest>/<str:verdict>/",
            "group",
            views.group,
            _SEE,
        ),
    ),
    places=(
        Place(title="Ports", route="ports:ports", action="ports.view", icon="ports", order=60),
    ),
    routers={"/ports": router},
    background=(_count_for_ever,),
    metrics=_metrics,
)
