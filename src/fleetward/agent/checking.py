"""What verifies metadata for an agent, and what it holds against sources.

A poll that also asks an origin compares the two timestamps: by its own word a relay that freezes is
fresh until three of its intervals have passed; beside the origin it is found out at once.

Deliberately not here: the verification itself (trust.client).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from fleetward.adapters.clock import Clock
from fleetward.agent.updating import CheckedView, blame
from fleetward.core.fleet import Relays
from fleetward.core.sourcechoice import Fault
from fleetward.errors import FleetwardError, NetworkError, TrustError
from fleetward.trust.client import FleetTrust, Source, VerifiedView
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
    """

    trust: FleetTrust
    clock: Clock
    max_lag: timedelta

    def check(self, sources: Sequence[str], direct: str | None = None) -> CheckedView:
        """Return what the best of the sources gives; see `updating.Trust`."""
        found = dict[str, Fault]()
        try:
            view = self.trust.refresh([Source(url) for url in sources])
        except (TrustError, NetworkError) as error:
            if direct is None:
                raise
            view = self.trust.refresh([Source(direct)])
            remarks = [f"no other source served: {error}"]
            if not self._is_new(view):
                found |= blame(error, sources)
        else:
            remarks = _remarks(view)
            if direct is not None:
                view = self._compared(view, direct, found, remarks)
        relays = _relays(view, remarks)
        if view.source is None:  # pragma: no cover (a refresh always names one)
            raise NetworkError("no source gave metadata")
        newest = view
        return CheckedView(
            view,
            view.source.url,
            view.frozen,
            tuple(remarks),
            lambda: {**self._faults(newest), **found},
            relays,
        )

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
            other = self.trust.refresh([Source(direct)])
        except (TrustError, NetworkError) as error:
            found[direct] = _FAULTS[_outcome_of(error)]
            remarks.append(f"{direct} did not serve a comparison: {error}")
            return view
        lag = other.timestamp.issued - view.timestamp.issued
        if lag > self.max_lag and view.source is not None:
            found[view.source.url] = Fault.STALE
            remarks.append(
                f"{view.source.url} is frozen: its timestamp is {lag} older than the one of "
                f"{direct}; it is put aside"
            )
        return view if other.timestamp == view.timestamp else other

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
