"""How Django knows this package."""

from django.apps import AppConfig


class HomeConfig(AppConfig):
    """The overview."""

    name = "fleetward.console.home"
    label = "home"
