"""What a demo's hosts tell the console, and whether the console then says the same of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fleetward.adapters.clock import Clock
from fleetward.adapters.entropy import SystemEntropy
from fleetward.agent.acting import host_facts, report
from fleetward.agent.enrolling import enrol
from fleetward.agent.home import Home
from fleetward.agent.wiring import http_session, status_of
from fleetward.config.agent import load_agent_settings
from fleetward.demo.console import LiveConsole
from fleetward.wire.tokenfile import TokenFile

TREE_DIGITS = 32
"""Of a tree's digest, as check-ins carry it."""


@dataclass(frozen=True, slots=True)
class Runs:
    """What a host runs.

    Attributes:
        release: its name; empty for none.
        state: of the installation.
        tree: the first 32 hex digits of the tree's digest; empty for none.
    """

    release: str
    state: str
    tree: str


def enrol_host(home: Home, name: str, file: TokenFile, clock: Clock) -> None:
    """Make a host known to the console, by its relay.

    Raises:
        NetworkError: nobody carried it.
        TrustError: an answer that the console did not sign.
    """
    settings = load_agent_settings(home.disk, home.path)
    with home.lock():
        enrol(
            home,
            file,
            settings.sources,
            replace(host_facts(), name=name),
            session=http_session(settings.network, clock),
            clock=clock,
            entropy=SystemEntropy(),
        )


def report_host(home: Home, clock: Clock) -> None:
    """Let a host report; what nobody takes goes with its next report."""
    report(home, clock, SystemEntropy())


def compare(homes: Mapping[str, Home], console: LiveConsole) -> dict[str, Runs]:
    """Return what the hosts run of which the console says the same as they do.

    Args:
        homes: the hosts, by the names under which they enrolled.
        console: what is asked.

    Raises:
        NetworkError: the console does not answer.
    """
    shown = {row["name"]: _runs(row["products"]) for row in console.rows("/hosts")}
    own = {name: _runs(status_of(home)["products"]) for name, home in homes.items()}
    return {name: runs for name, runs in own.items() if shown.get(name) == runs}


def _runs(products: Sequence[Mapping[str, str | None]]) -> Runs:
    """Return what is run of the demo's only product, as a host and the console both tell it."""
    if not products:
        return Runs("", "", "")
    row = products[0]
    return Runs(row["release"] or "", row["state"] or "", (row["tree"] or "")[:TREE_DIGITS])
