"""The agent's port watch: cheap looks, events by identity, and nothing lost on the way."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.adapters.clock import SystemClock
from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.http import HttpSession
from fleetward.agent import portwatch
from fleetward.agent.checkins import Reporter
from fleetward.agent.events import EventSpool
from fleetward.agent.home import Home
from fleetward.agent.inbox import Tree
from fleetward.agent.noticing import Happening, parse_line
from fleetward.agent.portwatch import (
    PortWatch,
    list_again,
    load_watched,
    open_watch,
    ports_summary,
    relearn,
    watch_in_thread,
)
from fleetward.config.ports import PortsSettings
from fleetward.core.limits import STATUS
from fleetward.core.listeners import BoundSocket, FileState, Listener, Owner, Platform
from fleetward.core.portchanges import Change
from fleetward.core.portrules import Verdict
from fleetward.core.status import EventKind
from fleetward.errors import BusyError, ConfigurationError, DiskError
from fleetward.listeners.source import Owners, Ports, SourceDeniedError
from fleetward.listeners.surveying import Surveyor, surveyor_here
from fleetward.wire.ports import parse_listener_event
from support.fakes import FakeClock, SeededEntropy
from support.listening import listening
from support.portsamples import HONEST, altered, listener, owner
from support.simdisk import SimDisk
from support.status import FACTS

HOME = Path("/agent")
TEN = timedelta(seconds=10)


@dataclass
class Machine:
    """Sockets and owners as a test sets them; counts the walks."""

    listeners: list[Listener] = field(default_factory=list)
    walks: int = 0
    denied: bool = False
    method: str = "recorded"

    def sockets(self, ports: Ports) -> tuple[BoundSocket, ...]:
        if self.denied:
            raise SourceDeniedError("denied")
        found = (one.socket for one in self.listeners)
        return tuple(one for one in found if not ports or one.port in ports)

    def owners(self, sockets: Sequence[BoundSocket]) -> Owners:
        self.walks += 1
        return Owners({one.socket: one.owners for one in self.listeners})

    def surveyor(self) -> Surveyor:
        return Surveyor(Platform.LINUX, (self,), self, elsewhere=False)


@dataclass
class Scene:
    """A host, its listeners, its spool and time."""

    machine: Machine = field(default_factory=Machine)
    clock: FakeClock = field(default_factory=FakeClock)
    disk: SimDisk = field(default_factory=SimDisk)
    told: list[Happening] = field(default_factory=list)
    settings: PortsSettings = field(default_factory=PortsSettings)
    refusals: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.disk.make_folder(HOME)
        self.watch = self.restarted()

    @property
    def home(self) -> Home:
        return Home(self.disk, HOME)

    def restarted(self) -> PortWatch:
        """The agent as a new process has it."""
        self.watch = PortWatch(
            self.home, self.settings, self.machine.surveyor(), self.clock, self.record
        )
        return self.watch

    def record(self, found: Happening) -> int:
        if self.refusals:
            raise self.refusals.pop()
        self.told.append(found)
        return len(self.told)

    def look(self, *programs: Owner, after: timedelta = TEN, port: int = 2967) -> list[EventKind]:
        self.clock.advance(after)
        self.machine.listeners = [listener(one, port=port, inode=100 + one.pid) for one in programs]
        before = len(self.told)
        self.watch.look()
        return [one.kind for one in self.told[before:]]


OPENED, CLOSED = EventKind.LISTENER_OPENED, EventKind.LISTENER_CLOSED
CHANGED = EventKind.LISTENER_CHANGED


def test_a_new_listener_is_an_event_that_the_console_can_read() -> None:
    scene = Scene()
    assert scene.look() == []
    assert scene.look(owner(name="rtvscan.exe")) == [OPENED]
    event = scene.told[0]
    note = parse_listener_event(event.subject, event.detail)
    assert (note.port, note.name, note.verdict) == (2967, "rtvscan.exe", Verdict.SUSPICIOUS)
    assert note.reasons[0] == "imitation"


def test_a_look_without_change_walks_nothing() -> None:
    scene = Scene()
    scene.look(owner())
    for _ in range(20):
        assert scene.look(owner()) == []
    assert scene.machine.walks == 1
    scene.look(owner(pid=78))
    assert scene.machine.walks == 2


def test_everything_is_looked_at_again_after_a_while() -> None:
    """The executable is deleted while the socket stays as it is."""
    scene = Scene()
    scene.look(owner())
    gone = owner(altered(HONEST, state=FileState.DELETED))
    assert scene.look(gone) == []
    assert scene.look(gone, after=scene.settings.refresh) == [CHANGED]


def test_a_restart_of_a_service_is_told_by_nobody() -> None:
    scene = Scene()
    scene.look(owner())
    assert scene.look() == []
    assert scene.look(owner(pid=4711)) == []


def test_a_closed_listener_is_told_after_it_has_settled() -> None:
    scene = Scene()
    scene.look(owner())
    assert scene.look() == []
    assert scene.look(after=scene.settings.settle) == [CLOSED]
    walks = scene.machine.walks
    assert scene.look() == []
    assert scene.machine.walks == walks


def test_the_baseline_survives_a_restart_of_the_agent() -> None:
    scene = Scene()
    scene.look(owner())
    scene.restarted()
    assert scene.look(owner()) == []
    summary = ports_summary(scene.home)
    assert summary is not None
    assert (summary.listeners, summary.unexpected) == (1, 0)


def test_what_closed_while_the_agent_was_away_is_told() -> None:
    scene = Scene()
    scene.look(owner())
    scene.restarted()
    scene.look()
    assert scene.look(after=scene.settings.settle) == [CLOSED]


def test_a_damaged_file_begins_a_new_baseline() -> None:
    scene = Scene()
    scene.look(owner())
    with scene.disk.create(HOME / "ports" / "watch.json") as file:
        file.write(b"{")
    scene.restarted()
    assert scene.look(owner()) == [OPENED]
    assert load_watched(scene.home).has_baseline


def test_ports_that_are_excluded_are_not_even_a_reason_to_look() -> None:
    settings = PortsSettings(ports=(), exclude=(68,))
    scene = Scene(settings=settings)
    scene.look()
    walks = scene.machine.walks
    assert scene.look(owner(), port=68) == []
    assert scene.machine.walks == walks
    assert scene.look(owner(), port=69) == [OPENED]


# -- what fails --------------------------------------------------------------------------------


def test_a_report_under_way_delays_an_event_and_loses_none() -> None:
    scene = Scene()
    scene.look()
    scene.refusals = [BusyError("another process reports")]
    with pytest.raises(BusyError):
        scene.look(owner())
    assert load_watched(scene.home).known == ()
    assert scene.look(owner()) == [OPENED]


def test_a_stop_between_event_and_state_tells_twice_and_not_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    scene.look()

    def full(*_: object) -> None:
        raise DiskError("full")

    with monkeypatch.context() as during:
        during.setattr(portwatch, "_save", full)
        with pytest.raises(DiskError):
            scene.look(owner())
    scene.restarted()
    assert scene.look(owner()) == [OPENED]
    assert [one.kind for one in scene.told] == [OPENED, OPENED]


def test_events_reach_the_spool_of_the_reporter() -> None:
    scene = Scene()
    clock, entropy = scene.clock, SeededEntropy()
    reporter = Reporter(scene.home, (), FACTS, HttpSession(clock), clock, entropy, NoActs())
    watch = PortWatch(scene.home, PortsSettings(), scene.machine.surveyor(), clock, reporter.record)
    scene.machine.listeners = [listener(owner())]
    watch.look()
    spool = EventSpool(scene.disk, HOME / "reports", entropy)
    (event,) = spool.pending(10_000, 10)
    assert parse_line(event.content).subject == "tcp/2967 honestd"


class NoActs:
    """Does nothing that a console asks for."""

    def update_now(self, product: object) -> str:
        return ""

    def verify_tree(self, product: object) -> tuple[Tree, ...]:
        return ()

    def list_ports(self) -> str:
        return ""

    def roll_back(self, product: object) -> str:
        return ""


# -- what people and the console ask for -------------------------------------------------------


def test_an_operator_agrees_to_what_listens_now() -> None:
    scene = Scene()
    scene.look()
    scene.look(owner())
    unexpected = ports_summary(scene.home)
    assert unexpected is not None
    assert unexpected.unexpected == 1
    assert relearn(scene.home) == 1
    agreed = ports_summary(scene.home)
    assert agreed is not None
    assert agreed.unexpected == 0


def test_the_agreement_reaches_a_watch_that_is_running() -> None:
    scene = Scene()
    scene.look()
    scene.look(owner())
    relearn(scene.home)
    scene.look(owner(pid=78))
    agreed = ports_summary(scene.home)
    assert agreed is not None
    assert agreed.unexpected == 0


def test_the_console_asks_in_vain_where_the_watch_is_off() -> None:
    scene = Scene()
    with scene.disk.create(HOME / "ports.toml") as file:
        file.write(b"watch = false")
    with pytest.raises(ConfigurationError, match="is off"):
        list_again(scene.home)


def test_the_console_asks_for_every_listener_anew() -> None:
    scene = Scene()
    assert list_again(scene.home) == "nothing listens on the watched ports"
    scene.look(owner())
    assert scene.look(owner()) == []
    assert list_again(scene.home) == "tcp/2967 honestd unknown"
    assert scene.look(owner()) == [OPENED]
    assert scene.look(owner()) == []


def test_what_is_new_and_asked_for_is_told_once_and_what_is_closing_not() -> None:
    scene = Scene()
    scene.look(owner(), owner(altered(HONEST, sha256="99" * 32), pid=9))
    list_again(scene.home)
    assert sorted(scene.look(owner(), owner(altered(HONEST, sha256="77" * 32), pid=8))) == [
        CHANGED,
        OPENED,
    ]


def test_a_list_that_is_asked_for_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portwatch, "STATUS", replace(STATUS, events=2))
    settings = PortsSettings(ports=())
    scene = Scene(settings=settings)
    scene.machine.listeners = [listener(owner(), port=port) for port in range(1, 6)]
    scene.watch.look()
    list_again(scene.home)
    told = scene.watch.look()
    assert [one.change for one in told] == [Change.OPENED, Change.OPENED, Change.MUTED]
    assert told[-1].muted == 3


# -- settings that change while the agent runs -------------------------------------------------


def write_settings(scene: Scene, text: str) -> None:
    with scene.disk.create(HOME / "ports.toml") as file:
        file.write(text.encode())


def test_a_new_rule_changes_the_verdict_with_the_next_look() -> None:
    scene = Scene()
    scene.look(owner())
    write_settings(scene, '[[rules]]\nname = "mine"\nport = 2967\n')
    assert scene.look(owner()) == [CHANGED]
    note = parse_listener_event(scene.told[-1].subject, scene.told[-1].detail)
    assert (note.verdict, note.was) == (Verdict.EXPECTED, "unknown")
    assert scene.look(owner()) == []


def test_settings_that_are_wrong_leave_the_old_ones_in_force() -> None:
    """A slip of the pen must not blind the watch."""
    scene = Scene()
    scene.look()
    write_settings(scene, "port = 1")
    with pytest.raises(ConfigurationError, match="did you mean 'ports'"):
        scene.look(owner())
    assert scene.look(owner()) == [OPENED]


def test_a_watch_may_be_turned_off_and_on_while_it_runs() -> None:
    scene = Scene()
    scene.look()
    write_settings(scene, "watch = false")
    assert scene.look(owner()) == []
    write_settings(scene, "")
    assert scene.look(owner()) == [OPENED]


# -- in the agent ------------------------------------------------------------------------------


def test_a_slip_in_the_settings_makes_no_host_silent() -> None:
    """It goes on reporting what it runs, and says nothing of ports until they are put right."""
    scene = Scene()
    scene.look()
    assert ports_summary(scene.home) is not None
    write_settings(scene, "wach = true")
    assert ports_summary(scene.home) is None
    write_settings(scene, "watch = true")
    assert ports_summary(scene.home) is not None


def test_a_host_may_turn_the_watch_off(tmp_path: Path) -> None:
    home = Home(SystemDisk(), tmp_path)
    assert open_watch(home, SystemClock(), lambda _: None) is not None
    assert ports_summary(home) is None
    (tmp_path / "ports.toml").write_text("watch = false")
    assert open_watch(home, SystemClock(), lambda _: None) is None
    assert ports_summary(home) is None
    (tmp_path / "ports.toml").write_text("wach = false")
    with pytest.raises(ConfigurationError, match="did you mean 'watch'"):
        open_watch(home, SystemClock(), lambda _: None)


class Rounds(threading.Event):
    """Stops a thread after some rounds, without waiting."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds

    def wait(self, timeout: float | None = None) -> bool:
        self.rounds -= 1
        return self.rounds <= 0


def test_the_thread_goes_on_after_failures_and_logs_each_once_in_a_row() -> None:
    scene = Scene()
    scene.machine.denied = True
    lines: list[str] = []
    watch_in_thread(scene.watch, lines.append, Rounds(3)).join(10)
    assert len(lines) == 1
    assert lines[0].startswith("port watch: this machine does not show its sockets")
    scene.machine.denied = False
    scene.machine.listeners = [listener(owner())]
    scene.refusals = [BusyError("busy")]
    watch_in_thread(scene.watch, lines.append, Rounds(2)).join(10)
    assert len(lines) == 1
    assert [one.kind for one in scene.told] == [OPENED]


def test_the_log_names_what_is_suspicious_and_cannot_be_written_by_it() -> None:
    scene = Scene()
    scene.machine.listeners = [
        listener(owner(), address="127.0.0.1"),
        listener(owner(name="smc.exe\x1b\n"), inode=9, address="::"),
    ]
    lines: list[str] = []
    watch_in_thread(scene.watch, lines.append, Rounds(2)).join(10)
    (line,) = lines
    assert line.startswith("port watch: opened tcp/2967 smc.exe")
    assert line.isprintable()


def test_a_real_listener_on_this_machine_opens_and_closes(tmp_path: Path) -> None:
    """With the kernel's own list, from the opening to the event, and to the closing."""
    told: list[Happening] = []
    with listening("tcp", "127.0.0.1") as program:
        settings = PortsSettings(ports=(program.port,), settle=timedelta(), namespaces=False)
        watch = PortWatch(
            Home(SystemDisk(), tmp_path),
            settings,
            surveyor_here(elsewhere=False),
            SystemClock(),
            told.append,
        )
        watch.look()
        assert watch.look() == ()
    watch.look()
    watch.look()
    assert [one.kind for one in told] == [OPENED, CLOSED]
    note = parse_listener_event(told[0].subject, told[0].detail)
    assert note.port == program.port
    assert len(note.sha256) == 32
    assert [path.name for path in (tmp_path / "ports").iterdir()] == ["watch.json"]
