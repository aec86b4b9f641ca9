"""The bytes of a spool's segments: records one after another, each of which stands for itself.

    record    F1 'F' 'W' C1 | length of the body (4) | crc32 of the body (4) | body
    body      way (1) | hops (1) | kept here since (8, ms since 1970)
              | time of first receipt (8, the same) | host id (32)
              | length and ASCII of the address whose share it takes (1 + n)
              | length and ASCII of the address as first seen (1 + n) | envelope

All numbers are unsigned, big-endian. A record that is torn or flipped is passed over: reading goes
on at the next four marking bytes with a body that fits its crc, so damage costs what is damaged.
Envelopes and addresses are ASCII, so the mark never stands inside one. The crc finds accidents,
not forgeries: whoever can write here could as well leave check-ins away, and the console verifies
every signature itself.
"""

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from fleetward.core.status import HostId
from fleetward.errors import DocumentError
from fleetward.wire.checkins import Carried, encoded_length

_MARK: Final = b"\xf1FW\xc1"
_HEAD: Final = struct.Struct(">4sII")
_BODY: Final = struct.Struct(">BBQQ32s")


class Way(IntEnum):
    """How a check-in came."""

    STREAM = 0
    DATAGRAM = 1


@dataclass(frozen=True, slots=True)
class Record:
    """One check-in that waits.

    Attributes:
        host: who signed it.
        source: the address whose share it takes; empty where there is no such share.
        way: how it came.
        since: when this relay got it, in milliseconds since 1970; its age counts from here, since
            the time of first receipt is another relay's word.
        carried: the envelope, with time and address of its first receipt.
    """

    host: HostId
    source: str
    way: Way
    since: int
    carried: Carried

    @property
    def size(self) -> int:
        """Return how many bytes of the spool it is counted with."""
        return encoded_length(self.carried)


def encode_record(record: Record) -> bytes:
    """Return the record's bytes."""
    carried = record.carried
    source, peer = record.source.encode("ascii"), carried.peer.encode("ascii")
    body = b"".join(
        (
            _BODY.pack(
                record.way,
                carried.hops,
                record.since,
                carried.received,
                bytes.fromhex(record.host),
            ),
            bytes((len(source),)),
            source,
            bytes((len(peer),)),
            peer,
            carried.envelope,
        )
    )
    return _HEAD.pack(_MARK, len(body), zlib.crc32(body)) + body


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of a segment.

    Attributes:
        records: in their order.
        end: the offset at which reading goes on.
        damaged: how many stretches were passed over.
    """

    records: tuple[Record, ...]
    end: int
    damaged: int


def read_records(content: bytes, at: int, max_records: int, max_bytes: int) -> Reading:
    """Return the records from `at` on.

    Args:
        content: the whole segment.
        at: an offset that an earlier reading gave, or 0.
        max_records: no more are read.
        max_bytes: none is read that would make the records longer together; one always is.
    """
    records: list[Record] = []
    size = damaged = 0
    while at < len(content) and len(records) < max_records:
        end = _end_of(content, at)
        record = _decode(content[at + _HEAD.size : end]) if end else None
        if record is None:
            damaged += 1
            at = _next_whole(content, at + 1)
            continue
        size += record.size
        if records and size > max_bytes:
            break
        records.append(record)
        at = end
    return Reading(tuple(records), at, damaged)


def _end_of(content: bytes, at: int) -> int:
    """Return where the whole record at `at` ends; 0 where there is none."""
    if at + _HEAD.size > len(content):
        return 0
    mark, length, crc = _HEAD.unpack_from(content, at)
    end: int = at + _HEAD.size + length
    if mark != _MARK or end > len(content):
        return 0
    return end if zlib.crc32(memoryview(content)[at + _HEAD.size : end]) == crc else 0


def _next_whole(content: bytes, at: int) -> int:
    """Return where the next whole record begins; the segment's end where there is none."""
    while (at := content.find(_MARK, at)) >= 0:
        if _end_of(content, at):
            return at
        at += 1
    return len(content)


def _decode(body: bytes) -> Record | None:
    """Return the record in a body; None where it is none that this version writes."""
    try:
        way, hops, since, received, host = _BODY.unpack_from(body)
        source, at = _text(body, _BODY.size)
        peer, at = _text(body, at)
        carried = Carried(received, peer, body[at:], hops)
        return Record(HostId(host.hex()), source, Way(way), since, carried)
    except (struct.error, IndexError, ValueError, DocumentError):
        return None


def _text(body: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + body[at]
    return body[at + 1 : end].decode("ascii"), end
