"""The loop of `agent run`: check, wait with jitter or for news, back off where nothing is reached.

It never ends by itself: not on an expiry, not on a full disk, not on settings that became
unreadable (an agent that exits is a host that nobody protects). Each failure is logged and tried
again; the operator ends the loop with a signal.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from fleetward.adapters.clock import Clock
from fleetward.adapters.entropy import Entropy
from fleetward.agent.following import Outcome
from fleetward.agent.updating import UpdateReport
from fleetward.errors import FleetwardError

JITTER = 0.2
"""The share of a pause that is drawn anew each time, so that hosts do not come all at once."""

FIRST_RETRY = timedelta(seconds=15)
"""The pause after a first failure; it doubles up to the ordinary one."""


class Updates(Protocol):
    """Makes one run; `wiring.open_agent(…).update`, with settings read anew each time."""

    def __call__(self) -> tuple[UpdateReport, timedelta]:
        """Return the report and the ordinary pause. Raises FleetwardError."""
        ...


Wait = Callable[[UpdateReport | None, timedelta], None]
"""Returns after a pause, or earlier; gets the report of the run before, None where it failed."""


def run_loop(
    update: Updates,
    clock: Clock,
    entropy: Entropy,
    log: Callable[[str], None],
    *,
    runs: int | None = None,
    wait: Wait | None = None,
) -> None:
    """Update for ever, or `runs` times.

    Args:
        update: makes one run.
        clock: waits.
        entropy: draws the jitter.
        log: takes one line per run that is worth a line.
        runs: how often; None is for ever.
        wait: waits between runs, and may return early; the clock's own sleep unless given.
    """
    wait = wait or (lambda _, pause: clock.sleep(pause))
    failures, done, poll = 0, 0, FIRST_RETRY
    while runs is None or done < runs:
        done += 1
        report = None
        try:
            report, poll = update()
        except FleetwardError as error:
            log(f"failed: {error}")
            failures += 1
        else:
            _log(report, log)
            failures = failures + 1 if report.error else 0
        wait(report, pause(poll, failures, entropy.share()))


def pause(poll: timedelta, failures: int, share: float) -> timedelta:
    """Return how long to wait.

    Args:
        poll: the ordinary pause.
        failures: failures in a row.
        share: a number in [0, 1) that spreads the pause by a fifth to both sides.
    """
    ordinary = min(poll, FIRST_RETRY * 2 ** min(failures - 1, 20)) if failures else poll
    return ordinary * (1 - JITTER + 2 * JITTER * share)


_QUIET = {Outcome.CURRENT, Outcome.WAITING, Outcome.HELD_BACK}


def _log(report: UpdateReport, log: Callable[[str], None]) -> None:
    if report.error:
        log(f"no metadata: {report.error}")
    for product in report.products:
        record = product.record
        if product.outcome not in _QUIET or product.error:
            release = record.current.release if record.current else "nothing"
            reason = f": {product.reason}" if product.reason else ""
            log(f"{record.product} {product.outcome.value}, runs {release}{reason}")
