"""Attacks on the sensor: who is heard may send anything, as often as it likes.

The attacker reaches the port. He wants the sensor to end, to take the host's memory, or to miss
what he does next. Each story ends with a connection that must be heard, and with the peak of the
program's resident memory, which must stay under 64 MiB.
"""

import json
import os
import random
import resource
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from portwatch.payloads import PROBE, STREAMS

MOST_KIB = 64 * 1024
WAIT = 30
RESET = struct.pack("ii", 1, 0)


@dataclass
class Victim:
    """A sensor as people start it, in a process of its own."""

    program: "subprocess.Popen[str]"
    address: tuple[str, int]
    lines: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(self.address, timeout=WAIT, source_address=(source, 0))

    def send(self, content: bytes, source: str = "127.0.0.1") -> None:
        with self.connect(source) as client, suppress(OSError):
            client.sendall(content)

    def is_heard(self, source: str = "127.9.9.9") -> None:
        """Be heard as the overflow; the answer is silence and an end."""
        with self.connect(source) as client:
            client.sendall(STREAMS["rtvscan-overflow"])
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""

    def peak_kib(self) -> int:
        status = Path(f"/proc/{self.program.pid}/status").read_text()
        return int(next(one for one in status.splitlines() if one.startswith("VmHWM")).split()[1])

    def open_descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.program.pid}/fd"))  # noqa: PTH208 (a count)

    def rows(self, kind: str) -> int:
        return int(self.report["classes"].get(kind, 0))


@contextmanager
def attacked(descriptors: int = 0) -> Iterator[Victim]:
    """Start a sensor; at the end it must be alive, hear, be small, and report."""

    def limit() -> None:
        if descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    command = [sys.executable, "-m", "fleetward", "ports", "sense", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,  # noqa: PLW1509 (this child is started while no other thread works)
    ) as program:
        assert program.stdout
        assert program.stderr
        first = program.stderr.readline()
        victim = Victim(program, ("127.0.0.1", int(first.rpartition(":")[2])))
        reader = threading.Thread(target=lambda: victim.lines.extend(program.stdout or ()))
        reader.start()
        try:
            yield victim
            victim.is_heard()
            peak = victim.peak_kib()
            print(f"peak {peak} KiB")
            assert peak < MOST_KIB
            program.terminate()
            assert program.wait(WAIT) == 1
            reader.join(WAIT)
            victim.report = json.loads(victim.lines[-1])
            assert victim.rows("rtvscan-overflow") >= 1
            assert program.stderr.read() == ""
        finally:
            program.kill()


def in_threads(work: Callable[[int], None], count: int = 8) -> None:
    failures: list[BaseException] = []

    def run(n: int) -> None:
        try:
            work(n)
        except BaseException as error:  # noqa: BLE001 (told by the test's own thread)
            failures.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT * 4)
    assert not failures, failures


def knocks(victim: Victim, worker: int, count: int) -> None:
    """Connect, say something, and wait for the end, so that none is lost in a backlog."""
    for _ in range(count):
        with victim.connect(f"127.0.1.{worker + 1}") as client:
            client.sendall(STREAMS["http"])
            client.shutdown(socket.SHUT_WR)
            while client.recv(64):
                pass


def test_a_flood_of_connections() -> None:
    with attacked() as victim:
        in_threads(lambda n: knocks(victim, n, 500))
    assert victim.rows("http") == 4_000


@pytest.mark.slow
def test_fifty_thousand_connections() -> None:
    with attacked() as victim:
        in_threads(lambda n: knocks(victim, n, 6_250))
    assert victim.rows("http") == 50_000


def test_slow_clients_that_never_end() -> None:
    """1,500 connections that trickle a byte each: the oldest make room, none keeps anybody out."""
    with attacked() as victim:
        held: list[socket.socket] = []
        for n in range(1_500):
            client = victim.connect(f"127.0.2.{n % 250 + 1}")
            client.send(b"G")
            held.append(client)
            if len(held) > 700:
                with suppress(OSError):
                    held[n % 700].send(b"E")
            if len(held) > 900:
                held.pop(0).close()
        for client in held:
            client.close()
    assert victim.report["seen"] >= 1_500


def test_few_descriptors_and_many_connections() -> None:
    """The system gives the sensor 48 descriptors; the attacker opens 400 connections and keeps them."""
    with attacked(descriptors=48) as victim:
        held = [victim.connect() for _ in range(400)]
        assert victim.open_descriptors() <= 48
        for client in held:
            client.close()
    assert victim.report["seen"] >= 100


def test_giant_empty_and_many_datagrams() -> None:
    with attacked() as victim, socket.socket(type=socket.SOCK_DGRAM) as client:
        for n in range(3_000):
            client.sendto((b"", bytes(65_507), PROBE)[n % 3], victim.address)
    assert victim.report["seen"] > 1


def test_endless_content() -> None:
    """Each of eight clients writes until it is cut off; 4 KiB of each are read."""

    def write(_: int) -> None:
        with victim.connect() as client, suppress(ConnectionError):
            for _ in range(200):
                client.sendall(bytes(1 << 20))

    with attacked() as victim:
        in_threads(write)
    octets = [row["octets"] for row in victim.report["rows"] if row["kind"] == "other"]
    assert sum(octets) <= 8 * 4_096


def test_more_sources_than_can_be_told_apart() -> None:
    """Forged senders, as many as loopback has room for: they are counted together."""

    def forge(worker: int) -> None:
        for n in range(1_000):
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                client.bind((f"127.{100 + worker}.{n // 250}.{n % 250 + 1}", 0))
                client.sendto(STREAMS["http"], victim.address)

    with attacked() as victim:
        in_threads(forge)
    assert len(victim.report["rows"]) <= 4_096 + 1
    assert victim.report["seen"] == 1 + victim.rows("http")
    told = sum(row["count"] for row in victim.report["rows"])
    assert told + sum(victim.report["more"].values()) == victim.report["seen"]


@pytest.mark.parametrize("seed", range(3))
def test_odd_bytes_and_odd_ends(seed: int) -> None:
    """Random beginnings of known classes, urgent data, resets, half-closes, in any mixture."""
    print(f"seed {seed}")
    rng = random.Random(seed)

    def talk() -> None:
        content = bytearray(rng.choice([*STREAMS.values(), rng.randbytes(4_096)]))
        for _ in range(rng.randrange(4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        client = victim.connect(f"127.0.3.{rng.randrange(1, 250)}")
        with closing(client), suppress(OSError):
            client.sendall(content[: rng.randrange(len(content) + 1)])
            if rng.random() < 0.2:
                client.send(b"!", socket.MSG_OOB)
            end = rng.randrange(4)
            if end == 0:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            elif end < 3:
                client.shutdown((socket.SHUT_WR, socket.SHUT_RD)[end - 1])

    with attacked() as victim:
        for _ in range(300):
            talk()
    assert victim.report["seen"] >= 250
    assert all(row["detail"].isprintable() for row in victim.report["rows"])
