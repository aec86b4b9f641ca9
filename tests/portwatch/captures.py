"""Captures byte by byte: packets of every kind, and the files that hold them."""

import ipaddress
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
ETHERNET, NULL, LOOP, RAW, SLL, SLL2 = 1, 0, 108, 101, 113, 276
START = 1_166_500_000.0
"""December 2006."""


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def tcp(
    source_port: int,
    target_port: int,
    content: bytes = b"",
    *,
    seq: int = 0,
    ack: int = 0,
    flags: int = ACK,
    window: int = 64_240,
    options: bytes = b"",
) -> bytes:
    offset = (20 + len(options)) // 4 << 4
    header = struct.pack(
        ">HHIIBBHHH", source_port, target_port, seq & 0xFFFFFFFF, ack, offset, flags, window, 0, 0
    )
    return header + options + content


def udp(source_port: int, target_port: int, content: bytes = b"") -> bytes:
    return struct.pack(">HHHH", source_port, target_port, 8 + len(content), 0) + content


def ipv4(
    source: str,
    target: str,
    content: bytes,
    *,
    protocol: int = 6,
    ip_id: int = 1,
    fragment: int = 0x4000,
    options: bytes = b"",
) -> bytes:
    words = (20 + len(options)) // 4
    total = words * 4 + len(content)
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x40 | words, 0, total, ip_id, fragment, 64, protocol, 0,
        packed(source), packed(target),
    )  # fmt: skip
    return header + options + content


def ipv6(
    source: str,
    target: str,
    content: bytes,
    *,
    protocol: int = 6,
    extensions: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """Return an IPv6 packet; `extensions` are kinds with all of their bytes but the first."""
    kinds = [kind for kind, _ in extensions] + [protocol]
    chain = b"".join(
        bytes([follows]) + body for (_, body), follows in zip(extensions, kinds[1:], strict=True)
    )
    body = chain + content
    head = struct.pack(">IHBB", 6 << 28, len(body), kinds[0], 64)
    return head + packed(source) + packed(target) + body


def ip(source: str, target: str, content: bytes, *, protocol: int = 6) -> bytes:
    build = ipv6 if ":" in source else ipv4
    return build(source, target, content, protocol=protocol)


def framed(packet: bytes, link: int = ETHERNET, *, tags: Sequence[int] = ()) -> bytes:
    """Return an IP packet with its link header.

    Args:
        packet: IPv4 or IPv6.
        link: the link type.
        tags: VLAN ethertypes, outermost first.
    """
    family = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
    kinds = [tag.to_bytes(2) for tag in tags] + [family]
    tagged = b"".join(b"\x00\x07" + kind for kind in kinds[1:])
    match link:
        case 1:
            return b"\x02" * 6 + b"\x04" * 6 + kinds[0] + tagged + packet
        case 113:
            return b"\0\0\0\1\0\6" + b"\x04" * 6 + b"\0\0" + kinds[0] + tagged + packet
        case 276:
            return kinds[0] + b"\0\0" + b"\0\0\0\2\0\1\0\6" + b"\x04" * 8 + tagged + packet
        case 0:
            return (2 if family == b"\x08\x00" else 30).to_bytes(4, "little") + packet
        case 108:
            return (2 if family == b"\x08\x00" else 30).to_bytes(4) + packet
        case _:
            return packet


@dataclass
class Capture:
    """Packets with their times, which can be written in each format."""

    link: int = ETHERNET
    records: list[tuple[float, bytes, int]] = field(default_factory=list)

    def add(self, packet: bytes, *, after: float = 0.001, wire: int = 0) -> "Capture":
        last = self.records[-1][0] if self.records else START
        frame = framed(packet, self.link)
        self.records.append((last + after, frame, wire or len(frame)))
        return self

    def add_frame(self, frame: bytes, *, after: float = 0.001) -> "Capture":
        last = self.records[-1][0] if self.records else START
        self.records.append((last + after, frame, len(frame)))
        return self

    def pcap(self, order: str = "<", *, nanoseconds: bool = False) -> bytes:
        magic, unit = (0xA1B23C4D, 1e9) if nanoseconds else (0xA1B2C3D4, 1e6)
        content = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262_144, self.link)]
        for when, frame, wire in self.records:
            fraction = round((when - int(when)) * unit)
            head = struct.pack(f"{order}IIII", int(when), fraction, len(frame), wire)
            content.append(head + frame)
        return b"".join(content)

    def pcapng(self, order: str = "<", *, kind: int = 6, resolution: int = 6) -> bytes:
        parts = [
            section(order),
            interface(self.link, order, [(9, bytes([resolution]))] if resolution != 6 else []),
        ]
        for when, frame, wire in self.records:
            ticks = round(when * 10**resolution)
            parts.append(packet_block(frame, ticks, wire, order, kind=kind))
        return b"".join(parts)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = len(body) + 12
    return struct.pack(f"{order}II", kind, length) + body + struct.pack(f"{order}I", length)


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(
    link: int = ETHERNET, order: str = "<", options: Iterable[tuple[int, bytes]] = ()
) -> bytes:
    body = struct.pack(f"{order}HHI", link, 0, 0)
    for kind, content in options:
        body += struct.pack(f"{order}HH", kind, len(content)) + content + bytes(-len(content) % 4)
    return block(1, body + bytes(4) if options else body, order)


def packet_block(
    frame: bytes, ticks: int, wire: int, order: str = "<", *, kind: int = 6, which: int = 0
) -> bytes:
    if kind == 3:
        return block(3, struct.pack(f"{order}I", wire) + frame, order)
    start = struct.pack(f"{order}HH", which, 0) if kind == 2 else struct.pack(f"{order}I", which)
    fields = struct.pack(f"{order}IIII", ticks >> 32, ticks & 0xFFFFFFFF, len(frame), wire)
    return block(kind, start + fields + frame, order)


@dataclass
class Talk:
    """A TCP connection, packet by packet, as IP packets."""

    client: str = "10.0.0.9"
    server: str = "10.0.0.1"
    client_port: int = 51_000
    server_port: int = 2967
    client_isn: int = 1_000
    server_isn: int = 9_000
    packets: list[bytes] = field(default_factory=list)

    def open(self) -> "Talk":
        self._from_client(b"", seq=self.client_isn, flags=SYN)
        self._from_server(b"", seq=self.server_isn, flags=SYN | ACK)
        self._from_client(b"", seq=self.client_isn + 1)
        return self

    def say(self, content: bytes, at: int = 0) -> "Talk":
        self._from_client(content, seq=self.client_isn + 1 + at, flags=PSH | ACK)
        return self

    def answer(self, content: bytes, at: int = 0) -> "Talk":
        self._from_server(content, seq=self.server_isn + 1 + at, flags=PSH | ACK)
        return self

    def close(self) -> "Talk":
        self._from_client(b"", seq=self.client_isn + 5_000, flags=FIN | ACK)
        self._from_server(b"", seq=self.server_isn + 5_000, flags=FIN | ACK)
        return self

    def _from_client(self, content: bytes, *, seq: int, flags: int = ACK) -> None:
        segment = tcp(self.client_port, self.server_port, content, seq=seq, flags=flags)
        self.packets.append(ip(self.client, self.server, segment))

    def _from_server(self, content: bytes, *, seq: int, flags: int = ACK) -> None:
        segment = tcp(self.server_port, self.client_port, content, seq=seq, flags=flags)
        self.packets.append(ip(self.server, self.client, segment))


def capture_of(packets: Iterable[bytes], link: int = ETHERNET) -> Capture:
    capture = Capture(link)
    for packet in packets:
        capture.add(packet)
    return capture
