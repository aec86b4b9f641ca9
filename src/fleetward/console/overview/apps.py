"""How Django knows this package."""

from django.apps import AppConfig


class OverviewConfig(AppConfig):
    """The overview."""

    name = "fleetward.console.overview"
    label = "overview"
