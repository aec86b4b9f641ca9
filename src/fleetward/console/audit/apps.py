"""How Django knows this package."""

from django.apps import AppConfig


class AuditConfig(AppConfig):
    """The audit log."""

    name = "fleetward.console.audit"
    label = "audit"
    default_auto_field = "django.db.models.BigAutoField"
