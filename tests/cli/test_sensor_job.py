"""The agent's sensor by the commands: off unless asked, then heard by the spool and the status."""

import json
import random
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.test_sensing import free_port
from cli.test_main_job import Site
from cli.test_main_job import site as site  # noqa: PLC0414 (a fixture)
from cli.test_push_job import line, running, sockets_bound
from fleetward.adapters.disk import SystemDisk
from fleetward.agent.home import Home
from fleetward.agent.noticing import parse_line
from fleetward.cli import agentd
from fleetward.cli.main import run
from fleetward.config.agent import load_agent_settings, save_agent_settings
from fleetward.config.sensor import SensorSettings
from fleetward.core.status import EventKind
from httpd.waiting import wait_until
from portwatch.payloads import STREAMS


def having_sensor(site: Site, port: int, **more: object) -> None:
    disk, home = SystemDisk(), Path(site.home)
    settings = load_agent_settings(disk, home)
    sensor = SensorSettings(on=True, addresses=("127.0.0.1",), ports=(port,), **more)  # type: ignore[arg-type]
    save_agent_settings(disk, home, settings.having(sensor=sensor))


def until(program: "subprocess.Popen[str]", words: str) -> str:
    """Return the next line of a program's log that has `words`."""
    while words not in (told := line(program)):
        assert told, f"it ended before it said {words!r}"
    return told


def status(site: Site) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "fleetward", "agent", "status", site.home, "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def events(site: Site) -> list[tuple[EventKind, str, str]]:
    rows = Path(site.home, "reports", "events.log").read_bytes().splitlines()[1:]
    found = [parse_line(row.split(b" ", 2)[2]) for row in rows]
    return [(one.kind, one.subject, one.detail) for one in found]


def test_what_an_agents_sensor_hears_is_an_event_and_in_its_status(site: Site) -> None:
    """P4's named exception: exactly the socket that was asked for, and nothing is ever answered."""
    assert site.publish("r1", a="rule a {}") == 0
    assert site.init_agent() == 0
    assert status(site)["sensor"] is None
    port = free_port()
    having_sensor(site, port)
    Path(site.home, "ports.toml").write_text(f"ports = [{port}]\ninterval = 1\n")
    with running(site) as program:
        until(program, f"sensor: hears on tcp+udp 127.0.0.1:{port}")
        assert sockets_bound(program) == [f"tcp {port}", f"udp {port}"]
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(STREAMS["rtvscan-overflow"])
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
        until(program, f"sensor: tcp/{port} rtvscan-overflow from 127.0.0.0/24")
        wait_until(lambda: status(site)["sensor"]["seen"] == 1)
        shown = status(site)["sensor"]
        for_people = subprocess.run(
            [sys.executable, "-m", "fleetward", "agent", "status", site.home],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert f"sensor: 1 heard on tcp+udp 127.0.0.1:{port}" in for_people.stdout
        told = events(site)
    assert shown["classes"] == {"rtvscan-overflow": 1}
    assert shown["listening"] == [f"tcp+udp 127.0.0.1:{port}"]
    kinds = [kind for kind, _, _ in told]
    assert EventKind.SENSOR_HEARD in kinds
    listeners = [detail for kind, _, detail in told if kind is EventKind.LISTENER_OPENED]
    assert all(one.startswith("expected ") and "own-sensor" in one for one in listeners)


def test_a_flood_on_the_sensor_keeps_no_release_from_the_host(site: Site) -> None:
    """The attacker connects and sends as fast as he can; the agent takes up a release, and is small."""
    assert site.publish("r1", a="rule a {}") == 0
    assert site.init_agent() == 0
    port, over = free_port(), threading.Event()
    having_sensor(site, port)

    def flood(worker: int) -> None:
        while not over.is_set():
            with suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as client:
                client.bind((f"127.0.{worker}.{random.randrange(1, 250)}", 0))
                client.sendto(bytes(9_000), ("127.0.0.1", port))
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as client:
                client.sendall(random.choice(list(STREAMS.values())))

    with running(site) as program:
        until(program, "sensor: hears on")
        until(program, "installed, runs r1")
        flooding = [threading.Thread(target=flood, args=(n,)) for n in range(4)]
        for thread in flooding:
            thread.start()
        try:
            assert site.publish("r2", a="rule a {condition: true}") == 0
            until(program, "installed, runs r2")
            wait_until(lambda: status(site)["sensor"]["seen"] > 0)
        finally:
            over.set()
            for thread in flooding:
                thread.join(30)
        text = Path(f"/proc/{program.pid}/status").read_text()
        peak = int(next(row for row in text.splitlines() if row.startswith("VmHWM")).split()[1])
        told = [one for one in events(site) if one[0] is EventKind.SENSOR_HEARD]
    print(f"peak {peak} KiB, {len(told)} events")
    assert peak < 64 * 1024
    assert 0 < len(told) <= 25


def test_a_relay_on_the_same_host_keeps_its_port(site: Site) -> None:
    """The sensor is told to hear where a real relay listens: an error that says so, and no end."""
    assert site.publish("r1", a="rule a {}") == 0
    assert site.init_agent() == 0
    port = int(site.relay.rstrip("/").rpartition(":")[2])
    having_sensor(site, port)
    with running(site) as program:
        told = until(program, "sensor: ")
        assert f"Fleetward's relay listens on port {port} of this host" in told
        assert "sensor.on = false" in told
        until(program, "installed, runs r1")
        assert sockets_bound(program) == []


def test_settings_that_cannot_be_meant_are_told_and_end_nothing(site: Site) -> None:
    assert site.init_agent() == 0
    having_sensor(site, 2967)
    Path(site.home, "ports.toml").write_text('relay = "relay"\n')
    said: list[str] = []
    home = Home(SystemDisk(), Path(site.home))
    assert agentd.sensor_of(home, said.append) is None
    assert said[0].startswith("sensor: ports.toml says that this host is a relay")
    Path(site.home, "ports.toml").unlink()
    sensor = agentd.sensor_of(home, said.append)
    assert sensor is not None
    assert {port for _, port in sensor.own().places} == {2967}


def test_a_sensor_that_does_not_hear_says_so_in_the_status(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert site.init_agent() == 0
    having_sensor(site, 2967)
    assert run(["agent", "status", site.home]) == 0
    assert "sensor: 0 heard on nowhere: not running" in capsys.readouterr().out
