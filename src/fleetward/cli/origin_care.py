"""The commands of `fleetward origin` that keep a repository: serve, steward, doctor, gc, copies."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.table import Table

from fleetward.adapters.clock import SystemClock
from fleetward.adapters.disk import SystemDisk
from fleetward.cli.listening import parse_listen, print_listening
from fleetward.cli.origin_wiring import (
    WAIT,
    Json,
    Keys,
    PassphraseFile,
    Repo,
    Wait,
    keyring_at,
    repository_at,
    say,
    step_bars,
    workshop_at,
)
from fleetward.cli.output import people, print_json, remarks
from fleetward.errors import ConfigurationError, FleetwardError
from fleetward.httpd import loops
from fleetward.origin import doctor as examination
from fleetward.origin.collect import GRACE
from fleetward.origin.collect import collect as collect_orphans
from fleetward.origin.reporting import round_document, round_sentences
from fleetward.origin.serving import serve_repository
from fleetward.origin.steward import Round, steward_once
from fleetward.origin.steward import steward as steward_until
from fleetward.origin.transfer import Carried, export_closure, import_closure

_DAY = timedelta(days=1).total_seconds()


def serve(
    repo: Repo,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Port 0 takes a free one.")
    ],
    announce: Annotated[
        list[str] | None,
        typer.Option(
            "--announce", metavar="HOST:PORT", help="Send each new timestamp there by UDP too."
        ),
    ] = None,
) -> None:
    """Serve the repository over HTTP until SIGTERM; holds no key and writes nothing.

    Example: fleetward origin serve /srv/repo --listen 0.0.0.0:8080
    """
    address = parse_listen(listen)
    loops.raise_descriptor_limit()
    told = [parse_listen(one) for one in announce or ()]
    loops.run(serve_repository(SystemDisk(), repo.absolute(), address, print_listening, told))


def steward(
    repo: Repo,
    keys: Keys,
    once: Annotated[bool, typer.Option("--once", help="One round, then end.")] = False,
    passphrase_file: PassphraseFile = None,
    wait: Wait = WAIT,
    json: Json = False,
) -> None:
    """Renew online metadata and finish what is pending, until SIGTERM.

    KEYS holds `online` alone: it refuses to start where it can read offline keys.

    Example: fleetward origin steward /srv/repo --keys /etc/fleetward/online-keys
    """
    shop = workshop_at(repo, keyring_at(keys, passphrase_file), wait)
    if once:
        _say_round(steward_once(shop), json)
        return
    ended: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        ended.append(number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    steward_until(shop, lambda: bool(ended), _remark)


def _say_round(done: Round, json: bool) -> None:
    if json:
        print_json("fleetward.steward/1", round_document(done))
    else:
        say(round_sentences(done))


def _remark(done: Round | FleetwardError) -> None:
    lines = [f"error: {done}"] if isinstance(done, FleetwardError) else round_sentences(done)
    for line in lines:
        stamp = f"{SystemClock().now():%Y-%m-%dT%H:%M:%SZ}"
        remarks.print(f"{stamp} {line}", markup=False, soft_wrap=True)


def doctor(
    repo: Repo,
    keys: Annotated[
        Path | None, typer.Option("--keys", metavar="DIR", help="Look at the keys too.")
    ] = None,
    json: Json = False,
) -> None:
    """Look for what is wrong, or soon will be; exits 1 where there are findings.

    Example: fleetward origin doctor /srv/repo --json
    """
    ring = keyring_at(keys, None) if keys else None
    with step_bars() as bars:
        findings = examination.examine(repository_at(repo), ring, SystemClock(), bars)
    if json:
        print_json(
            examination.SCHEMA,
            {"ok": not findings, "findings": [_finding_document(f) for f in findings]},
        )
    elif not findings:
        say(["no findings"])
    else:
        _show_findings(findings)
    raise typer.Exit(1 if findings else 0)


def _finding_document(finding: examination.Finding) -> dict[str, Any]:
    return {
        "id": finding.id,
        "severity": finding.severity,
        "sentence": finding.sentence,
        "next_step": finding.next_step,
    }


def _show_findings(findings: list[examination.Finding]) -> None:
    if not people.is_terminal:
        say(f"{f.severity}: {f.sentence}; {f.next_step} [{f.id}]" for f in findings)
        return
    table = Table("", "finding", "next step")
    for finding in findings:
        colour = "red" if finding.severity == "critical" else "yellow"
        table.add_row(f"[{colour}]{finding.severity}[/]", finding.sentence, finding.next_step)
    people.print(table)


def gc(
    repo: Repo,
    grace_days: Annotated[
        float,
        typer.Option("--grace-days", min=0, help="How long a file is kept that nothing names."),
    ] = GRACE.total_seconds() / _DAY,
    wait: Wait = WAIT,
    json: Json = False,
) -> None:
    """Remove files that nothing has named for a while; needs no keys.

    The first run notes them, a run after the grace removes them: run it every day.

    Example: fleetward origin gc /srv/repo
    """
    shop = workshop_at(repo, keyring_at(repo / ".no-keys", None), wait)
    done = collect_orphans(shop, timedelta(days=grace_days))
    if json:
        document = {"removed": done.removed, "bytes": done.bytes_freed, "waiting": done.waiting}
        print_json("fleetward.gc/1", document)
        return
    removed = f"removed {len(done.removed)} files, {done.bytes_freed:,} bytes"
    waiting = f"{len(done.waiting)} more wait until nothing has named them for {grace_days:g} days"
    say([removed, waiting])


def export_command(
    repo: Repo,
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="A folder, new or of before.")],
    json: Json = False,
) -> None:
    """Copy what is live into a folder, to carry it or to serve it elsewhere.

    Example: fleetward origin export /srv/repo /media/stick/repo
    """
    with step_bars() as bars:
        done = export_closure(repository_at(repo), repository_at(dest), bars)
    _say_carried(done, json)


def import_command(
    repo: Repo,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="What was exported.")],
    root: Annotated[
        Path | None,
        typer.Option("--root", metavar="ROOT.json", help="The trust anchor, at the first import."),
    ] = None,
    json: Json = False,
) -> None:
    """Verify what was carried here and add it to this site's folder.

    Example: fleetward origin import /srv/repo /media/stick/repo --root 1.root.json
    """
    with step_bars() as bars:
        done = import_closure(repository_at(source), repository_at(repo), _read_root(root), bars)
    _say_carried(done, json)


def _read_root(root: Path | None) -> bytes | None:
    try:
        return SystemDisk().read(root.absolute()) if root else None
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no {root}") from error


def _say_carried(done: Carried, json: bool) -> None:
    if json:
        document = {"timestamp": done.timestamp, "files": done.files, "bytes": done.length}
        print_json("fleetward.transfer/1", document)
    else:
        say([f"timestamp {done.timestamp}: {done.files} files added, {done.length:,} bytes"])


@dataclass(frozen=True, slots=True)
class Command:
    """A command and its name."""

    name: str
    function: Callable[..., None]


COMMANDS = (
    Command("serve", serve),
    Command("steward", steward),
    Command("doctor", doctor),
    Command("gc", gc),
    Command("export", export_command),
    Command("import", import_command),
)
