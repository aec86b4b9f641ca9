"""The relay: a verified pull-through cache that any host can run.

Untrusted by construction: it knows digests and no keys, and imports neither trust nor deltas. It
can delay, never alter, what an agent takes. What it serves to software without an agent (mirrors,
passthroughs) is marked as unverified, since only an agent verifies.

`server` puts it together: the cache (timestamp, documents, blobs), and parts (`part.Part`) that know
nothing of each other: limits, pushes, check-ins, mirrors, discovery.
"""
