"""Programs that listen: started by a test, on a port that the kernel chooses, ended by the test."""

import contextlib
import os
import pickle
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

Found = TypeVar("Found")

CODE = """
import os, socket, sys
kind, address, *more = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
listener = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
if "v6only" in more or "both" in more:
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, "v6only" in more)
if "reuse" in more:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind((address, int(next((word for word in more if word.isdigit()), 0))))
if kind == "tcp":
    listener.listen()
if "fork" in more and os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""
"""Listens until its standard input ends: `tcp|udp ADDRESS [PORT] [v6only|both] [reuse] [fork]`."""

PASSED = """
import socket, sys
listener = socket.socket(fileno=3)
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""
"""Serves a socket that was passed to it as descriptor 3."""

MANAGER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
passed = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execve(sys.argv[2], sys.argv[2:], {**os.environ, **passed})
"""
"""Passes a socket on as sd_listen_fds(3) says, and becomes the program."""

INTERPRETER = Path(sys.executable).resolve()


@dataclass(frozen=True, slots=True)
class Listening:
    """A program that listens, and where."""

    pid: int
    port: int


@contextmanager
def started(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
) -> Iterator[Listening]:
    """Run a program that prints its port, until the block ends."""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
        pass_fds=descriptors,
    ) as program:
        assert program.stdin
        assert program.stdout
        try:
            yield Listening(program.pid, int(program.stdout.readline()))
        finally:
            program.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(timeout=10)
            program.kill()


@contextmanager
def listening(*words: str, executable: Path = INTERPRETER) -> Iterator[Listening]:
    """Run CODE with `words`, by a Python at `executable`."""
    with started([str(executable), "-c", CODE, *words], environment=HOME) as program:
        yield program


HOME = {"PYTHONHOME": sys.base_prefix}
"""Where a copied interpreter finds its library."""


def copied_interpreter(path: Path) -> Path:
    """Copy the interpreter to `path`: a program of any name that a test wants."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(INTERPRETER, path)
    return path


@contextmanager
def activated() -> Iterator[Listening]:
    """Run a program that gets its socket as a service manager passes them: sd_listen_fds(3)."""
    with contextlib.ExitStack() as stack:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            number = listener.fileno()
            words = [str(INTERPRETER), "-c", MANAGER, str(number), str(INTERPRETER), "-c", PASSED]
            program = stack.enter_context(started(words, descriptors=(number,)))
        yield program


def as_nobody(look: Callable[[], Found]) -> Found:
    """Return what `look` finds in a child that runs as an ordinary user; skips without root."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root: sudo make test")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # no return into pytest from here
        try:
            os.setgroups([])
            os.setgid(65_534)
            os.setuid(65_534)
            content = pickle.dumps(look())
        except BaseException as error:  # noqa: BLE001 (told to the parent)
            content = pickle.dumps(RuntimeError(repr(error)))
        with os.fdopen(writer, "wb") as stream:
            stream.write(content)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        found: Found = pickle.loads(stream.read())  # noqa: S301 (from our own child)
    os.waitpid(child, 0)
    if isinstance(found, RuntimeError):
        raise found
    return found
