"""What the console's word changes in a run: the record by which waves go, and pauses.

Read before each run, without the network; a host that was never enrolled has neither.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fleetward.agent.checkins import REPORTS
from fleetward.agent.enrolling import load_enrolled
from fleetward.agent.home import Home
from fleetward.agent.inbox import Orders
from fleetward.core.names import ProductName


@dataclass(frozen=True, slots=True)
class Standing:
    """How a host stands with its console.

    Attributes:
        record: the id of its record; empty where it has none.
        is_paused: tells whether a directive keeps a product from being updated at a time.
    """

    record: str
    is_paused: Callable[[ProductName, datetime], bool]


def standing_of(home: Home) -> Standing:
    """Return how the host of a folder stands.

    Raises:
        ConfigurationError: the console's answer on disk is damaged.
    """
    enrolled, orders = load_enrolled(home), Orders(home.disk, home.path / REPORTS)
    return Standing(enrolled.record if enrolled else "", orders.is_paused)
