"""The classic capture format: both byte orders, micro- and nanoseconds.

    file    magic (4), major (2), minor (2), zone (4), accuracy (4), longest packet (4), link (4)
    record  seconds (4), fraction (4), captured bytes (4), bytes on the wire (4), the packet

Source: draft-ietf-opsawg-pcap. A record whose length cannot be is the end: the format has no
marks from which a reader could start again.

The loop over records is the place where all the time goes: it makes no object for a packet on
other ports, and one tuple for the others.
"""

import struct
from collections.abc import Generator, Iterator
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

_ORDERS: Final = {
    bytes.fromhex("d4c3b2a1"): ("<", 1e-6),
    bytes.fromhex("a1b2c3d4"): (">", 1e-6),
    bytes.fromhex("4d3cb2a1"): ("<", 1e-9),
    bytes.fromhex("a1b23c4d"): (">", 1e-9),
}
MAGICS: Final = frozenset(_ORDERS)
_FILE_BYTES: Final = 24
_RECORD_BYTES: Final = 16
_PLAIN_IPV4: Final = 0x45
_NEED: Final = _RECORD_BYTES + PEEK_BYTES


class PcapReader:
    """Reads one pcap file.

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

    def frames(self) -> Iterator[Frame]:
        """Give the frames that may concern the ports."""
        head = b""
        while len(head) < _FILE_BYTES and (piece := self._read(_FILE_BYTES - len(head))):
            head += piece
        if len(head) < _FILE_BYTES:
            self.log.cut("the file ends within its header")
            return
        order, unit = _ORDERS[head[:4]]
        link = struct.unpack(f"{order}I", head[20:24])[0] & 0xFFFF
        if link not in LINK_NAMES:
            self.log.note(f"packets of link type {link} are counted and not read", 1)
        yield from self._records(_Form(order, unit, link))

    def _records(self, form: "_Form") -> Iterator[Frame]:
        quick = peek_of(form.link, form.order)
        buffer, ended = b"", False
        while not ended:
            block = self._read(self._limits.block_bytes)
            ended = not block
            buffer += bytes(_NEED) if ended else block
            size = len(buffer) - (_NEED if ended else 0)
            if quick is not None:
                at = yield from self._peeked(buffer, size, form, quick)
            else:
                at = yield from self._every(buffer, size, form)
            if at < 0:
                return
            buffer = buffer[at:size]
        if buffer:
            self.log.cut(f"the file ends within packet {self.log.packets + 1:,}, which is unread")

    def _peeked(
        self, buffer: bytes, size: int, form: "_Form", peek: Peek
    ) -> Generator[Frame, None, int]:
        """Give the frames of one block; return where the next block begins, or -1 at damage."""
        unpack = struct.Struct(f"{form.order}I{peek.layout}").unpack_from
        quick = QuickLook(self._ports, form.order, peek)
        ports, mask, is_foreign = quick.ports, quick.fragment_mask, quick.is_foreign
        ipv4, ip, last = peek.ipv4, peek.ip + _RECORD_BYTES, len(buffer) - _NEED
        longest = self._limits.record_bytes
        at = count = 0
        while at <= last:
            length, family, first, fragment, source, target = unpack(buffer, at + 8)
            end = at + _RECORD_BYTES + length
            if end > size or length > longest:
                break
            count += 1
            if (
                source in ports
                or target in ports
                or first != _PLAIN_IPV4
                or family != ipv4
                or fragment & mask
            ) and (first == _PLAIN_IPV4 or not is_foreign(buffer, at + ip, first, family)):
                yield form.frame(buffer, at, end)
            at = end
        return self._counted(buffer, at, count, form)

    def _every(self, buffer: bytes, size: int, form: "_Form") -> Generator[Frame, None, int]:
        """Do the same where there is no quick look."""
        unpack = struct.Struct(f"{form.order}I").unpack_from
        last = len(buffer) - _NEED
        known = form.link in LINK_NAMES
        longest = self._limits.record_bytes
        at = count = 0
        while at <= last:
            length = unpack(buffer, at + 8)[0]
            end = at + _RECORD_BYTES + length
            if end > size or length > longest:
                break
            count += 1
            if known:
                yield form.frame(buffer, at, end)
            at = end
        return self._counted(buffer, at, count, form)

    def _counted(self, buffer: bytes, at: int, count: int, form: "_Form") -> int:
        self.log.packets += count
        self.log.links[form.link] += count
        self.log.octets += at - count * _RECORD_BYTES
        if len(buffer) - at >= _NEED:
            length = form.fields(buffer, at)[2]
            if length > self._limits.record_bytes:
                self.log.cut(
                    f"packet {self.log.packets + 1:,} claims {length:,} bytes: the file is damaged "
                    "from there on"
                )
                return -1
        return at


class _Form:
    """The byte order, unit of time and link type of a file."""

    __slots__ = ("fields", "link", "order", "unit")

    def __init__(self, order: str, unit: float, link: int) -> None:
        self.order = order
        self.unit = unit
        self.link = link
        self.fields = struct.Struct(f"{order}IIII").unpack_from

    def frame(self, buffer: bytes, at: int, end: int) -> Frame:
        """Return the frame of the record at `at`."""
        seconds, fraction, _, wire = self.fields(buffer, at)
        return seconds + fraction * self.unit, self.link, buffer, at + _RECORD_BYTES, end, wire
