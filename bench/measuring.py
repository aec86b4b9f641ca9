"""What the benchmarks share: children with their cost, and tables."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What a child took: wall and CPU seconds, and peak memory in MiB."""

    wall: float
    cpu: float
    peak_mib: float


def cost_of(command: Sequence[str]) -> Cost:
    """Run a command to its end, which must be good, and return what it took."""
    began = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr
    complaint = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, complaint.decode()
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(time.monotonic() - began, cpu, usage.ru_maxrss / 1024)


def least(command: Sequence[str], runs: int = 5) -> Cost:
    """Return the cheapest of several runs, by CPU."""
    return min((cost_of(command) for _ in range(runs)), key=lambda cost: cost.cpu)


def fleetward(*arguments: str) -> list[str]:
    """Return the command line of a `fleetward` command."""
    return [sys.executable, "-m", "fleetward", *arguments]


def resident_mib(pid: int) -> float:
    """Return a process's resident memory."""
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123 (one line of /proc)
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a markdown table."""
    print(f"| {' | '.join(header)} |")
    print(f"|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")
    print()
