"""How Django knows this package."""

from django.apps import AppConfig


class AdministrationConfig(AppConfig):
    """Settings and audit: pages and API; the rows are `organisation`'s and `audit`'s."""

    name = "fleetward.console.administration"
    label = "administration"
