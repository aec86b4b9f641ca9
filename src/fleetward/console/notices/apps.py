"""How Django knows this package."""

from django.apps import AppConfig


class NoticesConfig(AppConfig):
    """Notifications."""

    name = "fleetward.console.notices"
    label = "notices"
    default_auto_field = "django.db.models.BigAutoField"
