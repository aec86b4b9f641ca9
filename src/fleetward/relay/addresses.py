"""Which addresses an upstream's name may lead to (server-side request forgery, DNS rebinding).

A name is resolved once for each connection; every address that it has is judged, and one of the
judged ones is connected to, so that a second look at DNS cannot lead elsewhere. An IPv6 address
that carries an IPv4 address is judged by both.

Deliberately not here: which names may be asked at all (relay.passthrough_rules).
"""

import asyncio
import enum
import socket
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from fleetward.errors import NetworkError

Address = IPv4Address | IPv6Address


class Reach(enum.IntEnum):
    """Where an address leads; a greater one is worse."""

    PUBLIC = 0
    PRIVATE = 1
    """This machine, its link, or a private network: only where the operator says so."""

    NEVER = 2
    """No upstream is there: metadata services of clouds, multicast, reserved addresses."""


PUBLIC_ONLY: Final = frozenset({Reach.PUBLIC})
ALSO_PRIVATE: Final = frozenset({Reach.PUBLIC, Reach.PRIVATE})

_METADATA: Final = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",
            "169.254.169.253",
            "169.254.170.2",
            "169.254.170.23",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::253",
            "fd00:ec2::23",
            "fd20:ce::254",
        ),
    )
)
"""Where clouds give credentials to whoever asks from the machine."""

_NEVER: Final = tuple(
    map(
        ip_network,
        ("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "192.88.99.0/24", "ff00::/8", "::/128"),
    )
)
_PRIVATE: Final = tuple(
    map(ip_network, ("100.64.0.0/10", "192.0.0.0/24", "fec0::/10", "64:ff9b:1::/48"))
)

_NAT64: Final = IPv6Network("64:ff9b::/96")
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")
_TEREDO: Final = IPv6Network("2001::/32")
_COMPATIBLE: Final = IPv6Network("::/96")
_LAST_32: Final = 0xFFFF_FFFF
_ISATAP: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})


def reach_of(text: str) -> Reach:
    """Return where an address leads.

    Args:
        text: as the resolver gives it, without brackets; may have a zone (`fe80::1%eth0`).

    Raises:
        ValueError: it is no address.
    """
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return _reach_itself(address)
    address = IPv6Address(int(address))  # without its zone
    return max((_reach_itself(address), *map(_reach_itself, _inner(address))))


def _reach_itself(address: Address) -> Reach:
    if address in _METADATA or any(address in network for network in _NEVER):
        return Reach.NEVER
    if isinstance(address, IPv6Address) and _is_translated(address):
        return Reach.PUBLIC  # judged by the IPv4 address inside
    if any(address in network for network in _PRIVATE) or not address.is_global:
        return Reach.PRIVATE
    return Reach.PUBLIC


def _is_translated(address: IPv6Address) -> bool:
    is_loopback = address == IPv6Address(1)
    is_compatible = address in _COMPATIBLE and not is_loopback
    return is_compatible or address in _NAT64 or address.ipv4_mapped is not None


def _inner(address: IPv6Address) -> Iterator[IPv4Address]:
    """Yield the IPv4 addresses that the network may make of an IPv6 one."""
    last = IPv4Address(int(address) & _LAST_32)
    if _is_translated(address) or address in _LOCAL_NAT64:
        yield last
    if address.sixtofour is not None:  # RFC 3056
        yield address.sixtofour
    if address in _TEREDO and address.teredo is not None:  # RFC 4380
        yield from address.teredo
    if (int(address) >> 32) & _LAST_32 in _ISATAP:  # RFC 5214
        yield last


Lookup = Callable[[str, int], Awaitable[list[str]]]


async def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of a name as the system knows them, in the order to be tried.

    Raises:
        OSError: it has none.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in found))


class CheckedResolver:
    """Resolves names for `httpd.client.UpstreamClient`, and refuses where they may not lead.

    Attributes:
        refused: names that were refused because of an address.
    """

    def __init__(self, allowed: frozenset[Reach], lookup: Lookup = look_up) -> None:
        """Take what is allowed.

        Args:
            allowed: `PUBLIC_ONLY` or `ALSO_PRIVATE`.
            lookup: how names are resolved.
        """
        self.refused = 0
        self._allowed = allowed
        self._lookup = lookup

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return where `host` is, every address judged.

        Raises:
            NetworkError: it has no address, or one that is not allowed.
        """
        try:
            found = await self._lookup(host, port)
        except (OSError, UnicodeError) as error:
            raise NetworkError(f"{host} cannot be resolved: {error}") from error
        if not found:
            raise NetworkError(f"{host} has no address")
        for address in found:
            if reach_of(address) not in self._allowed:
                self.refused += 1
                raise NetworkError(
                    f"{host} leads to {address}, which is not on the open Internet: set "
                    "allow_private if that is meant (metadata services, multicast and reserved "
                    "addresses are refused even then)"
                )
        return found
