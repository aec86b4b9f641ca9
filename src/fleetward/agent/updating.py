"""One run of the agent: what was left unfinished, then the network, then each product.

A product's failure does not stop the others; the report names each, and the exit code is the one
that matters most. Nothing here removes what is installed because of an expiry, a source that does
not answer, or a clock.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.clock import Clock
from fleetward.agent.consoles import remember_consoles
from fleetward.agent.engines import Engines
from fleetward.agent.fetching import BlobFetcher, Fetcher, Progress, no_progress
from fleetward.agent.following import Follower, ProductReport, SignedView
from fleetward.agent.home import Home
from fleetward.agent.installer import Installer
from fleetward.agent.obtaining import Obtainer
from fleetward.agent.records import Record, Records
from fleetward.agent.slots import Slots
from fleetward.agent.sources import Poll, SourceFinder
from fleetward.config.agent import AgentSettings, Subscription
from fleetward.core.consoles import Consoles
from fleetward.core.fleet import Relays
from fleetward.core.names import ProductName
from fleetward.core.rollout import HostPlace
from fleetward.core.sourcechoice import Fault, worst_of
from fleetward.errors import (
    BusyError,
    ClockError,
    DiskError,
    DocumentError,
    ExpiredError,
    FleetwardError,
    NetworkError,
    RejectedError,
    RollbackError,
    RolledBackError,
    TrustError,
)
from fleetward.wire.documents import decode_json, encode_json

_LAST_CHECK_FILE = "last-check.json"
_LAST_CHECK_SCHEMA = "fleetward.last-check/1"


@dataclass(frozen=True, slots=True)
class CheckedView:
    """What a refresh of the metadata gave.

    Attributes:
        documents: the verified documents.
        source: the base URL that gave them.
        frozen: whether the newest timestamp of all sources is too old.
        remarks: what was wrong with each source that is not simply fresh, a sentence each.
        faults: gives what was wrong with sources, by URL; grows while documents are brought.
        relays: the fleet's signed list of relays, where there is one.
        consoles: whom the fleet keys name as the console, where that is signed.
    """

    documents: SignedView
    source: str
    frozen: bool
    remarks: tuple[str, ...] = ()
    faults: Callable[[], Mapping[str, Fault]] = dict
    relays: Relays | None = None
    consoles: Consoles | None = None

    @property
    def fresh(self) -> str | None:
        """The source, where it serves what is newest and not overdue."""
        return None if self.frozen or self.source in self.faults() else self.source


class Trouble(StrEnum):
    """What a source did that people should know, also where another source served."""

    REFUSED = "refused"
    """It gave what the keys did not sign."""

    OLD = "old"
    """It gave a timestamp that is older than a good source would have: it freezes, or replays."""


@dataclass(frozen=True, slots=True)
class SourceTrouble:
    """A source, what it did, and the reason in words."""

    source: str
    kind: Trouble
    why: str


class Trust(Protocol):
    """What verifies metadata; `agent.wiring` makes one of `trust.FleetTrust`."""

    def check(self, sources: Sequence[str], direct: str | None = None) -> CheckedView:
        """Return what the best of the sources gives.

        Args:
            sources: base URLs, asked in turn until one is fresh.
            direct: an origin that is asked as well, and compared with what the sources gave.

        Raises:
            TrustError: every source that answered was refused.
            NetworkError: no source answered.
        """
        ...

    def troubles(self) -> tuple[SourceTrouble, ...]:
        """Return what sources did in the last `check`, whether or not it gave a view.

        Grows while documents are brought.
        """
        ...


@dataclass(frozen=True, slots=True)
class LastCheck:
    """What the last run found, kept for `agent status`.

    Attributes:
        checked: when it began, by the wall clock.
        source: the source whose metadata was used, or None.
        frozen: whether the newest timestamp of all sources was too old.
        error: why no metadata could be had, or None.
        remarks: what was wrong with sources, a sentence each.
        found_by: how the source was found (`site`, `configured`, `default`, `srv`, `mdns`,
            `origin`), or None.
        preferred: the source that is asked first from now on; another one than `source` where a
            poll went elsewhere to measure or to compare.
        troubles: what sources did that people should know.
    """

    checked: datetime
    source: str | None
    frozen: bool
    error: str | None
    remarks: tuple[str, ...] = ()
    found_by: str | None = None
    preferred: str | None = None
    troubles: tuple[SourceTrouble, ...] = ()


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What a run did.

    Attributes:
        host: the host's id.
        check: what the metadata gave.
        products: one report per subscription.
        error: why no metadata could be had, or None.
    """

    host: str
    check: LastCheck
    products: tuple[ProductReport, ...]
    error: FleetwardError | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of the error that matters most; 0 where there is none."""
        errors = [product.error for product in self.products if product.error is not None]
        if self.error:
            errors.append(self.error)
        return min(errors, key=_urgency).exit_code if errors else 0


_BY_URGENCY: tuple[type[FleetwardError], ...] = (
    TrustError,
    RolledBackError,
    RejectedError,
    DiskError,
    BusyError,
    NetworkError,
)


def _urgency(error: FleetwardError) -> int:
    places = [n for n, kind in enumerate(_BY_URGENCY) if isinstance(error, kind)]
    return places[0] if places else len(_BY_URGENCY)


def _never_paused(_product: ProductName, _now: datetime) -> bool:
    return False


@dataclass(slots=True)
class Agent:
    """An agent, ready to work.

    Attributes:
        home: its folder.
        settings: its settings.
        trust: what verifies metadata.
        http: what fetches blobs.
        clock: time.
        engines: what tries trees.
        boot: this start of the machine, or None.
        progress: told of bytes as they arrive.
        finder: finds whom to ask; the configured sources alone unless given.
        record: the id of the console's record, by which waves go; empty where there is none, and
            the host's own id counts.
        is_paused: tells whether the console asked to leave a product as it is now.
    """

    home: Home
    settings: AgentSettings
    trust: Trust
    http: Fetcher
    clock: Clock
    engines: Engines = field(default_factory=Engines)
    boot: str | None = None
    progress: Progress = no_progress
    finder: SourceFinder | None = None
    record: str = ""
    is_paused: Callable[[ProductName, datetime], bool] = _never_paused

    def update(self, *, repair: bool = False) -> UpdateReport:
        """Do one run.

        Args:
            repair: whether to install again what has drifted from its signed tree.

        Raises:
            BusyError: another process works in this HOME.
            ConfigurationError: HOME is damaged.
            DiskError: HOME cannot be written.
        """
        with self.home.lock():
            host, began = self.home.host(), self.clock.now()
            blobs = BlobFetcher(
                self.home.disk, self.home.partial, self.http, self.settings.sources, self.progress
            )
            followers = [self._follower(s, blobs) for s in self.settings.subscriptions]
            for follower in followers:
                follower.repairs = repair
            for follower in followers:
                follower.resume()
            finder = self.finder or SourceFinder(self.home, self.settings, self.clock)
            poll = finder.begin(host)
            failure: FleetwardError | None = None
            try:
                view = self.trust.check(poll.metadata, poll.direct)
            except (TrustError, NetworkError) as error:
                failure = error
                check = LastCheck(began, None, frozen=False, error=str(error))
                poll.finish(None, blame(error, poll.metadata))
            else:
                if view.consoles is not None:
                    remember_consoles(self.home, view.consoles)
                blobs.sources = poll.blobs_after(view.source, view.faults(), view.relays)
                check = _checked(began, view, poll, blobs.sources[0])
                place = HostPlace(self.record or host, self.settings.rings)
                for follower in followers:
                    follower.is_paused = self.is_paused(follower.product, began)
                    follower.follow(view.documents, place)
                poll.finish(view.fresh, worst_of(view.faults(), blobs.faults()))
            reports = tuple(follower.report() for follower in followers)
            if failure is None and not any(report.error for report in reports):
                blobs.discard()
            check = replace(check, troubles=(*self.trust.troubles(), *_false_blobs(blobs)))
            self._remember(check)
            return UpdateReport(host, check, reports, failure)

    def roll_back(self, product: ProductName) -> Record:
        """Go back to the previous release of `product`, without the network.

        Raises:
            ConfigurationError: no such subscription, or no previous release.
            BusyError: another process works in this HOME.
        """
        subscription = self.settings.subscription(product)
        with self.home.lock():
            installer = self._installer(subscription)
            record = Records(self.home).load(product, subscription.channel)
            return installer.roll_back(installer.resume(record))

    def _remember(self, check: LastCheck) -> None:
        content = encode_json(_LAST_CHECK_SCHEMA, check)
        write_file(self.home.disk, self.home.path / _LAST_CHECK_FILE, content)

    def _installer(self, subscription: Subscription) -> Installer:
        slots = Slots(self.home.disk, subscription.folder)
        return Installer(self.home, self.settings, slots, self.engines, self.clock, self.boot)

    def _follower(self, subscription: Subscription, blobs: BlobFetcher) -> Follower:
        installer = self._installer(subscription)
        limit = self.settings.max_delta_memory
        obtainer = Obtainer(blobs, installer.slots, limit, subscription.product)
        return Follower(
            installer, Records(self.home), subscription.product, subscription.channel, obtainer
        )


def _checked(began: datetime, view: CheckedView, poll: Poll, preferred: str) -> LastCheck:
    found_by = poll.found_by(view.source)
    return LastCheck(began, view.source, view.frozen, None, view.remarks, found_by, preferred)


def _false_blobs(blobs: BlobFetcher) -> list[SourceTrouble]:
    """Return the sources that gave other bytes of a blob than were signed."""
    why = "it gave other bytes of a blob than were signed"
    faults = blobs.faults().items()
    return [SourceTrouble(url, Trouble.REFUSED, why) for url, f in faults if f is Fault.FALSE]


def blame(error: FleetwardError, asked: Sequence[str]) -> dict[str, Fault]:
    """Return what to hold against the sources where none was of use.

    A clock that is wrong, and metadata that expired, are no source's fault.
    """
    if isinstance(error, ClockError | ExpiredError):
        return {}
    is_old = isinstance(error, RollbackError)
    return dict.fromkeys(asked, Fault.STALE if is_old else Fault.FAILED)


def load_last_check(home: Home) -> LastCheck | None:
    """Return what the last run found; None before the first, or where the file is damaged.

    It only informs: nothing is decided by it, and the next run writes it anew.
    """
    try:
        content = home.disk.read(home.path / _LAST_CHECK_FILE)
        return decode_json(_LAST_CHECK_SCHEMA, LastCheck, content)
    except (FileNotFoundError, DocumentError):
        return None
