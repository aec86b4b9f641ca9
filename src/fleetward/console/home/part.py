"""What the overview adds to the console."""

from fleetward.console.home import views
from fleetward.console.parts import Page, Part, Place
from fleetward.console.permissions import Gate

PART = Part(
    name="home",
    pages=(
        Page("", "overview", views.overview, {"GET": Gate.SIGNED_IN}),
        Page("healthz", "health", views.health, {"GET": Gate.OPEN}),
        # Open at the door, since it asks for a token by itself.
        Page("metrics", "metrics", views.metrics, {"GET": Gate.TOKEN}),
    ),
    places=(
        Place(
            title="Overview",
            route="home:overview",
            action=Gate.SIGNED_IN,
            icon="overview",
            order=10,
        ),
    ),
)
