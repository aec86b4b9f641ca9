"""Reading captures: packets per second and peak memory, beside dpkt, scapy and tshark.

    python -m bench.captures [--megabytes 200] [--gigabyte] [--mix 1|100]…

Two generated captures: 1 % and 100 % of the packets on port 2967; connections of 24 packets, a
third of them of 66 bytes, the others up to 1,434. Each reader runs in a child of its own and
does as much as it can of the same job: which connections are there on the port, with how many
packets. dpkt, scapy and pcapy-ng are used where they can be imported; scapy reads the first 20,000
packets alone, pcapy-ng leaves other ports to libpcap's filter.
"""

import argparse
import importlib.util
import random
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.measuring import Cost, cost_of, fleetward, table

MEGABYTE = 1_000_000
SCAPY_PACKETS = 20_000
AIMS = {1: 500_000, 100: 150_000}
REQUEST = b"GET /metadata/timestamp.json HTTP/1.1\r\nHost: relay\r\n\r\n"

_DPKT = """
import collections, socket, sys, dpkt
flows = collections.Counter()
with open(sys.argv[1], "rb") as f:
    for when, frame in dpkt.pcap.Reader(f):
        ip = dpkt.ethernet.Ethernet(frame).data
        tcp = ip.data
        if isinstance(tcp, dpkt.tcp.TCP) and 2967 in (tcp.sport, tcp.dport):
            flows[ip.src, tcp.sport, ip.dst, tcp.dport] += 1
"""
_PCAPY = """
import collections, sys, pcapy
flows = collections.Counter()
reader = pcapy.open_offline(sys.argv[1])
reader.setfilter("tcp port 2967")
while True:
    head, frame = reader.next()
    if head is None:
        break
    at = 14 + (frame[14] & 15) * 4
    flows[frame[26:34], frame[at : at + 4]] += 1
"""
_SCAPY = """
import collections, sys
from scapy.utils import PcapReader
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
flows = collections.Counter()
for number, packet in enumerate(PcapReader(sys.argv[1])):
    if number >= int(sys.argv[2]):
        break
    if TCP in packet and 2967 in (packet[TCP].sport, packet[TCP].dport):
        flows[packet[IP].src, packet[TCP].sport, packet[IP].dst, packet[TCP].dport] += 1
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--gigabyte", action="store_true")
    parser.add_argument("--mix", type=int, choices=(1, 100), nargs="*", default=(1, 100))
    chosen = parser.parse_args()
    size = 1_000 * MEGABYTE if chosen.gigabyte else chosen.megabytes * MEGABYTE
    print("## Reading captures\n")
    with tempfile.TemporaryDirectory() as folder:
        for percent in chosen.mix:
            file = Path(folder) / f"{percent}.pcap"
            packets = generate(file, size, percent)
            print(f"{percent} % of {packets:,} packets on the port, {size / MEGABYTE:,.0f} MB:\n")
            rows = [row_of(name, cost, count) for name, cost, count in costs(file, packets)]
            table(("reader", "packets/s of CPU", "wall s", "CPU s", "MiB"), rows)
            print(f"Aimed at: {AIMS[percent]:,} packets/s, under 100 MiB.\n", flush=True)
            file.unlink()
    return 0


def costs(file: Path, packets: int) -> list[tuple[str, Cost, int]]:
    """Return what each reader that is there took, and for how many packets."""
    runs: list[tuple[str, Sequence[str], int]] = [
        ("fleetward ports inspect", fleetward("ports", "inspect", str(file), "--json"), packets)
    ]
    if shutil.which("tshark"):
        ours = "conv,tcp,tcp.port==2967"
        runs.append(
            ("tshark -z conv,tcp", ["tshark", "-n", "-q", "-r", str(file), "-z", ours], packets)
        )
    if importlib.util.find_spec("dpkt"):
        runs.append(("dpkt", [sys.executable, "-c", _DPKT, str(file)], packets))
    if importlib.util.find_spec("pcapy"):
        runs.append(("pcapy-ng, BPF", [sys.executable, "-c", _PCAPY, str(file)], packets))
    if importlib.util.find_spec("scapy"):
        count = min(packets, SCAPY_PACKETS)
        runs.append(("scapy", [sys.executable, "-c", _SCAPY, str(file), str(count)], count))
    return [(name, cost_of(command), count) for name, command, count in runs]


def row_of(name: str, cost: Cost, packets: int) -> tuple[str, ...]:
    speed = packets / cost.cpu
    return name, f"{speed:,.0f}", f"{cost.wall:.1f}", f"{cost.cpu:.1f}", f"{cost.peak_mib:.0f}"


def generate(file: Path, size: int, percent: int) -> int:
    """Write a capture of about so many bytes; return its packets."""
    rng = random.Random(percent)
    noise = rng.randbytes(1 << 20)
    written = packets = flows = 0
    with file.open("wb", buffering=1 << 20) as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
        while written < size:
            on_port = rng.random() * 100 < percent
            for frame in connection(flows, 2967 if on_port else 443, noise, rng.randrange):
                seconds, fraction = divmod(packets * 50, 1_000_000)
                head = struct.pack(
                    "<IIII", 1_700_000_000 + seconds, fraction, len(frame), len(frame)
                )
                out.write(head)
                out.write(frame)
                written += 16 + len(frame)
                packets += 1
            flows += 1
    return packets


def connection(
    number: int, port: int, noise: bytes, randrange: Callable[[int], int]
) -> list[bytes]:
    """Return the frames of one connection: opened, asked, answered at length, ended."""
    ports = (1_024 + number % 60_000, port)
    client = b"\x0a\x01" + (number % 4_001).to_bytes(2)
    server = b"\x0a\x02\x00" + bytes([1 + number % 5])
    asked, told = (client, server, ports), (server, client, ports[::-1])
    frames = [
        frame(asked, 100, b"", 2), frame(told, 500, b"", 18), frame(asked, 101, b"", 16),
        frame(asked, 101, REQUEST, 24),
    ]  # fmt: skip
    for place in range(0, 12 * 1_380, 1_380):
        at = randrange(len(noise) - 1_380)
        frames.append(frame(told, 501 + place, noise[at : at + 1_380], 16))
        if place % 2_760:
            frames.append(frame(asked, 101 + len(REQUEST), b"", 16))
    return [*frames, frame(asked, 101 + len(REQUEST), b"", 17), frame(told, 20_000, b"", 17)]


def frame(
    ends: tuple[bytes, bytes, tuple[int, int]], sequence: int, content: bytes, flags: int
) -> bytes:
    source, target, ports = ends
    total = 40 + len(content)
    return (
        b"\x02\0\0\0\0\1\x02\0\0\0\0\2\x08\0"
        + struct.pack(">BBHHHBBH4s4s", 0x45, 0, total, 1, 0x4000, 64, 6, 0, source, target)
        + struct.pack(">HHIIBBHHH", *ports, sequence, 0, 0x50, flags, 64_240, 0, 0)
        + content
    )


if __name__ == "__main__":
    sys.exit(main())
