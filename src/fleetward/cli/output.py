"""What every command prints with: one JSON document for machines, words for people.

Results go to standard output, everything else to standard error; colours and bars appear on a
terminal only (rich looks for one, and at NO_COLOR).
"""

import sys
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from fleetward.wire.documents import encode_json

people = Console(highlight=False)
"""Standard output, for people."""

remarks = Console(stderr=True, highlight=False)
"""Standard error: progress, warnings, errors."""


def print_json(schema: str, document: object) -> None:
    """Print `document` as the one JSON document of this command, `schema` first."""
    sys.stdout.write(encode_json(schema, document).decode() + "\n")
    sys.stdout.flush()


class ByteBars:
    """Shows a bar per thing under way; called with (doing, done, total) in bytes."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._tasks: dict[str, int] = {}

    def __call__(self, doing: str, done: int, total: int) -> None:
        """Show that `done` of `total` bytes of `doing` are there."""
        if self._progress is None:
            return
        if doing not in self._tasks:
            self._tasks[doing] = self._progress.add_task(doing, total=total)
        self._progress.update(self._tasks[doing], completed=done, total=total)  # type: ignore[arg-type]


@contextmanager
def byte_bars() -> Generator[ByteBars]:
    """Give bars on a terminal; something that shows nothing elsewhere."""
    if not remarks.is_terminal:
        yield ByteBars(None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=remarks, transient=True) as progress:
        yield ByteBars(progress)
