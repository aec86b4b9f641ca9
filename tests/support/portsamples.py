"""Listeners for tests of verdicts: one honest service, from which each test departs."""

from dataclasses import replace
from datetime import UTC, datetime

from fleetward.core.listeners import (
    BoundSocket,
    Executable,
    Listener,
    Owner,
    PackageFile,
    Platform,
    Script,
    Survey,
    Transport,
)
from fleetward.core.portrules import PortRule
from fleetward.core.ports import Expectations, Judged, OwnSensor, RelayRole, judge

HONEST = Executable(
    path="/usr/sbin/honestd", sha256="ab" * 32, package=PackageFile(name="honest", intact=True)
)
PYTHON = Executable(path="/usr/bin/python3.11", sha256="cd" * 32)
SYMANTEC = r"C:\Program Files (x86)\Symantec\Symantec Endpoint Protection\14.3\Bin\ccSvcHst.exe"
STARTED = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


def owner(executable: Executable | None = HONEST, **more: object) -> Owner:
    known: dict[str, object] = {"pid": 77, "name": "honestd", "user": "root", "started": STARTED}
    return Owner(executable=executable, **{**known, **more})  # type: ignore[arg-type]


def listener(
    *owners: Owner, port: int = 2967, address: str = "127.0.0.1", **more: object
) -> Listener:
    fields = ("protocol", "v6only", "inode", "uid", "namespace")
    known: dict[str, object] = {"protocol": Transport.TCP, "inode": 5, "uid": 0}
    chosen = {**known, **{name: more.pop(name) for name in fields if name in more}}
    socket = BoundSocket(address=address, port=port, **chosen)  # type: ignore[arg-type]
    return Listener(socket=socket, owners=owners, **{"user": "root", **more})  # type: ignore[arg-type]


def running(script: Script, **more: object) -> Owner:
    return owner(PYTHON, name="python3", script=script, **more)


def relay(**more: object) -> Owner:
    arguments = ("relay", "run", "--listen", "0.0.0.0:2967")
    return running(Script(kind="module", name="fleetward", arguments=arguments), **more)


def judged(
    *listeners: Listener,
    platform: Platform = Platform.LINUX,
    rules: tuple[PortRule, ...] = (),
    role: RelayRole = RelayRole.UNSTATED,
    sensor: OwnSensor | None = None,
    ephemeral: tuple[int, int] | None = (32768, 60999),
) -> tuple[Judged, ...]:
    survey = Survey(platform=platform, method="test", listeners=listeners, ephemeral=ephemeral)
    return judge(survey, Expectations(rules=rules, role=role, sensor=sensor))


def one(found: Listener, **more: object) -> Judged:
    return judged(found, **more)[0]  # type: ignore[arg-type]


def altered(executable: Executable, **changes: object) -> Executable:
    return replace(executable, **changes)  # type: ignore[arg-type]
