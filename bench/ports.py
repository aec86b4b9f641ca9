"""Finding listeners, beside psutil, ss and lsof; and what a poll of the agent's port watch costs.

A child holds the sockets, on loopback. Every way is measured in a child of its own that does it
several times, so that neither imports nor start-up count; ss and lsof are whole commands, with
their start, since that is how they are used.
"""

import contextlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import which

from bench.measuring import table

COUNTS = (0, 2_000, 10_000)
FIRST = 15_000
"""The first port that the child listens on; below the ports of clients."""

HOLD = """
import socket, sys, resource
first, count = int(sys.argv[1]), int(sys.argv[2])
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
held = []
for port in range(first, first + count):
    one = socket.socket()
    one.bind(("127.0.0.1", port))
    one.listen(1)
    held.append(one)
print(len(held), flush=True)
sys.stdin.read()
"""

WAYS = {
    "Fleetward, one port: poll": "sockets(frozenset({2967}))",
    "Fleetward, one port: survey": "survey(frozenset({2967}))",
    "Fleetward, one port in use: survey": f"survey(frozenset({{{FIRST}}}))",
    "Fleetward, every port: survey": "survey(frozenset())",
}
CORE = """
import json, sys, time
from fleetward.core.ports import Expectations, judge
from fleetward.listeners.surveying import surveyor_here
here = surveyor_here(elsewhere={elsewhere})
found = here.{way}
wall, cpu, rounds = time.perf_counter(), time.process_time(), {rounds}
for _ in range(rounds):
    found = here.{way}
    if {judged}:
        judge(found, Expectations())
print(json.dumps([(time.perf_counter() - wall) / rounds, (time.process_time() - cpu) / rounds]))
"""
PSUTIL = """
import json, psutil, time
wall, cpu = time.perf_counter(), time.process_time()
found = [row for row in psutil.net_connections("inet") if row.status in ("LISTEN", "NONE")]
names = {row.pid: psutil.Process(row.pid).as_dict(["name", "exe", "cmdline"]) for row in found if row.pid}
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""


@contextmanager
def holding(count: int) -> Iterator[None]:
    """Hold `count` listening sockets in a child."""
    command = [sys.executable, "-c", HOLD, str(FIRST), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdin
        assert int(child.stdout.readline()) == count
        yield
        child.stdin.close()


def inside(code: str) -> tuple[float, float]:
    """Run code that prints its wall and CPU seconds; return the best of three."""
    runs = [
        json.loads(
            subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
        )
        for _ in range(3)
    ]
    wall, cpu = min(runs, key=lambda run: run[1])
    return wall, cpu


def core(way: str) -> tuple[float, float]:
    is_poll = way.startswith("sockets")
    rounds = 200 if is_poll else 3
    code = CORE.format(way=way, rounds=rounds, judged=not is_poll, elsewhere=not is_poll)
    return inside(code)


def command(*words: str) -> tuple[float, float]:
    """Run a command three times; return the wall and CPU seconds of the best."""
    runs = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        with contextlib.suppress(
            subprocess.CalledProcessError
        ):  # lsof exits 1 on an unreadable file
            subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        wall = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        runs.append((wall, used))
    return min(runs, key=lambda run: run[1])


def ways() -> Iterator[tuple[str, tuple[float, float]]]:
    """Measure every way on what is held now."""
    for name, way in WAYS.items():
        yield name, core(way)
    yield "psutil, every port: sockets and names", inside(PSUTIL)
    if which("ss"):
        yield "ss -tulpnH", command("ss", "-tulpnH")
        yield "ss -tulpnH sport = :2967", command("ss", "-tulpnH", "sport = :2967")
    if which("lsof"):
        yield "lsof -nP -i", command("lsof", "-nP", "-i")


def main() -> None:
    print("## Finding listeners\n")
    print(
        "Milliseconds of CPU (wall clock) for one look, with so many listening sockets besides the "
        "machine's own. Fleetward's survey tells more than the others: digests, packages, units, "
        "namespaces and verdicts; the first of a process also hashes the executables, which these "
        "rounds do not show.\n"
    )
    rows: dict[str, list[str]] = {}
    for count in COUNTS:
        with holding(count):
            for name, (wall, cpu) in ways():
                rows.setdefault(name, []).append(f"{cpu * 1e3:.2f} ({wall * 1e3:.2f})")
    header = ("way", *(f"{count:,} sockets" for count in COUNTS))
    table(header, [(name, *cells) for name, cells in rows.items()])


if __name__ == "__main__":
    main()
