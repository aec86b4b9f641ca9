"""How Django knows this package."""

from django.apps import AppConfig


class CatalogueConfig(AppConfig):
    """Products, channels, releases, and the roles that sign them."""

    name = "fleetward.console.catalogue"
    label = "catalogue"
