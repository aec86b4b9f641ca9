"""Agreement with an independent reader of captures: tshark sees the same flows and counts."""

import random
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from portwatch.captures import (
    ACK,
    ETHERNET,
    FIN,
    NULL,
    RAW,
    RST,
    SLL,
    SLL2,
    SYN,
    Capture,
    Talk,
    capture_of,
    framed,
    ip,
    ipv4,
    ipv6,
    tcp,
    udp,
)
from portwatch.payloads import HTTP, OVERFLOW, PROBE, STREAMS
from portwatch.reading import flows_of
from portwatch.test_network import in_fragments, in_fragments6

pytestmark = [
    pytest.mark.tshark,
    pytest.mark.skipif(
        shutil.which("tshark") is None, reason="no tshark: apt-get install tshark provides it"
    ),
]

PORTS = frozenset({2967})
FIELDS = (
    "tcp.stream", "udp.stream", "ip.src", "ipv6.src", "tcp.srcport", "udp.srcport", "ip.dst",
    "ipv6.dst", "tcp.dstport", "udp.dstport", "frame.len",
)  # fmt: skip

Half = tuple[str, str, str, str]
Counts = tuple[int, int]


def of_tshark(file: Path) -> Counter[frozenset[tuple[Half, Counts]]]:
    """Return each stream as both of its directions with packets and bytes."""
    told = subprocess.run(
        ["tshark", "-n", "-r", file, "-Y", "tcp.port == 2967 || udp.port == 2967", "-T", "fields",
         "-E", "occurrence=l", *(part for name in FIELDS for part in ("-e", name))],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    streams: dict[tuple[str, str], dict[Half, Counts]] = {}
    for line in told.stdout.splitlines():
        t, u, src4, src6, tsport, usport, dst4, dst6, tdport, udport, length = line.split("\t")
        half = (src4 or src6, tsport or usport, dst4 or dst6, tdport or udport)
        halves = streams.setdefault((t, u), {})
        packets, octets = halves.get(half, (0, 0))
        halves[half] = (packets + 1, octets + int(length))
    return Counter(frozenset(halves.items()) for halves in streams.values())


def of_ours(file: Path) -> Counter[frozenset[tuple[Half, Counts]]]:
    from fleetward.portwatch.report import address_text  # noqa: PLC0415 (beside its only use)

    found: Counter[frozenset[tuple[Half, Counts]]] = Counter()
    for flow in flows_of(file.read_bytes(), ports=PORTS)[0]:
        client = (address_text(flow.client), str(flow.client_port))
        server = (address_text(flow.server), str(flow.server_port))
        halves = [((*client, *server), flow.from_client), ((*server, *client), flow.from_server)]
        found[frozenset((half, counts) for half, counts in halves if counts[0])] += 1
    return found


def agree(capture: Capture, folder: Path) -> None:
    for name, content in (("a.pcap", capture.pcap()), ("a.pcapng", capture.pcapng(">"))):
        file = folder / name
        file.write_bytes(content)
        ours = of_ours(file)
        assert ours
        assert ours == of_tshark(file)


@pytest.mark.parametrize("link", [ETHERNET, NULL, RAW, SLL, SLL2])
def test_every_class_on_every_link(link: int, tmp_path: Path) -> None:
    packets: list[bytes] = []
    for number, content in enumerate(STREAMS.values()):
        for ends in (("10.0.0.9", "10.0.0.1"), ("fd00::9", "fd00::1")):
            talk = Talk(*ends, client_port=5_000 + number).open().say(content).answer(b"x").close()
            packets += talk.packets
    packets.append(ip("10.0.0.9", "10.0.0.1", udp(9, 2967, PROBE), protocol=17))
    packets.append(ip("10.0.0.1", "10.0.0.9", udp(2967, 9, PROBE), protocol=17))
    packets += Talk(client_port=2967, server_port=80).open().say(HTTP).packets
    packets += Talk(server_port=443).open().say(HTTP).packets
    agree(capture_of(packets, link), tmp_path)


def test_tags_options_extensions_and_fragments(tmp_path: Path) -> None:
    options = ipv4("10.0.0.9", "10.0.0.1", tcp(7, 2967, HTTP), options=b"\x94\x04\0\0")
    hops = ipv6("fd00::9", "fd00::1", tcp(8, 2967, HTTP), extensions=[(0, b"\0\1\4\0\0\0\0")])
    capture = Capture().add(options).add(hops)
    tagged = ipv4("10.0.0.9", "10.0.0.1", tcp(9, 2967, OVERFLOW))
    capture.add_frame(framed(tagged, tags=[0x88A8, 0x8100]))
    for packet in (*in_fragments(udp(5, 2967, bytes(900)), [20, 30]),
                   *in_fragments6(udp(5, 2967, bytes(900)), 40)):  # fmt: skip
        capture.add(packet)
    agree(capture, tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_talks_that_are_mixed_and_repeated(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    talks = []
    for n in range(40):
        talk = Talk(f"10.0.{n % 3}.9", client_port=4_000 + n, client_isn=rng.randrange(1 << 32))
        talk.open()
        for _ in range(rng.randrange(4)):
            talk.say(rng.randbytes(rng.randrange(1, 1_400)), at=rng.randrange(3_000))
            talk.answer(rng.randbytes(rng.randrange(1, 1_400)), at=rng.randrange(3_000))
        talks.append(talk.close().packets)
    packets = []
    while talks:
        talk_packets = rng.choice(talks)
        packets.append(talk_packets.pop(0))
        if rng.random() < 0.1:
            packets.append(packets[-1])
        if not talk_packets:
            talks.remove(talk_packets)
    agree(capture_of(packets), tmp_path)


def test_the_same_ends_again_with_another_number(tmp_path: Path) -> None:
    first = Talk().open().say(HTTP).close()
    second = Talk(client_isn=90_000, server_isn=80_000).open().say(HTTP).close()
    agree(capture_of([*first.packets, *second.packets]), tmp_path)


def test_knocks_resets_and_ends(tmp_path: Path) -> None:
    packets = []
    for n in range(60):
        ends = ("192.0.2.66", f"10.0.0.{n + 1}")
        packets.append(ip(*ends, tcp(6_000, 2967, seq=n, flags=SYN)))
        if n % 3 == 0:
            packets.append(ip(*ends[::-1], tcp(2967, 6_000, ack=n + 1, flags=RST | ACK)))
        if n % 3 == 1:
            packets.append(ip(*ends, tcp(6_000, 2967, seq=n, flags=FIN | ACK)))
    agree(capture_of(packets), tmp_path)
