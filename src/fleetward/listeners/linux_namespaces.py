"""Listeners in other network namespaces: containers, mostly, whose ports are not the host's.

A namespace is found by the programs in it (`/proc/PID/ns/net`), so one that nobody lives in is not
looked at; it has no listeners either. A thread of its own enters it (setns, for root) and asks the
kernel there; where that is denied, `/proc/PID/net` tells the same without the details.

Sources: namespaces(7), setns(2).

Deliberately not here: mount namespaces; which files a container's programs see is linux_owners'.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleetward.core.listeners import BoundSocket, Unseen
from fleetward.listeners.linux_netlink import NetlinkSockets
from fleetward.listeners.linux_owners import PROC, as_root, pids
from fleetward.listeners.linux_proc import ProcSockets
from fleetward.listeners.source import Ports, SourceDeniedError

_CLONE_NEWNET: Final = 0x4000_0000

MAX_NAMESPACES: Final = 1_000
"""That are entered in one survey."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What is in other namespaces.

    Attributes:
        sockets: that were asked for.
        unseen: what could not be looked at.
    """

    sockets: tuple[BoundSocket, ...] = ()
    unseen: tuple[Unseen, ...] = ()


def own_namespace(proc: Path = PROC) -> int:
    """Return the inode of this program's network namespace; 0 where it cannot be seen."""
    return _inode(proc / "self" / "ns" / "net") or 0


def namespaces(proc: Path = PROC) -> tuple[dict[int, int], int]:
    """Return a program of each namespace, by the namespace's inode; and how many were hidden."""
    found: dict[int, int] = {}
    hidden = 0
    for pid in pids(proc):
        try:
            found.setdefault((proc / str(pid) / "ns" / "net").stat().st_ino, pid)
        except PermissionError:
            hidden += 1
        except OSError:
            continue  # it has ended
    return found, hidden


def sockets_elsewhere(ports: Ports, proc: Path = PROC) -> Elsewhere:
    """Return the sockets on `ports` in every namespace but our own."""
    found, hidden = namespaces(proc)
    found.pop(own_namespace(proc), None)
    sockets: list[BoundSocket] = []
    denied = 0
    for namespace, pid in sorted(found.items())[:MAX_NAMESPACES]:
        try:
            sockets += _sockets_of(pid, namespace, ports, proc)
        except SourceDeniedError:
            denied += 1
    unseen = []
    if denied:
        unseen.append(f"{denied} of {len(found)} other network namespaces could not be looked into")
    if hidden:
        unseen.append(f"the namespaces of other users' programs could not be seen ({hidden})")
    notes = tuple(Unseen(what=what, command=as_root()) for what in unseen)
    return Elsewhere(tuple(sockets), notes)


def _sockets_of(pid: int, namespace: int, ports: Ports, proc: Path) -> tuple[BoundSocket, ...]:
    link = proc / str(pid) / "ns" / "net"
    try:
        return inside(link, lambda: NetlinkSockets(namespace).sockets(ports))
    except SourceDeniedError:
        return ProcSockets(proc / str(pid) / "net", namespace).sockets(ports)


def inside(link: Path, look: Callable[[], tuple[BoundSocket, ...]]) -> tuple[BoundSocket, ...]:
    """Return what `look` finds in the namespace at `link`, from a thread that enters it.

    Raises:
        SourceDeniedError: this program may not enter it, or it is gone.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_enter_and_look, link, look).result()


def _enter_and_look(
    link: Path, look: Callable[[], tuple[BoundSocket, ...]]
) -> tuple[BoundSocket, ...]:
    library = ctypes.CDLL(None, use_errno=True)
    try:
        descriptor = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SourceDeniedError(f"{link}: {error.strerror}") from error
    try:
        if library.setns(descriptor, _CLONE_NEWNET) != 0:
            raise SourceDeniedError(f"{link}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(descriptor)
    return look()


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
