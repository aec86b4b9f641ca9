"""Puts an agent together from its folder: settings, trust, network, clock, disk of this machine."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fleetward import __version__
from fleetward.adapters.boot import boot_id
from fleetward.adapters.clock import Clock, SystemClock
from fleetward.adapters.entropy import Entropy
from fleetward.adapters.http import HttpSession, HttpSettings
from fleetward.adapters.proxies import Proxies
from fleetward.agent.fetching import Progress, no_progress
from fleetward.agent.home import Home, create_home
from fleetward.agent.measuring import MeasuredSession
from fleetward.agent.records import Record, Records
from fleetward.agent.reporting import TimestampAge, freshness, status_document
from fleetward.agent.slots import Slots
from fleetward.agent.sources import SourceFinder
from fleetward.agent.updating import Agent, CheckedView, UpdateReport, load_last_check
from fleetward.agent.verifying import Verified, verify_product
from fleetward.agent.watching import Outlook
from fleetward.config.agent import AgentSettings, NetworkSettings, load_agent_settings
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
        view = self.trust.refresh([Source(url) for url in sources])
        found = dict[str, Fault]()
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
        is_new = self.clock.now() - view.timestamp.issued <= self.max_lag
        excused = {SourceOutcome.FROZEN} if view.frozen else set()
        excused |= {SourceOutcome.BEHIND} if is_new else set()
        return {
            report.source.url: _FAULTS[report.outcome]
            for report in view.reports
            if report.outcome in _FAULTS and report.outcome not in excused
        }


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


def http_session(network: NetworkSettings, clock: Clock) -> HttpSession:
    """Return what connects out, as the settings and the environment say."""
    return HttpSession(clock, http_settings(network))


def http_settings(network: NetworkSettings) -> HttpSettings:
    """Return how to connect out, as the settings and the environment say."""
    proxies = (
        Proxies.every(network.proxy) if network.proxy else Proxies.from_environment(os.environ)
    )
    return HttpSettings(
        user_agent=f"fleetward/{__version__}", proxies=proxies, ca_bundle=network.ca_bundle
    )


def create_agent(home: Home, settings: AgentSettings, root: bytes, entropy: Entropy) -> None:
    """Make an agent's folder and take the trust anchor.

    Raises:
        ConfigurationError: an agent is there already.
        MetadataError: `root` is no root that its own keys have signed.
        DiskError: it cannot be written.
    """
    clock = SystemClock()
    home.require_absent()
    home.disk.make_folder(home.path)
    with home.lock():
        home.disk.remove_tree(home.trust)  # of an init that was stopped: it had no settings yet
        FleetTrust.create(home.disk, home.trust, root, http_session(settings.network, clock), clock)
        create_home(home, settings, entropy)


def open_agent(home: Home, progress: Progress = no_progress, clock: Clock | None = None) -> Agent:
    """Return the agent of a folder, ready to work.

    Raises:
        ConfigurationError: there is none, or its settings or trust state are damaged.
    """
    home.require()
    clock = clock or SystemClock()
    settings = load_agent_settings(home.disk, home.path)
    session = MeasuredSession(clock, http_settings(settings.network))
    trust = FleetMetadata(
        FleetTrust(home.disk, home.trust, session, clock), clock, settings.discovery.max_lag
    )
    finder = SourceFinder(home, settings, clock, known=trust.last_relays, samples=session.samples)
    return Agent(
        home,
        settings,
        trust,
        session,
        clock,
        boot=boot_id(),
        progress=progress,
        finder=finder,
    )


def outlook_of(home: Home, report: UpdateReport) -> Outlook:
    """Return what the agent of a folder waits for after a run.

    Raises:
        ConfigurationError: its settings or trust state are damaged.
    """
    settings, clock = load_agent_settings(home.disk, home.path), SystemClock()
    session = http_session(settings.network, clock)
    view = FleetTrust(home.disk, home.trust, session, clock).last_view()
    return Outlook(
        source=(report.check.source or settings.sources[0]) if settings.push.watch else None,
        after=0 if view is None else view.timestamp.version,
        spread=settings.push.spread,
        network=settings.network,
    )


def records_of(home: Home, settings: AgentSettings) -> tuple[Record, ...]:
    """Return the records of all subscriptions."""
    records = Records(home)
    return tuple(records.load(s.product, s.channel) for s in settings.subscriptions)


def status_of(home: Home, clock: Clock | None = None) -> dict[str, Any]:
    """Return the status document of a host, without the network."""
    home.require()
    clock = clock or SystemClock()
    settings = load_agent_settings(home.disk, home.path)
    records, check = records_of(home, settings), load_last_check(home)
    session = http_session(settings.network, clock)
    view = FleetTrust(home.disk, home.trust, session, clock).last_view()
    age = None
    if view is not None:
        stamp = view.timestamp
        age = TimestampAge(stamp.issued, stamp.interval, min(view.expiries.values()))
    fresh = freshness(clock.now(), check, age, records)
    return status_document(home.host(), records, fresh, check)


def verify_all(home: Home) -> tuple[str, tuple[Verified, ...]]:
    """Return the host's id and what `verify` finds of each product."""
    home.require()
    settings = load_agent_settings(home.disk, home.path)
    with home.lock():
        found = tuple(
            verify_product(home, Slots(home.disk, subscription.folder), record)
            for subscription, record in zip(
                settings.subscriptions, records_of(home, settings), strict=True
            )
        )
    return home.host(), found
