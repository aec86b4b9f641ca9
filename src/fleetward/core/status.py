"""What a host tells the console, as values: identities, check-ins, events.

A value that exists is well-formed whoever sent it: ids are digests, numbers are in range, instants
are UTC, texts are printable and short, so that pages, logs and databases need no further care.

Deliberately not here: their bytes (wire.checkins) and who signed them (identity).
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType

from fleetward.core.digest import parse_sha256
from fleetward.core.install import State
from fleetward.core.limits import STATUS
from fleetward.core.names import parse_channel, parse_product, parse_release
from fleetward.errors import DocumentError, UsageError

HostId = NewType("HostId", str)
"""The sha256 of a host's 32-byte Ed25519 public key, 64 lower-case hex digits."""

ConsoleId = NewType("ConsoleId", str)
"""The sha256 of a console's 32-byte Ed25519 public key, 64 lower-case hex digits."""

Epoch = NewType("Epoch", str)
"""Random per state directory of an agent: 16 lower-case hex digits."""

_EPOCH = re.compile(r"[0-9a-f]{16}")
_SHORT_DIGEST = re.compile(r"[0-9a-f]{16,64}")


def require(holds: bool, complaint: str) -> None:  # noqa: FBT001 (an assertion with a sentence)
    """Raise `complaint` as a DocumentError unless `holds`."""
    if not holds:
        raise DocumentError(complaint)


def require_number(name: str, number: int, least: int = 0) -> None:
    """Refuse a number outside `least` to what JSON holds exactly."""
    if not least <= number <= STATUS.number:
        raise DocumentError(f"{name} is out of range: {number}")


def require_utc(name: str, instant: datetime) -> None:
    """Refuse an instant that is not in UTC."""
    if instant.utcoffset() != timedelta(0):
        raise DocumentError(f"{name} is not in UTC: {instant}")


def require_text(name: str, text: str) -> None:
    """Refuse a text that is long, or has line ends or terminal escapes in it."""
    if len(text) > STATUS.text_chars or not text.isprintable():
        raise DocumentError(f"{name} is not a short line: {text[:80]!r}")


def require_names(
    product: str | None = None, channel: str | None = None, release: str | None = None
) -> None:
    """Refuse what is no name of a product, a channel or a release."""
    try:
        if product is not None:
            parse_product(product)
        if channel is not None:
            parse_channel(channel)
        if release is not None:
            parse_release(release)
    except UsageError as error:
        raise DocumentError(str(error)) from error


def parse_host_id(text: str) -> HostId:
    """Return `text` as a host's id.

    Raises:
        DocumentError: it is not 64 lower-case hex digits.
    """
    return HostId(parse_sha256(text))


def parse_console_id(text: str) -> ConsoleId:
    """Return `text` as a console's id.

    Raises:
        DocumentError: it is not 64 lower-case hex digits.
    """
    return ConsoleId(parse_sha256(text))


def parse_epoch(text: str) -> Epoch:
    """Return `text` as an epoch.

    Raises:
        DocumentError: it is not 16 lower-case hex digits.
    """
    if _EPOCH.fullmatch(text) is None:
        raise DocumentError(f"not an epoch: {text[:80]!r}")
    return Epoch(text)


class EventKind(StrEnum):
    """What may have happened on a host: a closed list; a new kind is a new schema."""

    ACTIVATED = "activated"
    CONFIRMED = "confirmed"
    ROLLED_BACK = "rolled-back"
    REJECTED = "rejected"
    UNPROTECTED = "unprotected"
    DRIFT = "drift"
    FROZEN_SOURCE = "frozen-source"
    REFUSED_SOURCE = "refused-source"
    CLOCK = "clock"
    LISTENER_OPENED = "listener-opened"
    LISTENER_CLOSED = "listener-closed"
    LISTENER_CHANGED = "listener-changed"
    SENSOR_HEARD = "sensor-heard"
    DIRECTIVE_DONE = "directive-done"
    DIRECTIVE_REFUSED = "directive-refused"
    EVENTS_DROPPED = "events-dropped"
    ENROLLED = "enrolled"
    LEFT = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductStatus:
    """What a host runs of one product.

    Attributes:
        product: which.
        channel: that it follows.
        release: that is installed; empty where there is none.
        seq: of that release; 0 where there is none.
        state: of the installation.
        tree: the first 16 to 64 hex digits of the installed tree's digest; empty where there is
            none. Hosts send 32.
        wave: the wave in which the host takes releases, from 0; None where it has no place.
    """

    product: str
    channel: str
    release: str = ""
    seq: int = 0
    state: State = State.NONE
    tree: str = ""
    wave: int | None = None

    def __post_init__(self) -> None:
        require_names(product=self.product, channel=self.channel, release=self.release or None)
        require_number("seq", self.seq)
        require_number("wave", self.wave or 0)
        is_digest = not self.tree or _SHORT_DIGEST.fullmatch(self.tree) is not None
        require(is_digest, f"not a digest's beginning: {self.tree[:80]!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenVersions:
    """The versions of TUF metadata that a host trusts; 0 where it has none yet."""

    root: int = 0
    timestamp: int = 0
    snapshot: int = 0

    def __post_init__(self) -> None:
        for name in ("root", "timestamp", "snapshot"):
            require_number(name, getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class PortsSummary:
    """The port watch in three values; the details are events.

    Attributes:
        listeners: how many sockets listen.
        unexpected: of them, how many are not in the baseline.
        digest: the first 16 to 64 hex digits of the list's digest: it changes when the list does.
    """

    listeners: int
    unexpected: int
    digest: str

    def __post_init__(self) -> None:
        require_number("listeners", self.listeners)
        require(0 <= self.unexpected <= self.listeners, "more unexpected listeners than listeners")
        is_digest = _SHORT_DIGEST.fullmatch(self.digest) is not None
        require(is_digest, f"not a digest's beginning: {self.digest[:80]!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEvent:
    """One thing that happened; kept by the host until the console has signed for it.

    Attributes:
        e: its number in the epoch, from 1, without gaps.
        at: when, by the host's clock.
        kind: what.
        product: of which product; empty where it concerns none.
        release: of which release; empty where it concerns none.
        subject: what it was about: a listener (`tcp/2967 smc.exe`), a directive's id, a source.
        detail: the reason or figure, for people.
    """

    e: int
    at: datetime
    kind: EventKind
    product: str = ""
    release: str = ""
    subject: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        require_number("e", self.e, 1)
        require_utc("at", self.at)
        require_names(product=self.product or None, release=self.release or None)
        require_text("subject", self.subject)
        require_text("detail", self.detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckIn:
    """What a host runs, at one moment.

    Attributes:
        host: whose; the same as the signer's id, so that nobody can sign another's sealed words.
        epoch: see `Epoch`.
        n: its number in the epoch, from 1; the newest wins, gaps are ordinary.
        sent: when, by the host's clock.
        products: one row for each subscription.
        tuf: see `SeenVersions`.
        relay: which relay, or source, served the host last; a short name, empty for none.
        clock: seconds by which the host's clock stands ahead of the newest signed time; None
            where it is not known.
        ports: the port watch; None where it is off.
        events: the oldest ones that are not acknowledged, by rising number.
    """

    host: HostId
    epoch: Epoch
    n: int
    sent: datetime
    products: tuple[ProductStatus, ...] = ()
    tuf: SeenVersions = SeenVersions()
    relay: str = ""
    clock: int | None = None
    ports: PortsSummary | None = None
    events: tuple[HostEvent, ...] = ()

    def __post_init__(self) -> None:
        parse_host_id(self.host)
        parse_epoch(self.epoch)
        require_number("n", self.n, 1)
        require_utc("sent", self.sent)
        require_text("relay", self.relay)
        require_number("clock", abs(self.clock or 0))
        require(len(self.products) <= STATUS.products, f"{len(self.products)} products")
        require(len(self.events) <= STATUS.events, f"{len(self.events)} events")
        numbers = [event.e for event in self.events]
        require(numbers == sorted(set(numbers)), "the events' numbers do not rise")
