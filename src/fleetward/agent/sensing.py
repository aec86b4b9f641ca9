"""The agent's sensor: hears what is said to ports where nothing listens, and tells the console.

Off unless `[sensor]` of agent.toml asks: an exception to "a host listens on nothing".

    thread `sensor`    binds and hears; where a port is taken it warns once, and tries again
    thread `sensings`  every 10 s: what was heard since becomes events, within the bounds of
                       core.portsensing; what is remembered is saved with them, or each minute

    HOME/sensor/heard.json    where it hears, what it heard since the agent began, what was told

Invariants: nothing that a stranger sends ends the agent, takes more memory than the sensor's limits,
or fills more than a share of the events' spool. An event that could not be kept is told the next
time. A stop loses what was heard since the last save and not told, and nothing else.

Deliberately not here: the sensor itself (listeners.sensor), which is the command's too.
"""

import errno
import os
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.clock import Clock
from fleetward.agent.home import Home
from fleetward.agent.noticing import Happening, happening, short
from fleetward.config.agent import load_agent_settings
from fleetward.config.ports import agent_ports_settings
from fleetward.config.sensor import SensorSettings
from fleetward.core.portclass import FACTS, TrafficClass
from fleetward.core.portrules import Verdict
from fleetward.core.ports import OwnSensor, RelayRole, fleetward_program
from fleetward.core.portsensing import (
    Heard,
    Rest,
    Sensed,
    Subject,
    Telling,
    counted,
    network_of,
    sense,
    untold,
)
from fleetward.errors import ConfigurationError, DocumentError, FleetwardError
from fleetward.listeners.sensor.hearing import Closing, Manners, Sensor
from fleetward.listeners.sensor.limits import SensorLimits
from fleetward.listeners.sensor.sightings import SensorReport, SensorRow, Sightings
from fleetward.listeners.surveying import Surveyor, surveyor_here
from fleetward.wire.documents import decode_json, encode_json
from fleetward.wire.sensing import sensor_event_of

FOLDER: Final = "sensor"
_SCHEMA: Final = "fleetward.sensor-state/1"

INTERVAL: Final = timedelta(seconds=10)
SAVE_EVERY: Final = timedelta(minutes=1)
"""How often sums alone are saved: a flood must not write on the disk all the time."""

FIRST_RETRY: Final = timedelta(seconds=15)
LAST_RETRY: Final = timedelta(minutes=10)

SPOOL_SHARE: Final = 0.25
"""Of the events' spool that may be in use before a sensor's event waits: strangers cause it."""

SOURCES: Final = 1_024
"""Told apart between two tellings; others are only counted."""

_LACKING: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
_EVERY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 (compared, not bound)


class Record(Protocol):
    """Keeps an event durably; `checkins.Reporter.record`."""

    def __call__(self, found: Happening, share: float) -> int | None:
        """Return its number, or None where the spool's share is used up. Raises FleetwardError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorState:
    """What the sensor remembers, and shows in the agent's status.

    Attributes:
        saved: when this was written.
        began: when the agent did.
        listening: where it hears; empty where it does not.
        problem: why it does not; empty where it does.
        seen: connections and datagrams since the agent began.
        classes: of them.
        crowded_out: connections that made room for others.
        pauses: seconds in which the kernel was left to drop what came.
        sensed: what was told, and what waits.
    """

    saved: datetime | None = None
    began: datetime | None = None
    listening: tuple[str, ...] = ()
    problem: str = ""
    seen: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    crowded_out: int = 0
    pauses: int = 0
    sensed: Sensed = field(default_factory=Sensed)

    def with_report(self, report: SensorReport) -> "SensorState":
        """Return the sums with what was heard since added."""
        names = {*self.classes, *report.classes}
        classes = {n: self.classes.get(n, 0) + report.classes.get(n, 0) for n in sorted(names)}
        return replace(
            self,
            seen=self.seen + report.seen,
            classes=classes,
            crowded_out=self.crowded_out + report.crowded_out,
            pauses=self.pauses + report.pauses,
        )


def load_state(home: Home) -> SensorState:
    """Return what the sensor remembered last; nothing where it never heard, or its file is damaged."""
    try:
        return decode_json(_SCHEMA, SensorState, home.disk.read(home.path / FOLDER / "heard.json"))
    except (FileNotFoundError, DocumentError):
        return SensorState()


def sensor_status(home: Home, settings: SensorSettings) -> dict[str, Any] | None:
    """Return the sensor as `agent status` shows it; None where it is off."""
    if not settings.on:
        return None
    state = load_state(home)
    return {
        "as_of": state.saved,
        "began": state.began,
        "listening": list(state.listening),
        "problem": state.problem or None,
        "seen": state.seen,
        "classes": state.classes,
        "crowded_out": state.crowded_out,
        "pauses": state.pauses,
    }


class AgentSensor:
    """Hears and tells, for one agent, in two threads of its own.

    Args:
        home: the agent's folder.
        settings: see there.
        clock: time.
        record: keeps an event.
        log: takes a line for what people should know.
        surveyor: makes what looks who has a port that is taken.
    """

    def __init__(
        self,
        home: Home,
        settings: SensorSettings,
        clock: Clock,
        *,
        record: Record,
        log: Callable[[str], None],
        surveyor: Callable[[], Surveyor] = lambda: surveyor_here(elsewhere=False),
    ) -> None:
        self._home = home
        self._settings = settings
        self._clock = clock
        self._record = record
        self._log = log
        self._surveyor = surveyor
        self._limits = SensorLimits(
            connections=settings.connections, per_second=settings.per_second, sources=SOURCES
        )
        self._sightings = Sightings(_tell_nobody, clock, self._limits)
        self._state = replace(SensorState(sensed=load_state(home).sensed), began=clock.now())
        self._saved, self._saved_at = self._state, timedelta.min
        self._listening: tuple[str, ...] = ()
        self._problem = ""
        self._ended = threading.Event()
        self._sensor: Sensor | None = None
        self._threads = (
            threading.Thread(target=self._hear, name="sensor", daemon=True),
            threading.Thread(target=self._tell_on, name="sensings", daemon=True),
        )

    def own(self) -> OwnSensor:
        """Return what the port watch of this agent must know of it."""
        return OwnSensor(pid=os.getpid(), places=self._settings.places)

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def close(self, patience: timedelta = timedelta(seconds=2)) -> None:
        """End the threads; one that waits for the disk or a report is left to end by itself."""
        self._ended.set()
        if self._sensor is not None:
            self._sensor.stop()
        for thread in self._threads:
            thread.join(patience.total_seconds())

    # -- hearing -------------------------------------------------------------------------------

    def _hear(self) -> None:
        retry = FIRST_RETRY
        while not self._ended.is_set():
            try:
                self._hear_once()
            except (ConfigurationError, OSError) as error:
                retry = FIRST_RETRY if self._listening else retry
                self._note_problem(str(error), retry)
            self._listening = ()
            if self._ended.wait(retry.total_seconds()):
                return
            retry = min(2 * retry, LAST_RETRY)

    def _hear_once(self) -> None:
        manners = Manners(Closing(self._settings.close))
        with closing(Sensor(self._sightings, self._clock, manners, self._limits)) as sensor:
            self._sensor = sensor
            self._listening = self._bound(sensor)
            self._problem = ""
            self._log(f"sensor: hears on {', '.join(self._listening)}")
            if not self._ended.is_set():  # `close` may have come before there was a sensor
                sensor.run()

    def _bound(self, sensor: Sensor) -> tuple[str, ...]:
        bound: list[str] = []
        for address in sorted(self._settings.addresses, key=_is_ipv6):  # `::` would take both
            for port in self._settings.ports:
                try:
                    sensor.listen(address, port, self._settings.transports)
                except ConfigurationError as error:
                    if _is_lacking(error, address):
                        continue
                    raise self._explained(error, port) from error
                where = f"[{address}]" if _is_ipv6(address) else address
                bound.append(f"{'+'.join(self._settings.transports)} {where}:{port}")
        if not bound:
            raise ConfigurationError("this machine has none of sensor.addresses")
        return tuple(bound)

    def _explained(self, error: ConfigurationError, port: int) -> ConfigurationError:
        """Return a better error where Fleetward's relay has the port."""
        try:
            listeners = self._surveyor().survey(frozenset({port})).listeners
        except ConfigurationError:
            return error
        scripts = [(o.script, one.socket.protocol) for one in listeners for o in one.owners]
        if any(fleetward_program(*script) == "relay" for script in scripts):
            return ConfigurationError(
                f"Fleetward's relay listens on port {port} of this host: a relay is spoken to for "
                "good reasons; set sensor.on = false here, or name other sensor.ports"
            )
        return error

    def _note_problem(self, problem: str, retry: timedelta) -> None:
        if problem != self._problem:
            self._log(short(f"sensor: {problem}; tries again in {retry.total_seconds():.0f} s"))
        self._problem = problem

    # -- telling -------------------------------------------------------------------------------

    def _tell_on(self) -> None:
        failure = ""
        while not self._ended.wait(INTERVAL.total_seconds()):
            try:
                self.tell()
                failure = ""
            except FleetwardError as error:
                if str(error) != failure:
                    self._log(short(f"sensor: {error}"))
                failure = str(error)

    def tell(self) -> None:
        """Make events of what was heard since the last time; one thread at a time.

        Raises:
            FleetwardError: an event or the state could not be kept; the next time tries again.
        """
        now, before = self._clock.now(), self._state
        report = self._sightings.take("", now, now)
        heard = [_heard_of(row) for row in report.rows]
        sensed, tellings = sense(before.sensed, heard, _rest_of(report), now)
        state = before.with_report(report)
        failure: FleetwardError | None = None
        for telling in tellings:
            try:
                sensed = self._told(sensed, telling, now)
            except FleetwardError as error:
                sensed, failure = untold(sensed, telling), error
        shown = {"listening": self._listening, "problem": short(self._problem)}
        self._state = replace(state, sensed=sensed, **shown)  # type: ignore[arg-type]
        if self._is_due():
            self._save(now)
        if failure is not None:
            raise failure

    def _told(self, sensed: Sensed, telling: Telling, now: datetime) -> Sensed:
        kind, subject, detail = sensor_event_of(telling)
        found = happening(now, kind, subject=subject, detail=detail)
        if self._record(found, SPOOL_SHARE) is None:
            return counted(sensed, telling)
        if isinstance(telling, Heard) and telling.subject.is_suspicious:
            self._log(short(f"sensor: {subject}: {detail}"))
        return sensed

    def _is_due(self) -> bool:
        if _shown(self._state) != _shown(self._saved):
            return True
        is_old = self._clock.monotonic() - self._saved_at >= SAVE_EVERY
        return is_old and self._state != self._saved

    def _save(self, now: datetime) -> None:
        self._state = replace(self._state, saved=now)
        self._home.disk.make_folder(self._home.path / FOLDER)
        path = self._home.path / FOLDER / "heard.json"
        write_file(self._home.disk, path, encode_json(_SCHEMA, self._state))
        self._saved, self._saved_at = self._state, self._clock.monotonic()


def _shown(state: SensorState) -> tuple[object, ...]:
    """Return what must be on the disk at once: tellings, since they must not be told again."""
    return state.listening, state.problem, state.sensed.told, state.sensed.rest_told


def _tell_nobody(_sighting: object) -> None:
    """Pass over single sightings: the agent tells sums."""


def _is_ipv6(address: str) -> bool:
    return ":" in address


def _is_lacking(error: ConfigurationError, address: str) -> bool:
    cause = error.__cause__
    return address in _EVERY_ADDRESS and isinstance(cause, OSError) and cause.errno in _LACKING


def _heard_of(row: SensorRow) -> Heard:
    network = network_of(row.source)
    return Heard(
        subject=Subject(transport=row.transport, port=row.port, kind=row.kind, network=network),
        source=row.source,
        count=row.count,
        first=row.first,
        last=row.last,
        detail=row.detail,
    )


def _rest_of(report: SensorReport) -> Rest:
    bad = (n for k, n in report.more.items() if _is_suspicious(TrafficClass(k)))
    return Rest(count=sum(report.more.values()), suspicious=sum(bad))


def _is_suspicious(kind: TrafficClass) -> bool:
    return FACTS[kind].verdict is Verdict.SUSPICIOUS


def open_sensor(
    home: Home, clock: Clock, record: Record, log: Callable[[str], None]
) -> AgentSensor | None:
    """Return the sensor of an agent; None where its settings do not ask for one.

    Raises:
        ConfigurationError: settings are wrong, or this host is meant to be a relay.
    """
    settings = load_agent_settings(home.disk, home.path).sensor
    if not settings.on:
        return None
    if agent_ports_settings(home.disk, home.path).relay is RelayRole.RELAY:
        raise ConfigurationError(
            "ports.toml says that this host is a relay, and a relay is spoken to for good reasons: "
            "set sensor.on = false"
        )
    return AgentSensor(home, settings, clock, record=record, log=log)
