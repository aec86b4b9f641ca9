"""Child processes: the only home of subprocess.

`run_limited` runs a command to its end; `Program` runs one beside this process. A limited child gets no standard input, its own session (so that all it started can be ended with it),
limits on address space and CPU where the platform has them, a deadline, and a bounded amount of
output that is kept.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from fleetward.errors import ConfigurationError

KEPT_OUTPUT_BYTES = 16 * 1024
"""The end of a child's output that is kept; a child that prints for ever fills no memory."""

MAX_OUTPUT_FILE_BYTES = 64 * 1024 * 1024
"""The largest file that a child may write, its output included; stops a full disk."""

_HAS_LIMITS = find_spec("resource") is not None
"""Windows has no limits of this kind, and no signals to groups: the deadline alone holds there."""

_NOT_RUN = 127
_LIMIT = f"""
import os, resource, sys
memory, seconds = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
resource.setrlimit(resource.RLIMIT_FSIZE, ({MAX_OUTPUT_FILE_BYTES}, {MAX_OUTPUT_FILE_BYTES}))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
try:
    os.execvp(sys.argv[3], sys.argv[3:])
except OSError as error:
    print(error.strerror)
    sys.exit({_NOT_RUN})
"""
"""What the child does first: it limits itself, then becomes the command."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a child ended.

    Attributes:
        exit_code: its exit code; negative is the signal that ended it; None where it was ended at
            its deadline.
        output: the end of what it printed, both streams.
    """

    exit_code: int | None
    output: str


def python_command(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a module of this installation in a child."""
    return (sys.executable, "-I", "-m", module, *arguments)


def run_limited(
    command: Sequence[str],
    *,
    max_memory: int,
    max_time: timedelta,
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run `command` to its end.

    Args:
        command: program and arguments; no shell.
        max_memory: bytes of address space.
        max_time: CPU seconds, and wall clock, after which the child and all of its own are killed.
        environment: the whole environment; None is PATH and LANG alone.

    Raises:
        ConfigurationError: the program is not there or may not be run.
    """
    seconds = max(1, int(max_time.total_seconds()))
    limiting = (sys.executable, "-I", "-S", "-c", _LIMIT, str(max_memory), str(seconds))
    limited = (*limiting, *command) if _HAS_LIMITS else tuple(command)
    if environment is None:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
    with tempfile.TemporaryFile() as output:
        try:
            child = subprocess.Popen(
                limited,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=dict(environment),
                cwd=Path(tempfile.gettempdir()),
            )
        except OSError as error:
            raise ConfigurationError(f"cannot run {limited[0]}: {error.strerror}") from error
        exit_code = _wait(child, seconds)
        output.seek(max(0, output.seek(0, os.SEEK_END) - KEPT_OUTPUT_BYTES))
        kept = output.read().decode(errors="replace").strip()
    if exit_code == _NOT_RUN:
        raise ConfigurationError(f"cannot run {command[0]}: {kept}")
    return Finished(exit_code, kept)


class Program:
    """A child that runs beside this process: `with Program(command, log) as program: …`.

    It has its own session, so that a Ctrl-C at the terminal reaches only who started it, who then
    ends it in order. It has no limits: it is one of our own programs.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Start it.

        Args:
            command: program and arguments; no shell.
            log: a file that takes what it prints, both streams.

        Raises:
            ConfigurationError: the program is not there or may not be run.
        """
        self._log = log
        with log.open("wb") as output:
            try:
                self._child = subprocess.Popen(
                    tuple(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise ConfigurationError(f"cannot run {command[0]}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def is_running(self) -> bool:
        """Return whether it has not ended."""
        return self._child.poll() is None

    def said(self) -> str:
        """Return the end of what it has printed so far."""
        with self._log.open("rb") as output:
            output.seek(max(0, output.seek(0, os.SEEK_END) - KEPT_OUTPUT_BYTES))
            return output.read().decode(errors="replace")

    def stop(self, patience: timedelta = timedelta(seconds=5)) -> int:
        """End it with SIGTERM, after `patience` with SIGKILL; return its exit code.

        Its own children end with it at the latest then. Stopping twice is stopping once.
        """
        if self.is_running():
            self._child.terminate()
        seconds = max(1, int(patience.total_seconds()))
        ended = _wait(self._child, seconds)
        return self._child.returncode if ended is None else ended


def _wait(child: "subprocess.Popen[bytes]", seconds: int) -> int | None:
    try:
        return child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            if _HAS_LIMITS:
                os.killpg(child.pid, signal.SIGKILL)
            else:
                child.kill()
        child.wait()
        return None
