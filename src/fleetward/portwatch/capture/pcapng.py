"""The newer capture format: sections of either byte order, interfaces, blocks of many kinds.

    block   kind (4), length of the whole (4), body, the length again (4)

Source: draft-ietf-opsawg-pcapng. Read are section headers, interface descriptions and the three
kinds of packet blocks; all others are passed over without being kept, whatever their length. A
length that cannot be is the end.

Interfaces may differ in link type; the quick look of `portwatch.capture.frames` is used while all
those of a section have one type that knows it.
"""

import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final

from fleetward.portwatch.capture.frames import (
    LINK_NAMES,
    PEEK_BYTES,
    Frame,
    Peek,
    QuickLook,
    ReadBytes,
    ReadLog,
    peek_of,
)
from fleetward.portwatch.limits import CaptureLimits

MAGIC: Final = bytes.fromhex("0a0d0d0a")
_SECTION: Final = 0x0A0D0D0A
_INTERFACE: Final = 1
_OLD_PACKET: Final = 2
_SIMPLE_PACKET: Final = 3
_PACKET: Final = 6
_CLOSED: Final = frozenset({_INTERFACE, _SIMPLE_PACKET, _OLD_PACKET})
"""Kinds whose second length is compared: others are passed quickly, or in pieces."""
_MARK: Final = 0x1A2B3C4D
_HEAD: Final = 8
_PACKET_HEAD: Final = 28
_SIMPLE_HEAD: Final = 12
_LEAST: Final = 12
_PLAIN_IPV4: Final = 0x45
_NEED: Final = _PACKET_HEAD + PEEK_BYTES
_RESOLUTION: Final = 9
_OFFSET: Final = 14


@dataclass(frozen=True, slots=True)
class _Interface:
    """One interface of a section.

    Attributes:
        link: its link type.
        longest: bytes of a packet that it keeps; 0 for all.
        unit: seconds of one tick.
        offset: seconds to add.
    """

    link: int
    longest: int = 0
    unit: float = 1e-6
    offset: int = 0


_NO_INTERFACE: Final = _Interface(-1)


class PcapngReader:
    """Reads one pcapng file.

    Args:
        read: gives the file's bytes, from its beginning.
        ports: that are looked for.
        limits: see there.
    """

    def __init__(self, read: ReadBytes, ports: frozenset[int], limits: CaptureLimits) -> None:
        self.log = ReadLog()
        self._read = read
        self._ports = ports
        self._limits = limits
        self._order = "<"
        self._interfaces: list[_Interface] = []
        self._pass_over = 0
        self._damaged = False

    def frames(self) -> Iterator[Frame]:
        """Give the frames that may concern the ports."""
        buffer, ended = b"", False
        while not ended:
            block = self._read(self._limits.block_bytes)
            ended = not block
            block = self._without_passed_over(block)
            buffer += bytes(_NEED) if ended else block
            size = len(buffer) - (_NEED if ended else 0)
            at = 0
            while not self._damaged:
                at = yield from self._packets(buffer, at, size)
                after = yield from self._one_block(buffer, at, size)
                if after == at:
                    break
                at = after
            if self._damaged:
                return
            buffer = buffer[at:size]
        if buffer or self._pass_over:
            self.log.cut(f"the file ends within a block, after {self.log.packets:,} packets")

    def _without_passed_over(self, block: bytes) -> bytes:
        left = block[self._pass_over :]
        self._pass_over -= len(block) - len(left)
        return left

    # -- packets -------------------------------------------------------------------------------

    def _packets(self, buffer: bytes, at: int, size: int) -> Generator[Frame, None, int]:
        """Give frames up to a block of another kind; return where that is."""
        peek = self._common_peek()
        if peek is None:
            return at
        order = self._order
        unpack = struct.Struct(f"{order}III8xI{peek.layout}").unpack_from
        quick = QuickLook(self._ports, order, peek)
        ports, mask, is_foreign = quick.ports, quick.fragment_mask, quick.is_foreign
        ipv4, ip, last = peek.ipv4, peek.ip + _PACKET_HEAD, len(buffer) - _NEED
        known, count, octets = len(self._interfaces), 0, 0
        longest = self._limits.record_bytes
        while at <= last:
            kind, length, which, kept, family, first, fragment, source, target = unpack(buffer, at)
            end = at + length
            if (
                kind != _PACKET
                or end > size
                or which >= known
                or kept + 32 > length
                or length & 3
                or length > longest
            ):
                break
            count += 1
            octets += kept
            if (
                source in ports
                or target in ports
                or first != _PLAIN_IPV4
                or family != ipv4
                or fragment & mask
            ) and (first == _PLAIN_IPV4 or not is_foreign(buffer, at + ip, first, family)):
                yield self._frame(buffer, at, self._interfaces[which])
            at = end
        self.log.packets += count
        self.log.octets += octets
        self.log.links[self._interfaces[0].link] += count
        return at

    def _common_peek(self) -> Peek | None:
        links = {interface.link for interface in self._interfaces}
        return peek_of(links.pop(), self._order) if len(links) == 1 else None

    def _frame(self, buffer: bytes, at: int, interface: _Interface) -> Frame:
        fields = struct.unpack_from(f"{self._order}IIII", buffer, at + 12)
        high, low, kept, wire = fields
        when = ((high << 32) | low) * interface.unit + interface.offset
        start = at + _PACKET_HEAD
        return when, interface.link, buffer, start, start + kept, wire

    # -- one block of any kind -------------------------------------------------------------------

    def _one_block(self, buffer: bytes, at: int, size: int) -> Generator[Frame, None, int]:
        """Read one block; return where the next one is, or `at` where more bytes are needed."""
        if size - at < _LEAST:
            return at
        if buffer[at : at + 4] == MAGIC and not self._begin_section(buffer, at):
            return at
        kind: int
        length: int
        kind, length = struct.unpack_from(f"{self._order}II", buffer, at)
        is_packet = kind in (_PACKET, _SIMPLE_PACKET, _OLD_PACKET)
        if length < _LEAST or length & 3 or (is_packet and length > self._limits.record_bytes):
            return self._damage(at, f"a block claims {length:,} bytes")
        if at + length > size:
            if is_packet or kind == _INTERFACE:
                return at
            self._pass_over = at + length - size
            return size
        is_closed = buffer[at + length - 4 : at + length] == buffer[at + 4 : at + 8]
        if not is_closed and kind in _CLOSED:
            return self._damage(at, "a block ends with another length than it begins with")
        if is_packet:
            yield from self._packet(buffer, at, kind, length)
        elif kind == _INTERFACE:
            self._add_interface(buffer[at + _HEAD : at + length - 4])
        return at + length

    def _damage(self, at: int, what: str) -> int:
        self._damaged = True
        after = f"after {self.log.packets:,} packets"
        self.log.cut(f"{what}, {after}: the file is damaged from there on")
        return at

    def _begin_section(self, buffer: bytes, at: int) -> bool:
        mark = buffer[at + 8 : at + 12]
        for order, which in (("<", "little"), (">", "big")):
            if int.from_bytes(mark, which) == _MARK:  # type: ignore[arg-type]
                self._order = order
                self._interfaces = []
                return True
        self._damage(at, "a section has no byte order")
        return False

    def _add_interface(self, body: bytes) -> None:
        if len(self._interfaces) >= self._limits.section_interfaces or len(body) < 8:
            self.log.note("interfaces were passed over", self._limits.notes)
            return
        link, longest = struct.unpack_from(f"{self._order}H2xI", body)
        unit, offset = 1e-6, 0
        for kind, content in self._options(body, 8):
            if kind == _RESOLUTION and content:
                power = content[0] & 0x7F
                unit = 2.0**-power if content[0] & 0x80 else 10.0**-power
            elif kind == _OFFSET and len(content) == 8:
                offset = struct.unpack(f"{self._order}q", content)[0]
        self._interfaces.append(_Interface(link, longest, unit, offset))
        if link not in LINK_NAMES:
            note = f"packets of link type {link} are counted and not read"
            self.log.note(note, self._limits.notes)

    def _options(self, body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
        while at + 4 <= len(body):
            kind, length = struct.unpack_from(f"{self._order}HH", body, at)
            if not kind:
                return
            yield kind, body[at + 4 : at + 4 + length]
            at += 4 + length + (-length & 3)

    def _packet(self, buffer: bytes, at: int, kind: int, length: int) -> Iterator[Frame]:
        least = _SIMPLE_HEAD if kind == _SIMPLE_PACKET else _PACKET_HEAD
        if length < least + 4:
            self._damage(at, f"a packet's block has {length} bytes")
            return
        form = f"{self._order}H" if kind == _OLD_PACKET else f"{self._order}I"
        which = 0 if kind == _SIMPLE_PACKET else struct.unpack_from(form, buffer, at + 8)[0]
        known = which < len(self._interfaces)
        interface = self._interfaces[which] if known else _NO_INTERFACE
        if not known:
            self.log.note("packets of no interface were passed over", self._limits.notes)
        if kind == _SIMPLE_PACKET:
            frame = self._simple_frame(buffer, at, length, interface)
        else:
            frame = self._frame(buffer, at, interface)
        if frame[4] > at + length - 4:
            self._damage(at, "a packet is longer than its block")
            return
        self.log.packets += 1
        self.log.octets += frame[4] - frame[3]
        self.log.links[interface.link] += 1
        if interface.link in LINK_NAMES:
            yield frame

    def _simple_frame(self, buffer: bytes, at: int, length: int, interface: _Interface) -> Frame:
        wire = struct.unpack_from(f"{self._order}I", buffer, at + 8)[0]
        kept = min(wire, interface.longest or wire, length - _SIMPLE_HEAD - 4)
        start = at + _SIMPLE_HEAD
        return 0.0, interface.link, buffer, start, start + kept, wire
