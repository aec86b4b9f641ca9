"""What rollouts add to the console."""

from datetime import datetime

from fleetward.console.parts import Page, Panel, Part, Place
from fleetward.console.relays.turns import repeat
from fleetward.console.rollouts import views
from fleetward.console.rollouts.api import router
from fleetward.console.rollouts.counting import EVERY, count_when_due

_SEE = {"GET": "rollouts.view"}


async def _count_for_ever() -> None:
    def act(now: datetime) -> None:
        count_when_due(now)

    await repeat("rollouts", act, EVERY)


PART = Part(
    name="rollouts",
    pages=(
        Page("rollouts/", "rollouts", views.rollouts, _SEE),
        Page("rollouts/<str:product>/<str:channel>/", "rollout", views.rollout, _SEE),
        Page("panels/rollouts/", "panel", views.panel, _SEE),
    ),
    places=(
        Place(
            title="Rollouts",
            route="rollouts:rollouts",
            action="rollouts.view",
            icon="rollouts",
            order=50,
        ),
    ),
    panels=(
        Panel(
            title="Rollouts under way",
            route="rollouts:panel",
            action="rollouts.view",
            order=50,
            wide=True,
        ),
    ),
    routers={"/rollouts": router},
    background=(_count_for_ever,),
)
