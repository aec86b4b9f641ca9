"""Flows: who opened, how much went each way, and what it was.

A flow is a pair of ends that speak; TCP's ends with another SYN of the same ends. Who opened it is
told by the SYN, else by the answer to one, else it is a guess: the end on the port is the server,
unless the other end's port is under 1024, since 2967 lies where old systems take their clients'
ports from.

Invariants: open flows and what is held of them are bounded (`CaptureLimits.flows`, `held_bytes`);
the longest idle ones are summed up early, and counted. A packet of an open flow costs no object.

Deliberately not here: reading packets (portwatch.capture), sums over flows (portwatch.report).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fleetward.core.listeners import Transport
from fleetward.core.portclass import (
    PREFIX_BYTES,
    Classified,
    FlowShape,
    SynShape,
    classify_answer,
    classify_flow,
    classify_payload,
    worse,
)
from fleetward.portwatch.capture.frames import ETHERNET, Frame
from fleetward.portwatch.capture.network import TCP, Network, Packet
from fleetward.portwatch.limits import CAPTURES, CaptureLimits
from fleetward.portwatch.reassembly import Stream

_FIN: Final = 1
_SYN: Final = 2
_RST: Final = 4
_ACK: Final = 16
_CONTROLS: Final = _FIN | _SYN | _RST
_SYSTEM_PORTS: Final = 1_024
_NEAR: Final = 1 << 20
"""A SYN belongs to segments that came before it, if they are at most so far."""

_TCP: Final = struct.Struct(">HHI4xBBH")
_TCP_BYTES: Final = 20
_PLAIN: Final = struct.Struct(">HBxHHHxB10xHHI4xBBH")
"""From the ethertype: Ethernet, IPv4 without options, TCP."""


class Opened(StrEnum):
    """How it is known who opened a flow."""

    SYN = "syn"
    ANSWER = "syn-ack"
    FIRST_DATAGRAM = "first-datagram"
    GUESS = "guess"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A flow, summed up.

    Attributes:
        transport: TCP or UDP.
        client: the address of who opened it, 4 or 16 bytes.
        client_port: see there.
        server: the address of who was asked.
        server_port: see there.
        opened: how that is known.
        answered: whether the asked end sent anything but a reset.
        reset: whether either end reset it.
        from_client: packets and bytes on the wire.
        from_server: the same.
        first: seconds since 1970.
        last: the same.
        classified: what it is.
        contradictions: segments that said something else of bytes that had come already.
        dropped: segments that were too many to wait for a gap.
    """

    transport: Transport
    client: bytes
    client_port: int
    server: bytes
    server_port: int
    opened: Opened
    answered: bool
    reset: bool
    from_client: tuple[int, int]
    from_server: tuple[int, int]
    first: float
    last: float
    classified: Classified
    contradictions: int = 0
    dropped: int = 0


class _Half:
    """One direction of an open flow; plain attributes, since each packet touches it."""

    __slots__ = (
        "answered", "asked", "contradictions", "datagrams", "dropped", "first", "flow", "key",
        "last", "octets", "packets", "reset", "results", "stream", "syn", "syn_sequence",
    )  # fmt: skip

    def __init__(self, flow: "_Open", key: bytes, when: float) -> None:
        self.flow = flow
        self.key = key
        self.packets = 0
        self.octets = 0
        self.first = self.last = when
        self.asked = False
        self.answered = False
        self.reset = False
        self.syn: SynShape | None = None
        self.syn_sequence = -1
        self.stream: Stream | None = None
        self.datagrams = 0
        self.results: tuple[Classified | None, Classified | None] | None = None
        self.contradictions = 0
        self.dropped = 0

    @property
    def source(self) -> tuple[bytes, int]:
        """Return who sends: address and port."""
        width = (len(self.key) - 4) // 2
        return self.key[:width], int.from_bytes(self.key[-4:-2])

    @property
    def target(self) -> tuple[bytes, int]:
        """Return to whom."""
        width = (len(self.key) - 4) // 2
        return self.key[width : 2 * width], int.from_bytes(self.key[-2:])


class _Open:
    """Both directions of an open flow: `one` is of whom the first packet came."""

    __slots__ = ("one", "other", "protocol")

    def __init__(self, protocol: int, key: bytes, when: float) -> None:
        self.protocol = protocol
        self.one = _Half(self, key, when)
        self.other: _Half | None = None

    def last(self) -> float:
        return max(self.one.last, self.other.last if self.other else self.one.last)


class FlowTable:
    """Sorts frames into flows.

    Args:
        ports: that are looked for.
        done: takes each flow when it is summed up.
        limits: see there.

    Attributes:
        packets: TCP and UDP packets of flows on the ports.
        early: flows that were summed up while they may have gone on.
        network: reads the IP part; its counters are of interest.
    """

    def __init__(
        self, ports: frozenset[int], done: Callable[[Flow], None], limits: CaptureLimits = CAPTURES
    ) -> None:
        self.packets = 0
        self.early = 0
        self.network = Network(ports, limits)
        self._ports = ports
        self._done = done
        self._limits = limits
        self._tcp: dict[bytes, _Half] = {}
        self._udp: dict[bytes, _Half] = {}
        self._held = 0

    def feed(self, frame: Frame) -> None:
        """Take a frame."""
        when, link, buffer, start, end, wire = frame
        if link == ETHERNET and end - start >= 54:
            family, first, total, ip_id, fragment, protocol, source, target, number, offset, flags, window = _unpack_plain(buffer, start + 12)  # fmt: skip
            is_plain = family == 0x0800 and first == 0x45 and protocol == TCP
            if is_plain and not fragment & 0x3FFF and total:
                if source in self._ports or target in self._ports:
                    ip = start + 14
                    stop = ip + total
                    begin = ip + 20 + (offset >> 4) * 4
                    key = buffer[ip + 12 : ip + 24]
                    content = buffer[begin : min(stop, end)]
                    half = self._tcp.get(key)
                    if half is None or flags & _CONTROLS:
                        shape = (ip_id, window, total, bool(fragment & 0x4000))
                        half = self._control(key, when, number, flags, shape)
                    half.packets += 1
                    half.octets += wire
                    half.last = when
                    self.packets += 1
                    if content and half.results is None:
                        self._content(half, number + (flags >> 1 & 1), content)
                return
        packet = self.network.read(frame)
        if packet is not None:
            self._take(packet)

    def finish(self) -> None:
        """Sum up everything that is still open."""
        for packet in self.network.finish():
            self._take(packet)
        for table in (self._tcp, self._udp):
            while table:
                self._sum_up(next(iter(table.values())).flow)

    # -- packets -------------------------------------------------------------------------------

    def _count(self, half: _Half, when: float, wire: int) -> None:
        half.packets += 1
        half.octets += wire
        half.last = when
        self.packets += 1

    def _take(self, packet: Packet) -> None:
        if packet.protocol == TCP:
            self._take_segment(packet)
        else:
            self._take_datagram(packet)

    def _take_segment(self, packet: Packet) -> None:
        if packet.start + _TCP_BYTES > packet.end:
            return
        fields = _TCP.unpack_from(packet.content, packet.start)
        _, _, number, offset, flags, window = fields
        key = self._key(packet)
        half = self._tcp.get(key)
        if half is None or flags & _CONTROLS:
            shape = (packet.ip_id, window, packet.ip_length, packet.no_fragments)
            half = self._control(key, packet.when, number, flags, shape)
        self._count(half, packet.when, packet.length)
        content = packet.content[packet.start + (offset >> 4) * 4 : packet.end]
        if content and half.results is None:
            self._content(half, number + (flags >> 1 & 1), content)

    def _key(self, packet: Packet) -> bytes:
        return packet.source + packet.target + packet.content[packet.start : packet.start + 4]

    def _content(self, half: _Half, number: int, content: bytes) -> None:
        stream = half.stream
        if stream is None:
            stream = half.stream = Stream(self._limits.stream_pieces)
            if half.syn_sequence >= 0:
                stream.begin(half.syn_sequence)
        before = stream.cost
        stream.add(number, content)
        self._held += stream.cost - before
        if stream.is_full:
            self._close_stream(half)
        if self._held > self._limits.held_bytes:
            self._make_room()

    def _take_datagram(self, packet: Packet) -> None:
        key = self._key(packet)
        half = self._udp.get(key) or self._open(self._udp, packet.protocol, key, packet.when)
        self._count(half, packet.when, packet.length)
        content = packet.content[packet.start + 8 : packet.end][:PREFIX_BYTES]
        if content and half.datagrams < self._limits.datagrams:
            half.datagrams += 1
            asked = classify_payload(Transport.UDP, content, half.target[1])
            told = classify_answer(content)
            before = half.results or (None, None)
            half.results = (_worst(before[0], asked), _worst(before[1], told))

    # -- opening and closing ---------------------------------------------------------------------

    def _open(self, table: dict[bytes, _Half], protocol: int, key: bytes, when: float) -> _Half:
        width = (len(key) - 4) // 2
        back = key[width : 2 * width] + key[:width] + key[-2:] + key[-4:-2]
        known = table.get(back)
        if known is not None and back != key:
            half = known.flow.other = _Half(known.flow, key, when)
        else:
            if len(self._tcp) + len(self._udp) >= 2 * self._limits.flows:
                self._make_room()
            half = _Open(protocol, key, when).one
        table[key] = half
        return half

    def _control(
        self, key: bytes, when: float, number: int, flags: int, shape: tuple[int, int, int, bool]
    ) -> _Half:
        """Return the half of a segment with SYN, FIN or RST, or of a new flow."""
        half = self._tcp.get(key)
        if half is not None and flags & _SYN and self._is_another(half, number, flags):
            self._sum_up(half.flow)
            half = None
        if half is None:
            half = self._open(self._tcp, TCP, key, when)
        if flags & _RST:
            half.reset = True
        elif flags & _SYN:
            self._syn(half, when, number, flags, shape)
        return half

    def _is_another(self, half: _Half, number: int, flags: int) -> bool:
        """Return whether a SYN opens another connection of the same ends."""
        if half.syn_sequence >= 0:
            return half.syn_sequence != number
        return half.stream is not None and half.stream.nearness(number) > _NEAR

    def _syn(
        self, half: _Half, when: float, number: int, flags: int, shape: tuple[int, int, int, bool]
    ) -> None:
        if half.syn_sequence < 0:
            half.syn_sequence = number
            half.answered = bool(flags & _ACK)
            half.asked = not half.answered
            half.syn = _shape(half.source[1], shape)
            if half.stream is not None:
                half.stream.begin(number)
                if half.stream.is_full:
                    self._close_stream(half)
            half.first = when
        elif half.syn is not None and half.syn.repeated_after is None:
            half.syn = _shape(half.source[1], shape, max(0.0, when - half.first))

    def _close_stream(self, half: _Half) -> None:
        stream = half.stream
        if stream is None:
            return
        self._held -= stream.cost
        content = stream.close()
        if content:
            half.results = _results(half, content)
        half.contradictions, half.dropped = stream.contradictions, stream.dropped
        half.stream = None

    def _make_room(self) -> None:
        """Sum up the quarter of the open flows that has been idle for longest."""
        flows = {id(half.flow): half.flow for half in (*self._tcp.values(), *self._udp.values())}
        idle = sorted(flows.values(), key=_Open.last)
        for flow in idle[: len(idle) // 4 + 1]:
            self._sum_up(flow)
            self.early += 1

    def _sum_up(self, flow: _Open) -> None:
        table = self._tcp if flow.protocol == TCP else self._udp
        for half in (flow.one, flow.other):
            if half is not None:
                self._close_stream(half)
                table.pop(half.key, None)
        self._done(_summed(flow, self._ports))


_unpack_plain = _PLAIN.unpack_from


def _results(half: _Half, content: bytes) -> tuple[Classified | None, Classified | None]:
    """Return what a stream is as a question and as an answer, as far as either can count."""
    other = half.flow.other if half.flow.one is half else half.flow.one
    is_client = half.asked or (other is not None and other.answered)
    is_server = not half.asked and (half.answered or (other is not None and other.asked))
    asked = told = None
    if not is_server:
        asked = classify_payload(Transport.TCP, content, half.target[1])
    if not is_client:
        told = classify_answer(content)
    return asked, told


def _worst(before: Classified | None, now: Classified) -> Classified:
    return now if before is None else worse(before, now)


def _shape(port: int, shape: tuple[int, int, int, bool], again: float | None = None) -> SynShape:
    ip_id, window, length, no_fragments = shape
    return SynShape(
        source_port=port,
        ip_id=ip_id,
        window=window,
        length=length,
        no_fragments=no_fragments,
        repeated_after=again,
    )


def _summed(flow: _Open, ports: frozenset[int]) -> Flow:
    one, other = flow.one, flow.other
    opened, is_client = _who_opened(flow, ports)
    (client, client_port), (server, server_port) = one.source, one.target
    asking: _Half | None = one
    asked: _Half | None = other
    if not is_client:
        client, client_port, server, server_port = server, server_port, client, client_port
        asking, asked = asked, asking
    shape = FlowShape(
        is_watched=server_port in ports,
        client=asking.results[0] if asking and asking.results else None,
        server=asked.results[1] if asked and asked.results else None,
        syn=asking.syn if asking else None,
        answered=bool(asked and (asked.answered or not asked.reset)),
    )
    halves = [half for half in (one, other) if half is not None]
    return Flow(
        transport=Transport.TCP if flow.protocol == TCP else Transport.UDP,
        client=client,
        client_port=client_port,
        server=server,
        server_port=server_port,
        opened=opened,
        answered=shape.answered,
        reset=any(half.reset for half in halves),
        from_client=(asking.packets, asking.octets) if asking else (0, 0),
        from_server=(asked.packets, asked.octets) if asked else (0, 0),
        first=min(half.first for half in halves),
        last=max(half.last for half in halves),
        classified=classify_flow(shape),
        contradictions=sum(half.contradictions for half in halves),
        dropped=sum(half.dropped for half in halves),
    )


def _who_opened(flow: _Open, ports: frozenset[int]) -> tuple[Opened, bool]:
    """Return how it is known who opened a flow, and whether it was whose packet came first."""
    one, other = flow.one, flow.other
    if flow.protocol == TCP:
        if one.asked or (other and other.asked):
            return Opened.SYN, one.asked
        if one.answered or (other and other.answered):
            return Opened.ANSWER, not one.answered
    target = one.target[1]
    if target in ports:
        return (Opened.GUESS if flow.protocol == TCP else Opened.FIRST_DATAGRAM), True
    return Opened.GUESS, target < _SYSTEM_PORTS
