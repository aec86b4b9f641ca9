"""The version that an unverified timestamp claims, and announcements, which are timestamps.

An announcement is one UDP datagram: the signed timestamp itself, at most 1,200 bytes. Whoever
hears one knows as much as a passer-by says: that asking for a newer timestamp may be worth it.

Invariants: a claim is a number and nothing else; no byte of what was read lives on in it; reading
costs the same few microseconds whatever the bytes are (any bytes, deep nesting, huge numbers).

Deliberately not here: whether a claim is true (trust), and what is done about one (relay, agent).
"""

from typing import Annotated, Final, Literal

import msgspec

from fleetward.core.limits import TIMESTAMP_DATAGRAM_BYTES, MetadataLimits
from fleetward.errors import DocumentError
from fleetward.wire.preparing import prepared

MAX_VERSION: Final = 2**63 - 1
"""A larger version is nonsense: it would not fit the integers of other implementations."""

_FIRST_BYTES: Final = (b'{"signatures":', b'{"signed":')


class _Signed(msgspec.Struct, gc=False):
    kind: Literal["timestamp"] = msgspec.field(name="_type")
    version: Annotated[int, msgspec.Meta(ge=1, le=MAX_VERSION)]


class _Envelope(msgspec.Struct, gc=False):
    signed: _Signed


_DECODER: Final = msgspec.json.Decoder(prepared(_Envelope))


def claimed_version(content: bytes) -> int:
    """Return the version that a timestamp claims; nothing of it is verified.

    Args:
        content: TUF metadata as JSON (TUF 1.0, section 4.6), at most
            `MetadataLimits.timestamp_bytes`.

    Raises:
        DocumentError: longer, no JSON, no timestamp, or a version that is no positive integer of
            63 bits.
    """
    if len(content) > MetadataLimits().timestamp_bytes:
        raise DocumentError(f"a timestamp of {len(content)} bytes")
    try:
        return _DECODER.decode(content).signed.version
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DocumentError(f"no timestamp: {error}") from error


def is_announcement(datagram: bytes) -> bool:
    """Return whether a datagram on port 2967 is to be read as an announcement.

    By its first bytes alone, so that a flood costs little. Check-ins are envelopes that begin
    with their payload; both are JSON.
    """
    return datagram.startswith(_FIRST_BYTES)


def announced_version(datagram: bytes) -> int:
    """Return the version that an announcement claims.

    Raises:
        DocumentError: more than 1,200 bytes, or as `claimed_version`.
    """
    if len(datagram) > TIMESTAMP_DATAGRAM_BYTES:
        raise DocumentError(f"an announcement of {len(datagram)} bytes")
    return claimed_version(datagram)


def fits_announcement(timestamp: bytes) -> bool:
    """Return whether a timestamp may be announced: it fits a datagram and reads as one."""
    return len(timestamp) <= TIMESTAMP_DATAGRAM_BYTES and is_announcement(timestamp)
