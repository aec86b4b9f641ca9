"""What the commands of `fleetward origin` share: options, the passphrase, bars, the workshop."""

import os
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from fleetward.adapters.clock import SystemClock
from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.entropy import SystemEntropy
from fleetward.cli.output import people, print_json, remarks
from fleetward.errors import ConfigurationError, KeyUnavailableError
from fleetward.origin.finish import Outcome
from fleetward.origin.keyring import Keyring, no_passphrase
from fleetward.origin.reporting import outcome_document, waiting_sentences
from fleetward.origin.repository import Repository
from fleetward.origin.workshop import PATIENCE, Workshop
from fleetward.origin.workshop import Progress as Listener
from fleetward.trust.keys import Passphrase

PASSPHRASE_VARIABLE = "FLEETWARD_PASSPHRASE"  # noqa: S105 (a name, not a passphrase)

Repo = Annotated[Path, typer.Argument(metavar="REPO", help="The repository's folder.")]
Product = Annotated[str, typer.Argument(metavar="PRODUCT", help="What is distributed.")]
Keys = Annotated[Path, typer.Option("--keys", metavar="DIR", help="The folder of signing keys.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help=f"The keys' passphrase; else ${PASSPHRASE_VARIABLE}, else a prompt.",
    ),
]
Wait = Annotated[
    float,
    typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for another command."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
WAIT = PATIENCE.total_seconds()


class StepBars:
    """An origin's Progress that shows one bar per step."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def step(self, name: str, done: int, total: int) -> None:
        """Show that `done` of `total` parts of the step `name` are done."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._tasks[name], completed=done, total=total)


class NoBars:
    """An origin's Progress where there is no terminal."""

    def step(self, name: str, done: int, total: int) -> None:
        """Show nothing."""


@contextmanager
def step_bars() -> Generator[Listener]:
    """Give bars on a terminal; something that shows nothing elsewhere."""
    if not remarks.is_terminal:
        yield NoBars()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=remarks, transient=True) as bars:
        yield StepBars(bars)


def repository_at(folder: Path) -> Repository:
    """Return the repository at `folder` on this machine's disk."""
    return Repository(SystemDisk(), folder.absolute())


def keyring_at(folder: Path, passphrase_file: Path | None, *, twice: bool = False) -> Keyring:
    """Return the keys at `folder`, opened with the passphrase that the operator gives."""
    passphrase = Passphrase(lambda: _passphrase(passphrase_file, twice=twice))
    return Keyring(SystemDisk(), folder.absolute(), passphrase)


def workshop_at(
    repo: Path, keys: Keyring, wait: float = WAIT, progress: Listener | None = None
) -> Workshop:
    """Return the workshop of this machine: its disk, clock and entropy."""
    return Workshop(
        repository=repository_at(repo),
        keyring=keys,
        clock=SystemClock(),
        entropy=SystemEntropy(),
        wait=timedelta(seconds=wait),
        progress=progress or NoBars(),
    )


def _passphrase(file: Path | None, *, twice: bool) -> str:
    if file is not None:
        try:
            return SystemDisk().read(file.absolute()).decode().rstrip("\r\n")
        except (FileNotFoundError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read the passphrase in {file}: {error}") from error
    from_environment = os.environ.get(PASSPHRASE_VARIABLE)
    if from_environment is not None:
        return from_environment
    if not sys.stdin.isatty():
        return no_passphrase()
    asked = typer.prompt(
        "Passphrase of the keys", hide_input=True, confirmation_prompt=twice, err=True
    )
    if not isinstance(asked, str):
        raise KeyUnavailableError("no passphrase was given")
    return asked


def say(sentences: Iterable[str]) -> None:
    """Print sentences for people on standard output."""
    for sentence in sentences:
        people.print(sentence, markup=False, soft_wrap=True)


def say_outcome(schema: str, json: bool, did: str, outcome: Outcome) -> None:
    """Print what a command changed: as JSON, or as sentences for people."""
    if json:
        print_json(schema, outcome_document(outcome))
    else:
        say([did, *waiting_sentences(outcome.waiting)])
