"""What relays add to the console."""

from datetime import datetime

from fleetward.console.parts import Page, Part, Place
from fleetward.console.relays import views
from fleetward.console.relays.api import router
from fleetward.console.relays.polling import AskByHttp, poll
from fleetward.console.relays.turns import repeat
from fleetward.console.wiring import wired


async def _poll_for_ever() -> None:
    settings = wired().settings.relays
    ask = AskByHttp(wired().clock, settings)

    def act(now: datetime) -> None:
        poll(ask, settings, now)

    try:
        await repeat("relays", act, settings.poll)
    finally:
        ask.close()


PART = Part(
    name="relays",
    pages=(
        Page("relays/", "sites", views.sites, {"GET": "sites.view"}),
        Page("relays/<int:pk>/", "relay", views.relay, {"GET": "sites.view"}),
    ),
    places=(
        Place(
            title="Sites and relays",
            route="relays:sites",
            action="sites.view",
            icon="sites",
            order=30,
        ),
    ),
    routers={"": router},
    background=(_poll_for_ever,),
)
