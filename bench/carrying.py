# ruff: noqa: E402 (the path to what tests share comes first)
"""Carrying status: what a check-in costs host, relay and console, and what a spool keeps.

    python -m bench.carrying [--check-ins 20000]

Prints: microseconds of each step on one core; appends per second by how many share an fsync; a
real relay taking check-ins from 64 connections, with its CPU per check-in. No peer does the same.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("src", "tests")]

from bench.measuring import fleetward, resident_mib, table
from fleetward.adapters.clock import SystemClock
from fleetward.adapters.compression import compress, decompress
from fleetward.adapters.disk import SystemDisk
from fleetward.config.relay import SpoolSettings
from fleetward.core.status import HostId
from fleetward.identity.checkins import open_check_in, seal_check_in, verify_check_in
from fleetward.relay.segments import Record, Way
from fleetward.relay.settings import CarryLimits
from fleetward.relay.spool import Spool
from fleetward.wire.checkins import Carried, decode_batch, encode_batch, milliseconds_of
from support.status import CONSOLE, host_key, sealed, usual

CONNECTIONS = 64
SETTINGS = """
[spool]
check_ins_per_second = 0
max_peer_share = 1
[push]
udp = false
announce = false
"""


def microseconds(act: Callable[[], object], times: int = 2000) -> float:
    """Return what one call takes, the least of three runs."""
    return min(timeit.repeat(act, number=times, repeat=3)) / times * 1e6


def steps() -> None:
    """Print what each step of one check-in takes."""
    key = host_key(1)
    said, envelope = usual(key), sealed(1)
    statement = verify_check_in(envelope)
    batch = encode_batch(Carried(1, "192.0.2.1", sealed(number)) for number in range(500))
    frame = compress(batch)
    rows = [
        (
            "host: encode, seal, sign",
            microseconds(lambda: seal_check_in(said, key, CONSOLE.public)),
        ),
        ("relay: decode, verify", microseconds(lambda: verify_check_in(envelope))),
        ("console: open, decode", microseconds(lambda: open_check_in(statement, [CONSOLE]))),
        ("relay: compress, in a batch of 500", microseconds(lambda: compress(batch), 20) / 500),
        (
            "console: decompress, decode a batch of 500",
            microseconds(lambda: decode_batch(decompress(frame, 1 << 20)), 20) / 500,
        ),
    ]
    print(f"A usual check-in: {len(envelope)} bytes, {len(frame) / 500:.0f} in a batch.\n")
    table(("step", "us per check-in"), [(name, f"{took:.0f}") for name, took in rows])


def records(count: int) -> list[Record]:
    now = milliseconds_of(SystemClock().now())
    return [
        Record(
            HostId(f"{number % 5000:016x}" * 4),
            "",
            Way.STREAM,
            now,
            Carried(now, "192.0.2.1", f"{number:08}".encode().ljust(1110, b".")),
        )
        for number in range(count)
    ]


def appends(folder: Path, count: int) -> None:
    """Print appends per second by the size of a group that shares an fsync."""
    rows: list[Sequence[object]] = []
    for group in (1, 32, 256, 1000):
        spool = Spool(
            SystemDisk(), folder / f"spool-{group}", SpoolSettings(), CarryLimits(), SystemClock()
        )
        spool.open()
        wanted = records(count if group > 1 else count // 20)
        began = time.perf_counter()
        for at in range(0, len(wanted), group):
            spool.append(wanted[at : at + group])
        took = time.perf_counter() - began
        spool.close()
        began = time.perf_counter()
        spool.open()
        rows.append((group, f"{len(wanted) / took:,.0f}", f"{time.perf_counter() - began:.2f}"))
        spool.close()
    table(("check-ins per fsync", "appends/s", "seconds to take up again"), rows)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def client(port: int, envelopes: Sequence[bytes]) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    taken = 0
    for envelope in envelopes:
        head = (
            "POST /v1/checkins HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(envelope)}\r\n\r\n"
        )
        writer.write(head.encode() + envelope)
        answer = await reader.readuntil(b"\r\n\r\n")
        taken += answer.startswith(b"HTTP/1.1 202")
    writer.close()
    await writer.wait_closed()
    return taken


def real_relay(folder: Path, count: int) -> None:
    """Print what a relay of its own takes from many connections."""
    config = folder / "relay.toml"
    config.write_text(SETTINGS)
    command = fleetward(
        *("relay", "run", "--config", str(config), "--upstream", "http://127.0.0.1:9"),
        *("--cache", str(folder / "cache"), "--listen", "127.0.0.1:0"),
    )
    envelopes = [sealed(number) for number in range(count)]

    async def load(port: int) -> int:
        shares = (envelopes[at::CONNECTIONS] for at in range(CONNECTIONS))
        return sum(await asyncio.gather(*(client(port, share) for share in shares)))

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as relay:
        assert relay.stderr
        port = urlsplit(relay.stderr.readline().split()[-1]).port or 0
        before, began = cpu_seconds(relay.pid), time.perf_counter()
        taken = asyncio.run(load(port))
        took, cpu = time.perf_counter() - began, cpu_seconds(relay.pid) - before
        resident = resident_mib(relay.pid)
        relay.terminate()
    table(
        ("check-ins", "answered 202", "per second", "relay's CPU us each", "relay's RSS MiB"),
        [(count, taken, f"{count / took:,.0f}", f"{cpu / count * 1e6:.0f}", f"{resident:.0f}")],
    )


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--check-ins", type=int, default=20_000)
    count = arguments.parse_args().check_ins
    print("## Carrying status\n")
    steps()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        appends(Path(folder), count)
        real_relay(Path(folder), count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
