"""From a frame to TCP or UDP: link headers, IPv4 with options, IPv6 with extensions, fragments.

Invariants: no offset is read past the captured bytes; chains of VLAN tags and of extension headers
are followed a bounded number of times; fragments wait in a bounded table, and of what two
fragments say of the same bytes the first wins.

Deliberately not here: tunnels (GRE, VXLAN, IP in IP): what they carry belongs to other networks.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from fleetward.portwatch.capture.frames import (
    BSD_LOOPBACK,
    ETHERNET,
    LINUX_COOKED,
    LINUX_COOKED_2,
    OPENBSD_LOOPBACK,
    Frame,
)
from fleetward.portwatch.limits import CaptureLimits

TCP: Final = 6
UDP: Final = 17
_FRAGMENT: Final = 44
_AUTHENTICATION: Final = 51
_EXTENSIONS: Final = frozenset({0, 43, 60, 135, 139, 140})
_MAX_EXTENSIONS: Final = 16
_MAX_TAGS: Final = 4
_VLAN: Final = frozenset({0x8100, 0x88A8, 0x9100})
_IP: Final = frozenset({0x0800, 0x86DD})
_FRAGMENT_BYTES: Final = 4_096 + 60
"""Kept of a fragmented datagram: the prefix that is classified, and the longest TCP header."""

_IPV4: Final = struct.Struct(">2xHHHxB2x4s4s")
_IPV6: Final = struct.Struct(">4xHBx16s16s")


@dataclass(frozen=True, slots=True)
class Packet:
    """A TCP or UDP packet, its IP part read.

    Attributes:
        when: seconds since 1970.
        protocol: 6 or 17.
        source: the address, 4 or 16 bytes.
        target: the same.
        content: a buffer that holds the TCP or UDP header at `start`.
        start: see there.
        end: where the captured content ends.
        wire_end: where it would end if it had been captured whole.
        length: of the frame on the wire, in bytes.
        ip_length: of the IP packet, in bytes.
        ip_id: the identification of IPv4, else 0.
        no_fragments: whether DF is set.
    """

    when: float
    protocol: int
    source: bytes
    target: bytes
    content: bytes
    start: int
    end: int
    wire_end: int
    length: int
    ip_length: int
    ip_id: int = 0
    no_fragments: bool = False


def ip_start(frame: Frame) -> int:
    """Return where the IP header of a frame begins; -1 where it has none."""
    _, link, buffer, start, end, _ = frame
    if link == ETHERNET:
        return _after_tags(buffer, start + 12, start + 14, end)
    if link == LINUX_COOKED:
        return _after_tags(buffer, start + 14, start + 16, end)
    if link == LINUX_COOKED_2:
        return _after_tags(buffer, start, start + 20, end)
    if link in (BSD_LOOPBACK, OPENBSD_LOOPBACK):
        return start + 4
    return start


def _after_tags(buffer: bytes, kind_at: int, ip: int, end: int) -> int:
    for _ in range(_MAX_TAGS + 1):
        if ip > end:
            return -1
        kind = int.from_bytes(buffer[kind_at : kind_at + 2])
        if kind in _IP:
            return ip
        if kind not in _VLAN:
            return -1
        kind_at, ip = ip + 2, ip + 4
    return -1


class Network:
    """Reads the IP part of frames; holds the fragments of datagrams that are not whole yet.

    Args:
        ports: that are looked for; fragments of others are not kept once that is known.
        limits: see there.

    Attributes:
        fragments: frames that were fragments.
        unfinished: fragmented datagrams that never became whole.
        contradictions: fragments that say something else of bytes that were there already.
    """

    def __init__(self, ports: frozenset[int], limits: CaptureLimits) -> None:
        self._ports = ports
        self._limits = limits
        self._waiting: dict[tuple[bytes, bytes, int, int], _Pieces] = {}
        self.fragments = 0
        self.unfinished = 0
        self.contradictions = 0

    def read(self, frame: Frame) -> Packet | None:
        """Return a frame's TCP or UDP packet, perhaps with what earlier frames held of it.

        None where it has none, or is a fragment after which others must come.
        """
        ip = ip_start(frame)
        _, _, buffer, _, end, _ = frame
        if ip < 0 or ip + 20 > end:
            return None
        version = buffer[ip] >> 4
        if version == 4:
            return self._of_ipv4(frame, ip)
        if version == 6 and ip + 40 <= end:
            return self._of_ipv6(frame, ip)
        return None

    def finish(self) -> Iterator[Packet]:
        """Give what is there of the datagrams that never became whole."""
        while self._waiting:
            _, pieces = self._waiting.popitem()
            if packet := self._given_up(pieces):
                yield packet

    def _of_ipv4(self, frame: Frame, ip: int) -> Packet | None:
        when, _, buffer, _, end, wire = frame
        header = (buffer[ip] & 15) * 4
        total, ip_id, fragment, protocol, source, target = _IPV4.unpack_from(buffer, ip)
        if protocol not in (TCP, UDP) or header < 20:
            return None
        total = total or end - ip  # 0: cut into segments by the network card later
        packet = Packet(
            when, protocol, source, target, buffer, ip + header, min(end, ip + total), ip + total,
            wire, total, ip_id, bool(fragment & 0x4000),
        )  # fmt: skip
        if fragment & 0x3FFF:
            key = (source, target, ip_id, protocol)
            return self._fragment(
                key, packet, (fragment & 0x1FFF) * 8, more=bool(fragment & 0x2000)
            )
        return packet if self._is_ours(packet) else None

    def _of_ipv6(self, frame: Frame, ip: int) -> Packet | None:
        when, _, buffer, _, end, wire = frame
        length, header, source, target = _IPV6.unpack_from(buffer, ip)
        total = 40 + length if length else end - ip
        at, fragment = ip + 40, None
        for _ in range(_MAX_EXTENSIONS):
            if header in (TCP, UDP) or at + 8 > end:
                break
            follows = buffer[at]
            if header == _FRAGMENT:
                fragment = buffer[at + 2 : at + 8]
                at += 8
            elif header in _EXTENSIONS:
                at += (buffer[at + 1] + 1) * 8
            elif header == _AUTHENTICATION:
                at += (buffer[at + 1] + 2) * 4
            else:
                return None
            header = follows
            if fragment is not None and fragment[:2] >= b"\x00\x08":
                break  # what follows is the middle of something, no header
        wire_end = ip + total
        packet = Packet(
            when, header, source, target, buffer, at, min(end, wire_end), wire_end, wire, total
        )
        if fragment is not None and int.from_bytes(fragment[:2]) & 0xFFF9:
            place = int.from_bytes(fragment[:2])
            key = (source, target, int.from_bytes(fragment[2:]), header)
            return self._fragment(key, packet, place & 0xFFF8, more=bool(place & 1))
        return packet if self._is_ours(packet) else None

    def _is_ours(self, packet: Packet) -> bool:
        if packet.protocol not in (TCP, UDP) or packet.start + 8 > packet.end:
            return False
        return self._is_on_port(packet.content[packet.start : packet.start + 4])

    def _is_on_port(self, ports: bytes) -> bool:
        source, target = int.from_bytes(ports[:2]), int.from_bytes(ports[2:4])
        return source in self._ports or target in self._ports

    # -- fragments -----------------------------------------------------------------------------

    def _fragment(
        self, key: tuple[bytes, bytes, int, int], packet: Packet, place: int, *, more: bool
    ) -> Packet | None:
        pieces = self._waiting.get(key)
        if pieces is None:
            if len(self._waiting) >= self._limits.fragmented:
                self._waiting.pop(next(iter(self._waiting)))
                self.unfinished += 1
            pieces = self._waiting[key] = _Pieces(packet)
        content = packet.content[packet.start : packet.end]
        if not place and not self._is_on_port(content[:4]):
            pieces.is_foreign = True
        if pieces.is_foreign:
            pieces.stored.clear()
        else:
            self.fragments += 1
            self.contradictions += pieces.add(place, content, self._limits.fragments)
        if not more:
            pieces.length = place + packet.wire_end - packet.start
        if not pieces.is_foreign and pieces.is_whole():
            del self._waiting[key]
            return pieces.packet(packet)
        return None

    def _given_up(self, pieces: "_Pieces") -> Packet | None:
        self.unfinished += not pieces.is_foreign
        packet = pieces.packet(pieces.first)
        return packet if self._is_ours(packet) else None


@dataclass(slots=True)
class _Pieces:
    """The fragments of one datagram so far.

    Attributes:
        first: the fragment that came first; what is said of the datagram is taken from it.
        stored: content by its place, not overlapping.
        length: of the whole; -1 until the last fragment came.
        is_foreign: its ports are not looked for; nothing is stored.
    """

    first: Packet
    stored: dict[int, bytes] = field(default_factory=dict)
    length: int = -1
    is_foreign: bool = False

    def add(self, place: int, content: bytes, limit: int) -> bool:
        """Store a fragment; return whether it contradicts what was there."""
        content = content[: max(0, _FRAGMENT_BYTES - place)]
        contradicts = False
        for start, held in self.stored.items():
            low, high = max(start, place), min(start + len(held), place + len(content))
            if (
                low < high
                and held[low - start : high - start] != content[low - place : high - place]
            ):
                contradicts = True
        if content and place not in self.stored and len(self.stored) < limit:
            self.stored[place] = content
        return contradicts

    def is_whole(self) -> bool:
        """Return whether the datagram, or the prefix that is kept of it, has no gap."""
        have = len(self._prefix())
        return have >= _FRAGMENT_BYTES or 0 <= self.length <= have

    def packet(self, last: Packet) -> Packet:
        """Return the datagram as far as it is there, with the time of its last fragment."""
        content = self._prefix()
        whole = max(self.length, len(content))
        return Packet(
            last.when, self.first.protocol, self.first.source, self.first.target, content, 0,
            len(content), whole, last.length, self.first.ip_length, self.first.ip_id,
            self.first.no_fragments,
        )  # fmt: skip

    def _prefix(self) -> bytes:
        prefix = b""
        for place in sorted(self.stored):
            if place > len(prefix):
                break
            prefix += self.stored[place][len(prefix) - place :]
        return prefix
