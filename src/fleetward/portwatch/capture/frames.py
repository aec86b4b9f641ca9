"""What readers of captures give: frames that may concern a port, and what they noticed.

A frame is a plain tuple, since a capture has millions of them and a class costs four times as
much: (seconds since 1970, link type, buffer, start, end, length on the wire in bytes). The packet's
bytes are `buffer[start:end]`; they are copied only by who needs them.

Deliberately not here: what is in a frame (portwatch.capture.network).
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

Frame = tuple[float, int, bytes, int, int, int]

ReadBytes = Callable[[int], bytes]
"""Returns up to so many bytes, none at the end; raises nothing."""

ETHERNET: Final = 1
LINUX_COOKED: Final = 113
LINUX_COOKED_2: Final = 276
BSD_LOOPBACK: Final = 0
OPENBSD_LOOPBACK: Final = 108
RAW_IP: Final = frozenset({12, 14, 101, 228, 229})
"""LINKTYPE_RAW and what BSDs wrote for it, IPV4, IPV6."""

LINK_NAMES: Final = {
    ETHERNET: "Ethernet",
    LINUX_COOKED: "Linux cooked v1",
    LINUX_COOKED_2: "Linux cooked v2",
    BSD_LOOPBACK: "loopback",
    OPENBSD_LOOPBACK: "loopback",
    **dict.fromkeys(RAW_IP, "raw IP"),
}


@dataclass(slots=True)
class ReadLog:
    """What a reader counted and noticed.

    Attributes:
        packets: records with a packet.
        octets: captured bytes of them.
        notes: sentences for people, each with how often it held.
        links: packets by link type.
        truncated: whether the file ends early or is damaged from some place on.
    """

    packets: int = 0
    octets: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    links: Counter[int] = field(default_factory=Counter)
    truncated: bool = False

    def note(self, sentence: str, limit: int) -> None:
        """Count a note; further kinds past the limit are counted together."""
        if sentence not in self.notes and len(self.notes) >= limit:
            sentence = "further notes"
        self.notes[sentence] += 1

    def cut(self, sentence: str) -> None:
        """Note that nothing after this can be read."""
        self.truncated = True
        self.notes[sentence] += 1


class CaptureReader(Protocol):
    """A capture of one format."""

    log: ReadLog

    def frames(self) -> Iterator[Frame]:
        """Give the frames that may concern the ports, in the order of the file, once."""
        ...


@dataclass(frozen=True, slots=True)
class Peek:
    """How the quick look at a packet is taken, for one link type and byte order.

    One `unpack_from` gives an ethertype, the first byte of the IP header, the fragment field and
    both ports, where the packet is plain IPv4: all others are looked at properly.

    Attributes:
        layout: the struct that follows the record's own fields, from the packet's first byte.
        ethertype: what stands for IPv4, as the struct reads it.
        ip: where the IP header begins.
    """

    layout: str
    ethertype: int
    ip: int


_IP_LAYOUT: Final = "Bx4xH12xHH"
"""First byte, (service, length, id), fragment field, (ttl, protocol, sum, addresses), ports."""

PEEK_BYTES: Final = 64
"""No quick look reaches further past a packet's first byte."""


def peek_of(link: int, order: str) -> Peek | None:
    """Return how to look at packets of a link type; None where each must be looked at properly.

    Args:
        link: the link type.
        order: of the file: `<` or `>`, as struct writes it.
    """
    if link == ETHERNET:
        return Peek(f"12xH{_IP_LAYOUT}", _number(b"\x08\x00", order), 14)
    if link == LINUX_COOKED:
        return Peek(f"14xH{_IP_LAYOUT}", _number(b"\x08\x00", order), 16)
    if link == LINUX_COOKED_2:
        return Peek(f"H18x{_IP_LAYOUT}", _number(b"\x08\x00", order), 20)
    return None


class QuickLook:
    """Decides of packets that the first look did not settle: IPv6 without extensions, and ARP.

    Attributes:
        ports: as two bytes read in the file's order.
        fragment_mask: of the fragment field: all but "don't fragment" and the reserved bit.
    """

    __slots__ = ("_ipv6", "fragment_mask", "ports")

    def __init__(self, ports: frozenset[int], order: str) -> None:
        self.ports = frozenset(_number(port.to_bytes(2), order) for port in ports)
        self.fragment_mask = _number(b"\x3f\xff", order)
        self._ipv6 = struct.Struct(f"{order}6xB33xHH")

    def is_foreign(self, buffer: bytes, ip: int, first: int) -> bool:
        """Return whether a packet is IPv6 with TCP or UDP directly, on other ports.

        Args:
            buffer: holds at least `PEEK_BYTES` past the packet's first byte.
            ip: where the IP header begins.
            first: its first byte.
        """
        if first >> 4 != 6:
            return False
        header, source, target = self._ipv6.unpack_from(buffer, ip)
        return header in (6, 17) and source not in self.ports and target not in self.ports


def _number(two: bytes, order: str) -> int:
    return int.from_bytes(two, "little" if order == "<" else "big")
