"""`fleetward origin relays` and `console`: where hosts ask, and whom they believe."""

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
from fleetward.core.consoles import Consoles
from fleetward.core.fleet import Relays
from fleetward.errors import UsageError
from fleetward.origin.consoles import (
    composed,
    live_consoles,
    read_consoles,
    read_pairs,
    set_consoles,
    standing_consoles,
)
from fleetward.origin.fleet import live_relays, read_relays, set_relays
from fleetward.origin.products import Change
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
    _say_change(f"the list of relays has {len(listed.sites)} sites", change, json)


def _say_change(did: str, change: Change, json: bool) -> None:
    if json:
        document = {"changed": change.changed, **outcome_document(change.outcome)}
        print_json("fleetward.change/1", document)
        return
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


def console(
    repo: Repo,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="TOML, or JSON as --show --json prints it."),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option("--keys", metavar="DIR", help="The folder of signing keys.")
    ] = None,
    pins: Annotated[
        list[Path] | None,
        typer.Option("--pins", metavar="FILE", help="What `console keys --json` printed."),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print what is live.")] = False,
    passphrase_file: PassphraseFile = None,
    wait: Wait = WAIT,
    json: Json = False,
) -> None:
    """Sign whom hosts believe as their console, who approves rollouts, how old offline sites may be.

    The fleet keys sign it (2 of 3); what lacks a signature, or the online keys, is left pending.
    --pins, given once for each console, replaces the keys and leaves the rest as it is signed. Hosts
    seal to the first pair and believe what any of them signs.

    Example: fleetward origin console /srv/repo --pins console-keys.json --keys /root/keys
    """
    if show:
        _show_consoles(live_consoles(workshop_at(repo, keyring_at(repo / ".no-keys", None))), json)
        return
    if keys is None or (file is None and not pins):
        raise UsageError("give FILE or --pins, and --keys to sign; or --show to see what is live")
    shop, disk = workshop_at(repo, keyring_at(keys, passphrase_file), wait), SystemDisk()
    written = read_consoles(disk, file.absolute()) if file else None
    pairs = read_pairs(disk, [path.absolute() for path in pins or ()])
    consoles = composed(standing_consoles(shop), written, pairs)
    did = f"hosts are to believe {_counted(len(consoles.keys), 'console key')}"
    _say_change(did, set_consoles(shop, consoles), json)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _show_consoles(signed: Consoles | None, json: bool) -> None:
    if json:
        print_json("fleetward.console/1", signed or {"keys": [], "approvers": [], "offline": []})
    elif signed is None:
        say(["no console is signed: hosts believe the one of their token file"])
    else:
        say(_console_lines(signed))


def _console_lines(signed: Consoles) -> list[str]:
    pairs = [
        f"{pair.name}: {pair.id} at {pair.url or 'the URL of each token file'}"
        for pair in signed.keys
    ]
    approvers = ", ".join(approver.name for approver in signed.approvers)
    offline = [
        f"offline site {one.site}: a timestamp may be {one.max_age:,} s old"
        for one in signed.offline
    ]
    return [*pairs, f"approvers: {approvers or 'none'}", *offline]
