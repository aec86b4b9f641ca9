"""`fleetward console …`: the place where people look."""

import getpass
import logging
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from fleetward.adapters.disk import SystemDisk
from fleetward.cli.console_enrolment import app as enrolment
from fleetward.cli.console_keys import keys
from fleetward.cli.console_options import Config, Db, State, settings_of, start
from fleetward.cli.listening import parse_listen, print_listening
from fleetward.cli.output import print_json
from fleetward.config.console import ConsoleFileSettings
from fleetward.config.strict import toml_text
from fleetward.console.backups import back_up
from fleetward.console.backups import restore as put_back
from fleetward.console.database import parse_database
from fleetward.console.keeping import state_folder
from fleetward.console.starting import collect_static_files, is_first_start, start_django
from fleetward.console.wiring import Wiring
from fleetward.errors import ConfigurationError, UsageError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
audit = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(audit, name="audit", help="The log of who did what.")
app.command("keys")(keys)
app.add_typer(enrolment, name="enrol-token", help="Tokens that enrol hosts, as files.")


@app.callback()
def console() -> None:
    """Show what every host runs; enrol, roll out, watch. It holds no release key."""


@app.command()
def run(
    db: Db = None,
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="HOST:PORT", help="Port 0 takes a free one.")
    ] = None,
    config: Config = None,
    state: State = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="How people reach the console.")
    ] = None,
) -> None:
    """Serve pages, API and check-ins; end it with SIGTERM.

    Example: fleetward console run --db sqlite:///console.db --listen 127.0.0.1:8443
    """
    from fleetward.console.serving import bind, serve  # noqa: PLC0415 (only `run` needs uvicorn)

    settings = settings_of(config, db=db, listen=listen, state=state, url=url)
    _log_to_stderr()
    host, port = parse_listen(settings.listen)
    bound = bind(host, port)
    shown = f"[{host}]" if ":" in host else host
    settings = replace(settings, listen=f"{shown}:{bound.getsockname()[1]}")
    with bound:
        start_django(SystemDisk(), Wiring(settings=settings))
        collect_static_files()
        from fleetward.console.asgi import application  # noqa: PLC0415 (Django is set up only now)

        nobody = is_first_start()
        serve(application(), settings, bound, lambda url: _announce(url, nobody=nobody))


def _log_to_stderr() -> None:
    """Log what an operator must act on; scans by strangers are answered, and not worth a line."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    for name in ("django.request", "axes"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("django.security").setLevel(logging.CRITICAL)


def _announce(url: str, *, nobody: bool) -> None:
    print_listening(url)
    if nobody:
        sys.stderr.write("nobody can log in yet: run `fleetward console createadmin NAME`\n")


@app.command()
def createadmin(
    name: Annotated[str, typer.Argument(help="The name to log in with.")],
    db: Db = None,
    config: Config = None,
    state: State = None,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", help="Read the password's line from there; - is stdin."),
    ] = None,
) -> None:
    """Add an administrator, or give one a new password.

    Example: fleetward console createadmin ada --db sqlite:///console.db
    """
    start(config, db, state)
    from fleetward.console.audit.chain import SYSTEM  # noqa: PLC0415 (Django is set up only now)
    from fleetward.console.organisation.people import add_administrator  # noqa: PLC0415 (see above)

    user = add_administrator(SYSTEM, name, _password(password_file))
    typer.echo(f"{user.username} may log in as an administrator")


def _password(file: Path | None) -> str:
    if file is not None:
        try:
            lines = sys.stdin.read() if str(file) == "-" else file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read {file}: {error}") from error
        return lines.partition("\n")[0].removesuffix("\r")
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on: give --password-file FILE (- is stdin)")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != first:
        raise UsageError("the two passwords differ")
    return first


@app.command()
def token(
    owner: Annotated[str, typer.Argument(help="Whose roles the token has.")],
    name: Annotated[str, typer.Option("--name", help="What it is for.")],
    scope: Annotated[
        list[str], typer.Option("--scope", help="read, operate, approve, audit, administer.")
    ],
    db: Db = None,
    config: Config = None,
    state: State = None,
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="How long it lives.")] = 90,
) -> None:
    """Make a token for the API, and print it this once.

    Example: fleetward console token ada --name backup --scope read --db sqlite:///console.db
    """
    start(config, db, state)
    from fleetward.console.audit.chain import SYSTEM  # noqa: PLC0415 (Django is set up only now)
    from fleetward.console.organisation.models import User  # noqa: PLC0415 (see above)
    from fleetward.console.organisation.tokens import issue_token, parse_scopes  # noqa: PLC0415 (see above)

    person = User.objects.filter(username=owner.lower(), is_active=True).first()
    if person is None:
        raise UsageError(f"there is no active user {owner!r}")
    made = issue_token(SYSTEM, person, name, parse_scopes(scope), timedelta(days=days))
    typer.echo(made.text)


@app.command()
def settings(config: Config = None) -> None:
    """Print all settings in force, as TOML.

    Example: fleetward console settings > console.toml
    """
    typer.echo(toml_text(settings_of(config)), nl=False)


@app.command()
def migrate(db: Db = None, config: Config = None, state: State = None) -> None:
    """Bring the database up to date; `run` does it by itself at its start."""
    start(config, db, state)


Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The backup.")]


@app.command()
def backup(folder: Folder, db: Db = None, config: Config = None, state: State = None) -> None:
    """Copy a console on SQLite, with its keys, into a new folder; it may run meanwhile.

    Example: fleetward console backup /backup/console-2026-11-24 --db sqlite:///console.db
    """
    database, keys = _sqlite(settings_of(config, db=db, state=state))
    back_up(SystemDisk(), database, keys, folder.absolute())
    typer.echo(f"{folder} holds the console and its keys: keep it as safe as the console")


@app.command()
def restore(folder: Folder, db: Db = None, config: Config = None, state: State = None) -> None:
    """Put a backup where a console is to begin from it, which must not run.

    Example: fleetward console restore /backup/console-2026-11-24 --db sqlite:///console.db
    """
    database, keys = _sqlite(settings_of(config, db=db, state=state))
    put_back(SystemDisk(), folder.absolute(), database, keys)
    typer.echo(f"restored to {database}; see that it holds: fleetward console audit verify")


def _sqlite(settings: ConsoleFileSettings) -> tuple[Path, Path]:
    if not settings.db:
        raise UsageError("name the database: --db sqlite:///console.db (or `db` in --config)")
    database = parse_database(settings.db)
    if database.file is None:
        raise ConfigurationError(
            "this is for SQLite: use pg_dump, and copy the console* files of --state beside it"
        )
    return database.file, state_folder(settings, database)


@audit.command()
def verify(
    db: Db = None,
    config: Config = None,
    state: State = None,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="N:DIGEST", help="What an earlier verify printed."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Walk the audit log's chain; exit 1 at the first entry that does not hold.

    Example: fleetward console audit verify --db sqlite:///console.db
    """
    start(config, db, state)
    from fleetward.console.audit.chain import verify_log  # noqa: PLC0415 (Django is set up only now)

    verdict = verify_log(_kept(head))
    if as_json:
        found = {"ok": not verdict.broken, "entries": verdict.entries, "head": verdict.head}
        print_json("fleetward.audit-verify/1", found | {"broken": verdict.broken})
    elif verdict.broken:
        typer.echo(f"broken: {verdict.broken}; {verdict.entries} entries before it hold")
    else:
        typer.echo(f"{verdict.entries} entries hold; head {verdict.entries}:{verdict.head}")
    if verdict.broken:
        raise typer.Exit(1)


def _kept(head: str | None) -> tuple[int, str] | None:
    if head is None:
        return None
    number, colon, digest = head.partition(":")
    if not (colon and number.isascii() and number.isdigit() and len(digest) == 64):
        raise UsageError(f"{head!r} is no N:DIGEST, as `audit verify` prints it")
    return int(number), digest
