"""The host's own addresses, and which found addresses make sense to ask; no packet is sent.

A datagram socket that is connected sends nothing: the kernel only says from which of the host's
own addresses it would. Asked towards the internet and towards each subnet of interest, it gives
the addresses that matter, on hosts with several interfaces too.
"""

import contextlib
import socket
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Final

from fleetward.core.fleet import Address, Network

_ANYWHERE: Final = ("192.0.2.1", "2001:db8::1")
"""Documentation addresses (RFC 5737, RFC 3849): what a default route would carry."""

_PORT: Final = 9
_MAX_ASKED: Final = 512
"""Subnets towards which the kernel is asked: a long signed list must not cost a host seconds."""


def own_addresses(towards: Iterable[Network] = ()) -> tuple[Address, ...]:
    """Return the host's own addresses, as its routes show them.

    Args:
        towards: subnets in which it may have one; the first 512 count.
    """
    ends = [*_ANYWHERE, *(str(network.network_address + 1) for network in _ordinary(towards))]
    found = dict.fromkeys(_sources(ends))
    return tuple(found)


def _ordinary(networks: Iterable[Network]) -> Sequence[Network]:
    """Return the subnets that have a second address; of the others nobody could be asked for."""
    return [network for network in networks if network.num_addresses > 1][:_MAX_ASKED]


def _sources(ends: Sequence[str]) -> Iterable[Address]:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            for end in ends:
                if (":" in end) == (family is socket.AF_INET6):
                    with contextlib.suppress(OSError):
                        probe.connect((end, _PORT))
                        yield ip_address(probe.getsockname()[0])


def may_be_relay(address: Address) -> bool:
    """Return whether an address that somebody announced may be asked at all.

    Loopback would make an agent ask its own machine's services, link-local has the metadata
    services of clouds (and needs an interface in IPv6), the others are nobody's.
    """
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
