"""How Django knows this package."""

from django.apps import AppConfig


class IngestConfig(AppConfig):
    """Check-ins, inboxes, enrolments; the rows are the fleet's."""

    name = "fleetward.console.ingest"
    label = "ingest"
