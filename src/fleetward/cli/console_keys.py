"""`fleetward console keys`: the public keys for the fleet keys to sign, and their rotation."""

from pathlib import Path
from typing import Annotated

import typer

from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.entropy import SystemEntropy
from fleetward.cli.output import people, print_json
from fleetward.config.console import ConsoleFileSettings, load_console_settings
from fleetward.console.starting import start_django
from fleetward.console.wiring import Wiring
from fleetward.errors import UsageError
from fleetward.wire.consolekeys import CONSOLE_KEYS_SCHEMA, ConsoleKeysFile


def keys(
    db: Annotated[
        str | None,
        typer.Option("--db", metavar="URL", help="sqlite:///FILE or postgresql://HOST/NAME."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings in TOML; flags win.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="The folder of the keys.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Where hosts reach this console.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="What people call it.")] = "console",
    prepare: Annotated[bool, typer.Option("--prepare", help="Make the next pair.")] = False,
    switch: Annotated[bool, typer.Option("--switch", help="Put the next pair in place.")] = False,
    retire: Annotated[bool, typer.Option("--retire", help="Remove the previous pair.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Print this console's public keys, for `fleetward origin console --pins` to sign.

    Example: fleetward console keys --db sqlite:///console.db --json > console-keys.json
    """
    steps = [
        word
        for word, is_asked in (("prepare", prepare), ("switch", switch), ("retire", retire))
        if is_asked
    ]
    if len(steps) > 1:
        raise UsageError("one step at a time: --prepare, --switch or --retire")
    flags = {"db": db, "state": state, "url": url}
    disk = SystemDisk()
    chosen = load_console_settings(disk, config) if config else ConsoleFileSettings()
    settings = chosen.having(**{key: value for key, value in flags.items() if value is not None})
    folder, entropy = start_django(disk, Wiring(settings=settings)), SystemEntropy()
    from fleetward.console.audit.chain import SYSTEM  # noqa: PLC0415 (Django is set up only now)
    from fleetward.console.fleet.rotation import (  # noqa: PLC0415 (see above)
        Step,
        public_pairs,
        take_step,
    )

    done = [take_step(disk, folder, entropy, SYSTEM, Step(step)) for step in steps]
    found = public_pairs(disk, folder, entropy, name, settings.url)
    if json:
        print_json(CONSOLE_KEYS_SCHEMA, found)
        return
    for line in (*_lines(found), *done):
        people.print(line, markup=False, soft_wrap=True)


def _lines(found: ConsoleKeysFile) -> list[str]:
    return [f"{pair.name}: {pair.id} at {pair.url or 'no URL (--url)'}" for pair in found.keys]
