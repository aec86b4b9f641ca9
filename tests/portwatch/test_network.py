"""From frames to TCP and UDP: options, extension headers, fragments, and lengths that lie."""

import random
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.portwatch.limits import CAPTURES
from portwatch.captures import SYN, Capture, capture_of, framed, ipv4, ipv6, tcp, udp
from portwatch.payloads import OVERFLOW, PROBE
from portwatch.reading import flows_of, kinds_of

ENDS = ("10.0.0.9", "10.0.0.1")
ENDS6 = ("fd00::9", "fd00::1")
LONG = PROBE + bytes(3_000)


def in_fragments(content: bytes, sizes: list[int], *, protocol: int = 17) -> list[bytes]:
    """Return an IPv4 packet in fragments of so many times eight bytes, the rest in the last."""
    packets, at = [], 0
    for size in sizes:
        if at + size * 8 >= len(content):
            break
        piece = content[at : at + size * 8]
        packets.append(ipv4(*ENDS, piece, protocol=protocol, ip_id=77, fragment=0x2000 | at // 8))
        at += len(piece)
    packets.append(ipv4(*ENDS, content[at:], protocol=protocol, ip_id=77, fragment=at // 8))
    return packets


def in_fragments6(content: bytes, size: int) -> list[bytes]:
    packets = []
    for at in range(0, len(content), size * 8):
        piece = content[at : at + size * 8]
        more = at + len(piece) < len(content)
        header = b"\0" + struct.pack(">HI", at | more, 99)
        packets.append(ipv6(*ENDS6, piece, protocol=17, extensions=[(44, header)]))
    return packets


class TestHeaders:
    def test_options_of_ipv4(self) -> None:
        packet = ipv4(*ENDS, udp(5, 2967, PROBE), protocol=17, options=b"\x94\x04\0\0")
        assert kinds_of(capture_of([packet]).pcap()) == ["nmap-probe"]

    @pytest.mark.parametrize(
        "extensions",
        [
            [(0, b"\0" + bytes(6))],
            [(60, b"\1" + bytes(14)), (43, b"\0" + bytes(6))],
            [(51, b"\4" + bytes(22)), (135, b"\0" + bytes(6))],
            [(44, b"\0" + struct.pack(">HI", 0, 5))],
        ],
        ids=["hop-by-hop", "destination+routing", "authentication+mobility", "atomic fragment"],
    )
    def test_extension_headers_of_ipv6(self, extensions: list[tuple[int, bytes]]) -> None:
        packet = ipv6(*ENDS6, udp(5, 2967, PROBE), protocol=17, extensions=extensions)
        assert kinds_of(capture_of([packet]).pcap()) == ["nmap-probe"]

    def test_a_chain_without_end_is_left(self) -> None:
        endless = [(0, b"\0" + bytes(6))] * 40
        packet = ipv6(*ENDS6, udp(5, 2967, PROBE), protocol=17, extensions=endless)
        assert kinds_of(capture_of([packet]).pcap()) == []

    @pytest.mark.parametrize("protocol", [50, 58, 59])
    def test_other_protocols_are_left(self, protocol: int) -> None:
        six = ipv6(*ENDS6, udp(5, 2967, PROBE), protocol=protocol)
        four = ipv4(*ENDS, udp(5, 2967, PROBE), protocol=protocol)
        assert kinds_of(capture_of([six, four]).pcap()) == []

    def test_lengths_that_lie_are_held_to_the_captured_bytes(self) -> None:
        good = bytearray(ipv4(*ENDS, udp(5, 2967, PROBE), protocol=17))
        longer, shorter, none, bad = (bytearray(good) for _ in range(4))
        longer[2:4] = b"\xff\xff"
        shorter[2:4] = b"\x00\x1c"
        none[2:4] = b"\0\0"
        bad[0] = 0x44
        packets = [bytes(p) for p in (longer, none)]
        assert kinds_of(capture_of(packets).pcap()) == ["nmap-probe"]
        assert kinds_of(capture_of([bytes(shorter)]).pcap()) == ["no-data"]
        assert kinds_of(capture_of([bytes(bad)]).pcap()) == []

    def test_a_version_that_is_neither(self) -> None:
        odd = bytearray(framed(ipv4(*ENDS, udp(5, 2967), protocol=17)))
        odd[14] = 0x55
        short = framed(ipv6(*ENDS6, udp(5, 2967), protocol=17))[:50]
        assert kinds_of(Capture().add_frame(bytes(odd)).add_frame(short).pcap()) == []

    def test_a_tcp_header_that_is_cut_is_left(self) -> None:
        packet = framed(ipv4(*ENDS, tcp(5, 2967, flags=SYN)))[:44]
        assert kinds_of(Capture().add_frame(packet).pcap()) == []

    @given(st.binary(max_size=80), st.sampled_from([0x45, 0x46, 0x4F, 0x60]))
    def test_no_bytes_break_it(self, noise: bytes, first: int) -> None:
        frame = framed(ipv4(*ENDS, b""))[:14] + bytes([first]) + noise
        flows_of(Capture().add_frame(frame).add_frame(frame[:20]).pcap())


class TestFragments:
    @given(st.lists(st.integers(1, 120), max_size=12), st.integers(0, 1_000))
    def test_in_any_sizes_and_order_a_datagram_is_whole(self, sizes: list[int], seed: int) -> None:
        packets = in_fragments(udp(5, 2967, LONG), sizes)
        random.Random(seed).shuffle(packets)
        flows, _, table = flows_of(capture_of(packets).pcap())
        assert [flow.classified.kind.value for flow in flows] == ["other"]
        assert table.network.unfinished == 0
        assert flows[0].classified.detail == PROBE[:16].hex(" ")

    @pytest.mark.parametrize("order", [1, -1])
    def test_fragments_of_ipv6(self, order: int) -> None:
        packets = in_fragments6(udp(5, 2967, PROBE), 2)[::order]
        flows, _, table = flows_of(capture_of(packets).pcap())
        assert [flow.classified.kind.value for flow in flows] == ["nmap-probe"]
        assert table.network.fragments == 3

    def test_the_overflow_in_fragments_is_known(self) -> None:
        syn = ipv4(*ENDS, tcp(5, 2967, seq=9, flags=SYN))
        packets = in_fragments(tcp(5, 2967, OVERFLOW, seq=10), [4, 10], protocol=6)
        assert kinds_of(capture_of([syn, *packets]).pcap()) == ["rtvscan-overflow"]

    def test_a_datagram_that_never_becomes_whole_is_looked_at_as_it_is(self) -> None:
        packets = in_fragments(udp(5, 2967, PROBE + bytes(100)), [2, 2])[:2]
        flows, _, table = flows_of(capture_of(packets).pcap())
        assert [flow.classified.kind.value for flow in flows] == ["other"]
        assert table.network.unfinished == 1

    def test_without_the_first_fragment_nothing_is_known(self) -> None:
        packets = in_fragments(udp(5, 2967, PROBE), [2])[1:]
        flows, _, table = flows_of(capture_of(packets).pcap())
        assert (flows, table.network.unfinished) == ([], 1)

    def test_of_two_contents_the_first_one_wins_and_it_is_counted(self) -> None:
        """The attacker sends a harmless fragment and then another one for the same place."""
        good = in_fragments(udp(5, 2967, PROBE), [2])
        evil = in_fragments(udp(5, 2967, bytes(30)), [2])
        flows, _, table = flows_of(capture_of([good[0], evil[0], good[1]]).pcap())
        assert [flow.classified.kind.value for flow in flows] == ["nmap-probe"]
        assert table.network.contradictions == 1

    def test_fragments_of_other_ports_are_not_kept(self) -> None:
        packets = in_fragments(udp(5, 53, LONG), [50, 50])
        flows, _, table = flows_of(capture_of(packets).pcap())
        assert (flows, table.network.fragments, table.network.unfinished) == ([], 0, 0)

    def test_a_flood_of_first_fragments_holds_a_bounded_number(self) -> None:
        packets = [
            ipv4(*ENDS, udp(5, 2967, bytes(16)), protocol=17, ip_id=n, fragment=0x2000)
            for n in range(50)
        ]
        limits = replace(CAPTURES, fragmented=8)
        _, _, table = flows_of(capture_of(packets).pcap(), limits=limits)
        assert table.network.unfinished == 50

    def test_a_flood_of_tiny_fragments_of_one_datagram(self) -> None:
        packets = in_fragments(udp(5, 2967, LONG), [1] * 300)
        flows, _, _ = flows_of(capture_of(packets).pcap())
        assert [flow.classified.kind.value for flow in flows] == ["other"]
