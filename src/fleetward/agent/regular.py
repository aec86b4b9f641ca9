"""The agent's regular reports: a thread beside its loop, once a minute and after each run.

A report that fails is made again at the next minute, and nothing is lost meanwhile (events wait in
their spool). A failure is logged when it begins and when it is over, not each minute. The thread is a
daemon: whatever it was doing when the process ends is done again by the next start.

Deliberately not here: what a report is (`agent.acting`, `agent.checkins`).
"""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from fleetward.adapters.entropy import Entropy
from fleetward.errors import FleetwardError

INTERVAL: Final = timedelta(minutes=1)
JITTER: Final = 0.2
"""The share by which each pause is longer or shorter, so that hosts do not report all at once."""


class RegularReports:
    """Reports until told to stop."""

    def __init__(
        self,
        report: Callable[[], str | None],
        entropy: Entropy,
        log: Callable[[str], None],
        interval: timedelta = INTERVAL,
    ) -> None:
        """Take what reports; `start` begins.

        Args:
            report: reports once, and returns what went wrong, or None; may raise FleetwardError.
            entropy: draws the jitter.
            log: takes one line for each change.
            interval: between two reports.
        """
        self._report = report
        self._entropy = entropy
        self._log = log
        self._interval = interval
        self._due = threading.Event()
        self._is_stopped = False
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="reports", daemon=True)

    def start(self) -> None:
        """Begin; the first report is made when `wake` is called, or after a pause."""
        self._thread.start()

    def wake(self) -> None:
        """Report soon; from any thread."""
        self._due.set()

    def stop(self) -> None:
        """Begin no other report, and return once none is under way."""
        self._is_stopped = True
        self._due.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._due.wait(self._pause().total_seconds())
            self._due.clear()
            if self._is_stopped:
                return
            self._once()

    def _pause(self) -> timedelta:
        return self._interval * (1 - JITTER + 2 * JITTER * self._entropy.share())

    def _once(self) -> None:
        try:
            problem = self._report()
        except FleetwardError as error:
            problem = str(error)
        if problem != self._problem:
            self._log(f"no report to the console: {problem}" if problem else "reports again")
        self._problem = problem
