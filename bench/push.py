"""Ten thousand idle long polls on one relay: memory, CPU, and how fast news reach the last one.

Origin, relay and clients are a process each, on loopback. The clock runs from the moment at which
the new timestamp is put in place at the origin (which looks at the file every 0.2 s) to the last
byte of the last client's answer: `python -m bench.push [--clients 10000] [--rounds 5]`.
"""

import argparse
import json
import os
import resource
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measuring import resident_mib, table

ORIGIN = """
import asyncio, sys
from pathlib import Path
from fleetward.httpd.loops import run
from fleetward.origin.serving import Origin

run(Origin(Path(sys.argv[1]), ("127.0.0.1", 0)).run(
    ready=lambda url: print(url, flush=True), stop=asyncio.Event()))
"""
RELAY = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path
from fleetward.config.relay import PushSettings
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.loops import raise_descriptor_limit, run
from fleetward.relay.server import run_relay
from fleetward.relay.settings import RelaySettings

upstream, cache, clients = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
most = clients * 2 + 100
raise_descriptor_limit()
settings = RelaySettings(
    (upstream,), cache, port=0,
    server_limits=ServerLimits(max_connections=most, max_connections_per_peer=most, backlog=4096),
    push=PushSettings(max_watchers=most, udp=False, announce=False),
)
async def main():
    await run_relay(settings, ready=lambda url: print(url, flush=True), stop=asyncio.Event())
run(main())
"""
TICKS = os.sysconf("SC_CLK_TCK")
DEADLINE = 60.0


@dataclass(frozen=True)
class News:
    """Milliseconds from publishing to the first and to the last client's answer."""

    first: float
    last: float


@contextmanager
def child(code: str, *arguments: str) -> Iterator[tuple[int, str]]:
    """Run a server, and give its process id and URL."""
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        try:
            yield program.pid, program.stdout.readline().strip()
        finally:
            program.kill()


def publish(folder: Path, version: int) -> None:
    """Put a timestamp of the usual length in place."""
    signed = {"_type": "timestamp", "version": version, "x-interval": 600}
    document = {"signatures": [{"keyid": "a" * 64, "sig": "b" * 128}], "signed": signed}
    file = folder / "metadata" / "timestamp.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name("new")
    part.write_text(json.dumps(document).ljust(471))
    part.replace(file)


class Crowd:
    """Clients in long polls, on one epoll set."""

    def __init__(self, url: str, count: int) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        for _ in range(count):
            one = socket.create_connection((host, int(port)))
            one.settimeout(0)
            self._sockets[one.fileno()] = one
            self._epoll.register(one.fileno(), select.EPOLLIN)

    def wait_for(self, after: int) -> None:
        """Let everybody ask."""
        request = f"GET /v1/watch?after={after} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
        for one in self._sockets.values():
            one.send(request)

    def answered(self, began: float) -> News:
        """Return once everybody has the whole answer."""
        missing = len(self._sockets)
        got: dict[int, bytes] = {}
        first = 0.0
        while missing:
            ready = self._epoll.poll(DEADLINE)
            assert ready, f"{missing} clients were not answered"
            first = first or time.monotonic()
            for descriptor, _ in ready:
                got[descriptor] = got.get(descriptor, b"") + self._sockets[descriptor].recv(8192)
                assert got[descriptor].startswith(b"HTTP/1.1 200"), got[descriptor][:200]
                _, end, body = got[descriptor].partition(b"\r\n\r\n")
                missing -= bool(end) and len(body) == 471
        last = time.monotonic()
        return News((first - began) * 1000, (last - began) * 1000)

    def close(self) -> None:
        for one in self._sockets.values():
            one.close()
        self._epoll.close()


def waiting_at(url: str) -> int:
    """Return how many wait at the relay, by its own word."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as one:
        one.sendall(b"GET /v1/relay HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: one.recv(65536), b""))
    told: int = json.loads(answer.partition(b"\r\n\r\n")[2])["watchers"]["waiting"]
    return told


def until_waiting(url: str, count: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while waiting_at(url) < count:
        assert time.monotonic() < deadline, f"{waiting_at(url)} of {count} wait"
        time.sleep(0.05)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(count: int, rounds: int) -> list[list[str]]:
    """Return the rows of the table."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        publish(repository, 1)
        with (
            child(ORIGIN, str(repository)) as (_, origin),
            child(RELAY, origin, str(Path(folder) / "cache"), str(count)) as (pid, relay),
        ):
            until_waiting(relay, 0)
            before = resident_mib(pid)
            crowd = Crowd(relay, count)
            news = []
            idle, waiting = 0.0, 0.0
            for version in range(1, rounds + 1):
                crowd.wait_for(version)
                until_waiting(relay, count)
                if version == 1:
                    waiting, busy = resident_mib(pid), cpu_seconds(pid)
                    time.sleep(5)
                    idle = (cpu_seconds(pid) - busy) / 5 * 100
                began = time.monotonic()
                publish(repository, version + 1)
                news.append(crowd.answered(began))
            after = resident_mib(pid)
            crowd.close()
    fastest = min(news, key=lambda one: one.last - one.first)
    slowest = max(news, key=lambda one: one.last)
    return [
        ["memory of the relay, nobody waiting", f"{before:.1f} MiB"],
        [f"memory, {count} waiting", f"{waiting:.1f} MiB"],
        ["a waiting client", f"{(waiting - before) * 1024 / count:.2f} KiB"],
        [f"memory after {rounds} rounds", f"{after:.1f} MiB"],
        ["CPU of one core while all wait", f"{idle:.1f} %"],
        ["first client's answer to last client's, best", f"{fastest.last - fastest.first:.0f} ms"],
        ["published to the last client's answer, worst", f"{slowest.last:.0f} ms"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print("## Push\n")
    print(
        f"{chosen.clients} idle long polls on one relay, which holds one at its origin; client, "
        f"relay and origin share the cores. {chosen.rounds} rounds.\n"
    )
    table(["what", ""], measure(chosen.clients, chosen.rounds))


if __name__ == "__main__":
    main()
