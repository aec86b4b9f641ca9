"""What a platform must provide: its sockets, and who holds them. One small file each.

    Linux             linux_netlink (the kernel's own list), linux_proc where that is denied;
                      linux_owners (/proc)
    macOS, Windows    psutil_source, for both

Deliberately not here: which of them is used (survey).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fleetward.core.listeners import BoundSocket, Owner, Unseen

Ports = frozenset[int]
"""Ports that are asked for; empty for all."""


@dataclass(frozen=True, slots=True)
class Owners:
    """Who holds sockets.

    Attributes:
        by_socket: owners of each socket, the oldest first; a socket is absent where nobody was
            seen.
        unseen: what could not be looked at.
    """

    by_socket: dict[BoundSocket, tuple[Owner, ...]]
    unseen: tuple[Unseen, ...] = ()


class SocketSource(Protocol):
    """Lists the sockets that wait."""

    @property
    def method(self) -> str:
        """How, in a word, for people."""
        ...

    def sockets(self, ports: Ports) -> tuple[BoundSocket, ...]:
        """Return the sockets on `ports`, as one look shows them.

        Raises:
            SourceDeniedError: this machine does not let us look this way.
        """
        ...


class OwnerSource(Protocol):
    """Finds who holds sockets."""

    def owners(self, sockets: Sequence[BoundSocket]) -> Owners:
        """Return the owners of sockets that a source of this platform has listed."""
        ...


class SourceDeniedError(Exception):
    """A way to list sockets that this machine refuses; another way is taken."""
