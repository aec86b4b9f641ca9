"""The `fleetward` command: the programs' commands, and the one place where an error ends it."""

import sys
from typing import Annotated

import typer
from rich.markup import escape

from fleetward import __version__
from fleetward.cli.output import remarks
from fleetward.errors import ConfigurationError, FleetwardError

ENDED_BY_OPERATOR = 130
"""What shells expect of a command that SIGINT ended."""

HELP = (
    "Signed security content, from one origin, through untrusted relays, to every host.\n\n"
    "Begin with `fleetward demo`. Exit codes: 0 done, 1 a check found something, 2 usage, "
    "10 trust, 11 network or busy (try again), 12 configuration, 13 disk, 14 rejected by "
    "preflight, 15 rolled back."
)


def _add_origin(app: typer.Typer) -> None:
    from fleetward.cli import origin  # noqa: PLC0415 (each program loads its own code alone)

    app.add_typer(origin.app, name="origin", help="Make releases, sign them, serve them.")


def _add_relay(app: typer.Typer) -> None:
    from fleetward.cli import relay  # noqa: PLC0415 (see above)

    app.add_typer(relay.app, name="relay", help="Cache content for a site.")


def _add_agent(app: typer.Typer) -> None:
    from fleetward.cli import agent  # noqa: PLC0415 (see above)

    app.add_typer(agent.app, name="agent", help="Keep a host's content current and verified.")


def _add_console(app: typer.Typer) -> None:
    try:
        from fleetward.cli import console  # noqa: PLC0415 (see above)
    except ModuleNotFoundError as error:
        _add_absent(app, "console", error)
        return
    app.add_typer(console.app, name="console", help="Show what every host runs, and act on it.")


def _add_absent(app: typer.Typer, program: str, error: ModuleNotFoundError) -> None:
    """Add a command that says which extra it lacks."""
    advice = f"{error.name} is not installed: pip install 'fleetward[{program}]'"

    @app.command(
        name=program,
        help=f"Not installed: needs the extra fleetward[{program}].",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def absent() -> None:
        raise ConfigurationError(advice)


def _add_ports(app: typer.Typer) -> None:
    from fleetward.cli import ports  # noqa: PLC0415 (see above)

    app.add_typer(ports.app, name="ports", help="See who listens on a port, and who may talk.")


def _add_rollout(app: typer.Typer) -> None:
    from fleetward.cli import rollout  # noqa: PLC0415 (see above)

    app.add_typer(rollout.app, name="rollout", help="See how releases reach the fleet.")


def _add_demo(app: typer.Typer) -> None:
    from fleetward.cli import demo  # noqa: PLC0415 (see above)
    from fleetward.cli.configured import configured  # noqa: PLC0415 (see above)

    app.command(name="demo")(configured(demo.demo))


_PROGRAMS = {
    "origin": _add_origin,
    "relay": _add_relay,
    "agent": _add_agent,
    "console": _add_console,
    "ports": _add_ports,
    "rollout": _add_rollout,
    "demo": _add_demo,
}


def command_line(program: str | None = None) -> typer.Typer:
    """Return the command line with one program's commands, or with all where it names none.

    An agent that runs from cron every few minutes pays for its own imports alone.
    """
    app = typer.Typer(
        name="fleetward", help=HELP, no_args_is_help=True, pretty_exceptions_enable=False
    )
    app.callback()(options)
    chosen = [_PROGRAMS[program]] if program in _PROGRAMS else _PROGRAMS.values()
    for add in chosen:
        add(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fleetward {__version__}")
        raise typer.Exit


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
        command_line(arguments[0] if arguments else None)(arguments, prog_name="fleetward")
    except FleetwardError as error:
        remarks.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return ENDED_BY_OPERATOR
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0
