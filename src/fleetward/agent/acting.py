"""One report of the agent of a folder: what it saw, what directives make it do, what it says it is."""

import platform
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleetward import __version__
from fleetward.adapters.clock import Clock
from fleetward.adapters.entropy import Entropy
from fleetward.agent.checkins import Outcome, Reporter, Seen, Way
from fleetward.agent.enrolling import load_enrolled
from fleetward.agent.home import Home
from fleetward.agent.inbox import Tree
from fleetward.agent.noticing import short
from fleetward.agent.portwatch import list_again
from fleetward.agent.updating import load_last_check
from fleetward.agent.verifying import Difference
from fleetward.agent.wiring import http_session, open_agent, records_of, verify_all
from fleetward.config.agent import load_agent_settings
from fleetward.core.enrolment import HostFacts
from fleetward.core.names import ProductName
from fleetward.core.status import PortsSummary, SeenVersions
from fleetward.errors import ConfigurationError
from fleetward.trust.client import FleetTrust


@dataclass(frozen=True, slots=True)
class AgentActs:
    """Does directives with the agent of a folder; each takes the agent's lock as it needs it.

    Attributes:
        home: the agent's folder.
        ports: reports every listener anew, where the port watch is on.
    """

    home: Home
    ports: Callable[[], str] | None = None

    def update_now(self, product: ProductName | None) -> str:
        """Do one run at once.

        Raises:
            FleetwardError: what the run's exit code would say.
        """
        report = open_agent(self.home).update()
        mine = [r for r in report.products if product in {None, r.record.product}]
        problem = report.error or next((r.error for r in mine if r.error), None)
        if problem is not None:
            raise problem
        return "; ".join(f"{r.record.product}: {r.outcome.value}" for r in mine) or "nothing to do"

    def verify_tree(self, product: ProductName | None) -> tuple[Tree, ...]:
        """Compare installed trees with the signed ones.

        Raises:
            ConfigurationError: this host does not have the product.
        """
        _, found = verify_all(self.home)
        mine = [one for one in found if product in {None, one.record.product}]
        if not mine:
            raise ConfigurationError("this host does not subscribe to it")
        return tuple(
            Tree(
                product=one.record.product,
                release=one.record.current.release if one.record.current else "",
                drift="" if one.intact else _drift(one.differences),
            )
            for one in mine
        )

    def list_ports(self) -> str:
        """Report every listener anew.

        Raises:
            ConfigurationError: the port watch is off.
        """
        if self.ports is None:
            raise ConfigurationError("the port watch is off on this host")
        return self.ports()

    def roll_back(self, product: ProductName) -> str:
        """Go back to the previous release.

        Raises:
            ConfigurationError: there is none, or it was revoked.
        """
        record = open_agent(self.home).roll_back(product)
        return f"runs {record.current.release if record.current else 'nothing'}"


def _drift(differences: Sequence[Difference]) -> str:
    """Return how a tree differs, with the first of its paths by name."""
    if not differences:
        return "has drifted"
    first, count = differences[0], len(differences)
    more = f" and {count - 1:,} more" if count > 1 else ""
    return f"has drifted: {first.path} was {first.kind}{more}"


def host_facts(site: str = "") -> HostFacts:
    """Return what this machine says of itself when it is enrolled."""
    try:
        release = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        release = ""
    return HostFacts(
        name=short(socket.gethostname()),
        os=short(release or platform.platform(terse=True)),
        site=short(site),
        agent=__version__,
    )


def seen_of(home: Home, clock: Clock, ports: PortsSummary | None = None) -> Seen:
    """Return what this host saw, for its check-in; without the network.

    Args:
        home: the agent's folder.
        clock: the wall clock, which stands nowhere near signed time where it is wrong.
        ports: the port watch, or None where it is off.

    Raises:
        ConfigurationError: there is no agent, or its settings or trust state are damaged.
    """
    settings = load_agent_settings(home.disk, home.path)
    session = http_session(settings.network, clock)
    view = FleetTrust(home.disk, home.trust, session, clock).last_view()
    records, check = records_of(home, settings), load_last_check(home)
    if view is None:
        return Seen(records=records, check=check, ports=ports)
    versions, ahead = view.versions, view.clock_ahead
    tuf = SeenVersions(
        root=versions["root"], timestamp=versions["timestamp"], snapshot=versions["snapshot"]
    )
    return Seen(
        records=records,
        check=check,
        tuf=tuf,
        clock=None if ahead is None else int(ahead.total_seconds()),
        ports=ports,
    )


def open_reporter(home: Home, clock: Clock, entropy: Entropy) -> Reporter:
    """Return what reports for the agent of a folder.

    Raises:
        ConfigurationError: there is no agent, or its settings are damaged.
    """
    settings = load_agent_settings(home.disk, home.path)
    session = http_session(settings.network, clock)
    acts = AgentActs(home, ports=lambda: list_again(home))
    return Reporter(
        home,
        settings.sources,
        host_facts(),
        session,
        clock,
        entropy,
        acts,
        inbox_every=settings.inbox_every,
    )


def report(
    home: Home, clock: Clock, entropy: Entropy, ports: PortsSummary | None = None
) -> Outcome:
    """Report once to this host's console; what the agent's loop calls, once a minute.

    Args:
        home: the agent's folder.
        clock: time.
        entropy: epochs and nonces.
        ports: the port watch, or None where it is off.

    Raises:
        BusyError: another process reports at this moment.
        ConfigurationError: HOME is damaged.
        DiskError: HOME cannot be written.
    """
    if load_enrolled(home) is None:
        return Outcome(Way.NOT_ENROLLED)
    return open_reporter(home, clock, entropy).report(seen_of(home, clock, ports))
