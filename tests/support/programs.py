"""Fleetward's programs as real processes: started, read, ended by pid."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """Run a `fleetward` server and give its URL; it is ended with SIGTERM and must exit 0."""
    command = [sys.executable, "-m", "fleetward", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr
        first = program.stderr.readline()
        try:
            assert first.startswith("listening on http"), first + program.stderr.read()
            yield first.split()[-1]
        finally:
            program.terminate()
            program.stderr.close()
            assert program.wait(timeout=30) == 0


def fleetward(*arguments: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    """Run a `fleetward` command to its end."""
    command = [sys.executable, "-m", "fleetward", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
