"""Which addresses carry many hosts: relays of a chain, and address translators.

They are named by the operator (`spool.downstream`), and have no share and no rate of their own,
since both would be one host's for a whole site.
"""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from fleetward.wire.checkins import MAX_PEER_CHARS


class Downstream:
    """The networks of such addresses: `peer in downstream`."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Take networks as `192.0.2.0/24`.

        Raises:
            ValueError: one is none.
        """
        self._networks = tuple(map(ip_network, networks))

    def __contains__(self, peer: str) -> bool:
        """Return whether an address, which may have a zone, is in one of them."""
        if not self._networks:
            return False
        try:
            address = ip_address(address_of(peer))
        except ValueError:
            return False
        mapped = address.ipv4_mapped if address.version == 6 else None
        return any((mapped or address) in network for network in self._networks)


def address_of(peer: str) -> str:
    """Return an address without its zone, which means something on this machine alone.

    What cannot be an address becomes empty.
    """
    address = peer.partition("%")[0]
    is_address = address.isascii() and address.isprintable() and len(address) <= MAX_PEER_CHARS
    return address if is_address else ""
