"""Sockets from the text files of /proc/net: where netlink is denied, and in other namespaces.

Slower, since the kernel prints every socket; and it tells neither the IPv6-only flag nor the
cgroup. Each process shows the files of its own namespace (`/proc/PID/net`).

Source: proc(5); addresses are printed as 32-bit words in the machine's byte order.

Deliberately not here: owners (linux_owners).
"""

import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from fleetward.core.listeners import BoundSocket, Transport
from fleetward.listeners.source import Ports, SourceDeniedError

_LISTEN, _UNCONNECTED = "0A", "07"
_FILES: Final = (
    ("tcp", Transport.TCP, _LISTEN),
    ("tcp6", Transport.TCP, _LISTEN),
    ("udp", Transport.UDP, _UNCONNECTED),
    ("udp6", Transport.UDP, _UNCONNECTED),
)


class ProcSockets:
    """The sockets that a folder like /proc/net tells of."""

    method = "/proc/net"

    def __init__(self, folder: Path = Path("/proc/net"), namespace: int = 0) -> None:
        """Set up for a folder, whose namespace has the inode `namespace`."""
        self._folder = folder
        self._namespace = namespace

    def sockets(self, ports: Ports) -> tuple[BoundSocket, ...]:
        """Return the sockets on `ports`; every port where it is empty."""
        found: list[BoundSocket] = []
        for name, transport, state in _FILES:
            try:
                text = (self._folder / name).read_text(encoding="ascii", errors="replace")
            except FileNotFoundError:  # a kernel without IPv6
                continue
            except OSError as error:
                raise SourceDeniedError(f"{self._folder / name}: {error.strerror}") from error
            lines = text.splitlines()[1:]
            found += [
                one
                for one in parse_table(lines, transport, state, self._namespace)
                if not ports or one.port in ports
            ]
        return tuple(found)


def parse_table(
    lines: list[str], transport: Transport, state: str, namespace: int = 0
) -> Iterator[BoundSocket]:
    """Yield the sockets in `state` of the lines of one file; a line of another form is left out."""
    for line in lines:
        words = line.split()
        if len(words) < 10 or words[3] != state:
            continue
        address, _, port = words[1].partition(":")
        try:
            yield BoundSocket(
                protocol=transport,
                address=_address(address),
                port=int(port, 16),
                inode=int(words[9]),
                uid=int(words[7]),
                namespace=namespace,
            )
        except ValueError:
            continue


def _address(text: str) -> str:
    words = bytes.fromhex(text)
    if sys.byteorder == "little":
        words = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    return str(IPv4Address(words) if len(words) == 4 else IPv6Address(words))
