"""What ingest reads of hosts and what a batch changes: rows of `fleet.models`, as plain values.

Deliberately not here: what changes when (`ingest.deciding`), and SQL (`ingest.storing`).
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import lru_cache
from typing import Final

import msgspec

from fleetward.console.ingest.opening import Opened, OpenedEvent, OpenedProduct
from fleetward.core.checkins import Clock, Epoch, Standing
from fleetward.core.digest import Sha256

START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_ENCODER: Final = msgspec.json.Encoder()


class Verdict(Enum):
    """What became of one envelope."""

    STORED = "stored"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    PENDING = "pending"
    REVOKED = "revoked"


class PresenceRow(msgspec.Struct, array_like=True, gc=False):
    """A row of `Presence`, in the order of the table `storing` writes; attributes as there."""

    key_id: int
    epoch: str
    greatest_n: int
    digest: str
    first_sent: datetime
    newest_sent: datetime
    contiguous_e: int
    greatest_e: int
    seen: datetime
    received: datetime
    offset_ms: int
    measured: datetime
    peer: str = ""
    relay: str = ""
    clock: int | None = None
    tuf_root: int = 0
    tuf_timestamp: int = 0
    tuf_snapshot: int = 0
    listeners: int | None = None
    unexpected: int | None = None
    ports: str = ""
    content: str = ""
    kept: datetime | None = None
    inbox_seq: int = 0

    def current(self) -> Epoch:
        """Return its epoch, as `core.checkins` looks at it."""
        return Epoch(
            self.epoch,
            self.greatest_n,
            Sha256(self.digest),
            self.first_sent,
            self.newest_sent,
            self.contiguous_e,
            self.greatest_e,
        )

    def take_epoch(self, epoch: Epoch) -> None:
        """Make `epoch` the current one."""
        self.epoch, self.greatest_n, self.digest = epoch.epoch, epoch.greatest_n, epoch.digest
        self.first_sent, self.newest_sent = epoch.first_sent, epoch.newest_sent
        self.contiguous_e, self.greatest_e = epoch.contiguous_e, epoch.greatest_e

    def believed(self) -> Clock:
        """Return what is believed of the host's clock."""
        return Clock(self.offset_ms * _MILLISECOND, self.measured)

    def take_clock(self, clock: Clock) -> None:
        """Believe `clock`; what is finer than a millisecond is dropped."""
        self.offset_ms, self.measured = clock.offset // _MILLISECOND, clock.measured


class KnownKey(msgspec.Struct, array_like=True, gc=False):
    """What is known of a key, and kept up to date through a batch.

    Attributes:
        pk: of the key's row.
        key: its id.
        standing: of the key.
        host: the primary key of its record.
        host_standing: of the record.
        cloned: when a clone was written down last.
        presence: its newest, or None before its first check-in.
        retired: its other epochs, loaded where the batch has a check-in that is not of the current.
    """

    pk: int
    key: str
    standing: str
    host: int
    host_standing: str
    cloned: datetime | None = None
    presence: PresenceRow | None = None
    retired: dict[str, Epoch] = msgspec.field(default_factory=dict)


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """An envelope on its way in.

    Attributes:
        envelope: its bytes.
        received: when whoever took it first got it, never after the console's own clock.
        peer: from which address.
    """

    envelope: bytes
    received: datetime
    peer: str


@dataclass(frozen=True, slots=True)
class KeptCheckIn:
    """A row of `CheckIn`."""

    key: int
    said: Opened
    delivery: Delivery
    standing: Standing
    proves: bool


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A row of `Event`."""

    key: int
    host: int
    epoch: str
    event: OpenedEvent


@dataclass(frozen=True, slots=True)
class NewStatus:
    """What a host runs now, which is not what it ran before."""

    host: int
    products: tuple[OpenedProduct, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class Answered:
    """A directive that a host has answered."""

    host: int
    directive: str
    is_done: bool
    detail: str


@dataclass(slots=True)
class Changes:
    """What a batch changes, in the order in which it is written.

    Attributes:
        verdicts: one for each envelope.
        keys: keys whose presence changed.
        advanced: presences of which only what `storing` names as advanced changed, by key; some are in `keys`
            too, which counts.
        retired: epochs that are not current, by key and name.
        kept: check-ins to keep whole.
        events: to be stored.
        statuses: the newest of each host whose status changed, after all before it.
        answered: directives.
        clones: why hosts look like two.
        returned: records that were decommissioned and report again.
        left: records whose hosts say that they leave.
    """

    verdicts: list[Verdict] = field(default_factory=list)
    keys: dict[int, KnownKey] = field(default_factory=dict)
    advanced: dict[int, PresenceRow] = field(default_factory=dict)
    retired: dict[tuple[int, str], Epoch] = field(default_factory=dict)
    kept: list[KeptCheckIn] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)
    statuses: list[NewStatus] = field(default_factory=list)
    answered: list[Answered] = field(default_factory=list)
    clones: dict[int, tuple[str, datetime]] = field(default_factory=dict)
    returned: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)


StoredDigests = dict[tuple[int, str, int], set[Sha256]]
"""Digests of events that the store has, by key, epoch and number."""


@lru_cache(maxsize=4096)
def instant_of(seconds: int) -> datetime:
    """Return an instant from seconds since 1970; held, since a fleet sends many in one second."""
    return START + timedelta(seconds=seconds)


def content_of(said: Opened) -> bytes:
    """Return what a host said, as it is kept: JSON for people."""
    return _ENCODER.encode(
        {
            "products": [_named(product) for product in said.products],
            "tuf": said.tuf,
            "relay": said.relay,
            "clock": said.clock,
            "ports": said.ports,
            "events": [event.e for event in said.events],
        }
    )


def _named(product: OpenedProduct) -> dict[str, object]:
    return {
        "product": product.product,
        "channel": product.channel,
        "release": product.release,
        "seq": product.seq,
        "state": product.state,
        "tree": product.tree,
        "wave": product.wave,
    }
