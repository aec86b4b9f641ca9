"""The host's own addresses, and which found addresses make sense to ask; no packet is sent.

Linux tells them in /proc. Elsewhere a datagram socket is connected, which sends nothing: the system
only says from which of its own addresses it would. Asked towards the internet and towards each
subnet of interest, it gives most addresses of hosts with several interfaces too.
"""

import contextlib
import socket
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Final

from fleetward.core.fleet import Address, Network

_ANYWHERE: Final = ("192.0.2.1", "2001:db8::1")
"""Documentation addresses (RFC 5737, RFC 3849): what a default route would carry."""

_COMPATIBLE: Final = IPv6Network("::/96")
"""IPv4 addresses in the old notation (RFC 4291, section 2.5.5.1); `::1` and `::` among them."""

_PORT: Final = 9
_MAX_ASKED: Final = 512
"""Subnets towards which the kernel is asked: a long signed list must not cost a host seconds."""


def own_addresses(towards: Iterable[Network] = ()) -> tuple[Address, ...]:
    """Return the host's own addresses; loopback and link-local ones count for nothing.

    Args:
        towards: subnets in which it may have one; the first 512 count, and on Linux none need to.
    """
    found = list(_told_by_linux())
    if not found:
        ends = [*_ANYWHERE, *(str(network.network_address + 1) for network in _ordinary(towards))]
        found = list(_sources(ends))
    return tuple(address for address in dict.fromkeys(found) if may_be_relay(address))


def _told_by_linux(folder: Path = Path("/proc/net")) -> Iterator[Address]:
    with contextlib.suppress(OSError, ValueError, IndexError):
        last = ""
        for line in (folder / "fib_trie").read_text().splitlines():
            words = line.split()
            if words[:1] == ["|--"]:
                last = words[1]
            elif words[:3] == ["/32", "host", "LOCAL"]:
                yield IPv4Address(last)
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (folder / "if_inet6").read_text().splitlines():
            yield IPv6Address(int(line.split()[0], 16))


def _ordinary(networks: Iterable[Network]) -> Sequence[Network]:
    """Return the subnets that have a second address; of the others nobody could be asked for."""
    return [network for network in networks if network.num_addresses > 1][:_MAX_ASKED]


def _sources(ends: Iterable[str]) -> Iterator[Address]:
    for end in ends:
        family = socket.AF_INET6 if ":" in end else socket.AF_INET
        # A socket that is connected a second time keeps its first source address.
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((end, _PORT))
            yield ip_address(probe.getsockname()[0])


def may_be_relay(address: Address) -> bool:
    """Return whether an address that somebody announced may be asked at all.

    Loopback would make an agent ask its own machine's services, link-local has the metadata
    services of clouds (and needs an interface in IPv6), the others are nobody's. An IPv6 address
    that stands for an IPv4 one (`::ffff:127.0.0.1`) is refused: the system connects to the latter.
    """
    if isinstance(address, IPv6Address) and (address.ipv4_mapped or address in _COMPATIBLE):
        return False
    return not (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or (address.is_reserved and address.version == 4)
    )


def url_of(address: Address, port: int) -> str:
    """Return the base URL of a relay at an address."""
    shown = f"[{address}]" if address.version == 6 else str(address)
    return f"http://{shown}:{port}"
