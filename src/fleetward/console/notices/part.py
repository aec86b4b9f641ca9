"""What notifications add to the console."""

from fleetward.console.notices import outbox, views
from fleetward.console.parts import Page, Part, Place

_MANAGES = {"GET": "settings.manage", "POST": "settings.manage"}
_ACT = {"POST": "settings.manage"}
_BELOW = "settings/notifications/"

PART = Part(
    name="notices",
    pages=(
        Page(_BELOW, "channels", views.channels, {"GET": "settings.view"}),
        Page(f"{_BELOW}new/", "new-channel", views.new_channel, _MANAGES),
        Page(f"{_BELOW}<int:pk>/", "channel", views.channel, _MANAGES),
        Page(f"{_BELOW}<int:pk>/test/", "test-channel", views.try_now, _ACT),
        Page(f"{_BELOW}<int:pk>/remove/", "remove-channel", views.drop_channel, _ACT),
    ),
    places=(
        Place(
            title="Notifications",
            route="notices:channels",
            action="settings.view",
            order=60,
            below="Settings",
        ),
    ),
    background=(outbox.deliver_for_ever,),
)
