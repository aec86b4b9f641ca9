"""A fuzz target for everything between a capture's bytes and its report.

    python -m tests.fuzz.captures [CORPUS]     for ever, with atheris where it is installed

`fuzz_one` fails where bytes make anything fail but a refusal, where another way of arriving gives
another report, where a count does not add up, or where the report cannot be written down.
tests/portwatch/test_fuzz_captures.py calls it with random bytes; `random_input` makes them from a
seed: captures with a few bytes changed, so that readers are passed and the rest is reached.
"""

import gzip
import importlib
import io
import random
import sys
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]

from fleetward.core.portclass import SYMANTEC_PORTS
from fleetward.errors import UsageError
from fleetward.portwatch.inspecting import inspect_capture
from fleetward.portwatch.limits import CAPTURES
from fleetward.portwatch.page import report_page
from fleetward.portwatch.report import SCHEMA, CaptureReport
from fleetward.wire.documents import encode_json
from portwatch.captures import Talk, capture_of, ipv4, ipv6, tcp, udp
from portwatch.payloads import PROBE, STREAMS
from portwatch.reading import Grudging

SMALL = replace(
    CAPTURES, block_bytes=512, flows=8, held_bytes=9_000, conversations=4, sources=4, notes=4,
    fragmented=3, fragments=4, stream_pieces=4, section_interfaces=4, timeline_bins=5,
)  # fmt: skip
"""Limits that a small file reaches."""


def random_input(seed: int) -> bytes:
    """Return bytes that are often nearly a capture; the first one says how they arrive."""
    rng = random.Random(seed)
    packets: list[bytes] = []
    for _ in range(rng.randint(1, 4)):
        ends = rng.choice([("10.0.0.9", "10.0.0.1"), ("fd00::9", "fd00::1")])
        talk = Talk(*ends, client_port=rng.randrange(1, 9_000)).open()
        packets += talk.say(rng.choice(list(STREAMS.values()))).answer(b"x").close().packets
    packets.append(ipv4("10.0.0.9", "10.0.0.1", udp(5, 2967, PROBE), protocol=17, fragment=0x2000))
    packets.append(ipv4("10.0.0.9", "10.0.0.1", bytes(16), protocol=17, fragment=rng.randrange(9)))
    hops = [(0, b"\0" + bytes(6)), (44, b"\0" + bytes([0, rng.randrange(16), 0, 0, 0, 1]))]
    packets.append(ipv6("fd00::9", "fd00::1", tcp(5, 2967, b"x"), extensions=hops))
    rng.shuffle(packets)
    capture = capture_of(packets, rng.choice([0, 1, 101, 113, 276]))
    order = rng.choice("<>")
    if rng.random() < 0.5:
        content = bytearray(capture.pcap(order, nanoseconds=rng.random() < 0.5))
    else:
        content = bytearray(capture.pcapng(order, kind=rng.choice([2, 3, 6])))
    for _ in range(rng.choice((0, 1, 2, 4, 16))):
        at = rng.randrange(4, len(content))
        match rng.randrange(4):
            case 0:
                content[at] = rng.randrange(256)
            case 1:
                del content[at : at + rng.randint(1, 40)]
            case 2:
                content[at:at] = rng.randbytes(rng.randint(1, 40))
            case _:
                content[at : at + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\0\0\1\0"])
        if len(content) < 8:
            break
    whole = gzip.compress(bytes(content)) if rng.random() < 0.1 else bytes(content)
    return bytes([rng.randrange(256)]) + whole


def fuzz_one(data: bytes) -> None:
    """Try one input: its first byte says how the others arrive."""
    if not data:
        return
    pace, content = data[0] * 7 + 1, data[1:]
    try:
        report = inspect_capture(io.BytesIO(content), "fuzz", SYMANTEC_PORTS, CAPTURES)
    except UsageError:
        return
    _judge(report)
    again = inspect_capture(Grudging(content, pace), "fuzz", SYMANTEC_PORTS, CAPTURES)
    if not any("compressed" in note for note in report.notes):
        assert again == report
    _judge(inspect_capture(io.BytesIO(content), "fuzz", SYMANTEC_PORTS, SMALL))


def _judge(report: CaptureReport) -> None:
    shown = sum(row.flows for row in report.conversations)
    assert shown + sum(report.more_flows.values()) == report.flows
    assert sum(sum(one.counts.values()) for one in report.timeline) == report.flows
    on_ports = sum(sum(row.packets) for row in report.conversations)
    assert on_ports <= report.packets_on_ports <= report.packets
    assert encode_json(SCHEMA, report).startswith(b'{"schema":"fleetward.capture/1"')
    assert report_page(report).endswith("</html>\n")


def main() -> None:
    atheris = importlib.import_module("atheris")
    atheris.instrument_all()
    atheris.Setup(sys.argv, fuzz_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
