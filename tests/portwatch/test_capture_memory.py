"""Memory while reading: hostile captures of any size take what the limits say, and no more."""

import struct
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from fleetward.core.limits import MIB
from fleetward.portwatch.inspecting import inspect_capture
from portwatch.captures import SYN, Capture, framed, ip, ipv4, tcp, udp


class Made:
    """A capture that is made while it is read."""

    def __init__(self, packets: Iterator[bytes]) -> None:
        self._records = self._made(packets)
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        while len(self._rest) < size and (more := next(self._records, b"")):
            self._rest += more
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def _made(self, packets: Iterator[bytes]) -> Iterator[bytes]:
        batch = [Capture().pcap()]
        for number, packet in enumerate(packets):
            frame = framed(packet)
            batch.append(struct.pack("<IIII", number, 0, len(frame), len(frame)) + frame)
            if len(batch) == 100:
                yield b"".join(batch)
                batch.clear()
        yield b"".join(batch)


def address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def knocks() -> Iterator[bytes]:
    """Strangers from everywhere to everywhere."""
    for n in range(12_000):
        yield ip(address(n), address(n * 7), tcp(1_024 + n, 2967, seq=n, flags=SYN))


def half_streams() -> Iterator[bytes]:
    """Streams that are never full, each held for its next segment."""
    for n in range(6_000):
        yield ip(address(n), "10.200.0.1", tcp(9, 2967, b"\x05" * 1_400, seq=1_000))
        yield ip(address(n), "10.200.0.1", tcp(9, 2967, b"\x05" * 1_400, seq=3_000))


def single_bytes() -> Iterator[bytes]:
    """Segments of one byte with gaps between, so that each is a piece of its own."""
    for n in range(9_000):
        yield ip(address(n // 40), "10.200.0.1", tcp(9, 2967, b"x", seq=2 * (n % 40)))


def first_fragments() -> Iterator[bytes]:
    """Datagrams of which only the first fragment ever comes."""
    for n in range(9_000):
        content = udp(9, 2967, bytes(1_392))
        yield ipv4(address(n), "10.200.0.1", content, protocol=17, ip_id=n, fragment=0x2000)


@pytest.mark.parametrize("flood", [knocks, half_streams, single_bytes, first_fragments])
def test_a_flood_is_held_within_the_limits(flood: Callable[[], Iterator[bytes]]) -> None:
    tracemalloc.start()
    try:
        report = inspect_capture(Made(flood()), "flood")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"{flood.__name__}: {peak / MIB:.1f} MiB, {report.flows:,} flows")
    assert report.flows > 0
    assert peak < 48 * MIB


def test_a_record_that_claims_the_most_is_not_gathered() -> None:
    """The file claims a packet of 4 GiB and goes on for ever; reading ends at the claim."""
    start = Capture().pcap() + struct.pack("<IIII", 0, 0, 0xFFFFFFFF, 60)

    class Endless:
        given = 0

        def read(self, size: int, /) -> bytes:
            piece = start if not self.given else bytes(size)
            self.given += len(piece)
            return piece

    stream = Endless()
    assert inspect_capture(stream, "endless").truncated
    assert stream.given < 4 * MIB
