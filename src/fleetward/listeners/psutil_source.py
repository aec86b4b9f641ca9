"""Sockets and owners by psutil: macOS and Windows, in one file for both halves.

psutil gives a process with each socket, so the two halves meet by pid. What it cannot tell (the
IPv6-only flag, namespaces, socket activation) stays unknown. Without administrator's rights Windows
shows the sockets and hides paths; macOS refuses the list as a whole, so this user's own programs
are asked one by one, and what is missing is told.

Tested with recorded answers; not run on those platforms here.

Deliberately not here: who signed an executable (signatures).
"""

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from fleetward.core.interpreters import script_of
from fleetward.core.listeners import (
    BoundSocket,
    Executable,
    FileState,
    Owner,
    Parent,
    Script,
    Transport,
    Unseen,
    kept_command,
)
from fleetward.listeners.executables import Digests
from fleetward.listeners.signatures import Signatures
from fleetward.listeners.source import Owners, Ports, SourceDeniedError

_LISTEN: Final = "LISTEN"


class Connection(Protocol):
    """A row of psutil's net_connections."""

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        ...

    @property
    def type(self) -> int:
        """SOCK_STREAM or SOCK_DGRAM."""
        ...

    @property
    def laddr(self) -> Any:  # noqa: ANN401 (a named tuple of address and port, or an empty tuple)
        """The local address."""
        ...

    @property
    def raddr(self) -> Any:  # noqa: ANN401 (as above)
        """The remote address; empty for listeners."""
        ...

    @property
    def status(self) -> str:
        """LISTEN, or NONE for UDP."""
        ...

    @property
    def pid(self) -> int | None:
        """Who holds it; None where that is hidden."""
        ...


@dataclass(frozen=True, slots=True)
class OwnConnection:
    """A `Connection` of a program that was asked for its own: psutil leaves out the pid there."""

    family: int
    type: int
    laddr: Any
    raddr: Any
    status: str
    pid: int | None


@dataclass(slots=True)
class PsutilSockets:
    """Lists sockets by psutil.

    Attributes:
        connections: psutil's `net_connections`.
        own_connections: the same of this user's programs, where the whole is refused.
        is_partial: whether the last look had to do with those.
    """

    connections: Callable[[], Iterable[Connection]]
    own_connections: Callable[[], Iterable[Connection]] = tuple
    is_partial: bool = False

    @property
    def method(self) -> str:
        """How, in a word."""
        return "psutil"

    def sockets(self, ports: Ports) -> tuple[BoundSocket, ...]:
        """Return the sockets on `ports`; every port where it is empty."""
        try:
            rows = list(self.connections())
            self.is_partial = False
        except Exception as error:  # psutil's AccessDenied has no base of ours; any failure is one
            rows, self.is_partial = list(self.own_connections()), True
            if not rows:
                raise SourceDeniedError(f"psutil: {error}") from error
        found = (_socket_of(row) for row in rows if _waits(row))
        return tuple(one for one in found if not ports or one.port in ports)


def _waits(row: Connection) -> bool:
    if row.family not in {socket.AF_INET, socket.AF_INET6} or not row.laddr or row.raddr:
        return False
    return row.type == socket.SOCK_DGRAM or row.status == _LISTEN


def _socket_of(row: Connection) -> BoundSocket:
    address, port = row.laddr[0], row.laddr[1]
    return BoundSocket(
        protocol=Transport.UDP if row.type == socket.SOCK_DGRAM else Transport.TCP,
        address=address.partition("%")[0],
        port=port,
        pid=row.pid,
    )


Program = dict[str, Any]
"""What psutil's `Process.as_dict` gives: None for what is hidden."""

WANTED: Final = ("pid", "name", "cmdline", "exe", "username", "ppid", "create_time", "cwd")


@dataclass(frozen=True, slots=True)
class PsutilOwners:
    """Finds owners by psutil.

    Attributes:
        look_up: what psutil says of a pid (`WANTED`); None where it has ended.
        digests: of executables.
        signatures: of executables.
        is_partial: whether the sockets' list lacked other users' programs.
    """

    look_up: Callable[[int], Program | None]
    digests: Digests = field(default_factory=Digests)
    signatures: Signatures = field(default_factory=Signatures)
    is_partial: Callable[[], bool] = bool

    def owners(self, sockets: Sequence[BoundSocket]) -> Owners:
        """Return who holds `sockets`."""
        pids = {one.pid for one in sockets if one.pid is not None}
        programs = {pid: one for pid in pids if (one := self.look_up(pid)) is not None}
        owners = self._signed({pid: self._owner_of(one) for pid, one in programs.items()})
        found: dict[BoundSocket, tuple[Owner, ...]]
        found = {s: (owners[s.pid],) for s in sockets if s.pid is not None and s.pid in owners}
        hidden = len(sockets) - len(found)
        unseen = [f"the owners of {hidden} sockets are hidden from this user"] if hidden else []
        if self.is_partial():
            unseen.append("the sockets of other users' programs are hidden from this user")
        advice = "run it as administrator (root)"
        return Owners(found, tuple(Unseen(what=what, command=advice) for what in unseen))

    def _signed(self, owners: dict[int, Owner]) -> dict[int, Owner]:
        """Return owners with the signatures of their executables, asked for together."""
        files = [one.executable for one in owners.values() if one.executable is not None]
        found = self.signatures.find((file.path, file.sha256) for file in files)
        signed = dict(owners)
        for pid, owner in owners.items():
            file = owner.executable
            if file is not None and file.path in found:
                executable = replace(file, signature=found[file.path])
                signed[pid] = replace(owner, executable=executable)
        return signed

    def _owner_of(self, program: Program) -> Owner:
        path = program.get("exe") or ""
        command = tuple(program.get("cmdline") or ())
        created = program.get("create_time")
        script = script_of(path, command) if path else None
        return Owner(
            pid=program["pid"],
            name=program.get("name") or "",
            command=kept_command(list(command)),
            executable=self._executable(path) if path else None,
            script=self._script(script, program.get("cwd") or "") if script else None,
            user=program.get("username") or "",
            parent=self._parent(program.get("ppid")),
            started=datetime.fromtimestamp(int(created), UTC) if created else None,
        )

    def _executable(self, path: str) -> Executable:
        digest = self.digests.of(Path(path))
        is_gone = digest is None and not Path(path).exists()
        state = FileState.DELETED if is_gone else FileState.PRESENT
        return Executable(path=path, sha256=digest, state=state)

    def _script(self, script: Script, folder: str) -> Script:
        if script.kind != "file":
            return script
        path = Path(folder) / script.name
        return Script(
            kind=script.kind,
            name=str(path),
            arguments=script.arguments,
            sha256=self.digests.of(path),
        )

    def _parent(self, pid: int | None) -> Parent | None:
        if not pid:
            return None
        program = self.look_up(pid)
        return Parent(pid=pid, name=(program.get("name") or "") if program else "")


def from_psutil(platform: str = "") -> tuple[PsutilSockets, PsutilOwners]:
    """Return both halves over the installed psutil.

    Args:
        platform: as `sys.platform` has it, for signatures; empty asks for none.

    Raises:
        SourceDeniedError: psutil is not installed.
    """
    try:
        import psutil  # noqa: PLC0415 (not on Linux, and not before somebody asks)
    except ImportError as error:
        raise SourceDeniedError("psutil is not installed: pip install psutil") from error

    def look_up(pid: int) -> Program | None:
        try:
            found: Program = psutil.Process(pid).as_dict(attrs=list(WANTED), ad_value=None)
        except psutil.Error:
            return None
        return found

    def own_connections() -> Iterator[Connection]:
        for program in psutil.process_iter():
            try:
                rows = program.net_connections(kind="inet")
            except psutil.Error:
                continue
            for row in rows:
                yield OwnConnection(
                    row.family, row.type, row.laddr, row.raddr, row.status, program.pid
                )

    sockets = PsutilSockets(lambda: psutil.net_connections(kind="inet"), own_connections)
    signatures = signatures_of(platform)
    return sockets, PsutilOwners(
        look_up, signatures=signatures, is_partial=lambda: sockets.is_partial
    )


def signatures_of(platform: str) -> Signatures:
    """Return what finds signatures on a platform, as `sys.platform` has it."""
    if platform == "win32":
        from fleetward.listeners.windows_signatures import (  # noqa: PLC0415 (Windows alone)
            WindowsSignatures,
        )

        return Signatures(WindowsSignatures())
    if platform == "darwin":
        from fleetward.listeners.macos_signatures import (  # noqa: PLC0415 (macOS alone)
            MacosSignatures,
        )

        return Signatures(MacosSignatures())
    return Signatures()
