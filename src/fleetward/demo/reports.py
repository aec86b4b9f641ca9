"""What a demo's hosts tell the console, and whether the console then says the same of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fleetward.adapters.clock import Clock
from fleetward.adapters.entropy import SystemEntropy
from fleetward.agent.acting import host_facts, report
from fleetward.agent.enrolling import enrol
from fleetward.agent.home import Home
from fleetward.agent.wiring import http_session, status_of
from fleetward.config.agent import load_agent_settings
from fleetward.core.status import EventKind
from fleetward.demo.console import LiveConsole
from fleetward.wire.tokenfile import TokenFile

_TREE_DIGITS = 32
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


@dataclass(frozen=True, slots=True)
class Shown:
    """How the console's view compares with the hosts.

    Attributes:
        hosts: of how many hosts it says what they themselves say.
        refusals: how many hosts told it that they refused a source.
    """

    hosts: int = 0
    refusals: int = 0


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


def compare(homes: Mapping[str, Home], console: LiveConsole) -> Shown:
    """Return how the console's answers compare with what the hosts say. Raises NetworkError."""
    rows = {row["name"]: row for row in console.rows("/hosts")}
    names = {row["record"]: name for name, row in rows.items()}
    told = console.rows(f"/events?kind={EventKind.REFUSED_SOURCE.value}")
    refusing = {names.get(event["record"]) for event in told} & set(homes)
    agreeing = sum(
        name in rows and _runs(rows[name]["products"]) == _runs(status_of(home)["products"])
        for name, home in homes.items()
    )
    return Shown(agreeing, len(refusing))


def _runs(products: Iterable[Mapping[str, str | None]]) -> dict[str | None, Runs]:
    return {
        row["product"]: Runs(
            row["release"] or "", row["state"] or "", (row["tree"] or "")[:_TREE_DIGITS]
        )
        for row in products
    }
