"""Fleetward: signed security content, from one origin, through untrusted relays, to every host."""

__version__ = "0.1.0"
