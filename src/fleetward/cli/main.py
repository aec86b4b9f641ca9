"""The `fleetward` command: the programs' commands, and the one place where an error ends it."""

import sys
from typing import Annotated

import typer
from rich.markup import escape

from fleetward import __version__
from fleetward.cli import agent, demo, origin, relay
from fleetward.cli.output import remarks
from fleetward.errors import FleetwardError

ENDED_BY_OPERATOR = 130
"""What shells expect of a command that SIGINT ended."""

app = typer.Typer(
    name="fleetward",
    help=(
        "Signed security content, from one origin, through untrusted relays, to every host.\n\n"
        "Begin with `fleetward demo`. Exit codes: 0 done, 1 a check found something, 2 usage, "
        "10 trust, 11 network or busy (try again), 12 configuration, 13 disk, 14 rejected by "
        "preflight, 15 rolled back."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.add_typer(origin.app, name="origin", help="Make releases, sign them, serve the repository.")
app.add_typer(relay.app, name="relay", help="Cache content for a site.")
app.add_typer(agent.app, name="agent", help="Keep a host's content current and verified.")
app.command(name="demo")(demo.demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fleetward {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Take the options that every command has."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code; no error of ours becomes a traceback."""
    try:
        app(arguments, prog_name="fleetward")
    except FleetwardError as error:
        remarks.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return ENDED_BY_OPERATOR
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0
