"""What verifies metadata for an agent, and what it holds against sources.

A poll that also asks an origin compares the two timestamps: by its own word a relay that freezes is
fresh until three of its intervals have passed; beside the origin it is found out at once.

What sources did is told to the console (`troubles`) also where another source served. One that has
not the newest timestamp yet is told only where a good one would have it.

Deliberately not here: the verification itself (trust.client).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from fleetward.adapters.clock import Clock
from fleetward.agent.updating import CheckedView, SourceTrouble, Trouble, blame
from fleetward.core.consoles import Consoles
from fleetward.core.fleet import Address, Network, Relays
from fleetward.core.sourcechoice import Fault
from fleetward.discovery.addresses import own_addresses
from fleetward.errors import ClockError, FleetwardError, NetworkError, TrustError
from fleetward.trust.client import FleetTrust, Source, SourceReport, TimestampFacts, VerifiedView
from fleetward.trust.client import Outcome as SourceOutcome

_FAULTS = {
    SourceOutcome.BEHIND: Fault.STALE,
    SourceOutcome.FROZEN: Fault.STALE,
    SourceOutcome.REFUSED: Fault.FALSE,
    SourceOutcome.UNREACHABLE: Fault.FAILED,
}


@dataclass(frozen=True, slots=True)
class FleetMetadata:
    """`updating.Trust`, by TUF.

    Attributes:
        trust: the host's trust.
        clock: the wall clock.
        max_lag: how much older than an origin's a relay's timestamp may be.
        addresses: the host's own, given subnets of interest; they say at which site it is.
    """

    trust: FleetTrust
    clock: Clock
    max_lag: timedelta
    addresses: Callable[[Iterable[Network]], tuple[Address, ...]] = own_addresses
    _asked: list[list[SourceReport]] = field(default_factory=list)
    _lagging: list[SourceTrouble] = field(default_factory=list)

    def check(self, sources: Sequence[str], direct: str | None = None) -> CheckedView:
        """Return what the best of the sources gives; see `updating.Trust`."""
        found = dict[str, Fault]()
        self._asked.clear()
        self._lagging.clear()
        try:
            view = self._refresh([Source(url) for url in sources])
        except (TrustError, NetworkError) as error:
            if direct is None:
                raise
            view = self._refresh([Source(direct)])
            remarks = [f"no other source served: {error}"]
            if not self._is_new(view):
                found |= blame(error, sources)
        else:
            remarks = _remarks(view)
            if direct is not None:
                view = self._compared(view, direct, found, remarks)
        relays, consoles = _relays(view, remarks), _consoles(view, remarks)
        if view.source is None:  # pragma: no cover (a refresh always names one)
            raise NetworkError("no source gave metadata")
        newest = view
        return CheckedView(
            view,
            view.source.url,
            view.frozen and not self._may_be_old(view, relays, consoles),
            tuple(remarks),
            lambda: {**self._faults(newest), **found},
            relays,
            consoles,
        )

    def troubles(self) -> tuple[SourceTrouble, ...]:
        """Return what sources did in the last check; see `updating.Trust`."""
        reports = [report for asked in self._asked for report in asked]
        old = [r for r in reports if r.outcome in {SourceOutcome.BEHIND, SourceOutcome.FROZEN}]
        view = self.trust.last_view() if old else None
        newest = view.timestamp if view is not None else None
        found = [*_refusals(reports), *self._lagging]
        found += [_trouble(r, Trouble.OLD) for r in old if newest and self._is_old(r, newest)]
        return tuple({(one.source, one.kind): one for one in found}.values())

    def last_relays(self) -> Relays | None:
        """Return the signed list of relays as it was verified last, without the network."""
        try:
            view = self.trust.last_view()
            return view.relays() if view is not None else None
        except (TrustError, NetworkError):
            return None

    def _compared(
        self, view: VerifiedView, direct: str, found: dict[str, Fault], remarks: list[str]
    ) -> VerifiedView:
        """Return the newer view, after asking an origin; a relay that lags too much is at fault."""
        found |= self._faults(view)
        try:
            other = self._refresh([Source(direct)])
        except (TrustError, NetworkError) as error:
            found[direct] = _FAULTS[_outcome_of(error)]
            remarks.append(f"{direct} did not serve a comparison: {error}")
            return view
        lag = other.timestamp.issued - view.timestamp.issued
        if lag > self.max_lag and view.source is not None:
            found[view.source.url] = Fault.STALE
            why = f"its timestamp is {lag} older than the one of {direct}"
            remarks.append(f"{view.source.url} is frozen: {why}; it is put aside")
            self._lagging.append(SourceTrouble(view.source.url, Trouble.OLD, why))
        return view if other.timestamp == view.timestamp else other

    def _refresh(self, sources: Sequence[Source]) -> VerifiedView:
        try:
            return self.trust.refresh(sources)
        finally:
            self._asked.append(self.trust.reports)

    def _is_old(self, report: SourceReport, newest: TimestampFacts) -> bool:
        """Return whether a good source would have something newer than what this one served.

        It has had `max_lag` to get the newest one, or lacks even the one before.
        """
        if report.issued is None or report.issued >= newest.issued:
            return False
        had_time = self.clock.now() - newest.issued > self.max_lag
        return had_time or newest.issued - report.issued > newest.interval + self.max_lag

    def _may_be_old(
        self, view: VerifiedView, relays: Relays | None, consoles: Consoles | None
    ) -> bool:
        """Return whether the fleet keys let this host's site live with so old a timestamp."""
        if consoles is None or not consoles.offline or relays is None:
            return False
        networks = [network for site in relays.sites for network in site.networks()]
        site = relays.near(self.addresses(networks)).site
        return consoles.allows(site, view.timestamp.issued, self.clock.now())

    def _faults(self, view: VerifiedView) -> dict[str, Fault]:
        """Return what was wrong with sources; what is old everywhere, or brand new, is no fault."""
        excused = {SourceOutcome.FROZEN} if view.frozen else set()
        excused |= {SourceOutcome.BEHIND} if self._is_new(view) else set()
        return {
            report.source.url: _FAULTS[report.outcome]
            for report in view.reports
            if report.outcome in _FAULTS and report.outcome not in excused
        }

    def _is_new(self, view: VerifiedView) -> bool:
        """Return whether its timestamp is so new that a good relay may not have it yet."""
        return self.clock.now() - view.timestamp.issued <= self.max_lag


def _outcome_of(error: FleetwardError) -> SourceOutcome:
    is_network = isinstance(error, NetworkError)
    return SourceOutcome.UNREACHABLE if is_network else SourceOutcome.REFUSED


def _remarks(view: VerifiedView) -> list[str]:
    remarks = [
        f"{report.source.url} is {report.outcome.value}: {report.error or 'its timestamp is old'}"
        for report in view.reports
        if report.outcome is not SourceOutcome.FRESH
    ]
    if view.clock_ahead:
        remarks.append(f"the clock of this host is {view.clock_ahead} ahead of the timestamp")
    return remarks


def _relays(view: VerifiedView, remarks: list[str]) -> Relays | None:
    """Return the signed list of relays; it only says where to ask, so its failure stops nothing."""
    try:
        return view.relays()
    except (TrustError, NetworkError) as error:
        remarks.append(f"the list of relays cannot be had: {error}")
        return None


def _consoles(view: VerifiedView, remarks: list[str]) -> Consoles | None:
    """Return whom the fleet keys name as the console; what was known before holds otherwise."""
    try:
        return view.consoles()
    except (TrustError, NetworkError) as error:
        remarks.append(f"the signed document about the console cannot be had: {error}")
        return None


def _refusals(reports: Iterable[SourceReport]) -> Iterator[SourceTrouble]:
    """Return who gave what was refused; that this host's own clock is wrong is nobody's doing."""
    for report in reports:
        if report.outcome is SourceOutcome.REFUSED and not isinstance(report.error, ClockError):
            yield _trouble(report, Trouble.REFUSED)


def _trouble(report: SourceReport, kind: Trouble) -> SourceTrouble:
    return SourceTrouble(report.source.url, kind, str(report.error or "its timestamp is overdue"))
