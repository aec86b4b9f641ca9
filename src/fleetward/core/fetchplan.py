"""The cheapest way to a release: a chain of deltas from what a host has, or the pack.

Cheapest by bytes on the wire, each blob counted with the cost of one more request; only steps that
fit the host's memory and codecs count. Dijkstra over releases, of which the origin keeps a few
dozen.

Deliberately not here: fetching. A chain needs the manifests of the releases in the middle, which
the caller gives; with the newest manifest alone the plan is one delta or the pack.
"""

import heapq
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from fleetward.core.digest import Sha256
from fleetward.core.documents import Delta, Manifest

REQUEST_COST = 600
"""Bytes that one more request costs, headers of both ways and a round trip's worth of patience."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a host can do.

    Attributes:
        max_memory: bytes that applying a delta may take.
        codecs: the delta codecs that it has.
        encoders: the gzip encoders that it can reproduce; None stands for all.
    """

    max_memory: int
    codecs: Collection[str]
    encoders: Collection[str] | None = None

    def can_apply(self, delta: Delta) -> bool:
        """Return whether the host can apply `delta`."""
        reproducible = (
            delta.encoder is None or self.encoders is None or delta.encoder in self.encoders
        )
        return delta.memory <= self.max_memory and delta.codec in self.codecs and reproducible


@dataclass(frozen=True, slots=True)
class Step:
    """One delta, and the tree that it makes."""

    delta: Delta
    makes: Manifest


@dataclass(frozen=True, slots=True)
class Plan:
    """How to get a release.

    Attributes:
        target: what the host shall have.
        steps: the deltas to apply, in their order; empty where the pack is fetched.
    """

    target: Manifest
    steps: tuple[Step, ...] = ()

    @property
    def wire_bytes(self) -> int:
        """The bytes of the blobs that the plan fetches."""
        if not self.steps:
            return self.target.pack.length
        return sum(step.delta.length for step in self.steps)


def plan_fetch(
    target: Manifest, have: Sha256 | None, known: Iterable[Manifest], means: Means
) -> Plan:
    """Return the cheapest plan to `target`.

    Args:
        target: the release to get.
        have: the digest of the tree that is installed, or None.
        known: verified manifests of the same product that may lie between.
        means: what the host can do.
    """
    pack = Plan(target)
    if have is None:
        return pack
    makers = {m.tree.sha256: m for m in (*known, target)}
    steps = _cheapest_chain(have, target.tree.sha256, makers, means)
    if steps is None:
        return pack
    chain = Plan(target, steps)
    cost = chain.wire_bytes + REQUEST_COST * len(steps)
    return chain if cost < pack.wire_bytes + REQUEST_COST else pack


def _cheapest_chain(
    have: Sha256, want: Sha256, makers: dict[Sha256, Manifest], means: Means
) -> tuple[Step, ...] | None:
    onward: dict[Sha256, list[Step]] = {}
    for manifest in makers.values():
        for delta in manifest.deltas:
            if means.can_apply(delta):
                onward.setdefault(delta.base_tree, []).append(Step(delta, manifest))
    queue: list[tuple[int, int, Sha256, tuple[Step, ...]]] = [(0, 0, have, ())]
    settled: set[Sha256] = set()
    pushed = 0
    while queue:
        cost, _, tree, steps = heapq.heappop(queue)
        if tree == want:
            return steps
        if tree in settled:
            continue
        settled.add(tree)
        for step in onward.get(tree, ()):
            pushed += 1
            total = cost + step.delta.length + REQUEST_COST
            heapq.heappush(queue, (total, pushed, step.makes.tree.sha256, (*steps, step)))
    return None
