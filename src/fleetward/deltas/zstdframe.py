"""Zstandard frames, with and without a prefix: compressed as small as can be, opened in bounds.

The window is as large as prefix and content together, so a frame may reach back over both; a
decoder is told the largest window that the lengths allow and refuses a frame that asks for more,
before it allocates. Frames inside a delta leave out the magic number, the checksum and the
content's length: digest and lengths come from elsewhere.

The module of zstd is imported at first use: an idle agent holds none.

Deliberately not here: which bytes make a good prefix (deltas.layouts).
"""

import importlib
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fleetward.core.limits import KIB
from fleetward.errors import DigestError, DocumentError

if TYPE_CHECKING:
    from backports import zstd

MAGIC = b"\x28\xb5\x2f\xfd"
PIECE = 256 * KIB
"""Most bytes that one step of decompressing gives."""

MAX_WINDOW_LOG = 31
_SHORTEST_PREFIX = 8
"""Zstandard takes no shorter prefix; one of fewer bytes is left out on both sides."""


def _zstd() -> ModuleType:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return importlib.import_module(name)


def window_log(length: int) -> int:
    """Return the logarithm of the smallest window over `length` bytes, 10 to 31."""
    return min(max(10, (max(length, 1) - 1).bit_length()), MAX_WINDOW_LOG)


def squeeze(content: bytes, prefix: bytes, options: dict[str, int]) -> bytes:
    """Return `content` as one frame without its magic number, `prefix` standing before it.

    Args:
        content: what to compress.
        prefix: what the decoder has already; may be empty.
        options: names of `CompressionParameter` and their values.
    """
    log = window_log(len(prefix) + len(content))
    bare = {"window_log": log, "checksum_flag": 0, "content_size_flag": 0}
    frame = compressor(bare | options, len(content), prefix)
    return (frame.compress(content) + frame.flush())[len(MAGIC) :]


def compressor(options: dict[str, int], length: int, prefix: bytes = b"") -> "zstd.ZstdCompressor":
    """Return a compressor of one frame of `length` bytes.

    Args:
        options: names of `CompressionParameter` and their values.
        length: bytes of content.
        prefix: what the decoder has already; may be empty.
    """
    module = _zstd()
    values = {getattr(module.CompressionParameter, name): value for name, value in options.items()}
    made: zstd.ZstdCompressor = module.ZstdCompressor(options=values, **_before(module, prefix))
    made.set_pledged_input_size(length)
    return made


def decompressor(max_window_log: int, prefix: bytes = b"") -> "zstd.ZstdDecompressor":
    """Return a decompressor of one frame that refuses a window above `2**max_window_log` bytes."""
    module = _zstd()
    options = {module.DecompressionParameter.window_log_max: max_window_log}
    made: zstd.ZstdDecompressor = module.ZstdDecompressor(
        options=options, **_before(module, prefix)
    )
    return made


def unsqueeze(frame: bytes, prefix: bytes, most: int) -> Iterator[bytes]:
    """Yield what `squeeze` compressed, in pieces, `most` bytes at most.

    Raises:
        DigestError: there are more than `most` bytes.
        DocumentError: the frame is malformed, cut off or followed by something, or its window is
            larger than prefix and `most` bytes together need.
    """
    opened = decompressor(window_log(len(prefix) + most), prefix)
    return inflate_frame(opened, (MAGIC, frame), most)


def inflate_frame(
    opened: "zstd.ZstdDecompressor", pieces: Iterable[bytes], most: int
) -> Iterator[bytes]:
    """Yield what the one frame in `pieces` holds, `most` bytes at most.

    Raises:
        DigestError: there are more than `most` bytes.
        DocumentError: the frame is malformed, cut off or followed by something.
    """
    made = 0
    for piece in pieces:
        fed = piece
        while True:
            out = _step(opened, fed)
            made += len(out)
            if made > most:
                raise DigestError(f"the content is longer than the {most} bytes that were signed")
            if out:
                yield out
            fed = b""
            if opened.eof or opened.needs_input:
                break
    if not opened.eof:
        raise DocumentError("the Zstandard frame is cut off")
    if opened.unused_data:
        raise DocumentError("something follows the Zstandard frame")


def _step(opened: "zstd.ZstdDecompressor", piece: bytes) -> bytes:
    try:
        return opened.decompress(piece, max_length=PIECE)
    except (_zstd().ZstdError, EOFError) as error:
        raise DocumentError(f"the Zstandard frame is malformed: {error}") from error


def _before(module: ModuleType, prefix: bytes) -> dict[str, Any]:
    if len(prefix) < _SHORTEST_PREFIX:
        return {}
    return {"zstd_dict": module.ZstdDict(prefix, is_raw=True).as_prefix}
