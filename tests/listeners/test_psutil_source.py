"""psutil's half of the port watch: answers as Windows and macOS give them, and a run on Linux.

The rows were written after psutil's documentation of net_connections and Process.as_dict; they were
not recorded on those platforms.
"""

import builtins
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import psutil
import pytest

from fleetward.core.listeners import FileState, Platform, Transport
from fleetward.core.portrules import Verdict
from fleetward.core.ports import Expectations, judge
from fleetward.errors import ConfigurationError
from fleetward.listeners import psutil_source
from fleetward.listeners.psutil_source import PsutilOwners, PsutilSockets, from_psutil
from fleetward.listeners.source import SourceDeniedError
from fleetward.listeners.surveying import Surveyor, other_platform, surveyor_here
from support.listening import listening


class Address(NamedTuple):
    """psutil's `addr`."""

    ip: str
    port: int


class Row(NamedTuple):
    """psutil's `sconn`."""

    family: int
    type: int
    laddr: Any
    raddr: Any
    status: str
    pid: int | None


TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
V4, V6 = socket.AF_INET, socket.AF_INET6
GUP = r"C:\Program Files (x86)\Symantec\Symantec Endpoint Protection\14.3\Bin\ccSvcHst.exe"

WINDOWS = (
    Row(V4, TCP, Address("0.0.0.0", 2967), (), "LISTEN", 1712),  # noqa: S104 (a text)
    Row(V6, TCP, Address("::", 445), (), "LISTEN", 4),
    Row(V4, TCP, Address("10.1.2.3", 2967), Address("10.1.2.9", 49999), "ESTABLISHED", 1712),
    Row(V4, UDP, Address("0.0.0.0", 2967), (), "NONE", 9000),  # noqa: S104 (a text)
    Row(V6, UDP, Address("fe80::1%4", 5353), (), "NONE", None),
    Row(V4, TCP, (), (), "CLOSE", 1),
    Row(1, TCP, Address("/tmp/x", 0), (), "LISTEN", 1),  # noqa: S108 (a text)
)
PROGRAMS: dict[int, dict[str, Any]] = {
    1712: {
        "pid": 1712,
        "name": "ccSvcHst.exe",
        "cmdline": [GUP, "/s", "Symantec Endpoint Protection"],
        "exe": GUP,
        "username": r"NT AUTHORITY\SYSTEM",
        "ppid": 700,
        "create_time": 1_790_000_000.5,
    },
    700: {"pid": 700, "name": "services.exe", "ppid": 0},
    4: {"pid": 4, "name": "System", "exe": None, "cmdline": None, "ppid": 0, "username": None},
    9000: {
        "pid": 9000,
        "name": "rtvscan.exe",
        "exe": r"C:\Windows\Temp\rtvscan.exe",
        "cmdline": ["rtvscan.exe"],
        "ppid": 8999,
    },
}


def windows(*rows: Row) -> Surveyor:
    return Surveyor(
        Platform.WINDOWS,
        (PsutilSockets(lambda: rows),),
        PsutilOwners(PROGRAMS.get),
        elsewhere=False,
    )


@pytest.fixture
def files_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path of Windows is no file here, and must not count as deleted for that."""
    monkeypatch.setattr(Path, "exists", lambda _: True)


@pytest.mark.usefixtures("files_are_there")
def test_a_group_update_provider_on_windows() -> None:
    survey = windows(*WINDOWS).survey(frozenset({2967}))
    genuine, fake = judge(survey, Expectations())
    assert genuine.verdict is Verdict.EXPECTED
    assert genuine.ids == ("symantec-program",)
    owner = genuine.listener.owners[0]
    assert owner.user == genuine.listener.user == r"NT AUTHORITY\SYSTEM"
    assert owner.parent is not None
    assert (owner.parent.name, owner.command[1]) == ("services.exe", "/s")
    assert owner.started is not None
    assert owner.started.timestamp() == 1_790_000_000
    assert fake.verdict is Verdict.SUSPICIOUS
    assert "imitation" in fake.ids
    assert fake.listener.socket.protocol is Transport.UDP


@pytest.mark.usefixtures("files_are_there")
def test_connections_and_other_families_are_no_listeners() -> None:
    found = windows(*WINDOWS).survey(frozenset())
    places = [(one.socket.address, one.socket.port) for one in found.listeners]
    assert places == [("::", 445), ("0.0.0.0", 2967), ("0.0.0.0", 2967), ("fe80::1", 5353)]  # noqa: S104
    assert {one.socket.v6only for one in found.listeners} == {None}
    assert "owners of 1 sockets are hidden" in found.unseen[0].what


def test_what_windows_hides_from_ordinary_users_is_unknown() -> None:
    found = windows(WINDOWS[1]).survey(frozenset({445}))
    (judged,) = judge(found, Expectations())
    assert judged.listener.owners[0].name == "System"
    assert judged.listener.owners[0].executable is None
    assert judged.verdict is Verdict.UNKNOWN
    assert "owner-unseen" in judged.ids


def test_a_parent_or_a_program_that_has_ended() -> None:
    (owner,) = windows(WINDOWS[3]).survey(frozenset()).listeners[0].owners
    assert owner.parent is not None
    assert (owner.parent.pid, owner.parent.name) == (8999, "")
    gone = windows(Row(V4, TCP, Address("127.0.0.1", 1), (), "LISTEN", 31337))
    assert gone.survey(frozenset()).listeners[0].owners == ()


def test_a_script_on_macos(tmp_path: Path) -> None:
    python, script = tmp_path / "python3.11", tmp_path / "app.py"
    python.write_bytes(b"interpreter")
    script.write_bytes(b"pass")
    program = {
        "pid": 5,
        "name": "python3.11",
        "exe": str(python),
        "cmdline": ["python3.11", "app.py", "--port", "80"],
        "cwd": str(tmp_path),
        "username": "root",
    }
    rows = (Row(V4, TCP, Address("127.0.0.1", 80), (), "LISTEN", 5),)
    owners = PsutilOwners({5: program}.get)
    surveyor = Surveyor(Platform.MACOS, (PsutilSockets(lambda: rows),), owners, elsewhere=False)
    (owner,) = surveyor.survey(frozenset()).listeners[0].owners
    assert owner.script is not None
    assert owner.script.name == str(script)
    assert owner.script.sha256 is not None
    assert owner.executable is not None
    assert owner.executable.state is FileState.PRESENT
    python.unlink()
    (owner,) = surveyor.survey(frozenset()).listeners[0].owners
    assert owner.executable is not None
    assert owner.executable.state is FileState.DELETED
    module = {**program, "cmdline": ["python3.11", "-m", "http.server"]}
    (owner,) = (
        PsutilOwners({5: module}.get)
        .owners(surveyor.sockets(frozenset()))
        .by_socket[surveyor.sockets(frozenset())[0]]
    )
    assert owner.script is not None
    assert (owner.script.kind, owner.script.sha256) == ("module", None)


def test_macos_without_rights_shows_nothing() -> None:
    def denied() -> tuple[Row, ...]:
        raise psutil.AccessDenied

    with pytest.raises(ConfigurationError, match="does not show its sockets"):
        Surveyor(Platform.MACOS, (PsutilSockets(denied),), PsutilOwners(PROGRAMS.get)).sockets(
            frozenset()
        )


def test_macos_without_rights_shows_at_least_this_users_programs() -> None:
    sockets, owners = from_psutil()

    def denied() -> tuple[Row, ...]:
        raise psutil.AccessDenied

    sockets.connections = denied
    with listening("tcp", "127.0.0.1") as program:
        surveyor = Surveyor(Platform.MACOS, (sockets,), owners, elsewhere=False)
        found = surveyor.survey(frozenset({program.port}))
    assert found.listeners[0].owners[0].pid == program.pid
    assert "other users' programs" in found.unseen[0].what
    sockets.connections = tuple
    assert surveyor.survey(frozenset()).unseen == ()


def test_programs_that_end_or_refuse_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        pid = 1

        def net_connections(self, **_: str) -> tuple[Row, ...]:
            raise psutil.NoSuchProcess(1)

    monkeypatch.setattr(psutil, "process_iter", lambda: [Gone()])
    sockets, _ = from_psutil()
    assert list(sockets.own_connections()) == []


def test_psutil_itself_on_this_machine_agrees_with_netlink() -> None:
    sockets, owners = from_psutil()
    with listening("tcp", "127.0.0.1") as program, listening("udp", "::1") as other:
        ports = frozenset({program.port, other.port})
        found = sockets.sockets(ports)
        held = owners.owners(found)
        ours = surveyor_here(elsewhere=False).survey(ports)
    assert owners.look_up(2**22 + 1) is None
    by_psutil = {
        (one.protocol, one.address, one.port): [owner.pid for owner in held.by_socket[one]]
        for one in found
    }
    by_netlink = {
        (one.socket.protocol, one.socket.address, one.socket.port): [o.pid for o in one.owners]
        for one in ours.listeners
    }
    assert by_psutil == by_netlink
    theirs = {rows[0].pid: rows[0] for rows in held.by_socket.values()}
    for one in ours.listeners:
        own = one.owners[0]
        other_way = theirs[own.pid]
        assert other_way.command == own.command
        assert own.executable is not None
        assert other_way.executable is not None
        assert other_way.executable.sha256 == own.executable.sha256


def test_platforms_without_psutil_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert other_platform("win32").platform is Platform.WINDOWS
    assert surveyor_here(platform="darwin").platform is Platform.MACOS
    real = builtins.__import__

    def without(name: str, *more: Any) -> ModuleType:  # noqa: ANN401 (what __import__ takes)
        if name == "psutil":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.delitem(sys.modules, "psutil")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SourceDeniedError, match="pip install psutil"):
        psutil_source.from_psutil()
    with pytest.raises(ConfigurationError, match="pip install psutil"):
        other_platform("win32")
