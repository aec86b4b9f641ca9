"""What `fleetward agent run` becomes: the loop alone, without the command line's libraries.

Idle, this process holds no typer, no rich and no hdiffpatch (docs/benchmarks.md has its memory).
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from fleetward.adapters.clock import SystemClock
from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.entropy import SystemEntropy
from fleetward.agent.acting import open_reporter, report
from fleetward.agent.bell import ThreadBell
from fleetward.agent.home import Home
from fleetward.agent.longpolls import LongPolls
from fleetward.agent.noticing import Happening
from fleetward.agent.portwatch import open_watch, ports_summary, watch_in_thread
from fleetward.agent.regular import INTERVAL, RegularReports
from fleetward.agent.running import run_loop
from fleetward.agent.updating import UpdateReport
from fleetward.agent.watching import Listening
from fleetward.agent.wiring import http_session, open_agent, outlook_of
from fleetward.config.agent import load_agent_settings
from fleetward.core.ports import OwnSensor
from fleetward.errors import FleetwardError

if TYPE_CHECKING:
    from fleetward.agent.sensing import AgentSensor


class _EndedError(BaseException):
    """The operator's signal; whatever was under way is done again by the next start."""


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise _EndedError


def updates(home: Home) -> Callable[[], tuple[UpdateReport, timedelta]]:
    """Return what makes one run, with the settings read anew each time."""

    def update() -> tuple[UpdateReport, timedelta]:
        agent = open_agent(home)
        return agent.update(), agent.settings.poll

    return update


def listening(home: Home, log: Callable[[str], None]) -> Listening:
    """Return what waits between runs: for the long poll, and for announcements where asked."""
    clock, entropy = SystemClock(), SystemEntropy()
    polls = LongPolls(lambda network: http_session(network, clock))
    bell = ThreadBell(polls, clock, entropy)
    try:
        push = load_agent_settings(home.disk, home.path).push
        if push.announcements:
            from fleetward.agent.hearing import (  # noqa: PLC0415 (where it is asked for)
                Ears,
                hear_in_thread,
            )

            hear_in_thread(Ears.open(push), lambda: bell.after, bell.ring, clock)
            log(f"hears announcements on port {push.port}/udp")
    except FleetwardError as error:
        log(f"hears no announcements: {error}")
    return Listening(lambda report: outlook_of(home, report), bell, clock, entropy)


def sensor_of(home: Home, log: Callable[[str], None]) -> "AgentSensor | None":
    """Return what hears where nothing listens, where HOME/agent.toml asks for it."""
    clock, entropy = SystemClock(), SystemEntropy()

    def record(found: Happening, share: float) -> int | None:
        return open_reporter(home, clock, entropy).record(found, share)

    try:
        if load_agent_settings(home.disk, home.path).sensor.on:
            from fleetward.agent.sensing import open_sensor  # noqa: PLC0415 (where asked for)

            return open_sensor(home, clock, record, log)
    except FleetwardError as error:
        log(f"sensor: {error}")
    return None


def watch_ports(
    home: Home,
    log: Callable[[str], None],
    ended: threading.Event,
    sensor: OwnSensor | None = None,
) -> None:
    """Watch who listens, beside the loop, unless HOME/ports.toml turns it off."""
    clock, entropy = SystemClock(), SystemEntropy()

    def record(found: Happening) -> int | None:
        return open_reporter(home, clock, entropy).record(found)

    try:
        watch = open_watch(home, clock, record, sensor=sensor)
        if watch is not None:
            watch_in_thread(watch, log, ended)
    except FleetwardError as error:
        log(f"port watch: {error}")


def regular_reports(home: Home, log: Callable[[str], None]) -> RegularReports:
    """Return what reports to the console, where the host is enrolled."""
    clock, entropy = SystemClock(), SystemEntropy()

    def once() -> str | None:
        if not home.is_enrolled:
            return None
        return report(home, clock, entropy, ports_summary(home)).error

    every = INTERVAL
    with contextlib.suppress(FleetwardError):  # the loop says what is wrong with the settings
        every = load_agent_settings(home.disk, home.path).report_every
    return RegularReports(once, entropy, log, every)


def main(arguments: list[str]) -> int:
    """Run the agent at the folder that `arguments` names until a signal ends it."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    home, ended = Home(SystemDisk(), Path(arguments[0])), threading.Event()

    def log(line: str) -> None:
        sys.stderr.write(f"{SystemClock().now():%Y-%m-%dT%H:%M:%SZ} {line}\n")
        sys.stderr.flush()

    try:
        log(f"agent at {home.path} begins")
        sensor = sensor_of(home, log)
        watch_ports(home, log, ended, sensor.own() if sensor else None)
        if sensor is not None:
            sensor.start()
        reports = regular_reports(home, log)
        reports.start()
        wait = listening(home, log)

        def tell_and_wait(run: UpdateReport | None, pause: timedelta) -> None:
            reports.wake()
            wait(run, pause)

        run_loop(updates(home), SystemClock(), SystemEntropy(), log, wait=tell_and_wait)
    except _EndedError:
        log("ended")
    finally:
        ended.set()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
