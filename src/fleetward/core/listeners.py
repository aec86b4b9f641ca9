"""Listeners as values: a socket that waits for strangers, and all that is known of who holds it.

Everything may be unknown, since a survey without root sees less: then the field is None or empty,
and the survey says in `Survey.unseen` what was hidden and which command would show it. Unknown is
never the same as "no": a verdict must not be good because somebody could not look.

What a program says of itself (its name, its command line) can be forged by it; paths, digests,
users, units and namespaces come from the kernel.

Deliberately not here: how these are found (listeners), what is to be thought of them (core.ports).
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final


class Transport(StrEnum):
    """Protocols that the port watch looks at."""

    TCP = "tcp"
    UDP = "udp"


class Platform(StrEnum):
    """Where a survey was made; names and places of expected programs depend on it."""

    LINUX = "linux"
    MACOS = "macos"
    WINDOWS = "windows"


class Reach(StrEnum):
    """Who can reach a listener, by its address alone; a firewall may narrow it."""

    LOOPBACK = "loopback"
    ONE_ADDRESS = "one-address"
    EVERY_ADDRESS = "every-address"


class FileState(StrEnum):
    """What became of the file that a running program was started from."""

    PRESENT = "present"
    REPLACED = "replaced"
    DELETED = "deleted"
    NEVER_A_FILE = "never-a-file"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundSocket:
    """A socket that is bound and waits, as the kernel lists it.

    Attributes:
        protocol: tcp (state LISTEN) or udp (bound and not connected: UDP has no LISTEN).
        address: that it is bound to, in its canonical form, without a zone.
        port: 1 to 65535.
        v6only: of an IPv6 socket, whether it serves IPv6 alone; None where it cannot be seen, and
            for IPv4.
        inode: the socket's number in this kernel; 0 where the platform has none.
        uid: of the user who made it; None where it cannot be seen.
        cgroup: the id of the cgroup in which it was made; None where it cannot be seen.
        namespace: the inode of its network namespace; 0 where the platform has none.
        pid: who holds it, where the platform says so with the socket.
    """

    protocol: Transport
    address: str
    port: int
    v6only: bool | None = None
    inode: int = 0
    uid: int | None = None
    cgroup: int | None = None
    namespace: int = 0
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFile:
    """What the system's package database says of a file.

    Attributes:
        name: of the package.
        intact: whether the running bytes are the package's; None where it keeps no digest of them.
    """

    name: str
    intact: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What the system says of an executable's own signature (Windows, macOS).

    Attributes:
        signer: as its certificate names it; empty where the file is not signed.
        intact: whether the file is what was signed, by somebody whom the system trusts; False where
            the file is another; None where that could not be decided.
    """

    signer: str
    intact: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Executable:
    """The file that a running program was started from.

    Attributes:
        path: its path when it was started.
        sha256: of the running bytes, also where the file is gone; None where they cannot be read.
        state: what became of the file.
        writable: the file or folder by which anybody on the host can replace it; None for none.
        package: the package that owns it; None where none does, or where it was not looked for.
        signature: its own; None where it was not looked for.
    """

    path: str
    sha256: str | None = None
    state: FileState = FileState.PRESENT
    writable: str | None = None
    package: PackageFile | None = None
    signature: Signature | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What an interpreter runs, by its command line.

    Attributes:
        kind: `file`, `module` or `code`.
        name: the path, made absolute where it could be; the module; empty for code.
        arguments: what follows it, at most 20.
        sha256: of a file now; None where it cannot be read.
        writable: as `Executable.writable`, of the file.
    """

    kind: str
    name: str = ""
    arguments: tuple[str, ...] = ()
    sha256: str | None = None
    writable: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """Who started a program."""

    pid: int
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A program that holds a listening socket.

    Attributes:
        pid: its number.
        name: as it calls itself (15 characters on Linux).
        command: its command line, as it tells it.
        executable: None where it cannot be seen.
        script: of an interpreter; None for other programs.
        user: name of the user, or the number as text where it has no name.
        parent: who started it.
        started: when.
        unit: the systemd unit; empty where it has none.
        container: runtime and id; empty where it is in none.
        activated: whether it was given the socket by socket activation.
    """

    pid: int
    name: str = ""
    command: tuple[str, ...] = ()
    executable: Executable | None = None
    script: Script | None = None
    user: str = ""
    parent: Parent | None = None
    started: datetime | None = None
    unit: str = ""
    container: str = ""
    activated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A socket and who holds it.

    Attributes:
        socket: as the kernel lists it.
        owners: everybody who holds it, the oldest first; empty where nobody could be seen.
        user: who made the socket; also where the owners cannot be seen.
        unit: the unit in which it was made; also where the owners cannot be seen.
        container: the same for a container.
        in_own_namespace: whether it is in the network namespace of whoever looked.
    """

    socket: BoundSocket
    owners: tuple[Owner, ...] = ()
    user: str = ""
    unit: str = ""
    container: str = ""
    in_own_namespace: bool = True

    @property
    def principal(self) -> Owner | None:
        """The owner that serves: not the one that only holds the socket for activation."""
        serving = [owner for owner in self.owners if owner.pid != 1]
        return next(iter(serving or self.owners), None)

    @property
    def activated(self) -> bool:
        """Whether the socket was made by a service manager, and not by who serves it."""
        return any(owner.activated or owner.pid == 1 for owner in self.owners)

    @property
    def reach(self) -> Reach:
        """Who can reach it, by its address."""
        return reach_of(self.socket.address)

    @property
    def serves_both(self) -> bool:
        """Whether it is an IPv6 socket that takes IPv4 too."""
        return self.socket.address == "::" and self.socket.v6only is False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """What a survey could not see.

    Attributes:
        what: a sentence.
        command: what would show it; empty where nothing would.
    """

    what: str
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """All listeners that were asked for, at one moment.

    Attributes:
        platform: where.
        method: how the sockets were listed.
        listeners: by protocol, port and address.
        unseen: what was hidden.
        ephemeral: first and last port that this host gives to clients; None where unknown.
    """

    platform: Platform
    method: str
    listeners: tuple[Listener, ...] = ()
    unseen: tuple[Unseen, ...] = ()
    ephemeral: tuple[int, int] | None = None


@lru_cache(maxsize=1_024)
def reach_of(address: str) -> Reach:
    """Return who can reach a socket that is bound to `address` (an IPv4 or IPv6 address)."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    where = mapped or parsed
    if where.is_loopback:
        return Reach.LOOPBACK
    return Reach.EVERY_ADDRESS if where.is_unspecified else Reach.ONE_ADDRESS


MAX_ARGUMENTS: Final = 20
"""Of a command line, that are kept: a program may have megabytes of them."""

MAX_ARGUMENT_CHARS: Final = 400
"""Of one argument, that are kept."""


def kept_command(arguments: list[str]) -> tuple[str, ...]:
    """Return a command line in bounded length; what is cut ends with `…`."""
    kept = [
        a if len(a) <= MAX_ARGUMENT_CHARS else a[: MAX_ARGUMENT_CHARS - 1] + "…"
        for a in arguments[:MAX_ARGUMENTS]
    ]
    return tuple(kept) if len(arguments) <= MAX_ARGUMENTS else (*kept[:-1], "…")
