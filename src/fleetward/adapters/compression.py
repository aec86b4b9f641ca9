"""Whole messages as one zstd frame, opened in bounds.

For messages that fit in memory: batches of check-ins between relay and console. Packs and deltas
have needs of their own (deltas.zstdframe).
"""

import importlib
import sys
from types import ModuleType
from typing import Final

from fleetward.errors import DocumentError

_LEVEL: Final = 6
"""Signatures and seals do not compress; base64 and names do, and a higher level gains nothing."""


def _zstd() -> ModuleType:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return importlib.import_module(name)


def compress(content: bytes) -> bytes:
    """Return `content` as one zstd frame."""
    frame: bytes = _zstd().compress(content, level=_LEVEL)
    return frame


def decompress(frame: bytes, max_bytes: int) -> bytes:
    """Return what one zstd frame holds.

    Args:
        frame: from anybody.
        max_bytes: no more is ever made of it (a decompression bomb).

    Raises:
        DocumentError: not one whole frame, or more than `max_bytes` in it.
    """
    zstd = _zstd()
    window = {zstd.DecompressionParameter.window_log_max: max(10, (max_bytes - 1).bit_length())}
    opener = zstd.ZstdDecompressor(options=window)
    try:
        content: bytes = opener.decompress(frame, max_bytes + 1)
    except (zstd.ZstdError, EOFError) as error:
        raise DocumentError(f"not a zstd frame: {error}") from error
    if len(content) > max_bytes:
        raise DocumentError(f"more than {max_bytes} bytes in a frame of {len(frame)}")
    if not opener.eof or opener.unused_data:
        raise DocumentError("not one whole zstd frame")
    return content
