"""How Django knows this package."""

from django.apps import AppConfig


class AlertsConfig(AppConfig):
    """Alerts."""

    name = "fleetward.console.alerts"
    label = "alerts"
