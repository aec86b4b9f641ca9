"""Packs and deltas: what turns one release into another, in as few bytes as can be.

The origin calls `encode_deltas` for each base that it keeps and publishes what comes back; a host
calls `apply_delta` with its installed tree, or `decode_pack`, and compares the digest of the tar
that is made with the signed one. `docs/formats-deltas.md` has every byte.

Invariants: every delta that is returned was applied once and gave the result's digest; decoding
takes no more memory and gives no more bytes than signed lengths allow, whatever the blob says.

Deliberately not here: fetching, the choice between deltas and pack (core.fetchplan), and disk.
"""

from fleetward.deltas.cursor import UnusableDeltaError
from fleetward.deltas.pack import PACK_MEMORY, decode_pack, encode_pack, pack_pieces
from fleetward.deltas.registry import (
    CODECS,
    MEMORY_BUDGET,
    EncodedDelta,
    apply_delta,
    encode_deltas,
)
from fleetward.deltas.trees import MemoryTree, TreeSource, tar_bytes, tar_pieces, tree_digest

__all__ = [
    "CODECS",
    "MEMORY_BUDGET",
    "PACK_MEMORY",
    "EncodedDelta",
    "MemoryTree",
    "TreeSource",
    "UnusableDeltaError",
    "apply_delta",
    "decode_pack",
    "encode_deltas",
    "encode_pack",
    "pack_pieces",
    "tar_bytes",
    "tar_pieces",
    "tree_digest",
]
