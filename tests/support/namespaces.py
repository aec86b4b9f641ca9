"""Network namespaces that a test makes and removes: two machines on a network of their own."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import TypeVar

import pytest

Result = TypeVar("Result")

SOURCES = os.pathsep.join(
    str(Path(__file__).resolve().parents[2] / name) for name in ("src", "tests")
)


PATIENCE = 60
"""Seconds; the kernel may be busy removing the namespaces of earlier tests, but not for ever."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=PATIENCE)


def _missing() -> str:
    if sys.platform != "linux" or which("ip") is None:
        return "no iproute2: apt-get install iproute2"
    if os.geteuid() != 0:
        return "namespaces need root: sudo make test"
    made = subprocess.run(
        ["unshare", "--net", "true"], capture_output=True, check=False, timeout=PATIENCE
    )
    return (
        ""
        if made.returncode == 0
        else "namespaces are forbidden here: run it on a machine of its own"
    )


class Machine:
    """A namespace with one address.

    Attributes:
        name: of the namespace.
        address: on the network.
    """

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address

    def start(self, code: str, *arguments: str) -> "subprocess.Popen[str]":
        """Run Python code in it; end it with `terminate`."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": SOURCES},
        )

    def run(self, code: str, *arguments: str, timeout: float = 60) -> str:
        """Run Python code in it to its end, and return what it printed."""
        with self.start(code, *arguments) as program:
            out, err = program.communicate(timeout=timeout)
        assert program.returncode == 0, err
        return out


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Give two machines on one network; skips where namespaces cannot be made."""
    if reason := _missing():
        pytest.skip(reason)
    names = [f"fw-{os.getpid()}-{side}" for side in "ab"]
    ends = [f"fw{os.getpid() % 100_000}{side}" for side in "ab"]
    machines = [Machine(name, f"10.77.0.{n}") for n, name in enumerate(names, 1)]
    try:
        for name in names:
            ip("netns", "add", name)
        ip(
            "link",
            "add",
            ends[0],
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            ends[1],
            "netns",
            names[1],
        )
        for end, machine in zip(ends, machines, strict=True):
            ip("-n", machine.name, "link", "set", "lo", "up")
            ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", end)
            ip("-n", machine.name, "link", "set", end, "up")
            ip("-n", machine.name, "route", "add", "default", "dev", end)
        yield machines[0], machines[1]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


NEW_NETWORK = 0x4000_0000
"""CLONE_NEWNET of sched.h."""

OWN_ADDRESS = "10.77.1.1"


def in_own_network(story: Callable[[], Result]) -> Result:
    """Run `story` in a thread whose sockets, and those of threads that it begins, are apart.

    The thread's network has loopback and one interface with OWN_ADDRESS. Skips where it cannot be.
    """
    if reason := _missing():
        pytest.skip(reason)

    def apart() -> Result:
        if ctypes.CDLL(None, use_errno=True).unshare(NEW_NETWORK) != 0:
            pytest.skip("namespaces are forbidden here: run it on a machine of its own")
        ip("link", "set", "lo", "up")
        ip("link", "add", "site0", "type", "veth", "peer", "name", "site1")
        ip("addr", "add", f"{OWN_ADDRESS}/24", "dev", "site0")
        for link in ("site0", "site1"):
            ip("link", "set", link, "up")
        ip("route", "add", "default", "dev", "site0")
        return story()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(apart).result()
