"""The limits of reading captures: each with the attack that it stops."""

from dataclasses import dataclass
from typing import Final

from fleetward.core.limits import MIB


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


CAPTURES: Final = CaptureLimits()

FAN_OUT_HOSTS: Final = 10
"""Hosts that one source asked without sending a byte: from here on it is called a scan."""
