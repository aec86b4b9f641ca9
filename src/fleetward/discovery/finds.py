"""What looking for relays gives, as values; apart from the libraries that do the looking."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Service:
    """A relay that somebody named, unsigned.

    Attributes:
        url: its base URL.
        priority: lower is asked first.
        weight: its share of hosts among those of one priority.
    """

    url: str
    priority: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Services:
    """What one look gave.

    Attributes:
        found: the relays, best priority first.
        lifetime: how long the answer holds.
    """

    found: tuple[Service, ...]
    lifetime: timedelta
