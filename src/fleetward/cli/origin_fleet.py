"""`fleetward origin relays`: the signed list by which hosts find a relay."""

from pathlib import Path
from typing import Annotated

import typer

from fleetward.adapters.disk import SystemDisk
from fleetward.cli.origin_wiring import (
    WAIT,
    Json,
    PassphraseFile,
    Repo,
    Wait,
    keyring_at,
    say,
    say_outcome,
    workshop_at,
)
from fleetward.cli.output import print_json
from fleetward.core.fleet import Relays
from fleetward.errors import UsageError
from fleetward.origin.fleet import live_relays, read_relays, set_relays
from fleetward.origin.reporting import outcome_document


def relays(
    repo: Repo,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="TOML, or JSON as --show --json prints it."),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option("--keys", metavar="DIR", help="The folder of signing keys.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the list that is live.")] = False,
    passphrase_file: PassphraseFile = None,
    wait: Wait = WAIT,
    json: Json = False,
) -> None:
    """Sign the list of relays by subnet, which hosts follow to the relay of their site.

    The fleet keys sign it (2 of 3); what lacks a signature, or the online keys, is left pending.

    Example: fleetward origin relays /srv/repo relays.toml --keys /root/keys
    """
    if show:
        _show(live_relays(workshop_at(repo, keyring_at(repo / ".no-keys", None), wait)), json)
        return
    if file is None or keys is None:
        raise UsageError("give FILE and --keys to sign a list, or --show to see the live one")
    shop = workshop_at(repo, keyring_at(keys, passphrase_file), wait)
    listed = read_relays(SystemDisk(), file.absolute())
    change = set_relays(shop, listed)
    if json:
        print_json(
            "fleetward.change/1", {"changed": change.changed, **outcome_document(change.outcome)}
        )
        return
    did = f"the list of relays has {len(listed.sites)} sites"
    say_outcome("", False, did if change.changed else f"{did} already", change.outcome)


def _show(listed: Relays | None, json: bool) -> None:
    if json:
        print_json("fleetward.relays/1", listed or Relays())
    elif listed is None:
        say(["no list of relays is signed"])
    else:
        say(_lines(listed))


def _lines(listed: Relays) -> list[str]:
    sites = [
        f"{site.name}: {', '.join(site.subnets)} -> {', '.join(site.relays)}"
        for site in listed.sites
    ]
    return [
        *sites,
        f"elsewhere -> {', '.join(listed.default) or 'no relay'}",
        f"origins: {', '.join(listed.origins) or 'none'}",
    ]
