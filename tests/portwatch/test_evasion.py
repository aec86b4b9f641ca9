"""Stories of senders who do not want to be seen for what they are, and of what is seen instead."""

from dataclasses import replace

import pytest

from fleetward.core.portclass import PREFIX_BYTES
from fleetward.portwatch.limits import CAPTURES
from portwatch.captures import ACK, FIN, RST, SYN, Talk, capture_of, ip, ipv4, tcp
from portwatch.payloads import HELLO, HTTP, OURS, OVERFLOW
from portwatch.reading import flows_of, kinds_of
from portwatch.test_network import in_fragments

ENDS = ("192.0.2.66", "10.0.0.7")
SYN_PACKET = ip(*ENDS, tcp(4_000, 2967, seq=0, flags=SYN))


def segment(content: bytes, place: int = 0, *, flags: int = ACK) -> bytes:
    return ip(*ENDS, tcp(4_000, 2967, content, seq=1 + place, flags=flags))


def kinds(*packets: bytes) -> list[str]:
    return kinds_of(capture_of([SYN_PACKET, *packets]).pcap())


def test_the_overflow_in_segments_of_a_few_bytes_backwards() -> None:
    pieces = [segment(OVERFLOW[at : at + 20], at) for at in range(0, len(OVERFLOW), 20)]
    assert kinds(*pieces[::-1]) == ["rtvscan-overflow"]


def test_the_overflow_in_fragments_that_come_last_first() -> None:
    packets = in_fragments(tcp(5, 2967, OVERFLOW, seq=10), [3, 5, 9], protocol=6)[::-1]
    syn = ipv4("10.0.0.9", "10.0.0.1", tcp(5, 2967, seq=9, flags=SYN))
    assert kinds_of(capture_of([syn, *packets]).pcap()) == ["rtvscan-overflow"]


@pytest.mark.parametrize("flag", [RST, FIN])
def test_an_end_in_the_middle_which_the_receiver_ignores(flag: int) -> None:
    """The attacker sends a reset that never arrives (its TTL ends before) to make sensors stop."""
    half = len(OVERFLOW) // 2
    end = segment(b"", 9_999, flags=flag | ACK)
    packets = (segment(OVERFLOW[:half]), end, segment(OVERFLOW[half:], half))
    assert kinds(*packets) == ["rtvscan-overflow"]


def test_the_overflow_behind_a_greeting() -> None:
    assert kinds(segment(HELLO + OVERFLOW)) == ["rtvscan-overflow"]


def test_the_overflow_in_the_syn_itself() -> None:
    packet = ip(*ENDS, tcp(4_000, 2967, OVERFLOW, seq=5, flags=SYN))
    assert kinds_of(capture_of([packet]).pcap()) == ["rtvscan-overflow"]


def test_urgent_and_odd_flags_hide_nothing() -> None:
    packet = ip(*ENDS, tcp(4_000, 2967, OVERFLOW, seq=1, flags=0x3F & ~(SYN | RST)))
    assert kinds(packet) == ["rtvscan-overflow"]


def test_two_contents_for_one_place_are_told_whichever_the_receiver_keeps() -> None:
    for first, second in ((OURS, OVERFLOW), (OVERFLOW, OURS)):
        flows, _, _ = flows_of(capture_of([SYN_PACKET, segment(first), segment(second)]).pcap())
        assert flows[0].contradictions == 1


def test_what_begins_as_ours_is_only_said_to_read_so() -> None:
    """The attacker asks a relay for the timestamp: that proves nothing, and the sentence says it."""
    (flow,), _, _ = flows_of(capture_of([SYN_PACKET, segment(OURS)]).pcap())
    assert "anybody" in flow.classified.fact.sentence


def test_past_the_prefix_nothing_is_seen() -> None:
    """The attacker sends 4 KiB of anything first: a documented end of what is looked at."""
    padding = b"\x05" * PREFIX_BYTES
    packets = [segment(padding[at : at + 1_024], at) for at in range(0, PREFIX_BYTES, 1_024)]
    assert kinds(*packets, segment(OVERFLOW, PREFIX_BYTES)) == ["other"]


def test_a_flood_that_pushes_a_slow_flow_out_is_told() -> None:
    """The attacker sends half of the overflow, floods the table, and then the other half."""
    half = len(OVERFLOW) // 2
    flood = [ip("192.0.2.9", f"10.2.0.{n}", tcp(9, 2967, flags=SYN)) for n in range(1, 200)]
    packets = [SYN_PACKET, segment(OVERFLOW[:half]), *flood, segment(OVERFLOW[half:], half)]
    limits = replace(CAPTURES, flows=16)
    flows, _, table = flows_of(capture_of(packets).pcap(), limits=limits)
    assert "rtvscan-overflow" not in {flow.classified.kind.value for flow in flows}
    assert table.early > 0
    assert kinds_of(capture_of(packets).pcap()).count("rtvscan-overflow") == 1


def test_a_flow_that_goes_on_is_not_pushed_out() -> None:
    """The same flood, while the overflow goes on: what is idle for longest makes room."""
    flood = [ip("192.0.2.9", f"10.2.0.{n}", tcp(9, 2967, flags=SYN)) for n in range(1, 200)]
    packets = [SYN_PACKET]
    for number, syn in enumerate(flood):
        packets += [syn, segment(OVERFLOW[number * 4 : number * 4 + 4] or b"\x03", number * 4)]
    limits = replace(CAPTURES, flows=16)
    flows, _, _ = flows_of(capture_of(packets).pcap(), limits=limits)
    assert "rtvscan-overflow" in {flow.classified.kind.value for flow in flows}


def test_a_source_port_of_2967_on_both_ends_hides_no_server() -> None:
    talk = Talk(client_port=2967).open().say(OVERFLOW)
    assert kinds_of(capture_of(talk.packets).pcap()) == ["rtvscan-overflow"]


def test_an_answer_with_the_shape_is_not_the_attack() -> None:
    """The sensor's own rules flow to the console as text: bytes from a server accuse nobody."""
    talk = Talk().open().say(HTTP).answer(OVERFLOW)
    assert kinds_of(capture_of(talk.packets).pcap()) == ["http"]
