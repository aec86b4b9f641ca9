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

    One `unpack_from` gives the family (an ethertype, mostly), the first byte of the IP header, the
    fragment field and both ports, where the packet is plain IPv4: others get a second look.

    Attributes:
        layout: the struct that follows the field of captured bytes: the length on the wire (4),
            then the packet.
        ipv4: the family of IPv4, as the struct reads it.
        ipv6: the same; -1 where it is not known.
        tag: the family that stands for a VLAN's tag; -1 where there is none.
        ip: where the IP header begins, from the packet's first byte.
    """

    layout: str
    ipv4: int
    ipv6: int
    tag: int
    ip: int


_IP_LAYOUT: Final = "Bx4xH12xHH"
"""First byte, (service, length, id), fragment field, (ttl, protocol, sum, addresses), ports."""

_PLAIN_IPV4: Final = 0x45

PEEK_BYTES: Final = 80
"""No quick look reaches further past a packet's first byte."""


def peek_of(link: int, order: str) -> Peek | None:
    """Return how to look at packets of a link type; None where it is not known.

    Args:
        link: the link type.
        order: of the file: `<` or `>`, as struct writes it.
    """
    ipv4, ipv6, tag = (_number(bytes.fromhex(kind), order) for kind in ("0800", "86dd", "8100"))
    match link:
        case 1:
            return Peek(f"4x12xH{_IP_LAYOUT}", ipv4, ipv6, tag, 14)
        case 113:
            return Peek(f"4x14xH{_IP_LAYOUT}", ipv4, ipv6, tag, 16)
        case 276:
            return Peek(f"4xH18x{_IP_LAYOUT}", ipv4, ipv6, tag, 20)
        case 0 | 108:
            half = "H2x" if order == "<" else "2xH"  # the half of the family that is not zero
            return Peek(f"4x{half}{_IP_LAYOUT}", 2, -1, -1, 4)
        case _ if link in RAW_IP:
            half = "2xH" if order == "<" else "H2x"  # the half of the length that is zero
            return Peek(f"{half}{_IP_LAYOUT}", 0, 0, -1, 0)
    return None


class QuickLook:
    """The second look: at IPv6 without extensions, and behind one tag of a VLAN.

    Args:
        ports: that are looked for.
        order: of the file.
        peek: how the first look was taken.

    Attributes:
        ports: as two bytes read in the file's order.
        fragment_mask: of the fragment field: all but "don't fragment" and the reserved bit.
    """

    __slots__ = ("_behind_tag", "_ipv6", "_peek", "fragment_mask", "ports")

    def __init__(self, ports: frozenset[int], order: str, peek: Peek) -> None:
        self.ports = frozenset(_number(port.to_bytes(2), order) for port in ports)
        self.fragment_mask = _number(b"\x3f\xff", order)
        self._peek = peek
        self._ipv6 = struct.Struct(f"{order}6xB33xHH").unpack_from
        self._behind_tag = struct.Struct(f"{order}2xH{_IP_LAYOUT}").unpack_from

    def is_foreign(self, buffer: bytes, ip: int, first: int, family: int) -> bool:
        """Return whether a packet is certainly on other ports.

        Args:
            buffer: holds at least `PEEK_BYTES` past the packet's first byte.
            ip: where the IP header begins, or the tag.
            first: the byte there.
            family: as the first look gave it.
        """
        if family == self._peek.tag:
            family, first, fragment, source, target = self._behind_tag(buffer, ip)
            if family == self._peek.ipv4 and first == _PLAIN_IPV4:
                is_ours = source in self.ports or target in self.ports
                return not is_ours and not fragment & self.fragment_mask
            ip += 4
        if family != self._peek.ipv6 or first >> 4 != 6:
            return False
        header, source, target = self._ipv6(buffer, ip)
        return header in (6, 17) and source not in self.ports and target not in self.ports


def _number(two: bytes, order: str) -> int:
    return int.from_bytes(two, "little" if order == "<" else "big")
