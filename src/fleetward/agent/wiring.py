"""Puts an agent together from its folder: settings, trust, network, clock, disk of this machine."""

import os
from typing import Any

from fleetward import __version__
from fleetward.adapters.boot import boot_id
from fleetward.adapters.clock import Clock, SystemClock
from fleetward.adapters.entropy import Entropy
from fleetward.adapters.http import HttpSession, HttpSettings
from fleetward.adapters.proxies import Proxies
from fleetward.agent.checking import FleetMetadata
from fleetward.agent.consoles import remember_consoles
from fleetward.agent.fetching import Progress, no_progress
from fleetward.agent.home import Home, create_home
from fleetward.agent.measuring import MeasuredSession
from fleetward.agent.records import Record, Records
from fleetward.agent.reporting import TimestampAge, freshness, status_document
from fleetward.agent.slots import Slots
from fleetward.agent.sources import SourceFinder
from fleetward.agent.updating import Agent, UpdateReport, load_last_check
from fleetward.agent.verifying import Verified, verify_product
from fleetward.agent.watching import Outlook
from fleetward.config.agent import AgentSettings, NetworkSettings, load_agent_settings
from fleetward.errors import NetworkError, TrustError
from fleetward.trust.client import FleetTrust, Source


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
    agent = Agent(
        home,
        settings,
        trust,
        session,
        clock,
        boot=boot_id(),
        progress=progress,
        finder=finder,
    )
    if home.is_enrolled:
        from fleetward.agent.standing import (  # noqa: PLC0415 (keys, on hosts that have a console)
            standing_of,
        )

        standing = standing_of(home)
        agent.record, agent.is_paused = standing.record, standing.is_paused
    return agent


def outlook_of(home: Home, report: UpdateReport) -> Outlook:
    """Return what the agent of a folder waits for after a run.

    Raises:
        ConfigurationError: its settings or trust state are damaged.
    """
    settings, clock = load_agent_settings(home.disk, home.path), SystemClock()
    session = http_session(settings.network, clock)
    view = FleetTrust(home.disk, home.trust, session, clock).last_view()
    return Outlook(
        source=(report.check.preferred or settings.sources[0]) if settings.push.watch else None,
        after=0 if view is None else view.timestamp.version,
        spread=settings.push.spread,
        network=settings.network,
    )


def learn_consoles(home: Home) -> str | None:
    """Ask the sources whom the fleet keys name as the console, before this host is enrolled.

    The caller holds the agent's lock.

    Returns:
        Why that could not be read, or None. What was known before holds then.

    Raises:
        ConfigurationError: the settings or the trust state are damaged.
        DiskError: HOME cannot be written.
    """
    settings, clock = load_agent_settings(home.disk, home.path), SystemClock()
    trust = FleetTrust(home.disk, home.trust, http_session(settings.network, clock), clock)
    try:
        consoles = trust.refresh([Source(url) for url in settings.sources]).consoles()
    except (NetworkError, TrustError) as error:
        return str(error)
    if consoles is not None:
        remember_consoles(home, consoles)
    return None


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
    document = status_document(home.host(), records, fresh, check)
    return {**document, "sensor": _sensor_status(home, settings)}


def _sensor_status(home: Home, settings: AgentSettings) -> dict[str, Any] | None:
    if not settings.sensor.on:
        return None
    from fleetward.agent.sensing import sensor_status  # noqa: PLC0415 (where it is asked for)

    return sensor_status(home, settings.sensor)


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
