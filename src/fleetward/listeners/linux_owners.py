"""Who holds a socket, on Linux: from its inode to the programs that have it open, through /proc.

The walk over all descriptors of all programs is the dear part (10 µs each), so one walk serves all
sockets, and the agent does it on change alone. Without root the descriptors of other users'
programs cannot be seen; the survey then says how many.

A program may end while it is looked at: what cannot be read any more is left out.

Source: proc(5); sd_listen_fds(3) for LISTEN_PID and LISTEN_FDS.

Deliberately not here: which sockets there are (linux_netlink, linux_proc).
"""

import os
import pwd
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from fleetward.core.interpreters import script_of
from fleetward.core.listeners import (
    BoundSocket,
    Executable,
    FileState,
    Owner,
    Parent,
    Script,
    Unseen,
    kept_command,
)
from fleetward.listeners.executables import Digests, inside, state_of, writable_by_anyone
from fleetward.listeners.linux_cgroups import container_of, parse_membership, unit_of
from fleetward.listeners.packages import NoPackages, Packages
from fleetward.listeners.source import Owners

PROC: Final = Path("/proc")
_FIRST_PASSED: Final = 3
"""SD_LISTEN_FDS_START: the first descriptor that a service manager passes on."""

_MOST_PASSED: Final = 1_000_000
"""Descriptors that a program can have; a longer number is a lie."""

_READ_BYTES: Final = 64 * 1024
"""Of a command line or an environment."""


@dataclass(slots=True)
class LinuxOwners:
    """Finds owners through /proc.

    Attributes:
        digests: of executables, remembered from survey to survey.
        packages: the package database.
        proc: where /proc is.
    """

    digests: Digests = field(default_factory=Digests)
    packages: Packages = field(default_factory=NoPackages)
    proc: Path = PROC

    def owners(self, sockets: Sequence[BoundSocket]) -> Owners:
        """Return who holds `sockets`."""
        by_inode = {s.inode: s for s in sockets if s.inode}
        if not by_inode:
            return Owners({})
        holders, hidden = holders_of(frozenset(by_inode), self.proc)
        reader = ProgramReader(self.proc, self.digests)
        holding = {pid for held in holders.values() for pid, _ in held}
        programs = {pid: reader.read(pid) for pid in sorted(holding)}
        self._add_packages(programs, reader)
        found: dict[BoundSocket, tuple[Owner, ...]] = {}
        for inode, held in holders.items():
            present = [
                replace(owner, activated=True) if reader.was_passed(pid, descriptors) else owner
                for pid, descriptors in held
                if (owner := programs[pid]) is not None
            ]
            found[by_inode[inode]] = tuple(sorted(present, key=_age))
        return Owners(found, _unseen(hidden, len(by_inode) - len(found)))

    def _add_packages(self, programs: dict[int, Owner | None], reader: "ProgramReader") -> None:
        """Ask the package database once, about files of this machine's own root."""
        files: dict[str, Path] = {}
        for pid, owner in programs.items():
            if owner and owner.executable and reader.is_rooted_here(pid):
                files.setdefault(owner.executable.path, self.proc / str(pid) / "exe")
        packages = self.packages.find(files.items())
        for pid, owner in programs.items():
            file = owner.executable if owner else None
            if owner and file and file.path in packages and reader.is_rooted_here(pid):
                known = replace(file, package=packages[file.path])
                programs[pid] = replace(owner, executable=known)


def _age(owner: Owner) -> tuple[datetime, int]:
    return owner.started or datetime.max.replace(tzinfo=UTC), owner.pid


def _unseen(hidden: int, ownerless: int) -> tuple[Unseen, ...]:
    if not hidden or not ownerless:
        return ()
    what = (
        f"{ownerless} sockets have owners among {hidden} programs of other users, which this user "
        "may not look into"
    )
    return (Unseen(what=what, command=as_root()),)


def as_root() -> str:
    """Return the command that shows more; empty where we are root, and nothing does."""
    return "" if os.geteuid() == 0 else "sudo fleetward ports show"


Held = list[tuple[int, tuple[int, ...]]]


def holders_of(inodes: frozenset[int], proc: Path = PROC) -> tuple[dict[int, Held], int]:
    """Return, for each socket, the programs that hold it with their descriptors.

    Returns:
        By inode: (pid, descriptors), by pid; and how many programs could not be looked into.
    """
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, Held] = defaultdict(list)
    hidden = 0
    for pid in pids(proc):
        folder = f"{proc}/{pid}/fd"
        held: dict[int, list[int]] = {}
        try:
            for name in os.listdir(folder):
                inode = wanted.get(_link(f"{folder}/{name}"))
                if inode is not None:
                    held.setdefault(inode, []).append(int(name))
        except PermissionError:
            hidden += 1
        except OSError:
            continue  # it has ended
        for inode, descriptors in held.items():
            found[inode].append((pid, tuple(sorted(descriptors))))
    return dict(found), hidden


def pids(proc: Path = PROC) -> list[int]:
    """Return the numbers of all programs."""
    return sorted(int(name) for name in os.listdir(proc) if name.isdigit())


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


class ProgramReader:
    """Reads what /proc tells of programs; for one survey."""

    def __init__(self, proc: Path, digests: Digests) -> None:
        """Read below `proc`."""
        self._proc = proc
        self._digests = digests
        self._booted = _boot_time(_text(proc / "stat"))
        self._tick = os.sysconf("SC_CLK_TCK")
        self._root = _stat_key(Path("/"))
        self._passed: dict[int, int] = {}

    def read(self, pid: int) -> Owner | None:
        """Return a program without its package; None where it has ended."""
        folder = self._proc / str(pid)
        fields = _stat_fields(_text(folder / "stat"))
        if fields is None:
            return None
        command = _arguments(folder)
        executable = self._executable(folder)
        membership = parse_membership(_text(folder / "cgroup"))
        script = script_of(executable.path, command) if executable else None
        parent = fields.parent
        return Owner(
            pid=pid,
            name=_text(folder / "comm").rstrip("\n"),
            command=kept_command(list(command)),
            executable=executable,
            script=self._script(folder, script) if script else None,
            user=_user_of(folder),
            parent=Parent(pid=parent, name=_text(self._proc / str(parent) / "comm").rstrip("\n"))
            if parent
            else None,
            started=self._started(fields.ticks),
            unit=unit_of(membership),
            container=container_of(membership),
        )

    def is_rooted_here(self, pid: int) -> bool:
        """Return whether a program sees the files that we see."""
        return _stat_key(self._proc / str(pid) / "root") == self._root

    def was_passed(self, pid: int, descriptors: tuple[int, ...]) -> bool:
        """Return whether a service manager has passed one of `descriptors` to a program."""
        if pid not in self._passed:
            self._passed[pid] = self._count_passed(pid)
        end = _FIRST_PASSED + self._passed[pid]
        return any(_FIRST_PASSED <= descriptor < end for descriptor in descriptors)

    def _count_passed(self, pid: int) -> int:
        variables = _bytes(self._proc / str(pid) / "environ").split(b"\0")
        environment = dict(pair.partition(b"=")[::2] for pair in variables)
        count, owner = environment.get(b"LISTEN_FDS", b""), environment.get(b"LISTEN_PID", b"")
        is_meant = count.isdigit() and owner == str(pid).encode()
        return min(int(count), _MOST_PASSED) if is_meant else 0

    def _executable(self, folder: Path) -> Executable | None:
        try:
            link = os.readlink(folder / "exe")
            running = (folder / "exe").stat()
        except OSError:
            return None
        root = Path("/") if self.is_rooted_here(int(folder.name)) else folder / "root"
        path, state = state_of(link, running, root)
        is_there = state is FileState.PRESENT
        return Executable(
            path=path,
            sha256=self._digests.of(folder / "exe"),
            state=state,
            writable=writable_by_anyone(path, root) if is_there else None,
        )

    def _script(self, folder: Path, script: Script) -> Script:
        if script.kind != "file":
            return script
        root = Path("/") if self.is_rooted_here(int(folder.name)) else folder / "root"
        path = os.path.normpath(os.path.join(_link(f"{folder}/cwd") or "/", script.name))
        return replace(
            script,
            name=path,
            sha256=self._digests.of(inside(root, path)),
            writable=writable_by_anyone(path, root),
        )

    def _started(self, ticks: int) -> datetime | None:
        if self._booted is None:
            return None
        return self._booted + timedelta(seconds=ticks // self._tick)


@dataclass(frozen=True, slots=True)
class _StatFields:
    parent: int
    ticks: int


def _stat_fields(text: str) -> _StatFields | None:
    """Read /proc/PID/stat: the name stands in parentheses and may hold any character."""
    words = text.rpartition(")")[2].split()
    if len(words) < 20:
        return None
    return _StatFields(parent=int(words[1]), ticks=int(words[19]))


def _boot_time(text: str) -> datetime | None:
    line = next((line for line in text.splitlines() if line.startswith("btime ")), None)
    return datetime.fromtimestamp(int(line.split()[1]), UTC) if line else None


def _arguments(folder: Path) -> tuple[str, ...]:
    content = _bytes(folder / "cmdline").rstrip(b"\0")
    return tuple(part.decode(errors="replace") for part in content.split(b"\0")) if content else ()


def _user_of(folder: Path) -> str:
    """Return the effective user of a program."""
    for line in _text(folder / "status").splitlines():
        if line.startswith("Uid:"):
            return user_name(int(line.split()[2]))
    return ""


def user_name(uid: int) -> str:
    """Return a user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _stat_key(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _text(path: Path) -> str:
    return _bytes(path).decode(errors="replace")


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_READ_BYTES)
    except OSError:
        return b""
