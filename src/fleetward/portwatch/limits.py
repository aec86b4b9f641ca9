"""The limits of reading captures and of the sensor: each with the attack that it stops."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fleetward.core.limits import KIB, MIB


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """What reading a capture may take; together well under 100 MiB.

    Attributes:
        block_bytes: read at a time.
        record_bytes: of one packet; a longer one is a damaged file (libpcap writes 262,144 at most).
        section_interfaces: of one pcapng section: a file of nothing but interfaces.
        notes: kinds of notes that are kept.
        flows: open at a time; the longest idle quarter is summed up when there are more.
        held_bytes: of the beginnings of open flows, pieces and their overhead counted.
        stream_pieces: that wait for a gap to close, of one direction (segments of one byte).
        datagrams: of one direction that are classified.
        fragmented: datagrams that wait for their fragments.
        fragments: of one such datagram.
        conversations: told apart, for each class: so that a scan hides nothing else.
        sources: told apart.
        peers: of one source that are told apart, and `all_peers` of all together.
        all_peers: see above.
        timeline_bins: of the picture; bins double in width when there would be more.
    """

    block_bytes: int = MIB
    record_bytes: int = MIB
    section_interfaces: int = 1_024
    notes: int = 32
    flows: int = 8_192
    held_bytes: int = 12 * MIB
    stream_pieces: int = 32
    datagrams: int = 32
    fragmented: int = 256
    fragments: int = 64
    conversations: int = 500
    sources: int = 2_048
    peers: int = 512
    all_peers: int = 32_768
    timeline_bins: int = 240


@dataclass(frozen=True, slots=True)
class SensorLimits:
    """What a sensor may take; together well under 64 MiB.

    Attributes:
        connections: open at a time; the oldest makes room for the next one (slowloris).
        spare_descriptors: left to the rest of the program, of what the system allows.
        prefix_bytes: read of a connection or a datagram (huge payloads).
        receive_buffer: of the kernel, for each connection that waits.
        patience: how long a connection may send its prefix, however it trickles.
        quiet: of a connection that has sent something, after which nothing more is waited for.
        per_round: connections or datagrams taken before others get their turn.
        per_second: connections and datagrams that are looked at; above it the sensor lets the
            kernel drop what comes, until the second is over (its own share of the processor).
        sources: told apart by address and class; others are counted together.
        lines_per_second: sightings that are reported one by one; others are only counted.
        drained_bytes: read and dropped at the end, so that it is a FIN and no reset.
        banner_bytes: of a file that is sent before the end.
    """

    connections: int = 1_024
    spare_descriptors: int = 32
    prefix_bytes: int = 4 * KIB
    receive_buffer: int = 16 * KIB
    patience: timedelta = timedelta(seconds=5)
    quiet: timedelta = timedelta(seconds=1)
    per_round: int = 128
    per_second: int = 20_000
    sources: int = 4_096
    lines_per_second: int = 50
    drained_bytes: int = 64 * KIB
    banner_bytes: int = KIB


CAPTURES: Final = CaptureLimits()
SENSOR: Final = SensorLimits()

FAN_OUT_HOSTS: Final = 10
"""Hosts that one source asked without sending a byte: from here on it is called a scan."""
