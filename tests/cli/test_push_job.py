"""News by the commands: a release reaches a host in seconds that polls every ten minutes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.test_main_job import Site
from cli.test_main_job import site as site  # noqa: PLC0414 (a fixture)
from fleetward.adapters.datagram import Destination, open_receiver, send
from fleetward.adapters.disk import SystemDisk
from fleetward.agent.home import Home
from fleetward.agent.updating import UpdateReport
from fleetward.agent.watching import Listening
from fleetward.agent.wiring import outlook_of
from fleetward.cli import agentd
from fleetward.config.agent import load_agent_settings, save_agent_settings
from fleetward.wire.announcement import MAX_VERSION
from httpd.rawhttp import get
from httpd.upstreams import Upstream, serving
from httpd.waiting import wait_until
from support.timestamps import timestamp


@contextmanager
def running(site: Site) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "fleetward", "agent", "run", site.home]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr
        assert "begins" in program.stderr.readline()
        yield program
        os.kill(program.pid, signal.SIGTERM)
        assert "ended" in program.stderr.read()
        assert program.wait(timeout=30) == 0


def line(program: "subprocess.Popen[str]") -> str:
    assert program.stderr
    return program.stderr.readline()


def having_push(site: Site, **push: object) -> None:
    disk, home = SystemDisk(), Path(site.home)
    settings = load_agent_settings(disk, home)
    changed = type(settings.push)(**push)  # type: ignore[arg-type]
    save_agent_settings(disk, home, settings.having(push=changed))


def sockets_bound(program: "subprocess.Popen[str]") -> list[str]:
    """Return what a process listens on: TCP in LISTEN, and every UDP socket."""
    opened = [str(link.readlink()) for link in Path(f"/proc/{program.pid}/fd").iterdir()]
    inodes = {name[8:-1] for name in opened if name.startswith("socket:")}
    found = []
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for row in Path(f"/proc/{program.pid}/net/{name}").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[9] in inodes and (name.startswith("udp") or fields[3] == "0A"):
                found.append(f"{name} {int(fields[1].rpartition(':')[2], 16)}")
    return found


def test_a_host_listens_on_nothing(site: Site) -> None:
    """P4, with every default; by its own long poll it is told of news all the same."""
    assert site.publish("r1", a="rule a {}") == 0
    assert site.init_agent() == 0
    with running(site) as program:
        assert "installed, runs r1" in line(program)
        wait_until(lambda: status_of_relay(site)["watchers"]["waiting"] == 1)
        assert sockets_bound(program) == []


def status_of_relay(site: Site) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(get(site.relay, "/v1/relay").body)
    return document


def test_a_release_reaches_a_host_by_long_polls(site: Site) -> None:
    """Origin, relay and agent as processes, all with their defaults; the next poll is far away."""
    assert site.publish("r1", a="rule a {}") == 0
    assert site.init_agent() == 0
    with running(site) as program:
        assert "installed, runs r1" in line(program)
        assert site.publish("r2", a="rule a {condition: true}") == 0
        assert "installed, runs r2" in line(program)
    assert get(site.origin, "/v1/watch?after=0").status == 200


def test_an_announcement_wakes_a_host_that_was_asked_to_listen(site: Site) -> None:
    assert site.publish("r1", a="rule a {}") == 0
    assert site.init_agent() == 0
    with open_receiver("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    having_push(site, watch=False, announcements=True, listen=("127.0.0.1",), port=port)
    stamp = Path(site.repo, "metadata", "timestamp.json")
    with running(site) as program:
        assert f"hears announcements on port {port}/udp" in line(program)
        assert "installed, runs r1" in line(program)
        assert sockets_bound(program) == [f"udp {port}"]
        assert site.publish("r2", a="rule a {condition: true}") == 0
        done: list[str] = []
        while not done:
            send(stamp.read_bytes(), (Destination("127.0.0.1", port),))
            done = ready_lines(program)
        assert "installed, runs r2" in done[0]


def ready_lines(program: "subprocess.Popen[str]") -> list[str]:
    import select  # noqa: PLC0415 (here alone)

    assert program.stderr
    return [line(program)] if select.select([program.stderr], [], [], 0.1)[0] else []


def test_the_origin_announces_where_it_is_told_to(site: Site) -> None:
    assert site.publish("r1", a="rule a {}") == 0
    with open_receiver("127.0.0.1", 0) as heard:
        heard.settimeout(10)
        target = f"127.0.0.1:{heard.getsockname()[1]}"
        command = [sys.executable, "-m", "fleetward", "origin", "serve", site.repo]
        with subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0", "--announce", target],
            stderr=subprocess.PIPE,
            text=True,
        ) as program:
            url = line(program).split()[-1]
            assert get(url, "/v1/watch?after=0").status == 200
            assert site.publish("r2", a="rule a {condition: true}") == 0
            told = heard.recv(2000)
            assert told == Path(site.repo, "metadata", "timestamp.json").read_bytes()
            os.kill(program.pid, signal.SIGTERM)
            assert program.wait(timeout=30) == 0


def test_what_the_agent_waits_for(site: Site) -> None:
    assert site.publish("r1", a="rule a {}") == 0
    assert site.init_agent() == 0
    home = Home(SystemDisk(), Path(site.home))
    said: list[str] = []
    waits = agentd.listening(home, said.append)
    assert isinstance(waits, Listening)
    report, _ = agentd.updates(home)()
    assert isinstance(report, UpdateReport)
    outlook = waits.outlook(report)
    assert outlook is not None
    assert outlook.source == site.relay
    assert outlook.after >= 1
    having_push(site, watch=False)
    assert waits.outlook(report).source is None  # type: ignore[union-attr]
    with open_receiver("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        having_push(site, announcements=True, listen=("127.0.0.1",), port=port)
        agentd.listening(home, said.append)
    assert said[0].startswith("hears no announcements: cannot listen on 127.0.0.1")


def test_a_forged_timestamp_does_not_change_what_the_agent_waits_for(site: Site) -> None:
    """Fast-forward: the host's source serves a forged timestamp of a huge version.

    The check refuses it; the host goes on waiting for what is above its own verified version, and
    its memory of it is what makes the source's "news" false.
    """
    assert site.publish("r1", a="rule a {}") == 0
    assert site.init_agent() == 0
    home = Home(SystemDisk(), Path(site.home))
    report, _ = agentd.updates(home)()
    before = outlook_of(home, report).after
    repo = Path(site.repo)
    files = {f"/{p.relative_to(repo)}": p.read_bytes() for p in repo.rglob("*") if p.is_file()}
    files["/metadata/timestamp.json"] = timestamp(MAX_VERSION)
    with Upstream(serving(files)) as forger:
        disk = SystemDisk()
        settings = load_agent_settings(disk, Path(site.home))
        save_agent_settings(disk, Path(site.home), settings.having(sources=(forger.url,)))
        report, _ = agentd.updates(home)()
        assert report.exit_code == 10
        outlook = outlook_of(home, report)
        assert (outlook.source, outlook.after) == (forger.url, before)


def test_an_idle_agent_holds_nothing_that_it_does_not_need() -> None:
    """Its memory counts on every host; each of these costs megabytes."""
    heavy = {"asyncio", "typer", "rich", "tuf", "zeroconf", "dns"}
    heavy |= {"fleetward.agent.hearing", "fleetward.agent.sensing", "fleetward.core.portclass"}
    code = f"import sys, fleetward.cli.agentd; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
