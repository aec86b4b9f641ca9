"""What every command of `fleetward console` takes: where its database, settings and keys are."""

from pathlib import Path
from typing import Annotated

import typer

from fleetward.adapters.disk import SystemDisk
from fleetward.config.console import ConsoleFileSettings, load_console_settings
from fleetward.console.starting import start_django
from fleetward.console.wiring import Wiring

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings in TOML; flags win.")
]
Db = Annotated[
    str | None,
    typer.Option("--db", metavar="URL", help="sqlite:///FILE or postgresql://HOST/NAME."),
]
State = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="For the secret key; SQLite's folder otherwise."),
]


def settings_of(config: Path | None, **flags: object) -> ConsoleFileSettings:
    """Return the settings of a file, with the flags that were given in place of its own.

    Raises:
        ConfigurationError: the file cannot be read, or a setting is wrong.
    """
    chosen = load_console_settings(SystemDisk(), config) if config else ConsoleFileSettings()
    return chosen.having(**{name: value for name, value in flags.items() if value is not None})


def start(
    config: Path | None, db: str | None, state: Path | None, *, url: str | None = None
) -> None:
    """Set Django up on the database that the flags or the settings name.

    Raises as `settings_of` and `start_django`.
    """
    settings = settings_of(config, db=db, state=state, url=url)
    start_django(SystemDisk(), Wiring(settings=settings))
