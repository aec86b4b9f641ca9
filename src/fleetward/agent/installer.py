"""Drives core.install for one product: does the command, records its outcome, until it rests.

The order that power loss cannot break: the record with the new state is fsync'd *before* the
command of that state is carried out, and every command can be carried out again. So after a stop
at any point `RESUME` continues from the record.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.clock import Clock
from fleetward.adapters.disk import Kind
from fleetward.agent.engines import Engines
from fleetward.agent.home import Home
from fleetward.agent.obtaining import Obtained, Obtainer
from fleetward.agent.records import HeldBack, Installed, Record, Records
from fleetward.agent.slots import Slots, slot_names
from fleetward.config.agent import AgentSettings
from fleetward.core.digest import Sha256
from fleetward.core.documents import Manifest
from fleetward.core.install import Command, Event, State, advance
from fleetward.core.names import ProductName
from fleetward.deltas import tree_digest
from fleetward.errors import ConfigurationError, RejectedError, UnsafeTreeError
from fleetward.wire.documents import encode_json

OPERATORS_WISH = "the operator went back to the previous release"
FILES_SCHEMA = "fleetward.tree-files/1"


@dataclass(slots=True)
class Installer:
    """Installs one product's releases.

    Attributes:
        home: the agent's folder.
        settings: the agent's settings.
        slots: the product's slots.
        engines: what tries trees.
        clock: for the trial.
        boot: this start of the machine, or None.
        obtained: how the last tree was had, for the report.
    """

    home: Home
    settings: AgentSettings
    slots: Slots
    engines: Engines
    clock: Clock
    boot: str | None = None
    obtained: Obtained | None = field(default=None, init=False)
    _target: Manifest | None = field(default=None, init=False)
    _known: tuple[Manifest, ...] = field(default=(), init=False)
    _obtainer: Obtainer | None = field(default=None, init=False)

    def install(
        self, record: Record, target: Manifest, known: Iterable[Manifest], obtainer: Obtainer
    ) -> Record:
        """Take up `target` and return the record at rest, or in trial.

        Raises:
            TrustError, NetworkError, DiskError: the tree could not be staged; the state is
                `staging`, what runs is unchanged, and the next run goes on.
            ConfigurationError: this host cannot try the engine's content.
        """
        self._target, self._known, self._obtainer = target, tuple(known), obtainer
        candidate = Installed.of(target, self._free_slot(record, target.tree.sha256))
        record = record.having(candidate=candidate, reason=None)
        return self._drive(record, Event.CHOSEN)

    def resume(self, record: Record) -> Record:
        """Go on where a run stopped; a `staging` record waits for `install` to choose again."""
        if record.state is State.STAGING:
            return record
        if record.state is State.TRIAL and self.boot != record.trial_boot:
            record = self._save(
                record.having(trial_boot=self.boot, trial_restarts=record.trial_restarts + 1)
            )
        return self._drive(record, Event.RESUME)

    def roll_back(self, record: Record) -> Record:
        """Return to the previous release because the operator asked.

        Raises:
            ConfigurationError: there is no previous release, or it was revoked; nothing changes.
        """
        previous = record.previous
        if previous is None or record.current is None or not self.slots.holds(previous.slot):
            raise ConfigurationError(
                f"{record.product} has no previous release on this host to go back to"
            )
        if previous.tree in record.revoked:
            raise ConfigurationError(
                f"the previous release {previous.release} of {record.product} was revoked: wait "
                "for the next one, or ask who publishes"
            )
        record = record.having(reason=OPERATORS_WISH)
        return self._drive(record, Event.OPERATOR_ROLLS_BACK)

    def leave_revoked(self, record: Record, reason: str) -> Record:
        """Stop running the current release, which was revoked while no other may be taken."""
        return self._drive(record.having(reason=reason), Event.OPERATOR_ROLLS_BACK)

    # -- the table's driver -----------------------------------------------------------------------

    def _drive(self, record: Record, event: Event) -> Record:
        while True:
            transition = advance(record.state, event)
            changed = record.having(state=transition.state)
            record = self._save(changed)
            outcome = self._carry_out(transition.command, record)
            if outcome is None:
                self._prune(record)
                return record
            record, event = outcome

    def _carry_out(self, command: Command, record: Record) -> tuple[Record, Event] | None:
        match command:
            case Command.STAGE:
                return self._stage(record)
            case Command.PREFLIGHT:
                return self._preflight(record)
            case Command.SWITCH:
                return self._switch(record)
            case Command.WATCH:
                return self._watch(record)
            case Command.SWITCH_BACK:
                return self._switch_back(record)
            case Command.WITHDRAW:
                self.slots.switch(record.current.slot if record.current else None)
                return None
            case Command.SETTLE:
                return None

    def _stage(self, record: Record) -> tuple[Record, Event]:
        candidate = _present(record.candidate)
        if self._target is None or self._obtainer is None:
            raise LookupError("staging without a target (a mistake in the driver)")
        if not self.is_whole(candidate):
            self.obtained = self._obtainer.obtain(
                self._target, record.current, self._known, candidate.slot
            )
            self._keep_file_list(record.product, candidate)
        return record, Event.STAGED

    def is_whole(self, installed: Installed) -> bool:
        """Return whether a slot holds exactly the signed tree."""
        if not self.slots.holds(installed.slot):
            return False
        try:
            return tree_digest(self.slots.tree(installed.slot)) == installed.tree
        except UnsafeTreeError:
            return False

    def _preflight(self, record: Record) -> tuple[Record, Event] | None:
        candidate = _present(record.candidate)
        if not self.slots.holds(candidate.slot):  # somebody removed the slot
            self._save(record.having(state=State.STAGING))
            return None
        try:
            self._try(candidate)
        except RejectedError as error:
            return self._hold(record, candidate, State.REJECTED, str(error)).having(
                candidate=None
            ), Event.FAILED_PREFLIGHT
        repairs = record.current is not None and record.current.tree == candidate.tree
        record = record.having(
            current=candidate,
            previous=record.previous if repairs else record.current or record.previous,
            candidate=None,
            trial_since=None,
            trial_restarts=0,
            trial_boot=self.boot,
        )
        return record, Event.PASSED

    def _switch(self, record: Record) -> tuple[Record, Event]:
        self.slots.switch(_present(record.current).slot)
        return record.having(trial_since=self.clock.now(), trial_boot=self.boot), Event.SWITCHED

    def _watch(self, record: Record) -> tuple[Record, Event] | None:
        current = _present(record.current)
        if record.trial_restarts >= self.settings.max_trial_restarts:
            reason = f"the host restarted {record.trial_restarts} times during the trial"
            return self._failed_trial(record, reason)
        since = record.trial_since or self.clock.now()
        elapsed = self.clock.now() - since
        if elapsed < timedelta():  # the clock was set back: the trial begins again
            record = self._save(record.having(trial_since=self.clock.now()))
            elapsed = timedelta()
        if elapsed < self.settings.engine(current.engine).bake:
            return None
        try:
            self._try(current)
        except RejectedError as error:
            return self._failed_trial(record, str(error))
        record = record.having(
            greatest_seq=max(record.greatest_seq, current.seq),
            held_back=None,
            reason=None,
            trial_since=None,
            trial_boot=None,
            trial_restarts=0,
        )
        return record, Event.BAKED

    def _failed_trial(self, record: Record, reason: str) -> tuple[Record, Event]:
        return record.having(reason=reason), Event.FAILED_TRIAL

    def _switch_back(self, record: Record) -> tuple[Record, Event]:
        failed, previous = _present(record.current), record.previous
        reason = record.reason or "the trial failed"
        record = self._hold(record, failed, State.ROLLED_BACK, reason)
        gone = previous is None or not self.slots.holds(previous.slot)
        if previous is None or gone or previous.tree in record.revoked:
            kept = failed if record.keeps_failed else None
            return record.having(current=kept), Event.NOTHING_LEFT
        self.slots.switch(previous.slot)
        return record.having(
            current=previous, previous=None, trial_since=None, trial_boot=None, trial_restarts=0
        ), Event.RESTORED

    # -- parts ------------------------------------------------------------------------------------

    def _try(self, installed: Installed) -> None:
        tree = self.slots.path(installed.slot)
        self.engines.try_tree(tree, self.settings.engine(installed.engine))

    def _hold(self, record: Record, failed: Installed, state: State, reason: str) -> Record:
        held = HeldBack(
            release=failed.release,
            tree=failed.tree,
            state=state,
            reason=reason,
            by_operator=reason == OPERATORS_WISH,
        )
        return record.having(held_back=held, reason=reason)

    def _free_slot(self, record: Record, tree: Sha256) -> str:
        taken = {i.slot for i in (record.current, record.previous) if i and i.tree != tree}
        for installed in (record.candidate, record.previous, record.current):
            if installed and installed.tree == tree and self.is_whole(installed):
                return installed.slot
        if record.current and record.current.tree == tree:
            taken.add(record.current.slot)  # drifted: never written over while readers have it
        return next(name for name in slot_names(tree) if name not in taken)

    def _keep_file_list(self, product: ProductName, installed: Installed) -> None:
        folder = self.home.products / f"{product}.files"
        self.home.disk.make_folder(folder)
        files = self.obtained.files if self.obtained else ()
        content = encode_json(FILES_SCHEMA, {"files": files})
        write_file(self.home.disk, folder / f"{installed.tree}.json", content)

    def _save(self, record: Record) -> Record:
        return Records(self.home).save(record)

    def _prune(self, record: Record) -> None:
        kept = [i for i in (record.current, record.previous, record.candidate) if i]
        self.slots.prune(i.slot for i in kept)
        folder = self.home.products / f"{record.product}.files"
        if self.home.disk.kind(folder) is Kind.FOLDER:
            names = {f"{i.tree}.json" for i in kept}
            for name in self.home.disk.listing(folder):
                if name not in names:
                    self.home.disk.remove(folder / name)


def _present(installed: Installed | None) -> Installed:
    if installed is None:
        raise ConfigurationError(
            "the product's record lacks the release that its state speaks of: remove the record "
            "under HOME/products, and the next update installs the product again"
        )
    return installed
