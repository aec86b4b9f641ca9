"""What a host trusts: the verified view of its repository, from whichever source serves it best.

A check, in order:

1. the wall clock must not stand behind the last-known time;
2. each source in turn is asked for the next root and, with its ETag, for timestamp; where neither
   is new and everything stored is marked as verified, nothing more happens (no `tuf` is imported);
3. otherwise python-tuf's updater runs over what was got (trust.updating), the rules of Fleetward
   are applied (trust.rules), and what passes is kept durably (trust.ledger);
4. a source whose timestamp is overdue is *frozen*: the next one is asked too;
5. the view is made of what is stored, which only ever goes forward; nothing in it has expired.

What the caller still owes: that one process at a time works on the folder, and the greatest
sequence numbers of its products (a floor document is verified here, and remembered by the agent).
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fleetward.adapters.clock import Clock
from fleetward.adapters.disk import Disk
from fleetward.adapters.http import HttpSession
from fleetward.core.digest import sha256_of
from fleetward.core.limits import (
    CLOCK_AHEAD_TOLERANCE,
    CLOCK_BEHIND_TOLERANCE,
    FROZEN_AFTER_INTERVALS,
    MetadataLimits,
)
from fleetward.errors import (
    ClockError,
    DigestError,
    FleetwardError,
    MetadataError,
    NetworkError,
    NotFoundError,
    RollbackError,
    TrustError,
    UsageError,
)
from fleetward.trust.ledger import Ledger, TrustHome
from fleetward.trust.metadata import (
    TOP_LEVEL,
    TargetsFacts,
    TimestampFacts,
    is_older,
    read_listing,
    read_root,
    read_targets,
    read_timestamp,
)
from fleetward.trust.rules import FleetRules
from fleetward.trust.targetcache import TargetCache
from fleetward.trust.tufclient import TufClient
from fleetward.trust.view import (
    Outcome,
    Parts,
    Reading,
    RoleStanding,
    Source,
    SourceReport,
    Standing,
    VerifiedTarget,
    VerifiedView,
)
from fleetward.wire.layout import target_path

__all__ = [
    "FleetTrust",
    "Outcome",
    "RoleStanding",
    "Source",
    "SourceReport",
    "TimestampFacts",
    "VerifiedTarget",
    "VerifiedView",
]

_TIMESTAMP: Final = "timestamp.json"


class FleetTrust:
    """The trust of one host in one repository.

    Attributes:
        reports: how the sources of the last `refresh` did, also where it gave no view; grows while
            targets are brought.
    """

    def __init__(
        self,
        disk: Disk,
        folder: Path,
        session: HttpSession,
        clock: Clock,
        limits: MetadataLimits | None = None,
    ) -> None:
        """Open the trust state in `folder`.

        Raises:
            ConfigurationError: there is none, or it is damaged.
            DiskError: the disk fails.
        """
        home = _home(disk, folder)
        self._ledger = Ledger(home)
        self._session = session
        self._clock = clock
        self._limits = limits or MetadataLimits()
        self._rules = FleetRules(clock)
        self._client = TufClient(self._ledger, session, self._rules, self._limits)
        self._cache = TargetCache(disk, home.state / "targets")
        self._known: tuple[tuple[bytes | None, ...], Parts | None] = ((), None)
        self.reports: list[SourceReport] = []

    @classmethod
    def create(
        cls, disk: Disk, folder: Path, root: bytes, session: HttpSession, clock: Clock
    ) -> "FleetTrust":
        """Begin with the trust anchor `root`, the bytes of N.root.json.

        Raises:
            MetadataError: it is no root that a threshold of its own keys has signed, or does not
                ask for consistent snapshots.
            ConfigurationError: there is trust state already.
            DiskError: the disk fails.
        """
        TufClient.begin(_home(disk, folder), root, session, FleetRules(clock))
        return cls(disk, folder, session, clock)

    def refresh(self, sources: Sequence[Source]) -> VerifiedView:
        """Ask the sources in turn, until one is fresh, and return what may be believed.

        Raises:
            ClockError: the wall clock stands behind the last-known time.
            TrustError: every source that answered was refused or is behind (the first one's
                error), or what is known has expired.
            NetworkError: no source answered.
            DiskError: the disk fails.
            UsageError: no source was given.
        """
        if not sources:
            raise UsageError("no source was given: name at least one repository or relay")
        reports = self.reports = []
        self._require_clock()
        for source in sources:
            reports.append(self._ask(source))
            if reports[-1].outcome is Outcome.FRESH:
                break
        return self._conclude(sources, reports)

    def last_view(self) -> VerifiedView | None:
        """Return what was verified last, without the network, or None before the first success.

        What has expired since is said in the view. Targets come from this host's cache alone.

        Raises:
            DiskError: the disk fails.
        """
        parts = self._parts()
        return None if parts is None else self._view(parts, (), [])

    def _require_clock(self) -> None:
        known = self._ledger.last_known_time
        now = self._clock.now()
        if known is not None and now < known - CLOCK_BEHIND_TOLERANCE:
            raise ClockError(
                f"the clock of this host says {now:%Y-%m-%d %H:%M:%S} UTC, and a signature proves "
                f"that {known:%Y-%m-%d %H:%M:%S} has passed: set the clock, then run this again"
            )

    # -- one source ------------------------------------------------------------------------------

    def _ask(self, source: Source) -> SourceReport:
        served: list[bytes] = []
        try:
            self._bring(source, served)
        except NetworkError as error:
            return SourceReport(source, Outcome.UNREACHABLE, error)
        except RollbackError as error:
            return self._judge_older(source, served, error)
        except TrustError as error:
            return SourceReport(source, Outcome.REFUSED, error)
        stamp = read_timestamp(served[-1])
        outcome = Outcome.FROZEN if self._is_overdue(stamp) else Outcome.FRESH
        return SourceReport(source, outcome, None, stamp.version, stamp.issued)

    def _judge_older(
        self, source: Source, served: list[bytes], error: RollbackError
    ) -> SourceReport:
        """Return whether an older timestamp, authentic as the error says, is lag or a replay."""
        known = self._ledger.marked("timestamp")
        if served and known is not None and is_older(served[-1], known):
            with contextlib.suppress(MetadataError):
                stamp = read_timestamp(served[-1])
                if not self._is_overdue(stamp):
                    return SourceReport(source, Outcome.BEHIND, error, stamp.version, stamp.issued)
        return SourceReport(source, Outcome.REFUSED, error)

    def _bring(self, source: Source, served: list[bytes]) -> None:
        """Take up what `source` has that is new; `served` gets its timestamp."""
        url = f"{source.url}/metadata"
        next_root = f"{read_root(self._ledger.root()).version + 1}.root.json"
        primed = {next_root: self._next_root(f"{url}/{next_root}")}
        etag = None
        if primed[next_root] is None:
            content, etag = self._timestamp(source, f"{url}/{_TIMESTAMP}")
            served.append(content)
            primed[_TIMESTAMP] = content
            if sha256_of(content) == self._ledger.mark("timestamp") and self._parts():
                return
        self._update(url, primed)
        known = self._ledger.marked("timestamp") or b""
        if served and served[-1] == known:
            self._ledger.learn_etag(source.url, etag)
            self._ledger.save()
        served.append(known)

    def _update(self, url: str, primed: dict[str, bytes | None]) -> None:
        from fleetward.trust.updating import Repository  # noqa: PLC0415 (tuf: where needed)

        try:
            self._client.refresh(Repository(url, primed=primed))
        finally:
            known = self._ledger.marked("timestamp")
            if known is not None:
                self._ledger.learn_time(read_timestamp(known).issued)
                self._ledger.save()

    def _next_root(self, url: str) -> bytes | None:
        try:
            with self._session.get(
                url,
                max_bytes=self._limits.root_bytes,
                deadline=self._session.limits.metadata_deadline,
                fresh=True,
            ) as answer:
                return answer.read()
        except NotFoundError:
            return None

    def _timestamp(self, source: Source, url: str) -> tuple[bytes, str | None]:
        """Return the timestamp of `source`, and its ETag."""
        known = self._ledger.marked("timestamp")
        etag = None if known is None else self._ledger.etag(source.url)
        with self._session.get(
            url,
            max_bytes=self._limits.timestamp_bytes,
            etag=etag,
            deadline=self._session.limits.metadata_deadline,
        ) as answer:
            if answer.status == 304 and known is not None:
                return known, etag
            return answer.read(), answer.etag

    # -- the view --------------------------------------------------------------------------------

    def _conclude(self, sources: Sequence[Source], reports: list[SourceReport]) -> VerifiedView:
        usable = [r for r in reports if r.outcome in {Outcome.FRESH, Outcome.FROZEN}]
        parts = self._parts()
        if not usable or parts is None:
            raise _worst(reports)
        for role, expires in parts.expiries.items():
            self._rules.require_current(role, expires)
        best = max(usable, key=lambda report: report.timestamp_version or 0).source
        others = [source for source in sources if source != best]
        return self._view(parts, (best, *others), reports)

    def _view(
        self, parts: Parts, sources: Sequence[Source], reports: list[SourceReport]
    ) -> VerifiedView:
        stamp, now = parts.timestamp, self._clock.now()
        ahead = now - stamp.issued - stamp.interval
        standing = Standing(
            source=sources[0] if sources else None,
            frozen=self._is_overdue(stamp),
            clock_ahead=ahead if ahead > CLOCK_AHEAD_TOLERANCE else None,
            expired=tuple(role for role, end in parts.expiries.items() if end <= now),
        )
        reading = Reading(
            role=lambda role, target: self._role(parts, sources, role, target),
            target=lambda target: self._target(sources, reports, target),
            reports=reports,
        )
        return VerifiedView(parts, standing, reading)

    def _parts(self) -> Parts | None:
        """Return the stored top-level metadata where all of it is marked and belongs together."""
        found = tuple(self._ledger.marked(role) for role in TOP_LEVEL)
        if found != self._known[0]:
            self._known = (found, _together(*found))
        return self._known[1]

    def _is_overdue(self, stamp: TimestampFacts) -> bool:
        return self._clock.now() - stamp.issued > FROZEN_AFTER_INTERVALS * stamp.interval

    def _role(
        self, parts: Parts, sources: Sequence[Source], role: str, target: str
    ) -> TargetsFacts:
        """Return a delegated role's metadata, of the snapshot in `parts`."""
        content = self._stored_role(parts, role)
        if content is None:
            self._load(parts, sources, role, target)
            content = self._stored_role(parts, role)
        if content is None:
            raise MetadataError(f"the metadata of {role} was lost while it was read: refresh again")
        facts = read_targets(content)
        self._rules.require_current(role, facts.expires)
        return facts

    def _stored_role(self, parts: Parts, role: str) -> bytes | None:
        """Return the stored metadata of `role` where it is what snapshot lists."""
        content, listed = self._ledger.marked(role), parts.snapshot.roles.get(role)
        if content is None or listed is None or read_targets(content).version != listed.version:
            return None
        return content if listed.sha256 in {None, sha256_of(content)} else None

    def _load(self, parts: Parts, sources: Sequence[Source], role: str, target: str) -> None:
        """Bring a delegated role from the sources, pinned to the snapshot in `parts`."""
        from fleetward.trust.updating import Repository  # noqa: PLC0415 (tuf: where needed)

        stamp = self._ledger.marked("timestamp")
        if stamp is None or read_timestamp(stamp) != parts.timestamp:
            raise MetadataError("this view is no longer the newest one: refresh again")
        pinned = {f"{parts.root.version + 1}.root.json": None, _TIMESTAMP: stamp}
        reports: list[SourceReport] = []
        for source in sources:
            try:
                self._client.load(Repository(f"{source.url}/metadata", primed=pinned), target, role)
            except (NetworkError, TrustError) as error:
                reports.append(_failure(source, error))
                if reports[-1].outcome is Outcome.REFUSED:
                    self.reports.append(reports[-1])
            else:
                return
        raise _worst(reports)

    def _target(
        self, sources: Sequence[Source], reports: list[SourceReport], target: VerifiedTarget
    ) -> bytes:
        if target.length > self._limits.document_bytes:
            raise MetadataError(f"{target.name} is signed as {target.length} bytes long: refused")
        content = self._cache.get(target)
        failures: list[SourceReport] = []
        for source in sources if content is None else ():
            try:
                content = self._download(source, target)
            except (NetworkError, DigestError) as error:
                failures.append(_failure(source, error))
                reports.append(failures[-1])
            else:
                self._cache.put(target, content)
                break
        if content is None:
            raise _worst(failures)
        return content

    def _download(self, source: Source, target: VerifiedTarget) -> bytes:
        with self._session.get(
            f"{source.url}/{target_path(target.name, target.sha256)}",
            max_bytes=target.length,
            deadline=self._session.limits.metadata_deadline,
        ) as answer:
            content = answer.read()
        if len(content) != target.length or sha256_of(content) != target.sha256:
            raise DigestError(
                f"{source.url} gave other bytes than were signed as {target.name}: discarded; the "
                "source is broken or hostile"
            )
        return content


def _together(
    root: bytes | None, stamp: bytes | None, snapshot: bytes | None, targets: bytes | None
) -> Parts | None:
    """Return the four top-level roles where none lacks and each lists the next."""
    if root is None or stamp is None or snapshot is None or targets is None:
        return None
    listing, facts = read_listing(snapshot), read_targets(targets)
    parts = Parts(read_root(root), read_timestamp(stamp), listing, facts)
    named = read_listing(stamp).roles["snapshot"].version
    is_whole = named == listing.version and listing.roles["targets"].version == facts.version
    return parts if is_whole else None


def _home(disk: Disk, folder: Path) -> TrustHome:
    return TrustHome(disk, folder / "metadata", folder / "state")


def _failure(source: Source, error: FleetwardError) -> SourceReport:
    outcome = Outcome.UNREACHABLE if isinstance(error, NetworkError) else Outcome.REFUSED
    return SourceReport(source, outcome, error)


def _worst(reports: Sequence[SourceReport]) -> FleetwardError:
    """Return the error to raise where no source was of use: a refusal before a failure."""
    errors = [report.error for report in reports if report.error is not None]
    refused = [error for error in errors if isinstance(error, TrustError)]
    nothing = NetworkError("this is not on this host, and no source was asked: refresh again")
    return next(iter(refused or errors), nothing)
