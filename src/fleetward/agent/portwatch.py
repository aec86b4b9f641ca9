"""The port watch of an agent: look cheaply, look closely on change, tell what changed.

    HOME/ports.toml           settings, the operator's (config.ports), taken up when they change;
                              the defaults watch 2967
    HOME/ports/watch.json     what is known: the baseline, verdicts, what was told
    HOME/ports/relist         there while the console waits for every listener anew

A look asks the kernel for the sockets of the watched ports (under a millisecond). Only where they
differ from the last look, one is about to be told as closed, or `refresh` has passed, /proc is
walked, files are hashed and verdicts made. So a program that takes over an open socket, and a
change in another network namespace, are seen after `refresh` at the latest.

Invariants: events are in the spool before the state that makes them old is saved, so a stop between
the two tells them twice, and never not at all. Nothing here ends the agent: what fails is told to
the log and tried again.

Deliberately not here: verdicts (core.ports), what is a change (core.portchanges), the command
(portwatch).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.clock import Clock
from fleetward.adapters.disk import Kind
from fleetward.agent.home import Home
from fleetward.agent.noticing import Happening, happening, short
from fleetward.config.ports import PORTS_FILE, PortsSettings, agent_ports_settings
from fleetward.core.limits import STATUS
from fleetward.core.listeners import BoundSocket
from fleetward.core.portchanges import (
    LIMITS,
    Change,
    Known,
    Observation,
    Watched,
    observe,
    relearned,
)
from fleetward.core.portrules import Verdict
from fleetward.core.ports import Judged, OwnSensor, judge
from fleetward.core.status import PortsSummary
from fleetward.errors import BusyError, ConfigurationError, DocumentError, FleetwardError
from fleetward.listeners.surveying import Surveyor, surveyor_here
from fleetward.wire.documents import decode_json, encode_json
from fleetward.wire.ports import event_of, summary_of

FOLDER: Final = "ports"
_SCHEMA: Final = "fleetward.ports-watch/1"

Record = Callable[[Happening], object]
"""Keeps an event durably; `checkins.Reporter.record`. Raises BusyError, DiskError."""


def _state_path(home: Home) -> Path:
    return home.path / FOLDER / "watch.json"


def _relist_path(home: Home) -> Path:
    return home.path / FOLDER / "relist"


def load_watched(home: Home) -> Watched:
    """Return what the watch knew last; nothing where it never looked, or its file is damaged."""
    try:
        return decode_json(_SCHEMA, Watched, home.disk.read(_state_path(home)))
    except (FileNotFoundError, DocumentError):
        return Watched()


def _save(home: Home, watched: Watched) -> None:
    home.disk.make_folder(home.path / FOLDER)
    write_file(home.disk, _state_path(home), encode_json(_SCHEMA, watched))


def ports_summary(home: Home) -> PortsSummary | None:
    """Return the port watch for a check-in; None before its first look, or where it is off.

    Where HOME/ports.toml is wrong nothing is said of ports, and the host still reports: the watch
    itself has told what is wrong.
    """
    watched = load_watched(home)
    try:
        is_on = agent_ports_settings(home.disk, home.path).watch
    except ConfigurationError:
        return None
    return summary_of(watched) if is_on and watched.has_baseline else None


def relearn(home: Home) -> int:
    """Make what listens now the baseline; return how many listeners that agrees to.

    Raises:
        DiskError: it could not be saved.
    """
    watched = relearned(load_watched(home))
    _save(home, watched)
    return len(watched.known)


@dataclass(slots=True)
class PortWatch:
    """Watches for one agent; one thread at a time.

    Attributes:
        home: the agent's folder.
        settings: of the watch.
        surveyor: looks at the machine.
        clock: time.
        record: keeps an event.
        sensor: of this agent, whose listeners are expected; None where it has none.
    """

    home: Home
    settings: PortsSettings
    surveyor: Surveyor
    clock: Clock
    record: Record
    sensor: OwnSensor | None = None
    _watched: Watched | None = field(default=None, init=False)
    _sockets: frozenset[BoundSocket] | None = field(default=None, init=False)
    _looked: timedelta = field(default=timedelta(), init=False)
    _settings_file: bytes | None = field(default=None, init=False)

    def look(self) -> tuple[Observation, ...]:
        """Look once; return what was told.

        Raises:
            ConfigurationError: this machine does not show its sockets; or HOME/ports.toml was
                changed and is wrong: the next look goes on with what was in force.
            BusyError: another process reports at this moment; the next look tells it.
            DiskError: events or state could not be made durable; the next look tries again.
        """
        self._take_settings()
        if not self.settings.watch:
            return ()
        ports, excluded = frozenset(self.settings.ports), frozenset(self.settings.exclude)
        seen = self.surveyor.sockets(ports)
        sockets = frozenset(one for one in seen if one.port not in excluded)
        is_asked = self.home.disk.kind(_relist_path(self.home)) is Kind.FILE
        if not is_asked and not self._is_due(sockets):
            return ()
        survey = self.surveyor.survey(ports, excluded)
        expected = replace(self.settings.expectations(), sensor=self.sensor)
        told = self._tell(judge(survey, expected), is_asked=is_asked)
        self._sockets, self._looked = sockets, self.clock.monotonic()
        return told

    def _take_settings(self) -> None:
        before, self._settings_file = self._settings_file, self._read_settings()
        if before is not None and before != self._settings_file:
            self.settings = agent_ports_settings(self.home.disk, self.home.path)
            self._sockets = None  # new rules, new verdicts

    def _read_settings(self) -> bytes:
        try:
            return self.home.disk.read(self.home.path / PORTS_FILE)
        except FileNotFoundError:
            return b""

    def _is_due(self, sockets: frozenset[BoundSocket]) -> bool:
        if self._watched is None or sockets != self._sockets:
            return True
        is_closing = any(one.absent_since is not None for one in self._watched.known)
        return is_closing or self.clock.monotonic() - self._looked >= self.settings.refresh

    def _tell(self, judged: tuple[Judged, ...], *, is_asked: bool) -> tuple[Observation, ...]:
        before = load_watched(self.home)  # an operator may have agreed to something meanwhile
        now = self.clock.now()
        limits = replace(LIMITS, settle=self.settings.settle)
        after, told = observe(before, judged, now, limits)
        if is_asked:
            told = (*told, *_anew(after.known, told))
        for observation in told:
            kind, subject, detail = event_of(observation)
            self.record(happening(now, kind, subject=subject, detail=detail))
        if after != before:
            _save(self.home, after)
        if is_asked:
            self.home.disk.remove(_relist_path(self.home))
        self._watched = after
        return told


def _anew(known: tuple[Known, ...], told: tuple[Observation, ...]) -> tuple[Observation, ...]:
    """Return an opening for each listener that is there and was not told just now; a bounded number."""
    mentioned = {one.now.identity for one in told if one.now is not None}
    present = [k for k in known if k.absent_since is None and k.identity not in mentioned]
    listed = tuple(Observation(change=Change.OPENED, now=k) for k in present[: STATUS.events])
    left = len(present) - len(listed)
    return (*listed, Observation(change=Change.MUTED, muted=left)) if left else listed


def list_again(home: Home) -> str:
    """Do the console's directive `list-ports`: answer in a line, and tell all with the next look.

    The events wait for the watch's own thread: whoever does directives holds the spool.

    Raises:
        ConfigurationError: the port watch is off, or its settings are wrong.
        DiskError: the request could not be kept.
    """
    if not agent_ports_settings(home.disk, home.path).watch:
        raise ConfigurationError("the port watch is off on this host (ports.toml: watch = false)")
    home.disk.make_folder(home.path / FOLDER)
    write_file(home.disk, _relist_path(home), b"")
    known = load_watched(home).known
    listed = [f"{k.identity.protocol}/{k.identity.port} {k.name} {k.verdict}" for k in known]
    return short("; ".join(listed) or "nothing listens on the watched ports")


def open_watch(
    home: Home,
    clock: Clock,
    record: Record,
    surveyor: Surveyor | None = None,
    sensor: OwnSensor | None = None,
) -> PortWatch | None:
    """Return the watch of an agent; None where it is off at the start.

    Raises:
        ConfigurationError: HOME/ports.toml is wrong, or this platform needs psutil.
    """
    settings = agent_ports_settings(home.disk, home.path)
    if not settings.watch:
        return None
    here = surveyor or surveyor_here(elsewhere=settings.namespaces)
    return PortWatch(home, settings, here, clock, record, sensor)


def watch_in_thread(
    watch: PortWatch, log: Callable[[str], None], stop: threading.Event
) -> threading.Thread:
    """Look every `interval` until `stop`, in a daemon thread.

    The log gets what is suspicious, and a failure once in a row.
    """

    def run() -> None:
        failure = ""
        while True:
            try:
                for observation in watch.look():
                    _log_suspicious(observation, log)
                failure = ""
            except BusyError:
                pass  # a report is under way; what is new is told by the next look
            except FleetwardError as error:
                if str(error) != failure:
                    log(f"port watch: {error}")
                failure = str(error)
            if stop.wait(watch.settings.interval.total_seconds()):
                return

    thread = threading.Thread(target=run, name="ports", daemon=True)
    thread.start()
    return thread


def _log_suspicious(observation: Observation, log: Callable[[str], None]) -> None:
    one = observation.now
    if one is not None and one.verdict is Verdict.SUSPICIOUS:
        _, subject, detail = event_of(observation)
        log(short(f"port watch: {observation.change} {subject}: {detail}"))
