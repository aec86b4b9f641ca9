"""What the overview adds to the console; its place in the navigation is `home`'s."""

from datetime import datetime

from fleetward.console.overview import views
from fleetward.console.overview.api import router
from fleetward.console.overview.counting import EVERY, count_when_due
from fleetward.console.parts import Page, Part
from fleetward.console.relays.turns import repeat


async def _count_for_ever() -> None:
    def act(now: datetime) -> None:
        count_when_due(now)

    await repeat("overview", act, EVERY)


PART = Part(
    name="overview",
    pages=(Page("overview/", "fleet", views.fleet, {"GET": "overview.view"}),),
    routers={"": router},
    background=(_count_for_ever,),
)
