"""The limits of the sensor: each with the attack that it stops."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fleetward.core.limits import KIB


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


SENSOR: Final = SensorLimits()
