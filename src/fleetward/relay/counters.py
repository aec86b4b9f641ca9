"""What a relay has done since it started, as `GET /v1/relay` and the demo show it."""

from dataclasses import dataclass


@dataclass(slots=True)
class RelayCounters:
    """Only ever counted up.

    Attributes:
        hits: requests answered from the cache.
        misses: requests that had to wait for an upstream, alone or with others.
        coalesced: of the misses, those that joined a request already under way.
        fills: blob fills begun.
        filled: blobs filled, verified and kept.
        upstream_blob_bytes: bytes of packs and deltas that upstreams sent, useful or not.
        resumed: upstream requests that went on in the middle of a blob.
        refused_digests: blobs and targets dropped because their digest was wrong.
        upstream_failures: upstream requests that failed or broke off.
        disk_errors: blobs or documents that could not be kept.
        stale: timestamps served although no upstream confirmed them in time.
        overloaded: requests answered 503 because of a limit.
        passed_through: blobs verified and served, and not kept since there was no room.
        through_memory: of these, those that the disk had no room for even on their way.
        evicted: blobs removed for want of room, or that nobody asked for in a long time.
        evicted_bytes: of those.
        refused_misses: of `overloaded`, requests beyond a client's miss budget.
        refused_rate: of `overloaded`, requests beyond a client's requests per second.
    """

    hits: int = 0
    misses: int = 0
    coalesced: int = 0
    fills: int = 0
    filled: int = 0
    upstream_blob_bytes: int = 0
    resumed: int = 0
    refused_digests: int = 0
    upstream_failures: int = 0
    disk_errors: int = 0
    stale: int = 0
    overloaded: int = 0
    passed_through: int = 0
    through_memory: int = 0
    evicted: int = 0
    evicted_bytes: int = 0
    refused_misses: int = 0
    refused_rate: int = 0
