"""How Django knows this package."""

from django.apps import AppConfig


class RelaysConfig(AppConfig):
    """Sites and relays."""

    name = "fleetward.console.relays"
    label = "relays"
