"""What directives make an agent do (`inbox.Acts`), and what a host says of itself."""

import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass

from fleetward import __version__
from fleetward.agent.home import Home
from fleetward.agent.noticing import short
from fleetward.agent.wiring import open_agent, verify_all
from fleetward.core.enrolment import HostFacts
from fleetward.core.names import ProductName
from fleetward.errors import ConfigurationError


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

    def verify_tree(self, product: ProductName | None) -> str:
        """Compare installed trees with the signed ones.

        Raises:
            ConfigurationError: this host does not have the product.
        """
        _, found = verify_all(self.home)
        mine = [one for one in found if product in {None, one.record.product}]
        if not mine:
            raise ConfigurationError("this host does not subscribe to it")
        return "; ".join(
            f"{one.record.product}: " + ("intact" if one.intact else _drift(len(one.differences)))
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


def _drift(count: int) -> str:
    return f"has drifted, {count} paths differ" if count else "has drifted"


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
