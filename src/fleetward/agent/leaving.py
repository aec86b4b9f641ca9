"""A host leaves its console: it says so, waits until the console has that in writing, and forgets it.

What is installed stays, and goes on being updated and verified; only the console's view ends. The
host's key goes, so that nobody can report in its name; enrolling again makes a new one.

Order, for a stop at any instant: the console's acknowledgement first, then `console.json`, by which
every part of the agent knows that it is enrolled, then the key and what was not acknowledged.

Deliberately not here: what the console makes of it (it decommissions the host's record).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fleetward.adapters.clock import Clock
from fleetward.adapters.entropy import Entropy
from fleetward.agent.checkins import REPORTS, Outcome, Reporter
from fleetward.agent.enrolling import HOST_KEY_FILE, WAITING_FILE, load_enrolled
from fleetward.agent.events import EventSpool
from fleetward.agent.home import CONSOLE_FILE, Home
from fleetward.agent.noticing import happening
from fleetward.core.enrolment import Standing
from fleetward.core.status import EventKind
from fleetward.errors import ConfigurationError, NetworkError

_PAUSE: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Left:
    """What was left.

    Attributes:
        console: its URL.
        unsaid: events that the console never acknowledged and that are gone now.
    """

    console: str
    unsaid: int


def leave(
    reporter: Reporter,
    report: Callable[[], Outcome],
    clock: Clock,
    patience: timedelta,
) -> Left:
    """Tell the console that this host leaves, then forget the console.

    Args:
        reporter: keeps the event.
        report: reports once.
        clock: time.
        patience: how long the acknowledgement is waited for.

    Raises:
        ConfigurationError: this host is not enrolled.
        BusyError: another process reports all the time.
        DiskError: HOME cannot be written.
        NetworkError: the console has not acknowledged it in time; nothing is forgotten.
    """
    home = reporter.home
    enrolled = load_enrolled(home)
    if enrolled is None:
        raise ConfigurationError(f"{home.path} is not enrolled: there is no console to leave")
    if enrolled.standing is Standing.APPROVED:
        reporter.record(happening(clock.now(), EventKind.LEFT))
        _wait_until_heard(report, clock, patience)
    return forget(home, reporter.entropy)


def _wait_until_heard(report: Callable[[], Outcome], clock: Clock, patience: timedelta) -> None:
    end = clock.monotonic() + patience
    while True:
        outcome = report()
        if not outcome.pending:
            return
        if clock.monotonic() >= end:
            raise NetworkError(
                f"the console has not acknowledged that this host leaves ({outcome.way.value}"
                f"{f': {outcome.error}' if outcome.error else ''}): try again, or use --forget and "
                "decommission the host on the console"
            )
        clock.sleep(_PAUSE)


def forget(home: Home, entropy: Entropy) -> Left:
    """Forget the console without a word to it.

    Raises:
        ConfigurationError: this host is not enrolled.
        BusyError: another process reports at this moment.
        DiskError: HOME cannot be written.
    """
    with home.disk.lock(home.path / "reports.lock"):
        enrolled = load_enrolled(home)
        if enrolled is None:
            raise ConfigurationError(f"{home.path} is not enrolled: there is no console to forget")
        spool = EventSpool(home.disk, home.path / REPORTS, entropy)
        unsaid = spool.last_e - spool.acknowledged_e
        home.disk.remove(home.path / CONSOLE_FILE)
        home.disk.sync_folder(home.path)
        for name in (WAITING_FILE, HOST_KEY_FILE):
            home.disk.remove(home.path / name)
        home.disk.remove_tree(home.path / REPORTS)
        home.disk.sync_folder(home.path)
    return Left(enrolled.pins.console, unsaid)
