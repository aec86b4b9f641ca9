"""What an agent has fsync'd of each product: the state of core.install and its facts.

Invariant: the record is written before the step that it allows, so that after a stop at any point
the record and the disk together say what to do again.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from fleetward.adapters.atomicfile import write_file
from fleetward.agent.home import Home
from fleetward.core.digest import Sha256
from fleetward.core.documents import Manifest
from fleetward.core.install import State
from fleetward.core.names import ChannelName, ProductName, ReleaseName
from fleetward.errors import ConfigurationError, DocumentError
from fleetward.wire.documents import decode_json, encode_json

_SCHEMA = "fleetward.product-record/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A release in a slot.

    Attributes:
        release: its name.
        seq: its sequence number.
        tree: the digest of its canonical tar.
        length: the tar's length in bytes.
        engine: which engine loads it.
        slot: the slot's folder name, under `FOLDER/slots`.
    """

    release: ReleaseName
    seq: int
    tree: Sha256
    length: int
    engine: str
    slot: str

    @classmethod
    def of(cls, manifest: Manifest, slot: str) -> "Installed":
        """Return a release, as its manifest describes it, in a slot."""
        return cls(
            release=manifest.release,
            seq=manifest.seq,
            tree=manifest.tree.sha256,
            length=manifest.tree.length,
            engine=manifest.engine.name,
            slot=slot,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """A release that this host does not take, and why.

    Attributes:
        release: its name.
        tree: its tree.
        state: REJECTED or ROLLED_BACK.
        reason: the engine's words, or that the operator went back.
        by_operator: whether a person went back, so that nothing is wrong with the host.
    """

    release: ReleaseName
    tree: Sha256
    state: State
    reason: str
    by_operator: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One product on this host.

    Attributes:
        product: which product.
        channel: which channel it follows.
        state: where the installation stands.
        current: what `current` points at, or points at once the step under way is done.
        previous: what a rollback returns to.
        candidate: what is under way in STAGING and PREFLIGHT.
        held_back: the release that failed here last; not tried again while the channel points at it.
        reason: a sentence for people where something is not as it should be.
        trial_since: when the trial began.
        trial_boot: the machine's start that was seen last during the trial.
        trial_restarts: how often the machine started again during it.
        greatest_seq: the greatest sequence number that was confirmed here.
        floor_seq: the greatest floor that was seen.
        revoked: the trees that no host may run, as last seen; a rollback works without network.
        channel_release: what the channel pointed at when it was seen last.
        keeps_failed: whether a host with nothing left to run keeps the failed release.
        wave: the first wave of the channel's plan that held this host when it was seen last; None
            without a plan, or where no wave holds it.
    """

    product: ProductName
    channel: ChannelName
    state: State = State.NONE
    current: Installed | None = None
    previous: Installed | None = None
    candidate: Installed | None = None
    held_back: HeldBack | None = None
    reason: str | None = None
    trial_since: datetime | None = None
    trial_boot: str | None = None
    trial_restarts: int = 0
    greatest_seq: int = 0
    floor_seq: int = 0
    revoked: tuple[Sha256, ...] = ()
    channel_release: ReleaseName | None = None
    keeps_failed: bool = True
    wave: int | None = None

    def having(self, **changes: object) -> "Record":
        """Return the record with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


class Records:
    """The records of one agent."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def load(self, product: ProductName, channel: ChannelName) -> Record:
        """Return a product's record; a new one where it has none.

        Raises:
            ConfigurationError: the file is damaged.
        """
        path = self._home.products / f"{product}.json"
        try:
            record = decode_json(_SCHEMA, Record, self._home.disk.read(path))
        except FileNotFoundError:
            return Record(product=product, channel=channel)
        except DocumentError as error:
            raise ConfigurationError(
                f"{path} is damaged ({error}): remove it, and the next update installs the "
                "product again"
            ) from error
        return record if record.channel == channel else record.having(channel=channel)

    def save(self, record: Record) -> Record:
        """Write a product's record and return it."""
        path = self._home.products / f"{record.product}.json"
        write_file(self._home.disk, path, encode_json(_SCHEMA, record))
        return record
