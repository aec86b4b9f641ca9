"""How Django knows this package."""

from django.apps import AppConfig


class OrganisationConfig(AppConfig):
    """Sites, people, groups, tokens."""

    name = "fleetward.console.organisation"
    label = "organisation"
    default_auto_field = "django.db.models.BigAutoField"
