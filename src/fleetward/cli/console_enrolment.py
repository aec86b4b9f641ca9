"""`fleetward console enrol-token …`: tokens that enrol hosts, made and ended on the console's machine.

A token leaves the console as a file alone, readable by its owner alone, and never as a line on a
terminal: it is a secret, and terminals are logged. Each file that is written is in the audit log.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Disk, Kind, SystemDisk
from fleetward.cli.console_options import Config, Db, State, start
from fleetward.cli.output import people, print_json, remarks
from fleetward.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    from fleetward.console.fleet.models import EnrolmentToken, Host
    from fleetward.console.fleet.tokens import TokenWish
    from fleetward.console.organisation.models import Site

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

TokenFile = Annotated[
    Path,
    typer.Option("--token-file", metavar="F", help="A new file for the token, mode 0600."),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="How hosts reach the console, where no setting says."
    ),
]
Name = Annotated[str, typer.Argument(metavar="TOKEN", help="Its name, as `list` shows it.")]


@app.command()
def create(
    token_file: TokenFile,
    db: Db = None,
    config: Config = None,
    state: State = None,
    url: Url = None,
    note: Annotated[str, typer.Option("--note", help="What it is for.")] = "",
    site: Annotated[
        str | None, typer.Option("--site", metavar="NAME", help="Where its hosts belong.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="What its hosts are tagged with; repeatable.")
    ] = None,
    record: Annotated[
        str | None,
        typer.Option("--record", metavar="ID", help="Bring this record's host back, once."),
    ] = None,
    uses: Annotated[int, typer.Option("--uses", metavar="N", help="How many hosts.")] = 1,
    hours: Annotated[int, typer.Option("--hours", metavar="N", help="How long it is good.")] = 24,
    approval: Annotated[
        bool, typer.Option("--approval", help="A person decides about each host.")
    ] = False,
) -> None:
    """Make a token, and write the file that enrols hosts with it.

    Example: fleetward console enrol-token create --token-file berlin.json --site berlin --uses 200
    --hours 72 --db sqlite:///console.db --url https://console.example
    """
    disk = SystemDisk()
    _require_new(disk, token_file)
    start(config, db, state, url=url)
    from fleetward.console.fleet.tokens import TokenWish  # noqa: PLC0415 (Django is set up only now)

    wish = TokenWish(
        note=note,
        site=_site(site) if site else None,
        tags=tuple(tag or ()),
        host=_host(record) if record else None,
        uses=uses,
        needs_approval=approval,
        lifetime=_hours(hours),
    )
    made, console = _make(disk, token_file, wish)
    words = (
        f"token {made.token} enrols {made.uses} host{'' if made.uses == 1 else 's'} at {console} "
        f"until {_instant(made.expires)}; {token_file} is a secret"
    )
    remarks.print(Text(words), soft_wrap=True)


def _hours(hours: int) -> timedelta:
    # A timedelta of more than a billion days does not exist; what is too long is refused below.
    return timedelta(hours=max(0, min(hours, 1_000_000)))


def _make(disk: Disk, file: Path, wish: "TokenWish") -> "tuple[EnrolmentToken, str]":
    """Make a token and its file, both or none; return the token and the console that it names."""
    from django.db import transaction  # noqa: PLC0415 (Django is set up only now)

    from fleetward.console.audit.chain import SYSTEM  # noqa: PLC0415 (see above)
    from fleetward.console.fleet.keys import console_keys, pins  # noqa: PLC0415 (see above)
    from fleetward.console.fleet.tokens import make_token, token_file  # noqa: PLC0415 (see above)

    keys = console_keys(disk)[0]
    console = pins(keys).console
    with transaction.atomic():
        made = make_token(SYSTEM, wish)
        _write(disk, file, token_file(SYSTEM, made, keys))
    return made, console


def _site(name: str) -> "Site":
    from fleetward.console.organisation.models import Site  # noqa: PLC0415 (see above)

    row = Site.objects.filter(name=name).first()
    if row is None:
        known = ", ".join(Site.objects.values_list("name", flat=True)[:20]) or "none"
        raise UsageError(f"there is no site {name!r}; the sites are: {known}")
    return row


def _host(record: str) -> "Host":
    from fleetward.console.fleet.models import Host  # noqa: PLC0415 (see above)

    row = Host.objects.filter(record=record).first()
    if row is None:
        raise UsageError(f"there is no record {record!r}: its host's page shows the id")
    return row


@app.command(name="file")
def write_again(
    token: Name,
    token_file: TokenFile,
    db: Db = None,
    config: Config = None,
    state: State = None,
    url: Url = None,
) -> None:
    """Write a token's file once more, while the token is good.

    Example: fleetward console enrol-token file 0f3a9c7be2d14568 --token-file berlin.json
    --db sqlite:///console.db
    """
    disk = SystemDisk()
    _require_new(disk, token_file)
    start(config, db, state, url=url)
    from django.db import transaction  # noqa: PLC0415 (Django is set up only now)

    from fleetward.console.audit.chain import SYSTEM  # noqa: PLC0415 (see above)
    from fleetward.console.fleet.keys import console_keys  # noqa: PLC0415 (see above)
    from fleetward.console.fleet.tokens import token_file as content_of  # noqa: PLC0415 (see above)

    row, keys = _one(token), console_keys(disk)[0]
    with transaction.atomic():
        _write(disk, token_file, content_of(SYSTEM, row, keys))
    remarks.print(Text(f"{token_file} is a secret"), soft_wrap=True)


@app.command(name="list")
def list_tokens(
    db: Db = None,
    config: Config = None,
    state: State = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also those that are used up, expired or ended.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List the tokens that still enrol hosts, the newest first; never their secrets.

    Example: fleetward console enrol-token list --db sqlite:///console.db
    """
    start(config, db, state)
    from fleetward.console.fleet.models import EnrolmentToken  # noqa: PLC0415 (Django is set up only now)

    rows = EnrolmentToken.objects.select_related("site", "host").prefetch_related("tags")
    found = [_fields(row) for row in rows.order_by("-id")]
    shown = [each for each in found if every or each["standing"] == "good"]
    if as_json:
        print_json("fleetward.enrolment-tokens/1", {"tokens": shown})
    elif not shown:
        people.print(
            "there is no token" if every else "no token is good now; --all shows the others"
        )
    else:
        people.print(_table(shown))


def _fields(row: "EnrolmentToken") -> dict[str, Any]:
    from fleetward.console.fleet.tokens import described  # noqa: PLC0415 (Django is set up)

    return {
        "token": row.token,
        **described(row),
        "used": row.used,
        "created": row.created.isoformat(),
        "created_by": row.created_by,
        "standing": _standing(row),
    }


def _standing(row: "EnrolmentToken") -> str:
    from fleetward.console.fleet.tokens import is_good  # noqa: PLC0415 (Django is set up)
    from fleetward.console.wiring import wired  # noqa: PLC0415 (see above)

    now = wired().clock.now()
    if is_good(row, now):
        return "good"
    if row.revoked is not None:
        return "ended"
    return "expired" if now >= row.expires else "used up"


def _table(rows: Iterable[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("token", "for", "site", "tags", "record", "used", "approval", "until", "standing"):
        table.add_column(name, overflow="fold")
    for row in rows:
        cells = (
            row["token"],
            row["note"] or "-",
            row["site"] or "-",
            " ".join(row["tags"]) or "-",
            row["record"] or "-",
            f"{row['used']:,} of {row['uses']:,}",
            "yes" if row["approval"] else "no",
            _instant(datetime.fromisoformat(row["expires"])),
            row["standing"],
        )
        table.add_row(
            *(Text("".join(c if c.isprintable() else "?" for c in cell)) for cell in cells)
        )
    return table


@app.command()
def revoke(token: Name, db: Db = None, config: Config = None, state: State = None) -> None:
    """End a token; hosts that it enrolled stay.

    Example: fleetward console enrol-token revoke 0f3a9c7be2d14568 --db sqlite:///console.db
    """
    start(config, db, state)
    from fleetward.console.audit.chain import SYSTEM  # noqa: PLC0415 (Django is set up only now)
    from fleetward.console.fleet.tokens import revoke_token  # noqa: PLC0415 (see above)

    row = _one(token)
    if row.revoked is None:
        revoke_token(SYSTEM, row)
    remarks.print(f"token {row.token} is ended")


def _one(name: str) -> "EnrolmentToken":
    from fleetward.console.fleet.models import EnrolmentToken  # noqa: PLC0415 (see above)

    row = EnrolmentToken.objects.filter(token=name).first()
    if row is None:
        raise UsageError(
            f"there is no token {name!r}: see `fleetward console enrol-token list --all`"
        )
    return row


def _require_new(disk: Disk, file: Path) -> None:
    """Refuse a file that is there: it may hold another token that somebody still needs."""
    if disk.kind(file.absolute()) is not Kind.ABSENT:
        raise ConfigurationError(f"{file} is there already: name a new file")
    if disk.kind(file.absolute().parent) is not Kind.FOLDER:
        raise ConfigurationError(f"there is no folder {file.absolute().parent}: make it first")


def _write(disk: Disk, file: Path, content: bytes) -> None:
    write_file(disk, file.absolute(), content, private=True)


def _instant(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
