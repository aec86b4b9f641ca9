"""Who signed an executable, as Windows or macOS says: one answer remembered for each content.

    Windows    windows_signatures: Get-AuthenticodeSignature, by PowerShell
    macOS      macos_signatures: codesign

Neither was run on those platforms here: the readers are tested with written answers, and the
commands with programs that stand in for them.

Deliberately not here: what a signature means for a verdict (core.ports, core.portrules).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from fleetward.adapters.processes import Finished, run_limited
from fleetward.core.limits import GIB
from fleetward.core.listeners import Signature
from fleetward.errors import ConfigurationError

MAX_REMEMBERED: Final = 4_096
"""Signatures that are remembered: a host that starts ever new programs."""

MAX_ASKED: Final = 16
"""Files of one question: the answer must fit what is kept of a child's output."""

Run = Callable[[Sequence[str], Mapping[str, str] | None], Finished]
"""Runs a command with an environment."""

Asking = Callable[[Sequence[str]], dict[str, Signature]]
"""A platform's way to ask, for at most `MAX_ASKED` paths. Raises ConfigurationError."""


def ask_nobody(_paths: Sequence[str]) -> dict[str, Signature]:
    """Return nothing: on platforms that sign packages, not files."""
    return {}


def run_asking(command: Sequence[str], environment: Mapping[str, str] | None) -> Finished:
    """Run a platform's program with limits."""
    return run_limited(
        command, max_memory=4 * GIB, max_time=timedelta(seconds=30), environment=environment
    )


@dataclass(slots=True)
class Signatures:
    """Finds signatures, and asks once for each file and digest.

    Attributes:
        ask: see there.
    """

    ask: Asking = ask_nobody
    _known: dict[tuple[str, str], Signature] = field(default_factory=dict)

    def find(self, files: Iterable[tuple[str, str | None]]) -> dict[str, Signature]:
        """Return the signatures of files; a file of which nothing could be learned is absent.

        Args:
            files: paths, and their digests; one without is asked for each time.
        """
        wanted = dict(files)
        found = {
            path: self._known[path, digest]
            for path, digest in wanted.items()
            if digest is not None and (path, digest) in self._known
        }
        missing = [path for path in wanted if path not in found]
        for at in range(0, len(missing), MAX_ASKED):
            try:
                found |= self.ask(missing[at : at + MAX_ASKED])
            except ConfigurationError:  # the platform's program is not there
                break
        self._remember(wanted, found)
        return found

    def _remember(self, wanted: Mapping[str, str | None], found: Mapping[str, Signature]) -> None:
        if len(self._known) + len(found) > MAX_REMEMBERED:
            self._known.clear()
        for path, signature in found.items():
            digest = wanted[path]
            if digest is not None:
                self._known[path, digest] = signature
