"""The pack: a whole release's canonical tar as one ordinary Zstandard frame.

`zstd -d < PACK | tar x` opens it. Level 19, the content's length in the header, a checksum at the
end. The window is at most 8 MiB, so that any decoder opens it in bounded memory.

Deliberately not here: digests. The caller has compared the blob's before it decodes, and compares
the tree's after.
"""

from collections.abc import Iterable, Iterator

from fleetward.deltas import zstdframe
from fleetward.errors import DigestError

PACK_LEVEL = 19
PACK_WINDOW_LOG = 23
"""8 MiB: what a host takes for opening a pack, beside a few hundred KiB."""

PACK_MEMORY = (1 << PACK_WINDOW_LOG) + (1 << 20)
"""Bytes that opening a pack takes, however long it is."""


def pack_pieces(tar: Iterable[bytes], length: int) -> Iterator[bytes]:
    """Yield the pack of `tar`, which has `length` bytes, as it comes.

    Raises:
        DigestError: `tar` has another length (a file changed while it was published).
    """
    compressor = zstdframe.compressor(
        {
            "compression_level": PACK_LEVEL,
            "window_log": PACK_WINDOW_LOG,
            "checksum_flag": 1,
            "content_size_flag": 1,
        },
        length,
    )
    seen = 0
    for piece in tar:
        seen += len(piece)
        if seen > length:
            break
        out = compressor.compress(piece)
        if out:
            yield out
    if seen != length:
        raise DigestError(f"the tar has not the {length} bytes that it was announced with")
    yield compressor.flush()


def encode_pack(tar: bytes | Iterable[bytes], length: int) -> bytes:
    """Return the pack of `tar`, which has `length` bytes.

    Raises:
        DigestError: `tar` has another length.
    """
    return b"".join(pack_pieces([tar] if isinstance(tar, bytes) else tar, length))


def decode_pack(pieces: Iterable[bytes], result_length: int) -> Iterator[bytes]:
    """Yield the tar that the pack in `pieces` holds, `result_length` bytes at most.

    Takes `PACK_MEMORY` bytes at most, whatever the pack says.

    Raises:
        DigestError: it holds more or fewer than `result_length` bytes.
        DocumentError: it is malformed, cut off, followed by something, or asks for a larger window.
    """
    decompressor = zstdframe.decompressor(PACK_WINDOW_LOG)
    made = 0
    for piece in zstdframe.inflate_frame(decompressor, pieces, result_length):
        made += len(piece)
        yield piece
    if made != result_length:
        raise DigestError(f"the pack holds {made} bytes instead of {result_length}")
