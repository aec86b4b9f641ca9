"""`fleetward agent …`: keep a host's content current and verified."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from fleetward.adapters.clock import SystemClock
from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.entropy import SystemEntropy
from fleetward.agent import reporting
from fleetward.agent.following import ProductReport
from fleetward.agent.home import Home
from fleetward.agent.updating import UpdateReport
from fleetward.agent.verifying import Verified
from fleetward.agent.wiring import (
    create_agent,
    http_session,
    learn_consoles,
    open_agent,
    status_of,
    verify_all,
)
from fleetward.cli.agent_leave import leave
from fleetward.cli.configured import ConfiguredTyper
from fleetward.cli.output import byte_bars, people, print_json, remarks
from fleetward.config.agent import (
    AgentSettings,
    NetworkSettings,
    load_agent_settings,
    parse_subscription,
    save_agent_settings,
)
from fleetward.core.names import parse_product
from fleetward.errors import ConfigurationError, FleetwardError

app = ConfiguredTyper(no_args_is_help=True, pretty_exceptions_enable=False)

HomeArgument = Annotated[Path, typer.Argument(metavar="HOME", help="The agent's folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def _home(path: Path) -> Home:
    return Home(SystemDisk(), path.absolute())


@app.command()
def init(
    home: HomeArgument,
    root: Annotated[
        Path, typer.Option("--root", metavar="ROOT.json", help="The trust anchor, 1.root.json.")
    ],
    source: Annotated[
        list[str],
        typer.Option("--source", metavar="URL", help="A relay or origin, the preferred first."),
    ],
    subscribe: Annotated[
        list[str],
        typer.Option(
            "--subscribe",
            metavar="PRODUCT[@CHANNEL]=DIR",
            help="A product and its folder; readers open DIR/current.",
        ),
    ],
    ring: Annotated[
        list[str] | None, typer.Option("--ring", help="A ring of rollouts that this host is in.")
    ] = None,
    proxy: Annotated[str | None, typer.Option("--proxy", help="An HTTP proxy.")] = None,
    ca_bundle: Annotated[
        Path | None, typer.Option("--ca-bundle", help="Trust these authorities (PEM).")
    ] = None,
) -> None:
    """Make an agent's folder and take the trust anchor.

    Example: fleetward agent init /var/lib/fleetward --root 1.root.json
    --source http://relay.site.example:2967 --subscribe yara=/srv/yara
    """
    settings = AgentSettings(
        sources=tuple(url.rstrip("/") for url in source),
        subscriptions=tuple(parse_subscription(text) for text in subscribe),
        rings=tuple(ring or ()),
        network=NetworkSettings(proxy=proxy, ca_bundle=_readable(ca_bundle) if ca_bundle else None),
    )
    create_agent(_home(home), settings, _read_root(root), SystemEntropy())
    remarks.print(f"made {home}; now run: fleetward agent update {home}", soft_wrap=True)


def _readable(bundle: Path) -> Path:
    if not bundle.is_file():
        raise ConfigurationError(f"there is no CA bundle {bundle}: give a PEM file")
    return bundle.absolute()


def _read_root(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the trust anchor {path}: {error.strerror}; take metadata/1.root.json "
            "from the origin, by a way that you trust"
        ) from error


@app.command()
def subscribe(
    home: HomeArgument,
    subscription: Annotated[str, typer.Argument(metavar="PRODUCT[@CHANNEL]=DIR")],
) -> None:
    """Add a product, or move one to another channel or folder.

    Example: fleetward agent subscribe /var/lib/fleetward suricata@canary=/srv/suricata
    """
    agent_home = _home(home)
    wanted = parse_subscription(subscription)
    with agent_home.lock():
        settings = load_agent_settings(agent_home.disk, agent_home.path)
        others = tuple(s for s in settings.subscriptions if s.product != wanted.product)
        changed = settings.having(subscriptions=(*others, wanted))
        save_agent_settings(agent_home.disk, agent_home.path, changed)


@app.command()
def unsubscribe(
    home: HomeArgument, product: Annotated[str, typer.Argument(metavar="PRODUCT")]
) -> None:
    """Stop following a product; what is installed stays where it is.

    Example: fleetward agent unsubscribe /var/lib/fleetward suricata
    """
    agent_home = _home(home)
    with agent_home.lock():
        settings = load_agent_settings(agent_home.disk, agent_home.path)
        gone = settings.subscription(parse_product(product))
        kept = tuple(s for s in settings.subscriptions if s is not gone)
        save_agent_settings(agent_home.disk, agent_home.path, settings.having(subscriptions=kept))


@app.command()
def update(
    home: HomeArgument,
    repair: Annotated[
        bool, typer.Option("--repair", help="Install again what has drifted from its signed tree.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check once, and install what the signed documents say.

    Exits 0 also where nothing is new; 10 where something was refused, 11 where no source could be
    reached, 14 where preflight rejected a release, 15 where the host rolled back.

    Example: fleetward agent update /var/lib/fleetward --json
    """
    agent_home = _home(home)
    with byte_bars() as bars:
        report = open_agent(agent_home, bars).update(repair=repair)
    _tell_console(agent_home)
    if json:
        print_json("fleetward.update/1", reporting.update_document(report))
    else:
        _show_update(report)
    raise typer.Exit(report.exit_code)


def _tell_console(home: Home) -> None:
    """Report what the run did, where a console is known; a console that is away changes nothing."""
    if not home.is_enrolled:
        return
    from fleetward.agent.acting import report  # noqa: PLC0415 (keys, where there is a console)
    from fleetward.agent.portwatch import ports_summary  # noqa: PLC0415 (the same)

    try:
        problem = report(home, SystemClock(), SystemEntropy(), ports_summary(home)).error
    except FleetwardError as error:
        problem = str(error)
    if problem:
        remarks.print(f"note: no report to the console: {escape(problem)}", soft_wrap=True)


def _show_update(report: UpdateReport) -> None:
    if report.error:
        remarks.print(f"[red]no metadata:[/red] {escape(str(report.error))}", soft_wrap=True)
    if report.check.frozen:
        remarks.print("[yellow]frozen:[/yellow] every source gives old metadata only")
    for remark in report.check.remarks:
        remarks.print(f"note: {escape(remark)}", soft_wrap=True)
    for product in report.products:
        people.print(escape(_line(product)), soft_wrap=True)


def _line(product: ProductReport) -> str:
    record = product.record
    runs = record.current.release if record.current else "nothing"
    how = f" by {'+'.join(product.means)}, {product.blob_bytes:,} bytes" if product.means else ""
    reason = f" ({product.reason})" if product.reason else ""
    return f"{record.product}@{record.channel}: {product.outcome.value}, runs {runs}{how}{reason}"


@app.command()
def run(home: HomeArgument) -> None:
    """Check for ever, with jitter and back-off; end it with SIGTERM.

    Example: fleetward agent run /var/lib/fleetward
    """
    load_agent_settings(SystemDisk(), home.absolute())
    # A fresh interpreter: what parsed this command line is not kept in memory for years.
    command = [sys.executable, "-m", "fleetward.cli.agentd", str(home.absolute())]
    os.execv(sys.executable, command)  # noqa: S606 (this program, by its own interpreter)


@app.command()
def status(home: HomeArgument, json: JsonOption = False) -> None:
    """Say what this host runs, without the network.

    Example: fleetward agent status /var/lib/fleetward --json
    """
    document = status_of(_home(home))
    if json:
        print_json("fleetward.status/1", document)
        return
    table = Table(title=f"host {document['host'][:16]}, {document['freshness'] or 'never checked'}")
    for column in ("product", "channel", "release", "seq", "state", "previous", "reason"):
        table.add_column(column)
    for product in document["products"]:
        table.add_row(*(str(product[c] if product[c] is not None else "") for c in _COLUMNS))
    people.print(table)
    if sensor := document["sensor"]:
        where = ", ".join(sensor["listening"]) or f"nowhere: {sensor['problem'] or 'not running'}"
        people.print(escape(f"sensor: {sensor['seen']:,} heard on {where}"), soft_wrap=True)


_COLUMNS = ("product", "channel", "release", "seq", "state", "previous", "reason")


@app.command()
def verify(home: HomeArgument, json: JsonOption = False) -> None:
    """Compare the installed trees with the signed ones; exit 1 where one has drifted.

    Example: fleetward agent verify /var/lib/fleetward
    """
    host, found = verify_all(_home(home))
    if json:
        print_json("fleetward.verify/1", reporting.verify_document(host, found))
    else:
        for product in found:
            _show_verified(product)
    raise typer.Exit(0 if all(product.intact for product in found) else 1)


def _show_verified(product: Verified) -> None:
    name = product.record.product
    if product.intact:
        people.print(f"{name}: intact{f' ({product.reason})' if product.reason else ''}")
        return
    people.print(f"[red]{name}: has drifted[/red] {escape(product.reason or '')}", soft_wrap=True)
    for difference in product.differences:
        people.print(f"  {difference.kind:8} {difference.path}", soft_wrap=True, markup=False)
    people.print("  to repair it: fleetward agent update HOME --repair")


@app.command()
def rollback(
    home: HomeArgument, product: Annotated[str, typer.Argument(metavar="PRODUCT")]
) -> None:
    """Go back to the previous release, without the network.

    The release that is left is not taken again; the next one of the channel is.

    Example: fleetward agent rollback /var/lib/fleetward yara
    """
    record = open_agent(_home(home)).roll_back(parse_product(product))
    runs = record.current.release if record.current else "nothing"
    people.print(f"{record.product}: {record.state.value}, runs {runs}")


@app.command()
def enroll(
    home: HomeArgument,
    token_file: Annotated[
        Path, typer.Option("--token-file", metavar="F", help="From the console; it is a secret.")
    ],
    console: Annotated[
        str | None,
        typer.Option("--console", metavar="URL", help="Another way to the console of the file."),
    ] = None,
) -> None:
    """Make this host known to a console; its token is never sent.

    Refused where the fleet keys have signed another console than the token file names (exit 10).
    Exits 0 also where a person has yet to approve; `agent run` goes on asking.

    Example: fleetward agent enroll /var/lib/fleetward --console https://console.example
    --token-file token.json
    """
    from fleetward.agent.acting import host_facts  # noqa: PLC0415 (a check is not to pay for it)
    from fleetward.agent.enrolling import enrol, read_token_file  # noqa: PLC0415 (the same)
    from fleetward.core.enrolment import Standing  # noqa: PLC0415 (the same)

    agent_home = _home(home)
    agent_home.require()
    file = read_token_file(_read_secret(token_file), console)
    settings = load_agent_settings(agent_home.disk, agent_home.path)
    with agent_home.lock():
        unread = learn_consoles(agent_home)
        enrolled = enrol(
            agent_home,
            file,
            settings.sources,
            host_facts(),
            session=http_session(settings.network, SystemClock()),
            clock=SystemClock(),
            entropy=SystemEntropy(),
        )
    if unread:
        note = "whom the fleet keys name as the console is not known yet"
        remarks.print(f"note: {note}: {escape(unread)}", soft_wrap=True)
    if enrolled.standing is Standing.REFUSED:
        raise ConfigurationError(f"the console refuses this host: {enrolled.reason}")
    waits = enrolled.standing is Standing.PENDING
    what = "a person has yet to approve it" if waits else f"record {enrolled.record}"
    remarks.print(f"enrolled at {file.pins.console}: {what}", soft_wrap=True)


def _read_secret(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the token file {path}: {error.strerror}; take it from the console"
        ) from error


app.command("leave")(leave)
