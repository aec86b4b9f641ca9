"""The agent's sensor: what it hears reaches the spool, within bounds, and nothing ends the agent."""

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.test_portwatch import Machine
from fleetward.adapters.clock import SystemClock
from fleetward.adapters.disk import Kind, SystemDisk
from fleetward.agent import sensing
from fleetward.agent.events import EventSpool, SpoolLimits
from fleetward.agent.home import Home
from fleetward.agent.noticing import Happening
from fleetward.agent.portwatch import PortWatch
from fleetward.agent.sensing import AgentSensor, load_state, open_sensor, sensor_status
from fleetward.config.agent import AgentSettings, save_agent_settings
from fleetward.config.ports import PortsSettings
from fleetward.config.sensor import SensorSettings
from fleetward.core.listeners import Transport
from fleetward.core.portrules import Verdict
from fleetward.core.portsensing import TELLING
from fleetward.core.status import EventKind
from fleetward.errors import BusyError, ConfigurationError, DiskError
from fleetward.listeners.surveying import surveyor_here
from fleetward.wire.ports import parse_listener_event
from httpd.waiting import wait_until
from portwatch.payloads import PROBE, STREAMS
from support.fakes import FakeClock, SeededEntropy
from support.portsamples import listener, relay
from support.simdisk import SimDisk

HOME = Path("/agent")
HERE = "127.0.0.1"
ANY = "0.0.0.0"  # noqa: S104 (compared and bound by tests alone)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _the_test_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that tells waits; the test calls `tell` at its own instants."""
    monkeypatch.setattr(sensing, "INTERVAL", HOUR)
    monkeypatch.setattr(sensing, "FIRST_RETRY", timedelta(milliseconds=10))
    monkeypatch.setattr(sensing, "LAST_RETRY", timedelta(milliseconds=10))


def free_port() -> int:
    """Return a port below those of clients that nobody has, on any address, by TCP or UDP."""
    for port in range(20_000 + os.getpid() % 5_000, 32_000):
        try:
            with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
                tcp.bind((ANY, port))
                udp.bind((ANY, port))
                return port
        except OSError:
            continue
    raise AssertionError("no port is free")


@dataclass
class Scene:
    """An agent's folder, its sensor, its spool and time."""

    clock: FakeClock = field(default_factory=FakeClock)
    disk: SimDisk = field(default_factory=SimDisk)
    machine: Machine = field(default_factory=Machine)
    settings: SensorSettings = field(
        default_factory=lambda: SensorSettings(on=True, addresses=(HERE,), ports=(free_port(),))
    )
    told: list[Happening] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    refusals: list[Exception] = field(default_factory=list)
    spool: EventSpool | None = None

    @property
    def home(self) -> Home:
        return Home(self.disk, HOME)

    @property
    def address(self) -> tuple[str, int]:
        return HERE, self.settings.ports[0]

    def record(self, found: Happening, share: float) -> int | None:
        self.shares.append(share)
        if self.refusals:
            raise self.refusals.pop()
        if self.spool is not None and self.spool.record(found.line(), share) is None:
            return None
        self.told.append(found)
        return len(self.told)

    def sensor(self) -> AgentSensor:
        return AgentSensor(
            self.home,
            self.settings,
            self.clock,
            record=self.record,
            log=self.log.append,
            surveyor=self.machine.surveyor,
        )

    @contextmanager
    def hearing(self) -> Iterator[AgentSensor]:
        sensor = self.sensor()
        sensor.start()
        try:
            wait_until(lambda: any("hears on" in line for line in self.log))
            yield sensor
        finally:
            sensor.close()

    def knock(self, content: bytes = STREAMS["nmap-probe"], source: str = HERE) -> None:
        with socket.create_connection(
            self.address, timeout=20, source_address=(source, 0)
        ) as client:
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""

    def seen(self, sensor: AgentSensor, count: int) -> None:
        """Tell until `count` sightings were taken."""

        def are_taken() -> bool:
            sensor.tell()
            return sensor._state.seen >= count

        wait_until(are_taken)


class TestTelling:
    def test_what_is_heard_is_an_event_at_once(self) -> None:
        scene = Scene()
        with scene.hearing() as sensor:
            scene.knock()
            scene.seen(sensor, 1)
        (event,) = scene.told
        assert event.kind is EventKind.SENSOR_HEARD
        assert event.subject == f"tcp/{scene.address[1]} nmap-probe from 127.0.0.0/24"
        assert event.detail.startswith("suspicious count=1 source=127.0.0.1 since=2026-11-24T02:")
        assert scene.shares == [sensing.SPOOL_SHARE]
        assert any("nmap-probe from 127.0.0.0/24" in line for line in scene.log)

    def test_by_udp_and_by_both_families(self) -> None:
        port = free_port()
        scene = Scene(settings=SensorSettings(on=True, addresses=("::", ANY), ports=(port,)))
        with scene.hearing() as sensor:
            for family, host in ((socket.AF_INET, HERE), (socket.AF_INET6, "::1")):
                with socket.socket(family, socket.SOCK_DGRAM) as client:
                    client.sendto(PROBE, (host, port))
            scene.seen(sensor, 2)
        subjects = {one.subject.partition(" from ")[2] for one in scene.told}
        assert subjects == {"127.0.0.0/24", "::/48"}
        assert scene.log[0] == f"sensor: hears on tcp+udp 0.0.0.0:{port}, tcp+udp [::]:{port}"

    def test_the_same_network_is_told_once_an_hour(self) -> None:
        scene = Scene()
        with scene.hearing() as sensor:
            scene.knock()
            scene.seen(sensor, 1)
            for n in range(5):
                scene.knock(source=f"127.0.0.{n + 1}")
            scene.seen(sensor, 6)
            assert len(scene.told) == 1
            scene.clock.advance(HOUR)
            sensor.tell()
            assert len(scene.told) == 2
            assert "count=5 source=127.0.0.1" in scene.told[1].detail

    def test_a_restart_tells_nothing_twice_and_forgets_nothing_that_was_saved(self) -> None:
        scene = Scene()
        with scene.hearing() as sensor:
            scene.knock()
            scene.seen(sensor, 1)
            scene.knock()
            scene.seen(sensor, 2)
            scene.clock.advance(sensing.SAVE_EVERY)
            sensor.tell()
        scene.log.clear()
        with scene.hearing() as sensor:
            scene.knock()
            scene.seen(sensor, 1)
            assert len(scene.told) == 1
            scene.clock.advance(HOUR)
            sensor.tell()
        assert "count=2 " in scene.told[1].detail

    def test_an_event_that_could_not_be_kept_is_told_the_next_time(self) -> None:
        """A report is under way for minutes, then the disk is full; then both are over."""
        scene = Scene()
        with scene.hearing() as sensor:
            scene.knock()
            scene.refusals = [DiskError("full"), BusyError("a report is under way")]
            with pytest.raises(BusyError):
                scene.seen(sensor, 1)
            with pytest.raises(DiskError):
                sensor.tell()
            sensor.tell()
        (event,) = scene.told
        assert "count=1 " in event.detail

    def test_sums_alone_are_saved_once_a_minute(self) -> None:
        """A flood of one kind must not write on the disk all the time."""
        scene = Scene()
        with scene.hearing() as sensor:
            scene.knock()
            scene.seen(sensor, 1)
            saved = load_state(scene.home).saved
            scene.clock.advance(timedelta(seconds=30))
            scene.knock()
            scene.seen(sensor, 2)
            assert load_state(scene.home).saved == saved
            scene.clock.advance(timedelta(seconds=31))
            sensor.tell()
            assert load_state(scene.home).seen == 2
            scene.clock.advance(HOUR)
            before = load_state(scene.home).saved
            scene.clock.advance(HOUR)
            sensor.tell()  # the second one is told now
            scene.clock.advance(HOUR)
            sensor.tell()
            quiet = load_state(scene.home).saved
            scene.clock.advance(timedelta(minutes=5))
            sensor.tell()
            assert before != quiet == load_state(scene.home).saved

    def test_a_state_that_cannot_be_saved_is_saved_the_next_time(self) -> None:
        scene = Scene()
        with scene.hearing() as sensor:
            scene.knock()
            wait_until(lambda: sensor._sightings._classes.total() == 1)
            scene.disk.capacity = 0
            with pytest.raises(DiskError):
                sensor.tell()
            scene.disk.capacity = None
            sensor.tell()
        assert load_state(scene.home).seen == 1
        assert len(scene.told) == 1

    def test_a_damaged_state_is_begun_anew(self) -> None:
        scene = Scene()
        scene.disk.make_folder(HOME / "sensor")
        with scene.disk.append(HOME / "sensor" / "heard.json") as file:
            file.write(b'{"schema":"fleetward.sensor-state/1","seen":"many"}')
        with scene.hearing() as sensor:
            scene.knock()
            scene.seen(sensor, 1)
        assert load_state(scene.home).seen == 1

    def test_the_threads_tell_by_themselves_and_log_a_failure_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sensing, "INTERVAL", timedelta(milliseconds=5))
        scene = Scene(refusals=[BusyError("busy") for _ in range(5)])
        with scene.hearing():
            scene.knock()
            wait_until(lambda: len(scene.told) == 1)
        assert [line for line in scene.log if "busy" in line] == ["sensor: busy"]


class TestFloods:
    def test_a_flood_from_many_networks_cannot_fill_the_spool(self) -> None:
        """The attacker forges ten thousand networks; for days, nothing of the host's is dropped."""
        scene = Scene()
        scene.spool = EventSpool(
            scene.disk, HOME / "reports", SeededEntropy(), limits=SpoolLimits(events=100)
        )
        with scene.hearing() as sensor:
            for _ in range(6):
                for n in range(60):
                    with socket.socket(type=socket.SOCK_DGRAM) as client:
                        client.bind((f"127.0.{n}.1", 0))
                        client.sendto(PROBE, scene.address)
                scene.seen(sensor, sensor._state.seen + 60)
                scene.clock.advance(HOUR)
        per_hour = TELLING.burst + 1
        assert len(scene.told) == 24 < 6 * per_hour
        assert scene.spool.last_e == 24
        assert scene.spool.record(b'{"of the":"host"}') == 25

    def test_a_connection_is_told_while_datagrams_flood(self) -> None:
        scene = Scene()
        with scene.hearing() as sensor:
            for n in range(60):
                with socket.socket(type=socket.SOCK_DGRAM) as client:
                    client.bind((f"127.1.{n}.1", 0))
                    client.sendto(PROBE, scene.address)
            scene.seen(sensor, 60)
            scene.knock(STREAMS["rtvscan-overflow"], source="127.9.9.9")
            scene.seen(sensor, 61)
        assert scene.told[-1].subject.startswith(f"tcp/{scene.address[1]} rtvscan-overflow")

    def test_more_sources_than_are_told_apart_are_counted(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sensing, "SOURCES", 2)
        scene = Scene()
        with scene.hearing() as sensor:
            for n in range(6):
                scene.knock(source=f"127.2.{n}.1")
            wait_until(lambda: sensor._sightings._classes.total() == 6)
            sensor.tell()
        assert len(scene.told) == 3
        assert scene.told[-1].detail == "4 more were not told one by one, 4 of them suspicious"


class TestPorts:
    def test_a_taken_port_is_a_warning_once_and_heard_when_it_is_free(self) -> None:
        scene = Scene()
        with socket.create_server(scene.address):
            sensor = scene.sensor()
            sensor.start()
            wait_until(lambda: len(scene.log) > 0)
            wait_until(lambda: scene.machine.walks > 5)
            sensor.tell()
            assert "something listens there already" in load_state(scene.home).problem
            assert scene.log == [scene.log[0]]
        try:
            wait_until(lambda: len(scene.log) == 2)
            scene.knock()
            scene.seen(sensor, 1)
        finally:
            sensor.close()
        assert scene.log[0].startswith(f"sensor: cannot listen on {HERE}:{scene.address[1]}")
        assert scene.log[1].startswith("sensor: hears on")
        assert load_state(scene.home).problem == ""

    def test_a_relay_on_the_port_is_an_error_that_says_what_to_do(self) -> None:
        scene = Scene()
        port = scene.address[1]
        scene.machine.listeners = [listener(relay(), port=port)]
        with socket.create_server(scene.address):
            sensor = scene.sensor()
            sensor.start()
            wait_until(lambda: len(scene.log) > 0)
            sensor.close()
        assert scene.log[0].startswith(f"sensor: Fleetward's relay listens on port {port}")
        assert "sensor.on = false" in scene.log[0]

    def test_who_has_the_port_may_be_hidden(self) -> None:
        scene = Scene(machine=Machine(denied=True))
        with socket.create_server(scene.address):
            sensor = scene.sensor()
            sensor.start()
            wait_until(lambda: len(scene.log) > 0)
            sensor.close()
        assert "cannot listen" in scene.log[0]

    def test_a_family_that_the_machine_lacks_is_left_out(self) -> None:
        lacking = ConfigurationError("no")
        lacking.__cause__ = OSError(errno.EAFNOSUPPORT, "no IPv6 here")
        assert sensing._is_lacking(lacking, "::")
        assert not sensing._is_lacking(lacking, "10.0.0.1")
        lacking.__cause__ = OSError(errno.EADDRINUSE, "taken")
        assert not sensing._is_lacking(lacking, "::")

    def test_it_ends_before_it_has_begun(self) -> None:
        scene = Scene()
        sensor = scene.sensor()
        sensor._ended.set()
        sensor.start()
        sensor.close()
        assert scene.log == []


class TestSettings:
    def having(self, scene: Scene, sensor: SensorSettings) -> None:
        scene.disk.make_folder(HOME)
        settings = AgentSettings(sources=("http://127.0.0.1:2967",), sensor=sensor)
        save_agent_settings(scene.disk, HOME, settings)

    def test_without_a_word_there_is_none(self) -> None:
        scene = Scene()
        self.having(scene, SensorSettings())
        assert open_sensor(scene.home, scene.clock, scene.record, scene.log.append) is None
        assert scene.disk.kind(HOME / "sensor") is Kind.ABSENT
        assert sensor_status(scene.home, SensorSettings()) is None

    def test_a_host_that_is_to_be_a_relay_has_none(self) -> None:
        scene = Scene()
        self.having(scene, scene.settings)
        assert open_sensor(scene.home, scene.clock, scene.record, scene.log.append) is not None
        with scene.disk.append(HOME / "ports.toml") as file:
            file.write(b'relay = "relay"\n')
        with pytest.raises(ConfigurationError, match=r"sensor\.on = false"):
            open_sensor(scene.home, scene.clock, scene.record, scene.log.append)

    def test_the_status_says_where_and_what(self) -> None:
        scene = Scene()
        assert sensor_status(scene.home, scene.settings) == {
            "as_of": None, "began": None, "listening": [], "problem": None, "seen": 0,
            "classes": {}, "crowded_out": 0, "pauses": 0,
        }  # fmt: skip
        with scene.hearing() as sensor:
            scene.knock()
            scene.knock(STREAMS["http"])
            scene.seen(sensor, 2)
            scene.clock.advance(sensing.SAVE_EVERY)
            sensor.tell()
        shown = sensor_status(scene.home, scene.settings)
        assert shown is not None
        assert shown["listening"] == [f"tcp+udp {HERE}:{scene.address[1]}"]
        assert (shown["seen"], shown["classes"]) == (2, {"http": 1, "nmap-probe": 1})
        assert json.dumps(shown, default=str)


def sensor_at(scene: Scene, home: Home) -> AgentSensor:
    """Return a sensor of another folder."""
    return AgentSensor(home, scene.settings, scene.clock, record=scene.record, log=scene.log.append)


def test_the_port_watch_expects_its_own_sensor_and_nobody_else(tmp_path: Path) -> None:
    """This process is the agent: the sensor listens, the watch of the same process looks."""
    scene = Scene()
    home, told = Home(SystemDisk(), tmp_path), list[Happening]()
    settings = PortsSettings(ports=scene.settings.ports)
    sensor = sensor_at(scene, home)
    watch = PortWatch(
        home, settings, surveyor_here(elsewhere=False), SystemClock(), told.append, sensor.own()
    )
    assert watch.look() == ()
    sensor.start()
    try:
        wait_until(lambda: any("hears on" in line for line in scene.log))
        seen = watch.look()
        notes = [parse_listener_event(one.subject, one.detail) for one in told]
        assert {note.protocol for note in notes} == set(Transport)
        assert {note.verdict for note in notes} == {Verdict.EXPECTED}
        assert all("own-sensor" in note.reasons for note in notes)
        assert all(one.now and one.now.verdict is Verdict.EXPECTED for one in seen)
        assert sensor.own().pid == os.getpid()
    finally:
        sensor.close()
    other = replace(sensor.own(), pid=os.getpid() + 1)
    with socket.create_server(scene.address):
        strange = PortWatch(
            Home(SystemDisk(), tmp_path / "other"), settings, surveyor_here(elsewhere=False),
            SystemClock(), told.append, other,
        )  # fmt: skip
        (tmp_path / "other").mkdir()
        strange.look()
        known = strange._watched.known if strange._watched else ()
        assert [one.verdict for one in known] == [Verdict.UNKNOWN]
