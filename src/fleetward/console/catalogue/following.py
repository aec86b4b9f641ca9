"""Following the repository: what was verified becomes rows, and whatever fails becomes a problem.

A round, in order:

1. the lease: one process follows, the others leave it alone until the lease ends;
2. `FleetTrust` asks the repository and verifies (conditional requests, so an idle round is cheap);
3. a timestamp older than the one in the row is refused: this process may have less in its trust
   state than one that followed before, and must not take the catalogue back in time;
4. everything is read from the view before anything is written;
5. one transaction writes the rows.

Deliberately not here: the thread and the pauses (`working`), and what changed between releases.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

from django.db import transaction
from django.db.models import Q

from fleetward.adapters.clock import Clock
from fleetward.console.catalogue.models import Kind, Repository
from fleetward.console.catalogue.taking import known_manifests, take_view
from fleetward.console.catalogue.viewing import Reader
from fleetward.console.relays.listing import take_signed
from fleetward.core.limits import FROZEN_AFTER_INTERVALS
from fleetward.errors import (
    BusyError,
    DiskError,
    FleetwardError,
    NetworkError,
    RollbackError,
    TrustError,
)
from fleetward.trust.client import Source, VerifiedView

ROW: Final = 1
"""The key of the row of `Repository`."""

MAX_PROBLEM: Final = 2_000
"""Characters of a problem that are kept (a source's words may stand in it)."""

LEASE: Final = timedelta(minutes=2)
"""How long a process that follows may be silent before another one does, at least."""


class Metadata(Protocol):
    """What verifies; `trust.FleetTrust` in programs."""

    def refresh(self, sources: list[Source]) -> VerifiedView:
        """Return what may be believed. Raises as `FleetTrust.refresh`."""
        ...


class Follower:
    """Follows one repository for this console."""

    def __init__(
        self,
        open_trust: Callable[[], Metadata],
        url: str,
        clock: Clock,
        process: str,
        lease: timedelta = LEASE,
    ) -> None:
        """Follow `url`.

        Args:
            open_trust: opens the trust state; called until it succeeds.
            url: the repository.
            clock: the wall clock.
            process: a name of this process that no other has.
            lease: how long it may be silent before another process follows.
        """
        self._open = open_trust
        self._trust: Metadata | None = None
        self._url = url
        self._clock = clock
        self._process = process
        self._lease = lease
        self._taken: int | None = None

    def round(self) -> bool:
        """Do one round; return whether this process follows. Never raises for the repository."""
        now = self._clock.now()
        if not self._lead(now):
            return False
        try:
            self._trust = self._trust or self._open()
            view = self._trust.refresh([Source(self._url)])
            problem = self._take(view)
        except FleetwardError as error:
            self._fail(now, kind_of(error), str(error))
        else:
            self._succeed(now, view, problem)
        return True

    def _lead(self, now: datetime) -> bool:
        Repository.objects.get_or_create(pk=ROW, defaults={"url": self._url})
        free = Q(leader=self._process) | Q(leader="") | Q(lease__lt=now) | Q(lease__isnull=True)
        led = Repository.objects.filter(free, pk=ROW)
        return bool(led.update(leader=self._process, lease=now + self._lease, url=self._url))

    def leave(self) -> None:
        """Give the lease up, so that another process need not wait for its end."""
        Repository.objects.filter(pk=ROW, leader=self._process).update(leader="", lease=None)

    def _take(self, view: VerifiedView) -> str:
        """Write what the view says; return what of it could not be read."""
        row = Repository.objects.get(pk=ROW)
        root, stamp = view.versions["root"], view.timestamp
        if stamp.version < row.timestamp and root <= row.root:
            raise RollbackError(
                f"timestamp {stamp.version} was served where this console has verified "
                f"{row.timestamp}: the source replays old metadata; nothing was changed"
            )
        if self._taken == stamp.version:
            return ""
        reader = Reader(view, known_manifests())
        read = {name: reader.product(name) for name in view.products()}
        listed, now = reader.relays(), self._clock.now()
        take_view(view, read, now)
        if listed is not None:
            take_signed(listed, now)
        # What could not be read is tried again, also where nothing is new.
        self._taken = None if reader.unreadable else stamp.version
        return " ".join(reader.unreadable)

    def _succeed(self, now: datetime, view: VerifiedView, problem: str) -> None:
        stamp, ahead = view.timestamp, view.clock_ahead
        with transaction.atomic():
            row = Repository.objects.select_for_update().get(pk=ROW)
            row.checked = row.refreshed = now
            row.root, row.timestamp = view.versions["root"], stamp.version
            row.issued, row.interval = stamp.issued, int(stamp.interval.total_seconds())
            row.frozen = view.frozen
            row.clock_ahead = None if ahead is None else int(ahead.total_seconds())
            _set_problem(row, Kind.TRUST if problem else Kind.NONE, problem, now)
            row.save()

    def _fail(self, now: datetime, kind: Kind, problem: str) -> None:
        with transaction.atomic():
            row = Repository.objects.select_for_update().get(pk=ROW)
            row.checked = now
            if row.issued is not None:
                interval = timedelta(seconds=row.interval)
                row.frozen = now - row.issued > FROZEN_AFTER_INTERVALS * interval
            _set_problem(row, kind, problem, now)
            row.save()


def _set_problem(row: Repository, kind: Kind, problem: str, now: datetime) -> None:
    if kind is Kind.NONE:
        row.problem_since = None
    elif row.problem_kind != kind or row.problem_since is None:
        row.problem_since = now
    # PostgreSQL takes no NUL, and a hostile source's words may stand in a problem.
    row.problem_kind, row.problem = kind, problem.replace("\0", "")[:MAX_PROBLEM]


def kind_of(error: FleetwardError) -> Kind:
    """Return by whom an error must be solved."""
    if isinstance(error, TrustError):
        return Kind.TRUST
    if isinstance(error, NetworkError | BusyError):
        return Kind.NETWORK
    return Kind.DISK if isinstance(error, DiskError) else Kind.CONFIGURATION
