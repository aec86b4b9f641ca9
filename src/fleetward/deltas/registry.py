"""All codecs: the origin tries each and keeps the smallest; a host applies by name.

Invariant: every delta that `encode_deltas` returns was applied once and gave the result's digest.

Deliberately not here: digests of blobs (the caller has compared it before `apply_delta`) and the
choice of a chain of deltas (core.fetchplan).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from fleetward.core.limits import MIB
from fleetward.deltas.codecs import VERSION, ChangedSet, Codec, HdiffPatch, WholeTree
from fleetward.deltas.cursor import Cursor, UnusableDeltaError
from fleetward.deltas.layouts import Bounds, compare
from fleetward.deltas.trees import TreeSource, tree_digest
from fleetward.errors import DigestError, TrustError
from fleetward.wire.tar import tar_length

MEMORY_BUDGET = 128 * MIB
"""Bytes that applying a delta may take, unless set otherwise."""

MAX_MEMORY = 1 << 30
"""Bytes that applying a delta may take where the caller sets no limit."""

CODECS: dict[str, Codec] = {c.name: c for c in (ChangedSet(), HdiffPatch(), WholeTree())}


@dataclass(frozen=True, slots=True)
class EncodedDelta:
    """A delta that was proven.

    Attributes:
        codec: its name in the manifest.
        encoder: what makes gzip members again, or None where none was opened.
        memory: bytes that applying takes, an upper estimate.
        content: the blob.
    """

    codec: str
    encoder: str | None
    memory: int
    content: bytes


def encode_deltas(
    base: TreeSource, result: TreeSource, *, memory_budget: int = MEMORY_BUDGET
) -> tuple[EncodedDelta, ...]:
    """Return the smallest delta, and one for small hosts where that takes far less memory.

    Args:
        base: the tree that hosts have.
        result: the tree that they are to have.
        memory_budget: bytes that applying may take.

    Returns:
        The smallest first; at most two; none where no codec fits the budget.
    """
    comparison = compare(base, result)
    digest = tree_digest(result)
    encoder = ",".join(comparison.encoders) or None
    candidates = [
        EncodedDelta(codec.name, encoder if codec.opens else None, memory, content)
        for codec in CODECS.values()
        for content, memory in codec.encode(comparison, memory_budget)
    ]
    candidates.sort(key=lambda delta: (len(delta.content), delta.memory))
    chosen: list[EncodedDelta] = []
    for candidate in candidates:
        if chosen and candidate.memory * 2 > chosen[0].memory:
            continue
        if len(chosen) < 2 and _proven(candidate, base, result, digest):
            chosen.append(candidate)
    return tuple(chosen)


def _proven(delta: EncodedDelta, base: TreeSource, result: TreeSource, digest: str) -> bool:
    made = hashlib.sha256()
    length = tar_length(result.entries)
    try:
        for piece in apply_delta(
            delta.codec, base, delta.content, encoder=delta.encoder, result_length=length
        ):
            made.update(piece)
    except TrustError:
        return False
    return made.hexdigest() == digest


def apply_delta(
    codec: str,
    base: TreeSource,
    delta: bytes,
    *,
    encoder: str | None,
    result_length: int,
    max_memory: int | None = None,
) -> Iterator[bytes]:
    """Yield the canonical tar of the result, in pieces; the caller compares its digest.

    The blob's digest was compared before; still nothing is allocated on its word alone.

    Args:
        codec: the codec's name in the manifest.
        base: the tree that the host has.
        delta: the blob.
        encoder: the manifest's name of what makes gzip members again.
        result_length: the signed length of the tar; never a byte more is yielded.
        max_memory: bytes that applying may take, `MAX_MEMORY` where it is None.

    Raises:
        UnusableDeltaError: the codec is unknown, `max_memory` does not do, or this host cannot
            make a gzip member again. At the call for the first, else while iterating.
        DigestError: the delta makes more or fewer than `result_length` bytes.
        DocumentError: it is malformed.
        UnsafeTreeError: a file of the base is not what it was.
    """
    known = CODECS.get(codec)
    if known is None:
        raise UnusableDeltaError(f"this version knows no codec {codec!r}: take the pack")
    bounds = Bounds(
        result_length,
        MAX_MEMORY if max_memory is None else max_memory,
        tuple(encoder.split(",")) if encoder else (),
    )
    return _bounded(known, base, delta, bounds)


def _bounded(codec: Codec, base: TreeSource, delta: bytes, bounds: Bounds) -> Iterator[bytes]:
    cursor = Cursor(delta)
    if cursor.take(1) != VERSION:
        raise UnusableDeltaError("the delta is of a newer version of its codec: take the pack")
    made = 0
    for piece in codec.apply(base, cursor, bounds):
        made += len(piece)
        if made > bounds.result_length:
            raise DigestError(f"the delta makes more than the {bounds.result_length} bytes signed")
        yield piece
    if made == bounds.result_length:
        return
    if bounds.encoders:
        raise UnusableDeltaError(
            "this host's zlib makes other bytes than the origin's: take the pack"
        )
    raise DigestError(f"the delta makes {made} bytes instead of {bounds.result_length}")
