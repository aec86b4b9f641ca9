"""How Django knows this package."""

from django.apps import AppConfig


class PortsConfig(AppConfig):
    """Ports."""

    name = "fleetward.console.ports"
    label = "ports"
