"""What an agent's record of a product says to others on its machine (pure).

The agent writes `HOME/products/PRODUCT.json` (agent.records); a relay beside it reads from it
which trees the agent has confirmed, to serve them to software without an agent. Only what that
needs is read here; the record has more.

A tree is confirmed where the engine has loaded it and the trial is over. `current` alone does not
say so: it is switched when the trial begins.
"""

from dataclasses import dataclass

from fleetward.core.digest import Sha256
from fleetward.core.install import State
from fleetward.wire.documents import decode_json

SCHEMA = "fleetward.product-record/1"

_ON_TRIAL = frozenset({State.ACTIVATING, State.TRIAL})


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledTree:
    """A release in a slot.

    Attributes:
        release: its name.
        seq: its sequence number.
        tree: the digest of its canonical tar.
        slot: the slot's folder name, under `FOLDER/slots`.
    """

    release: str
    seq: int
    tree: Sha256
    slot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _HeldBack:
    tree: Sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductRecord:
    """One product on this machine, as far as readers of its trees need it.

    Attributes:
        state: where the installation stands.
        current: what `current` points at, or will.
        previous: what a rollback returns to.
        held_back: the release that failed here last.
        greatest_seq: the greatest sequence number that was confirmed here.
        revoked: trees that no host may run.
    """

    state: State
    current: InstalledTree | None = None
    previous: InstalledTree | None = None
    held_back: _HeldBack | None = None
    greatest_seq: int = 0
    revoked: tuple[Sha256, ...] = ()

    def confirmed(self) -> tuple[InstalledTree, ...]:
        """Return the trees that were confirmed and may run: the one to serve first.

        Never among them: a tree in trial, one that failed, one that was revoked.
        """
        trees = [self.current, self.previous]
        if self.state is State.ROLLING_BACK or self._is_current_untried():
            trees = [self.previous]
        return tuple(tree for tree in trees if tree is not None and self._may_run(tree))

    def _is_current_untried(self) -> bool:
        """Return whether `current` is in its first trial, not one that repairs its slot."""
        if self.state not in _ON_TRIAL or self.current is None:
            return False
        return self.current.seq != self.greatest_seq

    def _may_run(self, tree: InstalledTree) -> bool:
        has_failed = self.held_back is not None and tree.tree == self.held_back.tree
        return not has_failed and tree.tree not in self.revoked


def decode_product_record(content: bytes) -> ProductRecord:
    """Return an agent's record of a product.

    Raises:
        DocumentError: another schema, or a field that is missing or out of range.
    """
    return decode_json(SCHEMA, ProductRecord, content)
