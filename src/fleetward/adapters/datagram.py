"""UDP: receiving on one address, sending to addresses and multicast groups, IPv4 and IPv6.

Invariants: what listens on loopback alone joins no group and sends to none, so that a relay for
tests or for one machine stays there; a datagram that is longer than asked for is seen to be so;
sending never blocks and never raises for one destination that cannot be reached.

Deliberately not here: what datagrams mean, how often they are sent, names (adapters.resolving).
"""

import contextlib
import errno
import ipaddress
import select
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fleetward.errors import ConfigurationError

_RECEIVE_BUFFER: Final = 1024 * 1024
"""Bytes of datagrams that the kernel holds while a program is busy: a burst of check-ins."""

_ALREADY_JOINED: Final = errno.EADDRINUSE
_LOOPBACK_NAMES: Final = ("lo", "lo0")
WILDCARDS: Final = ("0.0.0.0", "::", "")  # noqa: S104 (compared with, not bound to)


@dataclass(frozen=True, slots=True)
class Interface:
    """Where multicast leaves and arrives.

    Attributes:
        index: the system's number of it; 0 leaves the choice to `address`.
        address: an IPv4 address of it; `0.0.0.0` leaves the choice to `index`.
    """

    index: int = 0
    address: str = "0.0.0.0"  # noqa: S104 (see above)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a datagram goes; an address, not a name.

    Attributes:
        address: IPv4 or IPv6; a multicast group too.
        port: UDP.
    """

    address: str
    port: int

    @property
    def is_group(self) -> bool:
        """Return whether it is a multicast group."""
        return ipaddress.ip_address(self.address.partition("%")[0]).is_multicast


def family_of(address: str) -> socket.AddressFamily:
    """Return the family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def interfaces_for(host: str, names: Iterable[str] = ()) -> tuple[Interface, ...]:
    """Return the interfaces for multicast of a program that listens on `host`.

    Args:
        host: the address; a wildcard means all interfaces but loopback, loopback means none, and
            another one means the interface that has it. A name is taken for loopback's.
        names: only these interfaces, whatever `host` is (but for loopback); those that are not
            there just now are left out.
    """
    chosen = tuple(names)
    if host not in WILDCARDS and _is_loopback(host):
        return ()
    found = socket.if_nameindex()
    if chosen:
        return tuple(Interface(index) for index, name in found if name in chosen)
    if host in WILDCARDS:
        return tuple(Interface(index) for index, name in found if name not in _LOOPBACK_NAMES)
    return (Interface(address=host),) if family_of(host) == socket.AF_INET else (Interface(),)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return True


def require_interfaces(names: Iterable[str]) -> None:
    """Return where there is an interface of each name: a program's settings at its start.

    Raises:
        ConfigurationError: there is none of one.
    """
    known = {name for _, name in socket.if_nameindex()}
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"there is no network interface {name!r}: `ip link` lists those of this machine"
            )


def open_receiver(host: str, port: int) -> socket.socket:
    """Return a socket that receives datagrams on an address; it does not block.

    Another program on this machine cannot take the same port while it is open.

    Args:
        host: an address; `::` is IPv6 alone.
        port: 0 takes a free one.

    Raises:
        ConfigurationError: the address is taken or is none of this machine.
    """
    family = family_of(host)
    with contextlib.ExitStack() as opened:
        receiver = opened.enter_context(_new_socket(family, host, port))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        try:
            if family == socket.AF_INET6:
                receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            receiver.bind((host, port))
        except OSError as error:
            raise _cannot_listen(host, port, error) from error
        opened.pop_all()
        return receiver


def _new_socket(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    try:
        made = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:  # pragma: no cover (a machine without IPv6)
        raise _cannot_listen(host, port, error) from error
    made.settimeout(0)
    return made


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"cannot listen on {host}:{port}/udp: {error.strerror or error}; choose another address, "
        "end the program that has it, or turn UDP off in the settings"
    )


def join(receiver: socket.socket, group: str, interfaces: Iterable[Interface]) -> int:
    """Receive what is sent to a multicast group, on each interface; harmless when done again.

    Returns:
        How many of the interfaces are joined now.
    """
    joined = 0
    for one in interfaces:
        try:
            if family_of(group) == socket.AF_INET6:
                request = struct.pack("@16sI", socket.inet_pton(socket.AF_INET6, group), one.index)
                receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
            else:
                request = _ip_mreqn(group, one)
                receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        except OSError as error:
            joined += error.errno == _ALREADY_JOINED
        else:
            joined += 1
    return joined


def _ip_mreqn(group: str, interface: Interface) -> bytes:
    """Return a `struct ip_mreqn` (ip(7))."""
    return struct.pack(
        "@4s4si", socket.inet_aton(group), socket.inet_aton(interface.address), interface.index
    )


def send(
    datagram: bytes,
    destinations: Iterable[Destination],
    *,
    interfaces: Iterable[Interface] = (),
    hops: int = 1,
) -> int:
    """Send a datagram to each destination; to a group once on each interface.

    From a socket of its own, so that what comes back (an ICMP error) disturbs nobody. Programs on
    this machine that have joined a group hear it too.

    Args:
        datagram: at most 1,200 bytes, so that no path on the internet splits it.
        destinations: where to.
        interfaces: where groups are sent on; none sends to no group.
        hops: how many routers multicast may pass, less one.

    Returns:
        How many datagrams the kernel took.
    """
    wanted = tuple(destinations)
    interfaces = tuple(interfaces)
    sent = 0
    for family in (socket.AF_INET, socket.AF_INET6):
        ours = [one for one in wanted if family_of(one.address) == family]
        if not ours:
            continue
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.settimeout(0)
            for one in ours:
                if not one.is_group:
                    sent += _send(sender, datagram, one)
                    continue
                for interface in interfaces:
                    with contextlib.suppress(OSError):
                        _prepare(sender, interface, hops)
                        sent += _send(sender, datagram, one)
    return sent


def _prepare(sender: socket.socket, interface: Interface, hops: int) -> None:
    """Let multicast leave by an interface."""
    if sender.family == socket.AF_INET6:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface.index)
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, hops)
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
        return
    request = _ip_mreqn("0.0.0.0", interface)  # noqa: S104 (no group: which interface)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, hops)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)


def _send(sender: socket.socket, datagram: bytes, destination: Destination) -> int:
    try:
        sender.sendto(datagram, (destination.address, destination.port))
    except OSError:  # unreachable, refused by a rule, or no room: an announcement may be lost
        return 0
    return 1


def receive(
    receiver: socket.socket, max_bytes: int, wait: timedelta | None = timedelta()
) -> tuple[bytes, str] | None:
    """Return the next datagram and its sender's address, or None where none comes.

    Args:
        receiver: from `open_receiver`.
        max_bytes: a longer datagram is cut to one byte more, which shows it.
        wait: how long one may take to come; None is for ever.
    """
    if wait != timedelta():
        seconds = None if wait is None else wait.total_seconds()
        if not select.select([receiver], [], [], seconds)[0]:
            return None
    try:
        datagram, peer = receiver.recvfrom(max_bytes + 1)
    except OSError:  # nothing there, or the error of an earlier datagram
        return None
    return datagram, peer[0]
