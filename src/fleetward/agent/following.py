"""One product on one host: resume what was left, decide by the signed documents, install.

The decisions are core.admission's and core.install's; here they meet the record on disk.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from fleetward.agent.installer import Installer
from fleetward.agent.obtaining import Obtainer
from fleetward.agent.records import Record, Records
from fleetward.core.admission import Choice, Refusal, Signed, choose
from fleetward.core.digest import Sha256
from fleetward.core.documents import Channel, Floor, Manifest, Policy, ReleaseRef
from fleetward.core.install import State
from fleetward.core.names import ChannelName, ProductName, ReleaseName
from fleetward.core.rollout import HostPlace, wave_of
from fleetward.errors import (
    FleetwardError,
    NetworkError,
    RejectedError,
    RollbackError,
    RolledBackError,
    TrustError,
)


class SignedView(Protocol):
    """What the agent asks of verified metadata; `trust.VerifiedView` is one.

    Every method raises TrustError where the metadata does not verify and NetworkError where it
    cannot be had.
    """

    def channel(self, product: ProductName, channel: ChannelName) -> Channel:
        """Return a channel's document. Raises NotFoundError where there is none."""
        ...

    def floor(self, product: ProductName) -> Floor:
        """Return a product's floor."""
        ...

    def policy(self, product: ProductName) -> Policy:
        """Return a product's policy."""
        ...

    def manifest(self, product: ProductName, ref: ReleaseRef) -> Manifest | None:
        """Return a manifest, or None where the releases role does not name its digest."""
        ...

    def release(self, product: ProductName, release: ReleaseName) -> Manifest | None:
        """Return the manifest of a release by name, or None where there is none."""
        ...


class Outcome(Enum):
    """How a run ended for one product."""

    INSTALLED = "installed"
    CURRENT = "current"
    TRIAL = "trial"
    WAITING = "waiting"
    HELD_BACK = "held-back"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled-back"
    UNPROTECTED = "unprotected"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ProductReport:
    """What a run did for one product.

    Attributes:
        record: the product's record afterwards.
        outcome: how it ended.
        means: `pack` or the codecs of the deltas that made a new release.
        blob_bytes: bytes of blobs that arrived for it.
        reason: a sentence for people where something is not as it should be.
        error: what failed, or None.
    """

    record: Record
    outcome: Outcome
    means: tuple[str, ...] = ()
    blob_bytes: int = 0
    reason: str | None = None
    error: FleetwardError | None = None


@dataclass(slots=True)
class Follower:
    """Follows one product's channel during one run.

    Attributes:
        installer: installs its releases.
        records: where its record is kept.
        product: which product.
        channel: which channel.
        obtainer: gets trees into slots.
        repairs: whether a drifted tree is installed again.
        is_paused: whether the console asked to leave the product as it is; a revoked release is
            left all the same.
    """

    installer: Installer
    records: Records
    product: ProductName
    channel: ChannelName
    obtainer: Obtainer
    repairs: bool = False
    is_paused: bool = False
    _started: Record | None = field(default=None, init=False)
    _error: FleetwardError | None = field(default=None, init=False)
    _waits: str | None = field(default=None, init=False)

    def resume(self) -> None:
        """Go on where a run stopped; needs no network. An error is kept for the report."""
        self._started = self.load()
        self._guard(lambda: self.installer.resume(self.load()))

    def follow(self, view: SignedView, host: HostPlace) -> None:
        """Do what the signed documents say. An error is kept for the report."""
        if self._error is None:
            self._guard(lambda: self._decide(self.load(), view, host))

    def report(self) -> ProductReport:
        """Return what the run did."""
        record = self.load()
        if self._error:
            return ProductReport(record, Outcome.FAILED, reason=str(self._error), error=self._error)
        match record.state:
            case State.REJECTED:
                return self._held(record, Outcome.REJECTED, RejectedError)
            case State.ROLLED_BACK:
                return self._held(record, Outcome.ROLLED_BACK, RolledBackError)
            case State.UNPROTECTED:
                error = RolledBackError(record.reason or "no release may run on this host")
                return ProductReport(record, Outcome.UNPROTECTED, reason=record.reason, error=error)
            case State.TRIAL:
                return self._made(record, Outcome.TRIAL)
            case _:
                return self._at_rest(record)

    def load(self) -> Record:
        """Return the product's record."""
        return self.records.load(self.product, self.channel)

    # -- reports ------------------------------------------------------------------------------

    def _held(
        self, record: Record, fresh: Outcome, kind: type[RejectedError | RolledBackError]
    ) -> ProductReport:
        held = record.held_back
        known = self._started is not None and self._started.held_back == held
        outcome = Outcome.HELD_BACK if known else fresh
        sentence = f"{held.release}: {held.reason}" if held else record.reason or ""
        error = None if held and held.by_operator else kind(sentence)
        return ProductReport(record, outcome, reason=sentence, error=error)

    def _at_rest(self, record: Record) -> ProductReport:
        ran = self._started.current if self._started else None
        if record.current and (ran is None or ran.slot != record.current.slot):
            return self._made(record, Outcome.INSTALLED)
        outcome = Outcome.WAITING if self._waits else Outcome.CURRENT
        return ProductReport(record, outcome, reason=self._waits)

    def _made(self, record: Record, outcome: Outcome) -> ProductReport:
        obtained = self.installer.obtained
        if obtained is None:
            return ProductReport(record, outcome)
        return ProductReport(
            record, outcome, obtained.means, obtained.blob_bytes, obtained.fallback
        )

    # -- decisions ----------------------------------------------------------------------------

    def _guard(self, work: Callable[[], object]) -> None:
        try:
            work()
        except FleetwardError as error:
            self._error = error

    def _decide(self, record: Record, view: SignedView, host: HostPlace) -> None:
        floor, policy = view.floor(self.product), view.policy(self.product)
        channel = view.channel(self.product, self.channel)
        record = self._note(record, (floor, policy), channel, wave_of(channel, host))
        if self.is_paused:
            self._wait_or_leave(record, floor, "updates are paused by a directive of the console")
            return
        ran = record.current.tree if record.current else None
        choice = self._choose(channel, view, (floor, policy), host, ran)
        if choice.alarm:
            raise TrustError(
                f"the channel {self.channel} of {self.product} points at {channel.release.release}, "
                f"which is refused ({choice.alarm.value}): the channels key may be stolen; "
                "what is installed stays"
            )
        if choice.manifest is None:
            self._wait_or_leave(record, floor, _sentence(choice))
        elif self._wants(record, choice.manifest):
            known = self._between(record, choice.manifest, view)
            self.installer.install(record, choice.manifest, known, self.obtainer)
        if choice.refused and choice.manifest is not None:
            self._waits = _sentence(choice)

    def _note(
        self,
        record: Record,
        documents: tuple[Floor, Policy],
        channel: Channel,
        wave: int | None,
    ) -> Record:
        floor, policy = documents
        if floor.seq < record.floor_seq:
            raise RollbackError(
                f"the floor of {self.product} went down from {record.floor_seq} to {floor.seq}, "
                "which a floor never does"
            )
        noted = record.having(
            floor_seq=floor.seq,
            revoked=tuple(revoked.tree for revoked in floor.revoked),
            keeps_failed=policy.when_nothing_is_allowed == "keep",
            channel_release=channel.release.release,
            wave=wave,
        )
        return record if noted == record else self.records.save(noted)

    def _choose(
        self,
        channel: Channel,
        view: SignedView,
        documents: tuple[Floor, Policy],
        host: HostPlace,
        ran: Sha256 | None,
    ) -> Choice:
        now = self.installer.clock.now()
        manifests: dict[Sha256, Manifest] = {}
        signed = Signed(manifests, *documents)
        choice = Choice(None)
        for ref in (channel.release, channel.previous):
            if ref is None or choice.manifest or choice.alarm:
                continue
            if manifest := view.manifest(self.product, ref):
                manifests[ref.manifest] = manifest
            choice = choose(channel, signed, host, now, ran)
        return choice

    def _between(self, record: Record, target: Manifest, view: SignedView) -> tuple[Manifest, ...]:
        """Return releases over which a chain of deltas may lead, where no delta leads directly.

        A host that was away for longer than the origin keeps bases is reached by the oldest of
        them, whose own deltas reach further back.
        """
        current = record.current
        if current is None or any(d.base_tree == current.tree for d in target.deltas):
            return ()
        bases = list(dict.fromkeys(delta.base for delta in target.deltas))
        try:
            found = [view.release(self.product, base) for base in {*bases[:1], *bases[-1:]}]
        except NetworkError:
            return ()  # the pack does without
        return tuple(manifest for manifest in found if manifest)

    def _wants(self, record: Record, target: Manifest) -> bool:
        tree = target.tree.sha256
        if record.state is State.TRIAL or (record.held_back and record.held_back.tree == tree):
            return False
        current = record.current
        if current is None or current.tree != tree or record.state is not State.CONFIRMED:
            return True
        if not self.installer.slots.is_in_place(current.slot):  # the folder moved, or was emptied
            return True
        return self.repairs and not self.installer.is_whole(current)

    def _wait_or_leave(self, record: Record, floor: Floor, why: str) -> None:
        revoked = floor.revocation_of(record.current.tree) if record.current else None
        if revoked is None:
            self._waits = why
        elif record.state is not State.UNPROTECTED:
            reason = f"{revoked.release} was revoked: {revoked.reason or 'no reason was given'}"
            self.installer.leave_revoked(record, reason)


def _sentence(choice: Choice) -> str:
    return "; ".join(f"{release}: {_WORDS[refusal]}" for release, refusal in choice.refused)


_WORDS = {
    Refusal.NOT_SIGNED: "is not signed by the product's releases role",
    Refusal.UNDER_FLOOR: "is under the floor",
    Refusal.REVOKED: "was revoked",
    Refusal.RAMP: "waits until the policy's ramp admits this host",
    Refusal.WAVE: "waits until a wave with this host is open",
}
