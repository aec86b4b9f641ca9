"""Every limit of Fleetward: a name, a unit, a default, and the attack or accident that it stops.

Grouped in frozen classes, so that a caller passes the group it needs and a test can pass a
smaller one. Nothing else in the code compares with a bare number.
"""

from dataclasses import dataclass
from datetime import timedelta

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """What a tree may hold.

    Attributes:
        max_files: stops a tar of endless empty entries from exhausting inodes.
        max_bytes: stops a decompression bomb that tells the truth about its length.
        max_path_bytes: leaves room for a slot's own path under PATH_MAX (4,096 bytes).
        max_component_bytes: NAME_MAX of every file system that Fleetward knows.
        max_depth: stops a path that is deeper than tools can walk or delete.
    """

    max_files: int = 1_000_000
    max_bytes: int = 16 * GIB
    max_path_bytes: int = 1_024
    max_component_bytes: int = 255
    max_depth: int = 64


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """What a transfer from one source may take.

    Attributes:
        connect_timeout: a source that does not answer SYN.
        read_timeout: a source that stops in the middle.
        min_bytes_per_second: slow retrieval: a byte every half second keeps a client busy for ever.
        grace: how long a transfer may be under the minimum rate before it is cut.
        metadata_deadline: the whole of one metadata file, however it trickles.
    """

    connect_timeout: timedelta = timedelta(seconds=10)
    read_timeout: timedelta = timedelta(seconds=20)
    min_bytes_per_second: int = 512
    grace: timedelta = timedelta(seconds=10)
    metadata_deadline: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class MetadataLimits:
    """What TUF metadata may be (endless data, endless chains).

    Attributes:
        root_bytes: longest root.
        timestamp_bytes: a timestamp fits one datagram of 1,200 bytes; others are refused unread.
        snapshot_bytes: longest snapshot where timestamp names no length.
        targets_bytes: longest targets metadata where snapshot names no length.
        document_bytes: longest channel, manifest, floor or policy document.
        root_rotations: roots walked in one refresh; an endless chain of roots stops here.
        delegations: delegated roles visited for one target.
    """

    root_bytes: int = 512 * KIB
    timestamp_bytes: int = 16 * KIB
    snapshot_bytes: int = 2 * MIB
    targets_bytes: int = 5 * MIB
    document_bytes: int = 64 * KIB
    root_rotations: int = 256
    delegations: int = 32


TIMESTAMP_DATAGRAM_BYTES = 1_200
"""What `origin` may publish as timestamp, so that it also fits an announcement."""

MANIFEST_BYTES = 10_000
"""What `origin` may publish as manifest; the tar carries the file list."""

FROZEN_AFTER_INTERVALS = 3
"""A timestamp older than this many of its own intervals makes the agent try another source."""

SOURCE_EVENT_EVERY = timedelta(hours=1)
"""How often one source and what is wrong with it become an event: a hostile relay that every poll
finds out must not fill a host's spool with reports of itself."""

CLOCK_AHEAD_TOLERANCE = timedelta(days=1)
"""How far the wall clock may stand ahead of the newest signed time before it is reported."""

CLOCK_BEHIND_TOLERANCE = timedelta(minutes=5)
"""How far the wall clock may stand behind a proven time (two clocks never agree exactly)."""

MAX_KEPT_DELTAS = 32
"""Releases that the origin keeps as bases of deltas, unless set otherwise."""


@dataclass(frozen=True, slots=True)
class StatusLimits:
    """What documents of status may be, on their way and at their end.

    Attributes:
        datagram_bytes: a check-in over UDP; longer ones would be sent in fragments, which many
            networks drop and every attacker can spoof.
        envelope_bytes: a check-in over TCP; endless data in a host's name.
        batch_bytes: the check-ins that relay and console take in one request, before and after
            decompression (a decompression bomb ends here).
        batch_check_ins: the same in number, since a small envelope costs a signature too.
        inbox_bytes: what the console has signed for one host, in its envelope.
        enrolment_bytes: an enrolment request or its answer, in its envelope.
        products: rows of one check-in.
        events: of one check-in; more wait for the next.
        directives: of one inbox.
        acknowledgements: of one inbox: a host has few live epochs.
        text_chars: names that people read (subject, relay, reason); keeps pages and logs whole.
        number: the greatest n, e or seq: what a JSON number holds exactly everywhere.
        pause: the longest that a directive may keep a host from updating.
    """

    datagram_bytes: int = 1_200
    envelope_bytes: int = 64 * KIB
    batch_bytes: int = 1 * MIB
    batch_check_ins: int = 2_000
    inbox_bytes: int = 16 * KIB
    enrolment_bytes: int = 8 * KIB
    products: int = 64
    events: int = 200
    directives: int = 32
    acknowledgements: int = 8
    text_chars: int = 200
    number: int = 2**53 - 1
    pause: timedelta = timedelta(hours=24)


STATUS = StatusLimits()
"""The one set that is in force: both ends of a wire must have the same."""
