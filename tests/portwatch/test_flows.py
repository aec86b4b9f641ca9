"""Flows: who opened, what it was, in any order and cut; and what a full table does."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.portclass import TrafficClass
from fleetward.portwatch.flows import Opened
from fleetward.portwatch.limits import CAPTURES
from portwatch.captures import ACK, FIN, RST, SYN, Capture, Talk, capture_of, ip, ipv4, tcp, udp
from portwatch.payloads import GUP, HELLO, HELLO_ANSWER, HTTP, OVERFLOW, PROBE, STREAMS
from portwatch.reading import flows_of, kinds_of

CLIENT, SERVER = "10.0.0.9", "10.0.0.1"
CLIENT_BYTES, SERVER_BYTES = bytes([10, 0, 0, 9]), bytes([10, 0, 0, 1])


def to_server(content: bytes = b"", *, seq: int = 1, flags: int = ACK, port: int = 51_000) -> bytes:
    return ip(CLIENT, SERVER, tcp(port, 2967, content, seq=seq, flags=flags))


def to_client(content: bytes = b"", *, seq: int = 1, flags: int = ACK, port: int = 51_000) -> bytes:
    return ip(SERVER, CLIENT, tcp(2967, port, content, seq=seq, flags=flags))


class TestWhoOpened:
    @pytest.mark.parametrize("link", [1, 101], ids=["quick", "proper"])
    def test_the_sender_of_the_syn(self, link: int) -> None:
        capture = capture_of(Talk().open().say(GUP).answer(b"HTTP/1.1 200 OK\r\n").packets, link)
        (flow,), _, _ = flows_of(capture.pcap())
        assert (flow.client, flow.client_port) == (CLIENT_BYTES, 51_000)
        assert (flow.server, flow.server_port) == (SERVER_BYTES, 2967)
        assert (flow.opened, flow.answered, flow.reset) == (Opened.SYN, True, False)
        assert (flow.from_client[0], flow.from_server[0]) == (3, 2)

    def test_a_client_whose_port_is_2967_is_no_server(self) -> None:
        """Windows XP gives 2967 to a browser, and the capture shows packets from 2967."""
        talk = Talk(client_port=2967, server_port=80).open().say(OVERFLOW).answer(HELLO_ANSWER)
        (flow,), _, _ = flows_of(capture_of(talk.packets).pcap())
        assert flow.classified.kind is TrafficClass.CLIENT_PORT
        assert (flow.client_port, flow.server_port) == (2967, 80)

    def test_a_high_port_that_was_asked_is_the_server_however_odd(self) -> None:
        talk = Talk(client_port=2967, server_port=40_000).open().say(HTTP)
        (flow,), _, _ = flows_of(capture_of(talk.packets).pcap())
        assert flow.classified.kind is TrafficClass.CLIENT_PORT

    def test_2967_to_2967(self) -> None:
        talk = Talk(client_port=2967).open().say(HELLO)
        (flow,), _, _ = flows_of(capture_of(talk.packets).pcap())
        assert (flow.client, flow.classified.kind.value) == (CLIENT_BYTES, "savce-hello")

    def test_by_the_answer_where_the_syn_was_missed(self) -> None:
        packets = [to_client(flags=SYN | ACK, seq=8), to_server(HTTP)]
        (flow,), _, _ = flows_of(capture_of(packets).pcap())
        assert (flow.opened, flow.client) == (Opened.ANSWER, CLIENT_BYTES)
        (flow,), _, _ = flows_of(capture_of(packets[::-1]).pcap())
        assert (flow.opened, flow.client) == (Opened.ANSWER, CLIENT_BYTES)

    @pytest.mark.parametrize("first", [to_server(HTTP), to_client(HELLO_ANSWER)])
    def test_in_the_middle_the_end_on_the_port_is_guessed(self, first: bytes) -> None:
        (flow,), _, _ = flows_of(capture_of([first]).pcap())
        assert (flow.opened, flow.client) == (Opened.GUESS, CLIENT_BYTES)

    def test_in_the_middle_a_system_port_is_the_server(self) -> None:
        packet = ip(CLIENT, SERVER, tcp(2967, 443, b"\x17\x03\x03"))
        for packets in ([packet], [ip(SERVER, CLIENT, tcp(443, 2967, b"x")), packet]):
            flows = flows_of(capture_of(packets).pcap())[0]
            assert len(flows) == 1
        (flow,), _, _ = flows_of(capture_of([packet]).pcap())
        assert flow.classified.kind is TrafficClass.CLIENT_PORT

    def test_a_datagrams_first_sender(self) -> None:
        asked = ip(CLIENT, SERVER, udp(5_000, 2967, PROBE), protocol=17)
        told = ip(SERVER, CLIENT, udp(2967, 5_000, b"x"), protocol=17)
        for packets in ([asked, told], [told, asked]):
            (flow,), _, _ = flows_of(capture_of(packets).pcap())
            assert (flow.client, flow.classified.kind.value) == (CLIENT_BYTES, "nmap-probe")
        query = ip(CLIENT, SERVER, udp(2967, 53, b"dns"), protocol=17)
        assert kinds_of(capture_of([query]).pcap()) == ["client-port"]


class TestScans:
    def test_the_raw_tool(self) -> None:
        syn = tcp(6000, 2967, seq=5, flags=SYN, window=16_384)
        packet = ipv4(CLIENT, SERVER, syn, ip_id=256, fragment=0)
        assert kinds_of(capture_of([packet]).pcap()) == ["scan-raw-tool"]
        assert kinds_of(capture_of([packet], 101).pcap()) == ["scan-raw-tool"]

    @pytest.mark.parametrize(
        ("again", "kind"), [(3.0, "scan-windows-stack"), (1.0, "no-data"), (None, "no-data")]
    )
    def test_the_windows_stack_asks_again_after_three_seconds(
        self, again: float | None, kind: str
    ) -> None:
        syn = ipv4(
            CLIENT, SERVER, tcp(1_042, 2967, seq=5, flags=SYN, window=65_535, options=bytes(8))
        )
        capture = Capture().add(syn)
        if again:
            capture.add(syn, after=again)
            capture.add(syn, after=6.0)
        assert kinds_of(capture.pcap()) == [kind]

    def test_a_knock_that_is_reset_was_not_answered(self) -> None:
        packets = [to_server(flags=SYN), to_client(flags=RST | ACK)]
        (flow,), _, _ = flows_of(capture_of(packets).pcap())
        assert (flow.answered, flow.reset, flow.classified.kind.value) == (False, True, "no-data")


class TestConnections:
    def test_the_same_ends_with_another_syn_are_another_flow(self) -> None:
        first = Talk().open().say(HTTP).close()
        second = Talk(client_isn=70_000_000).open().say(GUP).close()
        packets = [*first.packets, *second.packets]
        assert kinds_of(capture_of(packets).pcap()) == ["gup-request", "http"]

    def test_a_syn_far_from_data_that_was_seen_is_another_flow(self) -> None:
        packets = [to_server(HTTP, seq=500), *Talk(client_isn=1 << 31).open().say(GUP).packets]
        assert kinds_of(capture_of(packets).pcap()) == ["gup-request", "http"]

    def test_a_syn_that_comes_again_is_the_same_flow(self) -> None:
        packets = [to_server(flags=SYN), *Talk(client_isn=1).open().say(GUP).packets]
        (flow,), _, _ = flows_of(capture_of(packets).pcap())
        assert flow.from_client[0] == 4

    def test_data_in_the_syn_is_read(self) -> None:
        packets = [to_server(HTTP[:9], seq=7, flags=SYN), to_server(HTTP[9:], seq=17)]
        assert kinds_of(capture_of(packets).pcap()) == ["http"]

    def test_a_full_stream_is_classified_whatever_follows(self) -> None:
        talk = Talk().open().say(OVERFLOW)
        for place in range(len(OVERFLOW), 9_000, 700):
            talk.say(b"\\" * 700, at=place)
        (flow,), _, _ = flows_of(capture_of(talk.packets).pcap())
        assert flow.classified.kind.value == "rtvscan-overflow"

    def test_a_full_stream_before_its_syn(self) -> None:
        syn = to_server(flags=SYN, seq=0)
        pieces = [to_server(b"\x05" * 1_024, seq=1 + n * 1_024) for n in range(4)]
        assert kinds_of(capture_of([*pieces, syn]).pcap()) == ["other"]

    def test_other_content_for_the_same_bytes_is_noted_and_loses(self) -> None:
        """The attacker shows the sensor a harmless request, and the host another one."""
        packets = [to_server(flags=SYN, seq=0), to_server(HTTP), to_server(OVERFLOW)]
        (flow,), _, _ = flows_of(capture_of(packets).pcap())
        assert (flow.classified.kind.value, flow.contradictions) == ("http", 1)


@st.composite
def segments_of(draw: st.DrawFn, content: bytes) -> list[bytes]:
    edges = sorted({0, len(content), *draw(st.lists(st.integers(0, len(content)), max_size=8))})
    packets = [to_server(content[a:b], seq=1 + a) for a, b in pairwise(edges)]
    packets.append(to_server(flags=SYN, seq=0))
    packets += draw(st.lists(st.sampled_from(packets), max_size=3))
    return draw(st.permutations(packets))


NEAR_MISSES = {
    "379 bytes": OVERFLOW[:-1],
    "no backslash": OVERFLOW.replace(b"\\", b"/"),
    "the marker at offset 2": b"\x01" + OVERFLOW,
    "a hello of 15 bytes": HELLO[:-1],
    "a path of eight digits": GUP.replace(b"/141124002/", b"/14112402/"),
}


@pytest.mark.parametrize("near", NEAR_MISSES)
@given(data=st.data())
def test_a_near_miss_in_any_order_and_cut_stays_one(near: str, data: st.DataObject) -> None:
    """Neither an alarm by the way it is cut, nor a class that is more than its bytes are."""
    content = NEAR_MISSES[near]
    packets = data.draw(segments_of(content))
    flows, _, _ = flows_of(capture_of(packets).pcap())
    kind = "http" if content.startswith(b"GET") else "other"
    assert [flow.classified.kind.value for flow in flows] == [kind]


@pytest.mark.parametrize("kind", STREAMS)
@given(data=st.data())
def test_any_order_and_cut_of_segments_gives_the_same_class(kind: str, data: st.DataObject) -> None:
    packets = data.draw(segments_of(STREAMS[kind]))
    packets.insert(data.draw(st.integers(0, len(packets))), to_client(flags=SYN | ACK))
    packets.append(to_server(flags=FIN | ACK, seq=1 + len(STREAMS[kind])))
    flows, _, _ = flows_of(capture_of(packets, data.draw(st.sampled_from([1, 113, 101]))).pcap())
    assert [(flow.classified.kind.value, flow.client) for flow in flows] == [(kind, CLIENT_BYTES)]


class TestBounds:
    def test_a_full_table_sums_up_what_is_idle(self) -> None:
        limits = replace(CAPTURES, flows=16)
        packets = [to_server(flags=SYN, port=1_024 + n) for n in range(400)]
        flows, _, table = flows_of(capture_of(packets).pcap(), limits=limits)
        assert len(flows) == 400
        assert table.early > 300

    def test_what_is_held_of_streams_is_bounded(self) -> None:
        limits = replace(CAPTURES, held_bytes=20_000)
        packets = []
        for port in range(1_024, 1_124):
            packets += [to_server(flags=SYN, seq=0, port=port), to_server(HTTP * 40, port=port)]
        flows, _, table = flows_of(capture_of(packets).pcap(), limits=limits)
        assert table.early > 0
        assert {flow.classified.kind.value for flow in flows} == {"http"}
        assert table._held == 0

    def test_of_many_datagrams_the_first_are_classified(self) -> None:
        noise = [ip(CLIENT, SERVER, udp(5, 2967, b"noise"), protocol=17)] * CAPTURES.datagrams
        probe = ip(CLIENT, SERVER, udp(5, 2967, PROBE), protocol=17)
        assert kinds_of(capture_of([*noise, probe]).pcap()) == ["other"]
        assert kinds_of(capture_of([*noise[1:], probe]).pcap()) == ["nmap-probe"]

    def test_random_packets_break_nothing(self) -> None:
        rng = random.Random(3)
        packets = []
        for _ in range(3_000):
            flags, seq = rng.randrange(64), rng.randrange(1 << 32)
            content = rng.randbytes(rng.choice([0, 1, 900]))
            build = rng.choice([to_server, to_client])
            packets.append(build(content, seq=seq, flags=flags, port=1_024 + rng.randrange(4)))
        flows, _, table = flows_of(capture_of(packets).pcap())
        assert sum(f.from_client[0] + f.from_server[0] for f in flows) == table.packets == 3_000
