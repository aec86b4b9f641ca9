"""`fleetward agent leave`: end what `agent enroll` began."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetward.adapters.clock import SystemClock
from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.entropy import SystemEntropy
from fleetward.agent.home import Home
from fleetward.cli.output import print_json, remarks

if TYPE_CHECKING:
    from fleetward.agent.leaving import Left

_WAIT = 30.0
"""How long the console's acknowledgement is waited for: a relay passes it on within seconds."""


def leave(
    home: Annotated[Path, typer.Argument(metavar="HOME", help="The agent's folder.")],
    forget_it: Annotated[
        bool,
        typer.Option("--forget", help="Say nothing to the console, which may be gone for good."),
    ] = False,
    wait: Annotated[
        float,
        typer.Option("--wait", metavar="SECONDS", min=0, help="For the console's acknowledgement."),
    ] = _WAIT,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Leave the console: it decommissions this host, whose key and unsaid events go.

    What is installed stays, and goes on being updated.

    Example: fleetward agent leave /var/lib/fleetward
    """
    from fleetward.agent.acting import open_reporter, report  # noqa: PLC0415 (a check is not to pay)
    from fleetward.agent.leaving import forget  # noqa: PLC0415 (the same)
    from fleetward.agent.leaving import leave as leave_console  # noqa: PLC0415 (the same)

    agent_home = Home(SystemDisk(), home.absolute())
    agent_home.require()
    clock, entropy = SystemClock(), SystemEntropy()
    if forget_it:
        _say(forget(agent_home, entropy), json)
        return
    reporter = open_reporter(agent_home, clock, entropy)
    patience = timedelta(seconds=wait)
    left = leave_console(reporter, lambda: report(agent_home, clock, entropy), clock, patience)
    _say(left, json)


def _say(left: "Left", json: bool) -> None:
    if json:
        print_json("fleetward.left/1", {"console": left.console, "unsaid_events": left.unsaid})
        return
    unsaid = f"; {left.unsaid} events were never told" if left.unsaid else ""
    remarks.print(f"left {left.console}{unsaid}", soft_wrap=True)
