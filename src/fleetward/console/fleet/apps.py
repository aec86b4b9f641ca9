"""How Django knows this package."""

from django.apps import AppConfig


class FleetConfig(AppConfig):
    """Hosts, keys, enrolment, status, events, directives."""

    name = "fleetward.console.fleet"
    label = "fleet"
    default_auto_field = "django.db.models.BigAutoField"
