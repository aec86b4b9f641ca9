"""The codecs: each turns what differs between two trees into bytes, and back on a host.

Every delta begins with one byte, its codec's version of the format (1). Behind it:

- `changed-set`: the head of deltas.layouts; then a number, the bytes of the pieces as they follow,
  and the pieces (deltas.pieces) of which the payload is made, places counted in the reference
  without its unchanged files; then the fresh bytes between the pieces, as a frame of
  deltas.zstdframe whose prefix is the reference. No bytes of pieces: all of the payload is fresh;
- `hdiffpatch`: the same head; then one byte, `(pb * 5 + lp) * 9 + lc`, and a raw LZMA1 stream with
  an end mark and these properties, which holds an uncompressed `HDIFF13` patch from the reference
  to the payload;
- `whole-tree`: a frame whose content is the result's tar and whose prefix is the base's tar.

Invariant: `apply` bounds what it allocates by lengths that are signed, before it allocates.

Deliberately not here: choosing among codecs, and the proof that a delta works (deltas.registry).
"""

import lzma
from collections.abc import Iterator, Sequence
from typing import Protocol

from fleetward.core.limits import KIB, MIB
from fleetward.deltas import zstdframe
from fleetward.deltas.alignment import THRIFTS, Alignment
from fleetward.deltas.cursor import Cursor, number
from fleetward.deltas.layouts import (
    OVERHEAD,
    PAYLOAD_COPIES,
    Bounds,
    Comparison,
    Reference,
    memory_taken,
    receive,
)
from fleetward.deltas.pieces import Piece, read_pieces, write_pieces
from fleetward.deltas.trees import TreeSource, tar_bytes
from fleetward.errors import DigestError, DocumentError
from fleetward.wire.tar import tar_length

VERSION = b"\x01"

FINE_LIMIT = 24 * MIB
"""Bytes of prefix and content up to which Zstandard's slowest settings are worth their time."""

_PATCH_LIMIT = 64 * MIB
"""Bytes of either side above which hdiffpatch is not tried: it takes ten times that at the origin."""

_DRAFT = {"compression_level": 12}
_DRAFT_LIMIT = MIB
"""Bytes of both sides above which alignments are compared by settings ten times as fast, which
nearly always put them in the same order."""

_ALIGNED_LIMIT = 16 * MIB
"""Bytes of either side above which long pieces are not looked for: seconds at the origin."""

SPARE_LIMIT = 12 * MIB
"""Bytes of unchanged files in a reference: a third of a second at the origin for each MiB."""

_TRIED_LIMIT = 2 * MIB
"""Bytes of either side above which one setting is taken as it is, not the best of several."""

_CONTROLS = bytes([*range(1, 9), *range(14, 32)])
_TEXT_SHARE = 64
"""A payload with more than one control character in so many bytes is a program's: hdiffpatch sees
to it. Zeros do not count: texts inside an archive of tar are padded with them."""

_WHOLE_SHARE = 4
"""The whole tree is tried only where one of so many bytes of the base is changed or dropped."""

_LZMA_PROPERTIES = ((3, 0, 0), (3, 0, 2), (0, 0, 0), (0, 2, 2))
"""lc, lp, pb that are tried."""


class Codec(Protocol):
    """One way to write a delta.

    Attributes:
        name: what the manifest calls it.
        opens: gzip members may travel opened.
    """

    name: str
    opens: bool

    def encode(self, comparison: Comparison, memory_budget: int) -> Iterator[tuple[bytes, int]]:
        """Yield deltas and the bytes of memory that applying each takes; none where it is no use."""
        ...

    def apply(self, base: TreeSource, cursor: Cursor, bounds: Bounds) -> Iterator[bytes]:
        """Yield the result's tar, as `registry.apply_delta` says."""
        ...


def _options(length: int) -> dict[str, int]:
    """Return the settings for prefix and content of `length` bytes together."""
    if length > FINE_LIMIT:
        return {"compression_level": 12, "enable_long_distance_matching": 1}
    return {"compression_level": 19 if length > MIB else 22}


class ChangedSet:
    """The changed files as long pieces of old files, and what is fresh against all old files."""

    name = "changed-set"
    opens = True

    def encode(self, comparison: Comparison, memory_budget: int) -> Iterator[tuple[bytes, int]]:
        """Yield the cheap delta (changed files as prefix) and the one with all that fits."""
        payload_length = comparison.payload_length
        if memory_taken(comparison.near_length, payload_length) > memory_budget:
            return
        draft = _DRAFT if len(comparison.near) + payload_length > _DRAFT_LIMIT else None
        pieces = min(
            _alignments(comparison),
            key=lambda each: len(self._delta(comparison, each, 0, draft)[0]),
        )
        yield self._delta(comparison, pieces, 0)
        unchanged = sum(e.length for e in comparison.base.entries) - comparison.near_length
        room = memory_budget - OVERHEAD
        room = min(room // 2, room - PAYLOAD_COPIES * payload_length)
        spare = min(unchanged, room - len(comparison.near), SPARE_LIMIT)
        if spare > 0 and payload_length:
            yield self._delta(comparison, pieces, spare)

    def _delta(
        self,
        comparison: Comparison,
        pieces: Sequence[Piece],
        spare: int,
        options: dict[str, int] | None = None,
    ) -> tuple[bytes, int]:
        prefix = comparison.reference(spare).content if spare else comparison.near
        coded = write_pieces(pieces) if len(pieces) > 1 else b""
        fresh, at = [], 0
        for piece in pieces:
            fresh.append(comparison.payload[at : at + piece.fresh])
            at += piece.fresh + piece.length
        content = b"".join(fresh)
        options = options or _options(len(prefix) + len(content))
        frame = zstdframe.squeeze(content, prefix, options)
        head = VERSION + comparison.script + number(spare) + number(len(coded)) + coded
        return head + frame, memory_taken(len(prefix), len(comparison.payload))

    def apply(self, base: TreeSource, cursor: Cursor, bounds: Bounds) -> Iterator[bytes]:
        """Yield the result's tar."""
        received = receive(base, cursor, bounds)
        most = received.payload_length
        coded = cursor.take(cursor.take_number(cursor.left))
        known = received.reference()
        pieces = [Piece(most, 0, 0)]
        if coded:
            pieces = read_pieces(coded, len(known.content) - known.near, most)
        fresh_length = sum(piece.fresh for piece in pieces)
        fresh = b"".join(zstdframe.unsqueeze(cursor.take_rest(), known.content, fresh_length))
        if len(fresh) != fresh_length:
            raise DigestError(f"the delta has {len(fresh)} fresh bytes instead of {fresh_length}")
        yield from received.tar(_joined(pieces, fresh, known))


def _joined(pieces: Sequence[Piece], fresh: bytes, known: Reference) -> bytes:
    out, at = [], 0
    for piece in pieces:
        out.append(fresh[at : at + piece.fresh])
        at += piece.fresh
        start = known.near + piece.start
        out.append(known.content[start : start + piece.length])
    return b"".join(out)


def _alignments(comparison: Comparison) -> Iterator[list[Piece]]:
    """Yield no pieces at all, and what searches of several thrifts find in texts."""
    near, payload = comparison.near, comparison.payload
    yield [Piece(len(payload), 0, 0)]
    longer = max(len(near), len(payload))
    controls = len(payload) - len(payload.translate(None, _CONTROLS))
    if not near or longer > _ALIGNED_LIMIT or controls * _TEXT_SHARE > len(payload):
        return
    alignment = Alignment(near)
    for thrift in THRIFTS if longer <= _TRIED_LIMIT else THRIFTS[1:2]:
        yield alignment.pieces(payload, thrift)


class WholeTree:
    """The result's tar against the base's."""

    name = "whole-tree"
    opens = False

    def encode(self, comparison: Comparison, memory_budget: int) -> Iterator[tuple[bytes, int]]:
        """Yield one delta where much of the base has changed."""
        lengths = [tar_length(tree.entries) for tree in (comparison.base, comparison.result)]
        needed = 2 * lengths[0] + lengths[1] + OVERHEAD
        if needed > memory_budget:
            return
        if comparison.near_length * _WHOLE_SHARE < lengths[0]:
            return
        prefix, tar = tar_bytes(comparison.base), tar_bytes(comparison.result)
        frame = zstdframe.squeeze(tar, prefix, _options(sum(lengths)))
        yield VERSION + frame, needed

    def apply(self, base: TreeSource, cursor: Cursor, bounds: Bounds) -> Iterator[bytes]:
        """Yield the result's tar."""
        length = tar_length(base.entries)
        bounds.admit(2 * length + bounds.result_length)
        return zstdframe.unsqueeze(cursor.take_rest(), tar_bytes(base), bounds.result_length)


class HdiffPatch:
    """The changed files as hdiffpatch sees them: best where programs were built again."""

    name = "hdiffpatch"
    opens = True

    def encode(self, comparison: Comparison, memory_budget: int) -> Iterator[tuple[bytes, int]]:
        """Yield one delta where the changed files are within the limit."""
        needed = memory_taken(comparison.near_length, comparison.payload_length)
        if max(comparison.near_length, comparison.payload_length) > _PATCH_LIMIT:
            return
        if needed > memory_budget:
            return
        import hdiffpatch  # noqa: PLC0415 (lazy)

        patch = hdiffpatch.diff(
            comparison.near, comparison.payload, compression="none", validate=False
        )
        tried = _LZMA_PROPERTIES if len(patch) <= _TRIED_LIMIT else _LZMA_PROPERTIES[:1]
        streams = (_lzma(patch, *each) for each in tried)
        yield VERSION + comparison.script + number(0) + min(streams, key=len), needed

    def apply(self, base: TreeSource, cursor: Cursor, bounds: Bounds) -> Iterator[bytes]:
        """Yield the result's tar."""
        received = receive(base, cursor, bounds)
        most = received.payload_length
        patch = _unlzma(cursor, 2 * most + 64 * KIB)
        if _patched_length(patch) != most:
            raise DigestError(f"the delta's patch does not make the {most} bytes of its payload")
        import hdiffpatch  # noqa: PLC0415 (lazy)

        try:
            payload = hdiffpatch.apply(received.reference().content, patch)
        except (hdiffpatch.HDiffPatchError, MemoryError) as error:
            raise DocumentError(f"the delta's patch does not apply: {error}") from error
        yield from received.tar(payload)


def _filters(lc: int, lp: int, pb: int, length: int) -> list[dict[str, int]]:
    dictionary = 1 << min(max(12, length.bit_length()), 26)
    return [{"id": lzma.FILTER_LZMA1, "lc": lc, "lp": lp, "pb": pb, "dict_size": dictionary}]


def _lzma(content: bytes, lc: int, lp: int, pb: int) -> bytes:
    filters = _filters(lc, lp, pb, len(content))
    filters[0] |= {"mode": lzma.MODE_NORMAL, "nice_len": 273, "mf": lzma.MF_BT4, "depth": 512}
    head = bytes([(pb * 5 + lp) * 9 + lc])
    return head + lzma.compress(content, format=lzma.FORMAT_RAW, filters=filters)


def _unlzma(cursor: Cursor, most: int) -> bytes:
    properties = cursor.take(1)[0]
    pb, rest = divmod(properties, 45)
    lp, lc = divmod(rest, 9)
    if pb > 4 or lc + lp > 4:
        raise DocumentError(f"the delta's LZMA properties are {properties}")
    filters = _filters(lc, lp, pb, most)
    opened = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
    try:
        content = opened.decompress(cursor.take_rest(), max_length=most)
    except lzma.LZMAError as error:
        raise DocumentError(f"the delta's LZMA stream is malformed: {error}") from error
    if not opened.eof or opened.unused_data:
        raise DocumentError("the delta's LZMA stream is cut off or too long")
    return content


def _patched_length(patch: bytes) -> int:
    """Return what an uncompressed HDIFF13 patch says it makes: bytes, seven bits to a byte."""
    if not patch.startswith(b"HDIFF13&\0"):
        raise DocumentError("the delta's patch is no uncompressed HDIFF13")
    length = 0
    for byte in patch[9:18]:
        length = length << 7 | byte & 0x7F
        if byte < 0x80:
            return length
    raise DocumentError("the delta's patch has no length")
