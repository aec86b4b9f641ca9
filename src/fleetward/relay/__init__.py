"""The relay: a verified pull-through cache that any host can run.

Untrusted by construction: it knows digests and no keys, and imports neither trust nor deltas. It
can delay, never alter, what an agent takes.

Deliberately not here yet (issue 3): quota and prefetch, long polls, UDP, check-ins, mirrors.
"""
