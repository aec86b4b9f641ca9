"""How a release's tree comes to a slot: the plan's deltas, or the pack where that fails.

Anything that goes wrong with a delta (the installed tree has drifted, this host's zlib gives other
bytes, a codec is unknown, a blob is not to be had) falls back to the pack, and the reason is
kept for people; a full disk does not, since the pack needs more.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fleetward.agent.fetching import Blob, BlobFetcher
from fleetward.agent.records import Installed
from fleetward.agent.slots import Slots, StoredFile
from fleetward.core.digest import sha256_of
from fleetward.core.documents import Manifest
from fleetward.core.fetchplan import Means, Plan, plan_fetch
from fleetward.core.names import ReleaseName
from fleetward.deltas import (
    CODECS,
    MemoryTree,
    TreeSource,
    apply_delta,
    decode_pack,
    tree_digest,
)
from fleetward.errors import DigestError, NetworkError, TrustError, UnsafeTreeError


@dataclass(frozen=True, slots=True)
class Obtained:
    """How a tree was had.

    Attributes:
        files: what it holds.
        means: `pack`, or the codecs of the deltas in their order.
        blob_bytes: bytes of blobs that arrived for it.
        fallback: why the deltas that were planned did not do, or None.
    """

    files: tuple[StoredFile, ...]
    means: tuple[str, ...]
    blob_bytes: int
    fallback: str | None = None


@dataclass(slots=True)
class Obtainer:
    """Gets trees into slots.

    Attributes:
        blobs: fetches blobs.
        slots: where trees go.
        max_memory: bytes that applying a delta may take.
        doing: what progress says.
    """

    blobs: BlobFetcher
    slots: Slots
    max_memory: int
    doing: str = "fetch"
    _fallback: str | None = field(default=None, init=False)

    def obtain(
        self, target: Manifest, have: Installed | None, known: Iterable[Manifest], slot: str
    ) -> Obtained:
        """Write `target`'s tree into `slot`.

        Args:
            target: the release.
            have: the installed release to start from, or None.
            known: manifests of releases that may lie between.
            slot: the slot's name.

        Raises:
            TrustError: no source has the signed bytes.
            NetworkError: no source can be reached.
            DiskError: the disk is full or failing.
        """
        before = self.blobs.received_bytes
        means = Means(self.max_memory, CODECS)
        plan = plan_fetch(target, have.tree if have else None, known, means)
        if plan.steps and have:
            try:
                files = self.slots.stage(slot, target.tree, self._by_deltas(plan, have))
                codecs = tuple(step.delta.codec for step in plan.steps)
                return Obtained(files, codecs, self.blobs.received_bytes - before)
            except (TrustError, NetworkError) as error:
                self._fallback = f"the delta did not do ({error}); the pack was fetched"
        files = self.slots.stage(slot, target.tree, self._by_pack(target))
        return Obtained(files, ("pack",), self.blobs.received_bytes - before, self._fallback)

    def _by_pack(self, target: Manifest) -> Iterator[bytes]:
        path = self.blobs.fetch(Blob(target.pack.sha256, target.pack.length), self.doing)
        yield from decode_pack(self.blobs.disk.pieces(path), target.tree.length)

    def _by_deltas(self, plan: Plan, have: Installed) -> Iterator[bytes]:
        tree: TreeSource = self._base(have.release, have)
        for number, step in enumerate(plan.steps, 1):
            delta = step.delta
            path = self.blobs.fetch(Blob(delta.sha256, delta.length), self.doing)
            result = apply_delta(
                delta.codec,
                tree,
                self.blobs.disk.read(path),
                encoder=delta.encoder,
                result_length=step.makes.tree.length,
                max_memory=self.max_memory,
            )
            if number == len(plan.steps):
                yield from result
            else:
                tree = _verified(b"".join(result), step.makes)

    def _base(self, release: ReleaseName, have: Installed) -> TreeSource:
        if not self.slots.holds(have.slot):
            raise DigestError(f"the installed {release} is gone from {self.slots.path(have.slot)}")
        try:
            tree = self.slots.tree(have.slot)
        except UnsafeTreeError as error:
            raise DigestError(f"the installed {release} has drifted: {error}") from error
        if tree_digest(tree) != have.tree:
            raise DigestError(f"the installed {release} has drifted from its signed tree")
        return tree


def _verified(tar: bytes, makes: Manifest) -> MemoryTree:
    if sha256_of(tar) != makes.tree.sha256:
        raise DigestError(f"a delta did not make the signed tree of {makes.release}")
    return MemoryTree.from_tar(tar)
