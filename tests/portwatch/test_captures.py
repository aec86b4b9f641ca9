"""Readers of captures: formats, orders, link types, compression, and files that are not whole."""

import gzip
import io
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.portclass import SYMANTEC_PORTS
from fleetward.errors import UsageError
from fleetward.portwatch.capture.frames import Frame
from fleetward.portwatch.capture.network import Network
from fleetward.portwatch.capture.opening import open_capture
from fleetward.portwatch.limits import CAPTURES
from portwatch.captures import (
    ETHERNET,
    LOOP,
    NULL,
    RAW,
    SLL,
    SLL2,
    START,
    SYN,
    Capture,
    Talk,
    block,
    capture_of,
    framed,
    interface,
    ip,
    ipv4,
    ipv6,
    packet_block,
    section,
    tcp,
    udp,
)
from portwatch.payloads import GUP, HELLO, STREAMS
from portwatch.reading import flows_of, kinds_of

LINKS = {"ethernet": ETHERNET, "null": NULL, "loop": LOOP, "raw": RAW, "sll": SLL, "sll2": SLL2}


def sample(link: int = ETHERNET, *, v6: bool = False) -> Capture:
    """Return a talk on the port between foreign ones."""
    ends = ("fd00::9", "fd00::1") if v6 else ("10.0.0.9", "10.0.0.1")
    talk = Talk(*ends).open().say(GUP).answer(b"HTTP/1.1 200 OK\r\n\r\n").close()
    foreign = Talk(*ends, server_port=443).open().say(HELLO)
    return capture_of([*foreign.packets, *talk.packets, *foreign.packets], link)


class TestForms:
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("nanoseconds", [False, True])
    @pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
    @pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
    def test_pcap(self, order: str, *, nanoseconds: bool, link: int, v6: bool) -> None:
        content = sample(link, v6=v6).pcap(order, nanoseconds=nanoseconds)
        flows, reader, table = flows_of(content)
        assert [flow.classified.kind.value for flow in flows] == ["gup-request"]
        assert flows[0].from_client[0] + flows[0].from_server[0] == table.packets == 7
        assert (reader.log.packets, reader.log.truncated) == (15, False)
        assert flows[0].first == pytest.approx(START + 0.005, abs=1e-5)

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("kind", [6, 2, 3])
    @pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
    def test_pcapng(self, order: str, kind: int, link: int) -> None:
        flows, reader, _ = flows_of(sample(link).pcapng(order, kind=kind))
        assert [flow.classified.kind.value for flow in flows] == ["gup-request"]
        assert reader.log.packets == 15
        assert flows[0].first == pytest.approx(0.0 if kind == 3 else START + 0.005, abs=1e-5)

    @pytest.mark.parametrize("resolution", [3, 9])
    def test_times_of_other_resolution(self, resolution: int) -> None:
        flows, _, _ = flows_of(sample().pcapng(resolution=resolution))
        assert flows[0].first == pytest.approx(START + 0.005, abs=1e-3)

    def test_times_in_powers_of_two_and_with_an_offset(self) -> None:
        frame = framed(ip("10.0.0.9", "10.0.0.1", tcp(5, 2967, flags=SYN)))
        options = [(9, b"\x8a"), (14, struct.pack("<q", 1_000)), (2, b"eth0")]
        content = section() + interface(1, options=options) + packet_block(frame, 2_048, 60)
        assert flows_of(content)[0][0].first == 1_002.0

    def test_interfaces_and_sections_of_several_kinds(self) -> None:
        one = framed(ip("10.0.0.9", "10.0.0.1", tcp(5, 2967, flags=SYN)), ETHERNET)
        two = framed(ip("10.0.0.8", "10.0.0.1", tcp(6, 2967, flags=SYN)), RAW)
        content = (
            section() + interface(ETHERNET) + interface(RAW)
            + packet_block(one, 0, 60) + packet_block(two, 0, 60, which=1)
            + block(5, bytes(64)) + block(0x0BAD, bytes(3))
            + section(">") + interface(RAW, ">") + packet_block(two, 0, 60, ">")
        )  # fmt: skip
        flows, reader, _ = flows_of(content)
        assert sum(flow.from_client[0] for flow in flows) == 3
        assert reader.log.links == {ETHERNET: 1, RAW: 2}

    def test_a_long_block_that_is_no_packet_is_passed_over(self) -> None:
        frame = framed(ip("10.0.0.9", "10.0.0.1", tcp(5, 2967, flags=SYN)))
        long = block(10, b"\x0b\x97" * 3_000_000)
        content = section() + interface() + long + packet_block(frame, 0, 60)
        flows, reader, _ = flows_of(content)
        assert (len(flows), reader.log.truncated) == (1, False)

    @pytest.mark.parametrize("tags", [[0x8100], [0x88A8, 0x8100], [0x9100, 0x8100]])
    @pytest.mark.parametrize("link", [ETHERNET, SLL, SLL2])
    def test_tags_of_virtual_networks(self, tags: list[int], link: int) -> None:
        packet = ip("10.0.0.9", "10.0.0.1", tcp(5, 2967, flags=SYN))
        capture = Capture(link).add_frame(framed(packet, link, tags=tags))
        assert kinds_of(capture.pcap()) == ["no-data"]

    def test_what_is_no_ip_is_passed_over(self) -> None:
        packet = ip("10.0.0.9", "10.0.0.1", tcp(5, 2967, flags=SYN))
        arp = b"\xff" * 12 + b"\x08\x06" + packet
        deep = framed(packet, tags=[0x8100] * 6)
        capture = Capture().add_frame(arp).add_frame(deep).add_frame(b"\0" * 13).add_frame(b"")
        flows, reader, _ = flows_of(capture.pcap())
        assert (flows, reader.log.packets) == ([], 4)

    def test_an_unknown_link_type_is_counted_and_noted(self) -> None:
        capture = sample()
        capture.link = 147
        for content in (capture.pcap(), capture.pcapng()):
            flows, reader, _ = flows_of(content)
            assert (flows, reader.log.packets) == ([], 15)
            assert list(reader.log.notes) == ["packets of link type 147 are counted and not read"]

    @pytest.mark.parametrize("kind", STREAMS)
    def test_every_class_is_known_in_a_capture(self, kind: str) -> None:
        assert kinds_of(capture_of(Talk().open().say(STREAMS[kind]).packets).pcap()) == [kind]


class TestCompression:
    def test_gzip_and_zstd(self) -> None:
        plain = sample().pcap()
        for packed in (gzip.compress(plain), zstd.compress(plain)):
            flows, reader, _ = flows_of(packed)
            assert (len(flows), reader.log.truncated) == (1, False)

    @pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
    def test_a_compressed_file_that_ends_early_gives_what_came_before(
        self, pack: Callable[[bytes], bytes]
    ) -> None:
        talks = [p for n in range(2_000) for p in Talk(client_port=n + 5_000).open().packets]
        packed = pack(capture_of(talks).pcap())
        flows, reader, _ = flows_of(packed[: len(packed) // 2], most=512)
        assert reader.log.truncated
        assert any("compressed file" in note or "ends" in note for note in reader.log.notes)
        assert len(flows) < 2_000

    def test_damage_inside_is_noted(self) -> None:
        packed = bytearray(gzip.compress(sample().pcap()))
        packed[-6] ^= 0xFF
        _, reader, _ = flows_of(bytes(packed))
        assert any("compressed file is damaged" in note for note in reader.log.notes)

    def test_a_frame_that_wants_much_memory_is_refused(self) -> None:
        window = {int(zstd.CompressionParameter.window_log): 27}
        packed = zstd.ZstdCompressor(options=window)
        content = packed.compress(sample().pcap()) + packed.flush()
        with pytest.raises(UsageError, match="damaged"):
            flows_of(content)

    def test_a_bomb_takes_no_memory(self) -> None:
        plain = sample().pcap() + bytes(8_000_000)
        flows, reader, _ = flows_of(gzip.compress(plain))
        assert len(flows) == 1
        assert reader.log.packets == 15 + 500_000


class TestDamage:
    @pytest.mark.parametrize("content", [b"", b"\xa1", b"GET / HTTP/1.1", b"PK\3\4" + bytes(99)])
    def test_other_files_are_refused_with_advice(self, content: bytes) -> None:
        with pytest.raises(UsageError, match="pcap and pcapng are read"):
            open_capture(io.BytesIO(content), frozenset({2967}))

    def test_a_compressed_file_of_something_else_is_refused(self) -> None:
        with pytest.raises(UsageError, match="inside the gzip file"):
            open_capture(io.BytesIO(gzip.compress(b"hello, world")), frozenset({2967}))

    def test_a_file_that_ends_within_its_header(self) -> None:
        _, reader, _ = flows_of(sample().pcap()[:10])
        assert list(reader.log.notes) == ["the file ends within its header"]

    def test_a_length_that_cannot_be_ends_the_reading(self) -> None:
        content = sample().pcap()
        hostile = content + struct.pack("<IIII", 0, 0, 0xFFFFFFF0, 60) + bytes(200)
        flows, reader, _ = flows_of(hostile)
        assert len(flows) == 1
        assert reader.log.truncated
        assert list(reader.log.notes) == [
            "packet 16 claims 4,294,967,280 bytes: the file is damaged from there on"
        ]

    @pytest.mark.parametrize(
        ("tail", "note"),
        [
            (struct.pack("<III", 6, 13, 13), "a block claims 13 bytes"),
            (struct.pack("<III", 6, 8, 8), "a block claims 8 bytes"),
            (struct.pack("<III", 6, 1 << 30, 0), "a block claims 1,073,741,824 bytes"),
            (struct.pack("<III", 6, 12, 12), "a packet's block has 12 bytes"),
            (struct.pack("<IIIII", 1, 20, 1, 0, 16), "a block ends with another length"),
            (struct.pack("<III", 0x0A0D0D0A, 28, 7) + bytes(16), "a section has no byte order"),
            (
                struct.pack("<IIIIIIII", 6, 36, 0, 0, 0, 900, 900, 0) + struct.pack("<I", 36),
                "a packet is longer than its block",
            ),
        ],
    )
    def test_blocks_that_cannot_be_end_the_reading(self, tail: bytes, note: str) -> None:
        flows, reader, _ = flows_of(sample().pcapng() + tail + bytes(120))
        assert len(flows) == 1
        assert note in next(iter(reader.log.notes))

    def test_packets_of_no_interface_are_passed_over(self) -> None:
        frame = framed(ip("10.0.0.9", "10.0.0.1", tcp(5, 2967, flags=SYN)))
        content = section() + packet_block(frame, 0, 60) + interface() + packet_block(
            frame, 0, 60, which=7
        )  # fmt: skip
        flows, reader, _ = flows_of(content)
        assert flows == []
        assert reader.log.notes == {"packets of no interface were passed over": 2}

    def test_a_file_of_nothing_but_interfaces_keeps_little(self) -> None:
        limits = replace(CAPTURES, section_interfaces=3)
        _, reader, _ = flows_of(section() + interface() * 10, limits=limits)
        assert reader.log.notes == {"interfaces were passed over": 7}

    def test_notes_are_bounded(self) -> None:
        content = section() + b"".join(interface(300 + n) for n in range(60))
        _, reader, _ = flows_of(content)
        assert len(reader.log.notes) == CAPTURES.notes + 1
        assert reader.log.notes["further notes"] == 60 - CAPTURES.notes

    @pytest.mark.parametrize("write", [Capture.pcap, Capture.pcapng])
    @given(st.data())
    def test_a_file_that_is_cut_anywhere_gives_a_beginning(
        self, write: Callable[[Capture], bytes], data: st.DataObject
    ) -> None:
        content = write(sample())
        cut = data.draw(st.integers(4, len(content) - 1))
        flows, reader, table = flows_of(content[:cut], most=data.draw(st.integers(1, 4_000)))
        assert reader.log.packets <= 15
        assert table.packets <= 7
        assert len(flows) <= 1

    @pytest.mark.parametrize("write", [Capture.pcap, Capture.pcapng])
    @given(most=st.integers(1, 3_000), size=st.integers(64, 4_096))
    def test_how_a_file_arrives_changes_nothing(
        self, write: Callable[[Capture], bytes], most: int, size: int
    ) -> None:
        content = write(sample())
        limits = replace(CAPTURES, block_bytes=size)
        whole, reader, _ = flows_of(content)
        pieces, again, _ = flows_of(content, most=most, limits=limits)
        assert pieces == whole
        assert again.log == reader.log

    def test_a_packet_cut_by_the_capture_is_classified_as_far_as_it_goes(self) -> None:
        capture = Capture()
        for packet in Talk().open().say(GUP).packets:
            frame = framed(packet)
            capture.records.append((START, frame[:96], len(frame)))
        (flow,), _, _ = flows_of(capture.pcap())
        assert flow.classified.kind.value == "other"
        assert flow.from_client[1] == 2 * 54 + 54 + len(GUP)


PACKETS = [
    ipv4("10.0.0.9", "10.0.0.1", tcp(2967, 80, flags=SYN)),
    ipv4("10.0.0.9", "10.0.0.1", tcp(80, 2967, flags=SYN)),
    ipv4("10.0.0.9", "10.0.0.1", tcp(80, 81, bytes.fromhex("0b970b97"))),
    ipv4("10.0.0.9", "10.0.0.1", tcp(81, 2967), options=b"\x94\x04\0\0"),
    ipv4("10.0.0.9", "10.0.0.1", tcp(81, 82), options=b"\x94\x04\0\0"),
    ipv4("10.0.0.9", "10.0.0.1", udp(2967, 2967, b"x"), protocol=17),
    ipv4("10.0.0.9", "10.0.0.1", udp(2967, 2967, b"x"), protocol=1),
    ipv4("10.0.0.9", "10.0.0.1", udp(7, 2967, b"x"), protocol=17, fragment=0x2000),
    ip("fd00::1", "fd00::2", udp(1, 2967, b"x"), protocol=17),
    ip("fd00::1", "fd00::2", udp(1, 2966, b"x"), protocol=17),
    ipv6("fd00::1", "fd00::2", tcp(1, 2967, b"x"), extensions=[(0, b"\0" + bytes(6))]),
]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
@pytest.mark.parametrize("tags", [[], [0x8100], [0x88A8], [0x8100, 0x8100]])
def test_the_quick_look_and_the_proper_look_agree(order: str, link: int, tags: list[int]) -> None:
    if tags and link not in (ETHERNET, SLL, SLL2):
        tags = []
    ports = SYMANTEC_PORTS
    for content in (tagged(link, tags).pcap(order), tagged(link, tags).pcapng(order)):
        quick = {frame[2][frame[3] : frame[4]] for frame in frames_of(content, ports)}
        frames = [frame for _, frame, _ in tagged(link, tags).records]
        network = Network(ports, CAPTURES)
        proper = {f for f in frames if network.read((0.0, link, f, 0, len(f), 0))}
        assert len(proper) == 6
        assert proper <= quick
        assert len(flows_of(content)[0]) == 7


def tagged(link: int, tags: list[int]) -> Capture:
    capture = Capture(link)
    for packet in PACKETS:
        capture.add_frame(framed(packet, link, tags=tags))
    return capture


def frames_of(content: bytes, ports: frozenset[int]) -> list[Frame]:
    return list(open_capture(io.BytesIO(content), ports).frames())


def test_a_tag_that_looks_like_an_address_hides_nothing() -> None:
    """The tag's priority makes its first byte that of IPv6, and lengths and ports fit."""
    packet = ipv4("10.0.0.9", "10.0.0.1", tcp(80, 2967, bytes(0x610 - 40)))
    frame = bytearray(framed(packet, tags=[0x8100]))
    for first in range(256):
        frame[14] = first
        assert kinds_of(Capture().add_frame(bytes(frame)).pcap()) == ["other"]


@pytest.mark.parametrize("tags", [[], [0x8100]])
@pytest.mark.parametrize("v6", [False, True])
def test_packets_on_other_ports_are_not_looked_at_twice(tags: list[int], *, v6: bool) -> None:
    ends = ("fd00::9", "fd00::1") if v6 else ("10.0.0.9", "10.0.0.1")
    capture = Capture()
    for packet in Talk(*ends, server_port=443).open().say(HELLO).packets:
        capture.add_frame(framed(packet, tags=tags))
    assert frames_of(capture.pcap(), SYMANTEC_PORTS) == []
    assert len(frames_of(capture.pcapng(), SYMANTEC_PORTS)) <= 1  # the last one of a block
