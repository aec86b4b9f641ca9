"""A survey: sockets, their owners, units, users and namespaces, put together as listeners.

`Surveyor.sockets` is the cheap look for polling; `Surveyor.survey` is the whole.

Deliberately not here: verdicts (core.ports).
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleetward.core.listeners import BoundSocket, Listener, Owner, Platform, Survey, Unseen
from fleetward.errors import ConfigurationError
from fleetward.listeners.executables import Digests
from fleetward.listeners.linux_cgroups import (
    container_of,
    paths_by_id,
    unified_mount,
    unit_of,
)
from fleetward.listeners.packages import packages_here
from fleetward.listeners.source import (
    Owners,
    OwnerSource,
    Ports,
    SocketSource,
    SourceDeniedError,
)

_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_MOUNTS: Final = Path("/proc/self/mountinfo")


@dataclass(slots=True)
class Surveyor:
    """Looks at this machine, again and again.

    Attributes:
        platform: which it is.
        sources: ways to list sockets, the best first.
        owners: finds who holds them.
        elsewhere: whether other network namespaces are looked into (Linux).
    """

    platform: Platform
    sources: Sequence[SocketSource]
    owners: OwnerSource
    elsewhere: bool = True

    def sockets(self, ports: Ports) -> tuple[BoundSocket, ...]:
        """Return the sockets of this namespace on `ports`: the cheap look.

        Raises:
            ConfigurationError: this machine lets us list them in no way.
        """
        return self._sockets(ports)[0]

    def survey(self, ports: Ports, excluded: Ports = frozenset()) -> Survey:
        """Return all that is known of the listeners on `ports`; every port where it is empty.

        Raises:
            ConfigurationError: this machine lets us list them in no way.
        """
        own, method = self._sockets(ports)
        others, unseen = self._others(ports)
        sockets = [s for s in (*own, *others) if s.port not in excluded]
        found = self.owners.owners(sockets)
        elsewhere = {s for s in others if s.port not in excluded}
        listeners = self._listeners(sockets, found, elsewhere)
        return Survey(
            platform=self.platform,
            method=method,
            listeners=tuple(sorted(listeners, key=_order)),
            unseen=(*found.unseen, *unseen),
            ephemeral=_ephemeral() if self.platform is Platform.LINUX else None,
        )

    def _sockets(self, ports: Ports) -> tuple[tuple[BoundSocket, ...], str]:
        problems = []
        for source in self.sources:
            try:
                return source.sockets(ports), source.method
            except SourceDeniedError as error:
                problems.append(str(error))
        raise ConfigurationError(
            f"this machine does not show its sockets ({'; '.join(problems)}): run it as root, or "
            "allow AF_NETLINK and /proc to this service"
        )

    def _others(self, ports: Ports) -> tuple[tuple[BoundSocket, ...], tuple[Unseen, ...]]:
        if not self.elsewhere or self.platform is not Platform.LINUX:
            return (), ()
        from fleetward.listeners.linux_namespaces import (  # noqa: PLC0415 (Linux alone has them)
            sockets_elsewhere,
        )

        found = sockets_elsewhere(ports)
        return found.sockets, found.unseen

    def _listeners(
        self, sockets: Sequence[BoundSocket], found: Owners, elsewhere: set[BoundSocket]
    ) -> list[Listener]:
        cgroups = self._cgroups(sockets)
        users = {uid: _user_name(uid) for uid in {one.uid for one in sockets}}
        return [
            _listener(
                one,
                found.by_socket.get(one, ()),
                users[one.uid],
                cgroups.get(one.cgroup or -1, ""),
                is_own=one not in elsewhere,
            )
            for one in sockets
        ]

    def _cgroups(self, sockets: Sequence[BoundSocket]) -> dict[int, str]:
        ids = {s.cgroup for s in sockets if s.cgroup is not None}
        if not ids:
            return {}
        try:
            mount = unified_mount(_MOUNTS.read_text(errors="replace"))
        except OSError:
            return {}
        return paths_by_id(mount, ids)


def _listener(
    one: BoundSocket, owners: tuple[Owner, ...], user: str, cgroup: str, *, is_own: bool
) -> Listener:
    return Listener(
        socket=one,
        owners=owners,
        user=user or (owners[0].user if owners else ""),
        unit=unit_of(cgroup),
        container=container_of(cgroup),
        in_own_namespace=is_own,
    )


def _user_name(uid: int | None) -> str:
    if uid is None:
        return ""
    from fleetward.listeners.linux_owners import user_name  # noqa: PLC0415 (pwd is not on Windows)

    return user_name(uid)


def _order(listener: Listener) -> tuple[str, int, str, int, int]:
    one = listener.socket
    return one.protocol, one.port, one.address, one.namespace, one.inode


def _ephemeral() -> tuple[int, int] | None:
    try:
        first, last = _EPHEMERAL.read_text(encoding="ascii").split()
        return int(first), int(last)
    except (OSError, ValueError):
        return None


def surveyor_here(*, elsewhere: bool = True, platform: str = sys.platform) -> Surveyor:
    """Return what looks at this machine.

    Args:
        elsewhere: whether other network namespaces are looked into, too.
        platform: as `sys.platform` has it.

    Raises:
        ConfigurationError: the platform needs psutil, and it is not there.
    """
    return _linux(elsewhere=elsewhere) if platform == "linux" else other_platform(platform)


def _linux(*, elsewhere: bool) -> Surveyor:
    from fleetward.listeners.linux_namespaces import own_namespace  # noqa: PLC0415 (Linux alone)
    from fleetward.listeners.linux_netlink import NetlinkSockets  # noqa: PLC0415 (Linux alone)
    from fleetward.listeners.linux_owners import LinuxOwners  # noqa: PLC0415 (Linux alone)
    from fleetward.listeners.linux_proc import ProcSockets  # noqa: PLC0415 (Linux alone)

    own = own_namespace()
    digests = Digests()
    sources = (NetlinkSockets(own), ProcSockets(namespace=own))
    owners = LinuxOwners(digests, packages_here(digests))
    return Surveyor(Platform.LINUX, sources, owners, elsewhere=elsewhere)


def other_platform(name: str) -> Surveyor:
    """Return what looks at a machine that is not Linux, whose `sys.platform` is `name`.

    Raises:
        ConfigurationError: psutil is not there.
    """
    from fleetward.listeners.psutil_source import from_psutil  # noqa: PLC0415 (where it is needed)

    try:
        sockets, owners = from_psutil(name)
    except SourceDeniedError as error:
        raise ConfigurationError(str(error)) from error
    platform = Platform.WINDOWS if name == "win32" else Platform.MACOS
    return Surveyor(platform, (sockets,), owners, elsewhere=False)
