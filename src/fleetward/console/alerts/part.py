"""What alerts add to the console."""

from datetime import datetime

from django.db.models import Count

from fleetward.console.alerts import views
from fleetward.console.alerts.api import router
from fleetward.console.alerts.keeping import evaluate
from fleetward.console.alerts.kinds import Severity
from fleetward.console.alerts.models import Alert
from fleetward.console.parts import Page, Part, Place
from fleetward.console.relays.turns import repeat
from fleetward.console.wiring import wired


async def _evaluate_for_ever() -> None:
    def act(now: datetime) -> None:
        evaluate(now)

    await repeat("alerts", act, wired().settings.alerts.every)


def _metrics() -> str:
    rows = Alert.objects.filter(is_open=True).order_by().values("severity").annotate(n=Count("pk"))
    counted = {row["severity"]: row["n"] for row in rows}
    lines = [
        "# HELP fleetward_console_alerts_open Alerts that are open.\n",
        "# TYPE fleetward_console_alerts_open gauge\n",
    ]
    for severity in Severity:
        word, count = severity.name.lower(), counted.get(severity, 0)
        lines.append(f'fleetward_console_alerts_open{{severity="{word}"}} {count}\n')
    return "".join(lines)


PART = Part(
    name="alerts",
    pages=(
        Page("alerts/", "listing", views.listing, {"GET": "alerts.view"}),
        Page("alerts/acknowledge/", "take-on", views.take_on, {"POST": "alerts.work"}),
        Page("alerts/<int:pk>/", "alert", views.alert, {"GET": "alerts.view"}),
        Page("alerts/<int:pk>/hand-back/", "give-back", views.give_back, {"POST": "alerts.work"}),
    ),
    places=(
        Place(
            title="Alerts", route="alerts:listing", action="alerts.view", icon="alerts", order=70
        ),
    ),
    routers={"": router},
    background=(_evaluate_for_ever,),
    metrics=_metrics,
)
