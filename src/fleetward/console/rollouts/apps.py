"""How Django knows this package."""

from django.apps import AppConfig


class RolloutsConfig(AppConfig):
    """Rollouts."""

    name = "fleetward.console.rollouts"
    label = "rollouts"
