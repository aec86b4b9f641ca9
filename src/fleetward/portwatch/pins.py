"""Who may talk on port 2967: from the signed list of relays and the operator's subnets.

    to a relay      hosts of the subnets, and other relays
    to a host       nobody; relays with announcements (UDP), where hosts hear them
    from anybody    to relays alone

A rule set for one machine depends on whether it is a relay (`Role`). Names are resolved once, when
the rules are made: a firewall that asks DNS can be opened by whoever answers.

Deliberately not here: the languages of firewalls (nftables, iptables, suricata, windows).
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from fleetward.core.fleet import Address, Network, Relays, parse_subnet
from fleetward.core.ports import RELAY_PORT
from fleetward.errors import DocumentError, NetworkError, UsageError

GROUPS: Final = (ipaddress.ip_address("239.255.29.67"), ipaddress.ip_address("ff08::2967"))
"""Where relays announce to, unless set otherwise."""


class Role(StrEnum):
    """What the machine is whose firewall it will be."""

    RELAY = "relay"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Peer:
    """A relay at an address.

    Attributes:
        address: of the relay.
        name: its URL, for comments.
    """

    address: Address
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """Who may talk; what every format is made of.

    Attributes:
        port: the port.
        role: what this machine is.
        relays: by address, each once.
        subnets: of clients, collapsed; they may hold relays too.
        announcements: whether a host hears announcements.
        remarks: what people should know of how these were found.
        made: when.
    """

    port: int = RELAY_PORT
    role: Role = Role.RELAY
    relays: tuple[Peer, ...] = ()
    subnets: tuple[Network, ...] = ()
    announcements: bool = False
    remarks: tuple[str, ...] = ()
    made: datetime

    def relays_of(self, version: int) -> tuple[Peer, ...]:
        """Return the relays with addresses of IPv4 or IPv6."""
        return tuple(peer for peer in self.relays if peer.address.version == version)

    def subnets_of(self, version: int) -> tuple[Network, ...]:
        """Return the subnets of IPv4 or IPv6."""
        return tuple(subnet for subnet in self.subnets if subnet.version == version)

    def sources_of(self, version: int) -> tuple[Network, ...]:
        """Return the networks that may begin to talk to this machine, collapsed."""
        if self.role is Role.HOST:
            return ()
        own = [ipaddress.ip_network(peer.address) for peer in self.relays_of(version)]
        return collapsed([*own, *self.subnets_of(version)], version)

    def targets_of(self, version: int) -> tuple[Network, ...]:
        """Return the networks that this machine may begin to talk to, collapsed."""
        own = [ipaddress.ip_network(peer.address) for peer in self.relays_of(version)]
        return collapsed(own, version)


def collapsed(networks: Iterable[Network], version: int) -> tuple[Network, ...]:
    """Return networks of one version without overlaps, in order."""
    if version == 4:
        four = [n for n in networks if isinstance(n, ipaddress.IPv4Network)]
        return tuple(ipaddress.collapse_addresses(four))
    six = [n for n in networks if isinstance(n, ipaddress.IPv6Network)]
    return tuple(ipaddress.collapse_addresses(six))


def complement(networks: Iterable[Network], version: int) -> tuple[tuple[Address, Address], ...]:
    """Return the ranges (first, last) of all addresses that are in none of `networks`."""
    make = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    end = 2 ** (32 if version == 4 else 128)
    at = 0
    ranges: list[tuple[Address, Address]] = []
    for network in collapsed(networks, version):
        first = int(network.network_address)
        if first > at:
            ranges.append((make(at), make(first - 1)))
        at = first + network.num_addresses
    if at < end:
        ranges.append((make(at), make(end - 1)))
    return tuple(ranges)


Resolve = Callable[[str], tuple[str, ...]]


def resolve_name(name: str) -> tuple[str, ...]:
    """Return a name's addresses; none where it has none now."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(sorted({str(row[4][0]).partition("%")[0] for row in found}))


def pins_of(
    listed: Relays,
    subnets: Iterable[str],
    *,
    role: Role,
    announcements: bool,
    made: datetime,
    resolve: Resolve = resolve_name,
) -> Pins:
    """Return who may talk.

    Args:
        listed: the signed list; its sites' subnets count as clients.
        subnets: the operator's, besides.
        role: what the machine is.
        announcements: whether hosts hear announcements.
        made: the wall clock.
        resolve: a name's addresses.

    Raises:
        UsageError: a subnet is none.
        NetworkError: a relay's name does not resolve: its traffic would be stopped.
    """
    peers: dict[Address, Peer] = {}
    remarks: list[str] = []
    for url in _urls(listed):
        host, port = _place(url)
        if port != RELAY_PORT:
            remarks.append(f"{url} is on port {port}: these rules do not concern it")
            continue
        for address in _addresses(host, resolve):
            peers.setdefault(address, Peer(address, url))
    networks = [network for site in listed.sites for network in site.networks()]
    networks += [_subnet(text) for text in subnets]
    return Pins(
        role=role,
        relays=tuple(peers.values()),
        subnets=(*collapsed(networks, 4), *collapsed(networks, 6)),
        announcements=announcements,
        remarks=tuple(remarks),
        made=made,
    )


def _subnet(text: str) -> Network:
    try:
        return parse_subnet(text)
    except DocumentError as error:
        raise UsageError(str(error)) from error


def _urls(listed: Relays) -> Iterator[str]:
    for site in listed.sites:
        yield from site.relays
    yield from listed.default
    yield from listed.origins


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _addresses(host: str, resolve: Resolve) -> list[Address]:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        found = [ipaddress.ip_address(text) for text in resolve(host)]
    if not found:
        raise NetworkError(
            f"the relay {host} has no address now: rules without it would stop it; make them where "
            "its name resolves"
        )
    return found
