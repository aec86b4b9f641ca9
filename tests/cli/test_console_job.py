"""From a host to the console and back, by the commands and the API that people and scripts use.

A real origin, console, relay and agent: the host is enrolled through the relay, its reports pass
through the relay's spool, and what a person asks of it comes back by its inbox.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from console.programs import Console
from fleetward.cli.main import run
from support.programs import fleetward, serving

PATIENCE = 60.0
"""Seconds; a report passes the relay's spool within a few."""


@dataclass(frozen=True)
class Site:
    """A whole site, and a person's token for the console's API."""

    folder: Path
    relay: str
    console: str
    token: str

    @property
    def home(self) -> str:
        return str(self.folder / "agent")

    def publish(self, release: str, content: str) -> None:
        tree = self.folder / "tree"
        tree.mkdir(exist_ok=True)
        (tree / "a.yar").write_text(content)
        where = ["--keys", str(self.folder / "keys"), "--release", release]
        assert (
            run(["origin", "publish", str(self.folder / "repo"), "rules", str(tree), *where]) == 0
        )

    def api(self, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 (JSON)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.console}/api/v1{path}", data, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (ours)
            return json.loads(answer.read())

    def host(self) -> dict[str, Any]:
        """Return the only host as the console knows it; empty before it is enrolled."""
        rows: list[dict[str, Any]] = self.api("/hosts")["items"]
        return rows[0] if rows else {}

    def runs(self) -> tuple[str, str]:
        """Return the release that the console says the host runs, and its state."""
        products = self.host()["products"]
        return (products[0]["release"], products[0]["state"]) if products else ("", "")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    repo, keys = str(tmp_path / "repo"), str(tmp_path / "keys")
    assert run(["origin", "init", repo, "--keys", keys, "--plain-keys"]) == 0
    console = Console(tmp_path / "console", f"sqlite:///{tmp_path}/console/console.db")
    console.folder.mkdir()
    console.create_admin()
    scopes = ("--scope", "read", "--scope", "operate", "--scope", "administer")
    asked = console.ask("token", "ada", "--name", "test", *scopes)
    assert asked.returncode == 0, asked.stderr
    with (
        serving("origin", "serve", repo, "--listen", "127.0.0.1:0") as origin,
        console.running() as url,
        relaying(tmp_path, origin, url) as relay,
    ):
        yield Site(tmp_path, relay, url, asked.stdout.split()[-1])


@contextmanager
def relaying(folder: Path, origin: str, console: str) -> Iterator[str]:
    """Run a relay that carries at once what comes."""
    config = folder / "relay.toml"
    config.write_text("[spool]\ndelay = 0.05\n")
    where = ("--upstream", origin, "--console", console, "--cache", str(folder / "cache"))
    with serving("relay", "run", "--config", str(config), *where, "--listen", "127.0.0.1:0") as url:
        yield url


def until(condition: Callable[[], bool], why: Callable[[], object]) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.2)


def test_a_host_is_enrolled_reports_and_does_what_it_is_asked(site: Site) -> None:
    site.publish("r1", "rule a {}")
    follows = ["--source", site.relay, "--subscribe", f"rules={site.folder / 'content'}"]
    root = str(site.folder / "repo/metadata/1.root.json")
    assert run(["agent", "init", site.home, "--root", root, *follows]) == 0
    made = site.api("/enrolment-tokens", {"note": "pilot"})
    file = site.folder / "token.json"
    file.write_text(json.dumps(site.api(f"/enrolment-tokens/{made['token']}/file")))
    asked = fleetward("agent", "enroll", site.home, "--token-file", str(file))
    assert asked.returncode == 0, asked.stderr
    record = site.host()["record"]
    assert record in asked.stderr

    assert fleetward("agent", "update", site.home).returncode == 0
    until(lambda: site.runs() == ("r1", "confirmed"), site.host)

    wanted = site.api("/directives", {"records": [record], "kind": "verify-tree"})
    site.publish("r2", "rule a {condition: true}")
    with running_agent(site):
        until(lambda: site.runs() == ("r2", "confirmed"), site.host)
        done = f"/directives?record={record}&state=done"
        until(lambda: bool(site.api(done)["items"]), lambda: site.api("/directives"))
    answered = site.api(done)["items"][0]
    assert answered["directive"] == wanted[0]["directive"]
    assert answered["answer"] == "rules: intact"
    releases = [row["release"] for row in site.api(f"/hosts/{record}/transitions")["items"]]
    assert releases[0] == "r2"
    assert "r1" in releases

    left = fleetward("agent", "leave", site.home, "--json")
    assert left.returncode == 0, left.stderr
    assert json.loads(left.stdout)["unsaid_events"] == 0
    assert site.api(f"/hosts/{record}")["standing"] == "retired"
    assert (site.folder / "content/current/a.yar").read_text() == "rule a {condition: true}"
    again = fleetward("agent", "leave", site.home)
    assert again.returncode == 12
    assert "not enrolled" in again.stderr


@contextmanager
def running_agent(site: Site) -> Iterator[None]:
    """Run the agent's loop as its program does, with reports every second."""
    settings = Path(site.home, "agent.toml")
    settings.write_text(settings.read_text().replace("report_every = 60.0", "report_every = 1.0"))
    command = [sys.executable, "-m", "fleetward", "agent", "run", site.home]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as agent:
        try:
            yield
        finally:
            os.kill(agent.pid, signal.SIGTERM)
            assert agent.stderr
            said = agent.stderr.read()
    assert agent.returncode == 0, said
    assert "Traceback" not in said


def test_a_console_that_is_away_stops_no_update(site: Site) -> None:
    """The token names a console that nobody answers for; content comes all the same."""
    site.publish("r1", "rule a {}")
    follows = ["--source", site.relay, "--subscribe", f"rules={site.folder / 'content'}"]
    root = str(site.folder / "repo/metadata/1.root.json")
    assert run(["agent", "init", site.home, "--root", root, *follows]) == 0
    made = site.api("/enrolment-tokens", {"note": "pilot"})
    file = site.folder / "token.json"
    file.write_text(json.dumps(site.api(f"/enrolment-tokens/{made['token']}/file")))
    assert fleetward("agent", "enroll", site.home, "--token-file", str(file)).returncode == 0
    settings = Path(site.home, "agent.toml")
    with serving(
        "origin", "serve", str(site.folder / "repo"), "--listen", "127.0.0.1:0"
    ) as elsewhere:
        settings.write_text(settings.read_text().replace(site.relay, elsewhere))
        done = fleetward("agent", "update", site.home)
    assert done.returncode == 0, done.stderr
    assert (site.folder / "content/current/a.yar").read_text() == "rule a {}"
