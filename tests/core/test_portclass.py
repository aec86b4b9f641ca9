"""Classes of traffic: each published signature, and what comes near it without being it.

All payloads here are inert: markers at their places, and zeros between.
"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.clienthello import ClientHello, is_client_hello, read_client_hello
from fleetward.core.listeners import Transport
from fleetward.core.portclass import (
    FACTS,
    MAX_DETAIL_CHARS,
    PRECEDENCE,
    FlowShape,
    SynShape,
    TrafficClass,
    classify_answer,
    classify_flow,
    classify_payload,
    is_overflow_shape,
)
from fleetward.core.portrules import Verdict
from fleetward.wire.checkins import CHECKIN_TYPE, CHECKINS_PATH
from fleetward.wire.enrolment import ENROL_PATH
from fleetward.wire.inbox import INBOX_PATH
from fleetward.wire.watch import WATCH_PATH

TCP, UDP = Transport.TCP, Transport.UDP
HELLO = bytes.fromhex("0110000014") + bytes(11)
HELLO_ANSWER = bytes.fromhex("01100000140101") + bytes(9)
PROBE = bytes.fromhex("00060100000100000000000007") + b"version\x04bind\x00\x00\x10\x00\x03"
GUID = "{C60DC234-65F9-4674-94AE-62158EFCA433}"
GUP = f"GET /content/{GUID}/141124002/full.zip HTTP/1.1\r\nHost: gup:2967\r\n\r\n".encode()


def overflow(
    *, first: bytes = b"\x01\x10", gap: int = 4, marker: bytes = b"\x00\x24\x00",
    slash: bytes = b"\\", tail: int = 380,
) -> bytes:  # fmt: skip
    """Return the shape of the signature and nothing else: no code, no address, no request."""
    return first + b"\x01" * gap + marker + b"\x02" * 5 + slash + b"\x03" * tail


def tls_hello(name: bytes = b"relay.example", protocols: tuple[bytes, ...] = (b"h2",)) -> bytes:
    names = b"\x00" + len(name).to_bytes(2) + name
    offered = b"".join(bytes([len(p)]) + p for p in protocols)
    extensions = b"".join(
        kind.to_bytes(2) + (len(content) + 2).to_bytes(2) + len(content).to_bytes(2) + content
        for kind, content in ((0, names), (16, offered), (23, b""))
    )
    body = (
        b"\x03\x03" + bytes(32) + b"\x20" + bytes(32) + b"\x00\x02\x13\x01" + b"\x01\x00"
        + len(extensions).to_bytes(2) + extensions
    )  # fmt: skip
    handshake = b"\x01" + len(body).to_bytes(3) + body
    return b"\x16\x03\x01" + len(handshake).to_bytes(2) + handshake


def kind_of(payload: bytes, transport: Transport = TCP, port: int = 2967) -> str:
    return classify_payload(transport, payload, port).kind.value


class TestOverflow:
    @pytest.mark.parametrize(
        "payload",
        [
            overflow(),
            overflow(first=b"\x10\x00"),
            overflow(first=b"\x10\x10"),
            overflow(gap=0),
            overflow(gap=17),
            overflow(tail=2_000),
            overflow(tail=381) + b"\\",
        ],
    )
    def test_the_published_shape_is_known(self, payload: bytes) -> None:
        assert is_overflow_shape(payload)
        assert kind_of(payload) == "rtvscan-overflow"

    @pytest.mark.parametrize(
        ("payload", "why"),
        [
            (overflow(tail=379), "379 bytes after the backslash"),
            (overflow(slash=b"/"), "no backslash"),
            (overflow(first=b"\x01\x01\x10"), "the marker byte at offset 2"),
            (overflow(first=b"\x01\x11"), "no marker byte"),
            (overflow(marker=b"\x00\x25\x00"), "another length"),
            (overflow(gap=18), "the second marker ends past the 20 bytes"),
            (b"\\" + overflow(slash=b"/"), "the backslash stands before the marker"),
            (b"\x10", "one byte"),
        ],
    )
    def test_a_near_miss_is_not_it(self, payload: bytes, why: str) -> None:
        assert not is_overflow_shape(payload), why
        assert kind_of(payload) != "rtvscan-overflow"

    def test_it_is_known_after_a_hello_too(self) -> None:
        found = classify_payload(TCP, HELLO + overflow())
        assert (found.kind, found.detail) == (TrafficClass.RTVSCAN_OVERFLOW, "after a hello")

    def test_the_same_bytes_by_udp_or_from_the_server_are_not_it(self) -> None:
        assert kind_of(overflow(), UDP) == "other"
        assert classify_answer(overflow()).kind is TrafficClass.OTHER

    @given(st.binary(max_size=40), st.integers(0, 1), st.integers(0, 17))
    def test_the_shape_holds_whatever_lies_between(self, tail: bytes, at: int, gap: int) -> None:
        payload = b"\x00" * at + b"\x10" + b"\x00" * gap + b"\x00\x24\x00\\" + bytes(380) + tail
        assert is_overflow_shape(payload)


class TestSymantec:
    def test_a_hello_and_what_follows(self) -> None:
        assert classify_payload(TCP, HELLO).detail == ""
        assert classify_payload(TCP, HELLO + b"x").detail == "then data"
        tls = classify_payload(TCP, HELLO + tls_hello(b"")).detail
        assert tls == "then TLS ja4=t12d0103h2_0f2cb44170f4_1ca028f07214 offers h2"
        assert classify_payload(TCP, HELLO + tls_hello()[:6]).detail == "then TLS"
        assert kind_of(HELLO) == "savce-hello"

    @pytest.mark.parametrize("near", [HELLO[:15], b"\x02" + HELLO[1:], HELLO[:15] + b"\x01"])
    def test_nearly_a_hello_is_other(self, near: bytes) -> None:
        assert kind_of(near) == "other"

    def test_a_hello_by_udp_is_other(self) -> None:
        assert kind_of(HELLO, UDP) == "other"

    def test_answers(self) -> None:
        assert classify_answer(HELLO_ANSWER).kind is TrafficClass.SAVCE_ANSWER
        assert classify_answer(HELLO).kind is TrafficClass.OTHER
        answer = bytes.fromhex("000601010010") + bytes(10)
        assert classify_answer(answer).kind is TrafficClass.RTVSCAN_ANSWER
        assert classify_answer(answer + b"\0").kind is TrafficClass.OTHER
        assert classify_answer(b"").kind is TrafficClass.NO_DATA
        assert classify_answer(b"HTTP/1.1 200 OK\r\n").detail == "HTTP/1.1 200 OK"
        assert classify_answer(b"HTTP/1.1 2").kind is TrafficClass.OTHER

    def test_discovery_is_16_bytes_on_its_port(self) -> None:
        assert kind_of(bytes(16), UDP, 38_293) == "symantec-discovery"
        assert kind_of(bytes(17), UDP, 38_293) == "other"
        assert kind_of(bytes(16), UDP, 2967) == "other"

    @pytest.mark.parametrize(
        "request_line",
        [
            GUP,
            GUP.replace(b"GET", b"HEAD"),
            GUP.replace(b"/content", b"http://gup.example:2967/content", 1),
            GUP.replace(b"full.zip", b"xdelta141123001.dax"),
            f"GET /content/{GUID.lower()}/141124002/".encode(),
        ],
    )
    def test_a_request_to_a_group_update_provider(self, request_line: bytes) -> None:
        assert kind_of(request_line) == "gup-request"

    @pytest.mark.parametrize(
        "near",
        [
            GUP.replace(b"141124002", b"14112400"),
            GUP.replace(b"141124002", b"1411240021"),
            GUP.replace(b"{", b"").replace(b"}", b""),
            GUP.replace(b"GET", b"POST"),
            GUP.replace(b"/content/", b"/contents/"),
            GUP.replace(b"-62158EFCA433", b"-62158EFCA43G"),
        ],
    )
    def test_nearly_such_a_request_is_http(self, near: bytes) -> None:
        assert kind_of(near) == "http"


class TestProbes:
    def test_both_forms_of_nmaps_probe(self) -> None:
        assert len(PROBE) == 30
        assert kind_of(PROBE, UDP) == "nmap-probe"
        assert kind_of(b"\x00\x1e" + PROBE) == "nmap-probe"

    def test_each_form_belongs_to_its_transport(self) -> None:
        assert kind_of(PROBE) == "other"
        assert kind_of(b"\x00\x1e" + PROBE, UDP) == "other"
        assert kind_of(PROBE + b"\0", UDP) == "other"
        assert kind_of(b"\x00\x1e" + PROBE[:-1]) == "other"


class TestTls:
    def test_name_and_protocols_are_told(self) -> None:
        found = classify_payload(TCP, tls_hello())
        assert found.kind is TrafficClass.TLS_CLIENT_HELLO
        assert re.fullmatch(
            r"ja4=t12d0103h2_[0-9a-f]{12}_[0-9a-f]{12} for relay.example offers h2", found.detail
        )

    def test_protocols_are_at_most_eight(self) -> None:
        hello = read_client_hello(tls_hello(protocols=tuple(b"p%d" % n for n in range(12))))
        assert hello.protocols == tuple(f"p{n}" for n in range(8))

    def test_a_name_with_control_characters_is_made_printable(self) -> None:
        assert read_client_hello(tls_hello(b"a\x1b[2J")).server_name == "a?[2J"

    @given(st.integers(0, 200))
    def test_a_hello_that_ends_anywhere_is_read_as_far_as_it_goes(self, end: int) -> None:
        cut = tls_hello()[:end]
        assert is_client_hello(cut) == (len(cut) > 5)
        hello = read_client_hello(cut)
        assert "relay.example".startswith(hello.server_name)

    @given(st.binary(max_size=300))
    def test_no_bytes_break_the_reader(self, noise: bytes) -> None:
        assert isinstance(read_client_hello(tls_hello()[:44] + noise), ClientHello)
        classify_payload(TCP, b"\x16\x03\x01\x00\x20\x01" + noise)

    @pytest.mark.parametrize(
        "start", ["170301000001", "160201000001", "160305000001", "160301000002"]
    )
    def test_other_records_are_no_hello(self, start: str) -> None:
        assert not is_client_hello(bytes.fromhex(start))


class TestFleetward:
    @pytest.mark.parametrize(
        "line",
        [
            b"GET /metadata/timestamp.json HTTP/1.1\r\n",
            b"GET /metadata/12.releases-yara.json HTTP/1.1\r\n",
            b"GET /targets/channels/yara/" + b"a" * 64 + b".stable.json HTTP/1.1\r\n",
            b"GET /blobs/sha256/ab/" + b"ab" * 32 + b" HTTP/1.1\r\n",
            f"GET {WATCH_PATH}?after=3 HTTP/1.1\r\n".encode(),
            f"POST {CHECKINS_PATH} HTTP/1.1\r\n".encode(),
            f"GET {INBOX_PATH}{'a' * 64}?after=0 HTTP/1.1\r\n".encode(),
            f"POST {ENROL_PATH} HTTP/1.1\r\n".encode(),
        ],
    )
    def test_our_paths(self, line: bytes) -> None:
        assert kind_of(line) == "fleetward"

    def test_our_datagrams(self) -> None:
        check_in = b'{"payloadType":"' + CHECKIN_TYPE.encode() + b'","payload":"'
        assert classify_payload(UDP, check_in).detail == "a check-in"
        news = b'{"signatures":[],"signed":{"_type":"timestamp"}}'
        assert classify_payload(UDP, news).detail == "an announcement"
        assert kind_of(news.replace(b"timestamp", b"snapshot"), UDP) == "other"
        assert kind_of(b'{"payloadType":"application/vnd.other"', UDP) == "other"

    @pytest.mark.parametrize(
        "line",
        [
            b"GET /metadata/passwd HTTP/1.1\r\n",
            b"GET /blobs/sha256/ab/" + b"ab" * 31 + b" HTTP/1.1\r\n",
            b"DELETE /metadata/timestamp.json HTTP/1.1\r\n",
            b"GET /v1/relays HTTP/1.1\r\n",
        ],
    )
    def test_nearly_our_paths_are_http(self, line: bytes) -> None:
        assert kind_of(line) == "http"


class TestHttp:
    def test_the_line_and_the_host_are_told(self) -> None:
        found = classify_payload(TCP, b"GET /admin HTTP/1.1\r\nHOST: \x1bevil\r\n\r\n")
        assert found.detail == "GET /admin HTTP/1.1 (host ?evil)"
        assert classify_payload(TCP, b"GET / HTTP/1.0\n\n").detail == "GET / HTTP/1.0"

    def test_a_detail_is_short(self) -> None:
        long = b"GET /" + b"a" * 1_000 + b" HTTP/1.1\r\nHost: " + b"h" * 300 + b"\r\n"
        assert len(classify_payload(TCP, long).detail) == MAX_DETAIL_CHARS

    def test_an_unfinished_line_is_other(self) -> None:
        assert kind_of(b"GET / HTTP/1.1") == "other"


SYN = SynShape(source_port=6000, ip_id=256, window=16_384, length=40, no_fragments=False)
BOT = SynShape(
    source_port=1_234, ip_id=9, window=65_535, length=48, no_fragments=True, repeated_after=3.0
)


class TestFlows:
    def test_the_two_real_scan_shapes(self) -> None:
        raw = classify_flow(FlowShape(syn=SYN))
        assert raw.kind is TrafficClass.SCAN_RAW_TOOL
        bot = classify_flow(FlowShape(syn=BOT))
        assert bot.kind is TrafficClass.SCAN_WINDOWS_STACK

    @pytest.mark.parametrize("change", ["source_port", "ip_id", "window", "length"])
    def test_a_raw_tool_with_one_value_changed_is_an_ordinary_knock(self, change: str) -> None:
        values = {name: getattr(SYN, name) for name in SynShape.__slots__}
        shape = SynShape(**{**values, change: values[change] + 1})
        flow = FlowShape(syn=shape)
        assert classify_flow(flow).kind is TrafficClass.NO_DATA

    @pytest.mark.parametrize("again", [None, 1.0, 2.4, 3.6])
    def test_another_retransmission_is_no_windows_stack(self, again: float | None) -> None:
        shape = SynShape(
            source_port=1, ip_id=1, window=1, length=48, no_fragments=True, repeated_after=again
        )
        flow = FlowShape(syn=shape)
        assert classify_flow(flow).kind is TrafficClass.NO_DATA

    def test_an_answered_knock_is_no_bot(self) -> None:
        flow = FlowShape(syn=BOT, answered=True)
        assert classify_flow(flow).kind is TrafficClass.NO_DATA

    def test_a_client_on_2967_is_no_server(self) -> None:
        flow = FlowShape(is_watched=False, client=classify_payload(TCP, overflow()))
        assert classify_flow(flow).kind is TrafficClass.CLIENT_PORT

    @pytest.mark.parametrize(
        ("client", "server", "kind"),
        [
            (b"?", HELLO_ANSWER, "savce-answer"),
            (GUP, b"HTTP/1.1 200 \r\n", "gup-request"),
            (b"", b"HTTP/1.1 200 \r\n", "http-answer"),
            (HELLO, b"", "savce-hello"),
        ],
    )
    def test_of_two_directions_the_first_class_counts(
        self, client: bytes, server: bytes, kind: str
    ) -> None:
        flow = FlowShape(
            client=classify_payload(TCP, client) if client else None,
            server=classify_answer(server) if server else None,
        )
        assert classify_flow(flow).kind.value == kind

    def test_no_bytes_are_no_data(self) -> None:
        assert kind_of(b"") == "no-data"


def test_every_class_has_a_fact_with_all_its_parts() -> None:
    assert set(FACTS) == set(TrafficClass) == set(PRECEDENCE)
    for kind in TrafficClass:
        fact = FACTS[kind]
        assert all((fact.sentence, fact.next_step, fact.source))
    assert classify_payload(TCP, overflow()).fact.verdict is Verdict.SUSPICIOUS


@given(st.binary(max_size=600), st.sampled_from(Transport), st.sampled_from([2967, 38_293]))
def test_any_bytes_have_a_class_and_a_printable_detail(
    payload: bytes, transport: Transport, port: int
) -> None:
    for found in (classify_payload(transport, payload, port), classify_answer(payload)):
        assert found.detail.isprintable()
        assert len(found.detail) <= MAX_DETAIL_CHARS
