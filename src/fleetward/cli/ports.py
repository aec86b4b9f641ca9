"""`fleetward ports …`: who listens on a port, and who may talk on it."""

import socket
from pathlib import Path
from typing import Annotated

import typer

from fleetward.adapters.clock import SystemClock
from fleetward.adapters.disk import Disk, SystemDisk
from fleetward.cli.output import print_json, remarks
from fleetward.cli.ports_inspect import inspect
from fleetward.cli.ports_sense import sense
from fleetward.config.ports import PortsSettings, load_ports_settings
from fleetward.core.fleet import Relays
from fleetward.core.portrules import Verdict
from fleetward.core.ports import Expectations, RelayRole
from fleetward.errors import ConfigurationError, DiskError, DocumentError, UsageError
from fleetward.portwatch.firewalls import Format, rules_text
from fleetward.portwatch.pins import Role, pins_of
from fleetward.wire.documents import decode
from fleetward.wire.ports import PORTS_SCHEMA

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def ports() -> None:
    """See who listens on port 2967, or on any other, and whether that is what you expect."""


@app.command()
def show(
    port: Annotated[
        list[int] | None, typer.Argument(metavar="[PORT]…", help="Default 2967.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Look at every port.")] = False,
    exclude: Annotated[
        list[int] | None, typer.Option("--exclude", metavar="PORT", help="Leave a port out.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Rules of yours, in TOML.")
    ] = None,
    relay: Annotated[
        RelayRole | None, typer.Option("--relay", help="Whether this host is meant to be a relay.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show who listens, what runs there, and what to think of it, with reasons.

    Exits 1 where something is suspicious, else 0. Without root it shows less, and says what.

    Example: fleetward ports show 2967 --config rules.toml --json
    """
    from fleetward.listeners.surveying import surveyor_here  # noqa: PLC0415 (for `show` alone)
    from fleetward.portwatch.showing import show as look  # noqa: PLC0415 (for `show` alone)

    if everything and port:
        raise UsageError("give ports, or --all")
    settings = load_ports_settings(SystemDisk(), config) if config else PortsSettings()
    document = look(
        surveyor_here(elsewhere=settings.namespaces),
        Expectations(rules=settings.rules, role=relay or settings.relay),
        ports=() if everything else tuple(port or settings.ports),
        exclude=tuple(exclude or settings.exclude),
        host=socket.gethostname(),
        clock=SystemClock(),
    )
    if json:
        print_json(PORTS_SCHEMA, document)
    else:
        from fleetward.cli.ports_table import show_people  # noqa: PLC0415 (rich's tables)

        show_people(document)
    raise typer.Exit(1 if document.verdict is Verdict.SUSPICIOUS else 0)


@app.command()
def accept(
    home: Annotated[Path, typer.Argument(metavar="HOME", help="The agent's folder.")],
) -> None:
    """Agree to what listens now: an agent's baseline is what its port watch knows at this moment.

    What is suspicious stays unexpected; a rule in HOME/ports.toml may excuse it.

    Example: fleetward ports accept /var/lib/fleetward
    """
    from fleetward.agent.home import Home  # noqa: PLC0415 (for `accept` alone)
    from fleetward.agent.portwatch import relearn  # noqa: PLC0415 (for `accept` alone)

    agent_home = Home(SystemDisk(), home.absolute())
    agent_home.require()
    remarks.print(f"the baseline has {relearn(agent_home)} listeners", highlight=False)


@app.command()
def rules(
    language: Annotated[Format, typer.Option("--format", help="Of which firewall or sensor.")],
    relays: Annotated[
        Path | None,
        typer.Option(
            "--relays", metavar="FILE", help="What `origin relays REPO --show --json` prints."
        ),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="HOME", help="An agent's folder: its verified list."),
    ] = None,
    subnet: Annotated[
        list[str] | None,
        typer.Option("--subnet", metavar="CIDR", help="Clients besides the list's sites."),
    ] = None,
    role: Annotated[
        Role, typer.Option("--role", help="What the machine is: hosts take no connections.")
    ] = Role.RELAY,
    announcements: Annotated[
        bool, typer.Option("--announcements", help="Hosts hear relays' announcements (UDP).")
    ] = False,
) -> None:
    """Print firewall rules that pin who may talk on port 2967.

    From the signed list of relays (of an agent, or of a file) and your subnets. Names of relays are
    resolved now.

    Example: fleetward ports rules --format nftables --home /var/lib/fleetward --role host
    """
    if (relays is None) == (home is None) and not (subnet and relays is None):
        raise UsageError("give --relays FILE or --home HOME (or --subnet alone)")
    listed = _relays_in(SystemDisk(), relays) if relays else _relays_of(home) if home else Relays()
    pins = pins_of(
        listed,
        subnet or (),
        role=role,
        announcements=announcements,
        made=SystemClock().now(),
    )
    for remark in pins.remarks:
        remarks.print(f"note: {remark}", soft_wrap=True, markup=False)
    typer.echo(rules_text(pins, language), nl=False)


app.command()(inspect)
app.command()(sense)


def _relays_in(disk: Disk, path: Path) -> Relays:
    try:
        return decode(Relays, disk.read(path.absolute()))
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no {path}") from error
    except (DiskError, DocumentError) as error:
        raise ConfigurationError(f"cannot read the list of relays {path}: {error}") from error


def _relays_of(path: Path) -> Relays:
    """Return the list that an agent has verified last, without the network."""
    from fleetward.agent.home import Home  # noqa: PLC0415 (TUF is loaded for this alone)
    from fleetward.agent.wiring import http_session  # noqa: PLC0415 (see above)
    from fleetward.config.agent import load_agent_settings  # noqa: PLC0415 (see above)
    from fleetward.trust.client import FleetTrust  # noqa: PLC0415 (see above)

    home, clock = Home(SystemDisk(), path.absolute()), SystemClock()
    home.require()
    settings = load_agent_settings(home.disk, home.path)
    session = http_session(settings.network, clock)
    view = FleetTrust(home.disk, home.trust, session, clock).last_view()
    found = view.relays() if view is not None else None
    if found is None:
        raise ConfigurationError(
            f"the agent at {path} has no signed list of relays: run `fleetward agent update {path}`, "
            "or sign one with `fleetward origin relays`"
        )
    return found
