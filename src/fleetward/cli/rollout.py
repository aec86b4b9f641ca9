"""`fleetward rollout …`: what a console says of the rollouts."""

import re
from typing import Annotated, Any
from urllib.parse import quote

import typer

from fleetward.cli.configured import ConfiguredTyper
from fleetward.cli.consoleapi import CaFileOption, ConsoleApi, ConsoleOption, TokenFileOption
from fleetward.cli.output import print_json
from fleetward.cli.rollout_table import show_explanation, show_rollout, show_rollouts
from fleetward.errors import UsageError

app = ConfiguredTyper(no_args_is_help=True, pretty_exceptions_enable=False)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

Rollout = Annotated[
    str, typer.Argument(metavar="PRODUCT[@CHANNEL]", help="Whose rollout; the channel is stable.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
SiteOption = Annotated[
    str | None, typer.Option("--site", metavar="NAME", help="Count this site's hosts alone.")
]


@app.callback()
def rollout() -> None:
    """See how releases reach the fleet, and why a host has one or not.

    It asks a console by its API, with a token of scope read.
    """


@app.command(name="list")
def list_rollouts(
    console: ConsoleOption = None,
    token_file: TokenFileOption = None,
    ca_file: CaFileOption = None,
    site: SiteOption = None,
    under_way: Annotated[
        bool, typer.Option("--under-way", help="Leave the complete ones out.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """List the rollouts, one for each channel.

    Example: fleetward rollout list --console https://console.example --token-file token
    """
    state = "open" if under_way else None
    with ConsoleApi(console, token_file, ca_file) as api:
        found = list(api.every("rollouts", site=site, state=state))
    if json:
        print_json("fleetward.rollouts/1", {"rollouts": found})
    else:
        show_rollouts(found)


@app.command()
def show(
    name: Rollout,
    console: ConsoleOption = None,
    token_file: TokenFileOption = None,
    ca_file: CaFileOption = None,
    site: SiteOption = None,
    json: JsonOption = False,
) -> None:
    """Show one rollout: its waves, and what the hosts in each of them did.

    Example: fleetward rollout show yara@canary --console https://console.example --token-file token
    """
    path = _path(name)
    with ConsoleApi(console, token_file, ca_file) as api:
        found = api.get(path, site=site)
        hosts = list(_hosts_to_look_at(api, path, site))
    if json:
        print_json("fleetward.rollout/1", found | {"hosts": hosts})
    else:
        show_rollout(found, hosts)


def _hosts_to_look_at(api: ConsoleApi, path: str, site: str | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for standing in ("failed", "silent", "vanished"):
        found += api.every(f"{path}/hosts", standing=standing, site=site)
    return found


@app.command()
def explain(
    name: Rollout,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="ID", help="Its record, its own id (agent status), or its name."
        ),
    ],
    console: ConsoleOption = None,
    token_file: TokenFileOption = None,
    ca_file: CaFileOption = None,
    json: JsonOption = False,
) -> None:
    """Say why a host has the release that its channel points at, or does not.

    Example: fleetward rollout explain yara --host pc-17 --console https://console.example
    --token-file token
    """
    with ConsoleApi(console, token_file, ca_file) as api:
        found = api.get(f"{_path(name)}/explain", host=host)
    if json:
        print_json("fleetward.rollout-explanation/1", found)
    else:
        show_explanation(found)


def _path(name: str) -> str:
    product, at, channel = name.partition("@")
    channel = channel if at else "stable"
    if not (_NAME.fullmatch(product) and _NAME.fullmatch(channel)):
        raise UsageError(f"{name!r} is no PRODUCT[@CHANNEL], as yara or yara@canary")
    return f"rollouts/{quote(product)}/{quote(channel)}"
