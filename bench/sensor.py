"""The sensor under 50,000 connections: how many a second, its memory and its processor time.

    python -m bench.sensor [--connections 50000]

Clients are threads that connect from eight addresses of loopback, send a request, and wait for
the end; then 50,000 datagrams come as fast as they can.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.measuring import fleetward, table

WORKERS = 8
REQUEST = b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=50_000)
    total = parser.parse_args().connections
    command = fleetward("ports", "sense", "--listen", "127.0.0.1:0", "--json")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as sensor:
        assert sensor.stderr
        port = int(sensor.stderr.readline().rpartition(":")[2])
        with ThreadPoolExecutor(WORKERS + 1) as pool:
            assert sensor.stdout
            output = pool.submit(sensor.stdout.read)
            began = time.monotonic()
            jobs = [pool.submit(knock, port, n, total // WORKERS) for n in range(WORKERS)]
            for job in jobs:
                job.result()
            took = time.monotonic() - began
            flood(port, total)
            peak = peak_mib(sensor.pid)
            sensor.send_signal(signal.SIGTERM)
            report = json.loads(output.result().splitlines()[-1])
        _, _, usage = os.wait4(sensor.pid, 0)
        sensor.returncode = 0
    cpu = usage.ru_utime + usage.ru_stime
    print("## The sensor\n")
    header = ("connections", "a second", "datagrams seen", "sensor's CPU s", "MiB at most", "told")
    seen = report["classes"]
    told = report["seen"] - report["untold"]
    table(header, [(seen["http"], f"{total / took:,.0f}", seen["other"], f"{cpu:.1f}",
                    f"{peak:.0f}", told)])  # fmt: skip
    assert seen["http"] == total // WORKERS * WORKERS
    return 0


def knock(port: int, worker: int, count: int) -> None:
    for _ in range(count):
        with socket.create_connection(
            ("127.0.0.1", port), timeout=30, source_address=(f"127.0.0.{worker + 2}", 0)
        ) as client:
            client.sendall(REQUEST)
            client.shutdown(socket.SHUT_WR)
            while client.recv(64):
                pass


def flood(port: int, count: int) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        for _ in range(count):
            client.sendto(b"\x05\x01\x00", ("127.0.0.1", port))


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
