"""The sensor under 50,000 connections: how many a second, its memory and its processor time.

    python -m bench.sensor [--connections 50000]

Clients are threads that connect from eight addresses of loopback, send a request, and wait for
the end; then 50,000 datagrams come as fast as they can. Then the same against an agent's sensor
(256 connections, 2,000 a second), a fifth of it.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.measuring import fleetward, resident_mib, table
from fleetward.agent.home import Home
from fleetward.agent.wiring import open_agent
from fleetward.config.agent import load_agent_settings, save_agent_settings
from fleetward.config.sensor import SensorSettings
from fleetward.demo.content import sample_series
from fleetward.demo.stage import Stage

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
    of_an_agent(total // 5)
    return 0


def of_an_agent(total: int) -> None:
    """Print what the sensor costs an agent: idle without it, idle with it, and flooded."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, Stage(Path(folder), 1) as stage:
        first, _, _ = sample_series(Path(folder))
        stage.publish(first)
        stage.make_hosts()
        home = stage.home(next(iter(stage.homes.values())))
        assert open_agent(home).update().exit_code == 0
        with agent(home) as program:
            rows.append(("without a sensor, idle", f"{resident_mib(program.pid):.1f}", "", ""))
        port = free_port()
        sensor = SensorSettings(on=True, addresses=("127.0.0.1",), ports=(port,))
        settings = load_agent_settings(home.disk, home.path)
        save_agent_settings(home.disk, home.path, settings.having(sensor=sensor))
        with agent(home) as program:
            rows.append(("with a sensor, idle", f"{resident_mib(program.pid):.1f}", "", ""))
            before, began = cpu_of(program.pid), time.monotonic()
            with ThreadPoolExecutor(WORKERS) as pool:
                jobs = [pool.submit(knock, port, n, total // WORKERS) for n in range(WORKERS)]
                for job in jobs:
                    job.result()
            flood(port, total)
            took, cpu = time.monotonic() - began, cpu_of(program.pid) - before
            speed = f"{total / took:,.0f}"
            rows.append(
                ("with a sensor, flooded", f"{peak_mib(program.pid):.1f}", speed, f"{cpu:.1f}")
            )
    print("\nAn agent's memory with its sensor.\n")
    table(("agent run", "MiB", "connections a second", "CPU s"), rows)


@contextmanager
def agent(home: Home) -> Iterator["subprocess.Popen[str]"]:
    """Run an agent, and return once it has nothing to do."""
    command = fleetward("agent", "run", str(home.path))
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr
        program.stderr.readline()
        time.sleep(5)
        yield program
        program.terminate()
        program.stderr.read()


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
