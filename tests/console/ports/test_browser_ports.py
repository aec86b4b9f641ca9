"""The Ports page in real Chromium, fed by a real agent that watches a real listener."""

import json
import os
import signal
import socket
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
from playwright.sync_api import expect

from console.browsers import ADVICE, Window, chromium, window
from console.programs import PASSWORD, Console
from fleetward.cli.main import run
from support.programs import fleetward, serving

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(chromium() is None, reason=ADVICE),
]

PATIENCE = 30.0
"""Seconds until something must be seen: many check-ins of one second."""


@dataclass(frozen=True)
class Place:
    """A console with one enrolled host.

    Attributes:
        folder: of the test.
        console: its URL.
        home: the agent's folder.
        port: a free port that the agent watches.
    """

    folder: Path
    console: str
    token: str
    home: Path
    port: int

    def api(self, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 (JSON)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.console}/api/v1{path}", content, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (ours)
            return json.loads(answer.read())

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, (self.folder / "agent.log").read_text()
            time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    repo, keys = str(tmp_path / "repo"), str(tmp_path / "keys")
    assert run(["origin", "init", repo, "--keys", keys, "--plain-keys"]) == 0
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.yar").write_text("rule a {}")
    published = ["origin", "publish", repo, "rules", str(tree), "--keys", keys, "--release", "r1"]
    assert run(published) == 0
    console = Console(tmp_path / "console", f"sqlite:///{tmp_path}/console/console.db")
    console.folder.mkdir()
    console.create_admin()
    scopes = ("--scope", "read", "--scope", "operate", "--scope", "administer")
    asked = console.ask("token", "ada", "--name", "test", *scopes)
    assert asked.returncode == 0, asked.stderr
    config = tmp_path / "console.toml"
    config.write_text("[sign_in]\ntotp_for_administrators = false\n[alerts]\nevery = 1\n")
    with (
        serving("origin", "serve", repo, "--listen", "127.0.0.1:0") as origin,
        console.running("--config", str(config)) as url,
        relaying(tmp_path, origin, url) as relay,
    ):
        home = tmp_path / "agent"
        found = Place(tmp_path, url, asked.stdout.split()[-1], home, free_port())
        enrol(found, relay, f"{repo}/metadata/1.root.json")
        yield found


@contextmanager
def relaying(folder: Path, origin: str, console: str) -> Iterator[str]:
    config = folder / "relay.toml"
    config.write_text("[spool]\ndelay = 0.05\n")
    where = ("--upstream", origin, "--console", console, "--cache", str(folder / "cache"))
    with serving("relay", "run", "--config", str(config), *where, "--listen", "127.0.0.1:0") as url:
        yield url


def enrol(place: Place, relay: str, root: str) -> None:
    follows = ["--source", relay, "--subscribe", f"rules={place.folder / 'content'}"]
    assert run(["agent", "init", str(place.home), "--root", root, *follows]) == 0
    made = place.api("/enrolment-tokens", {"note": "pilot"})
    file = place.folder / "token.json"
    file.write_text(json.dumps(place.api(f"/enrolment-tokens/{made['token']}/file")))
    asked = fleetward("agent", "enroll", str(place.home), "--token-file", str(file))
    assert asked.returncode == 0, asked.stderr
    settings = place.home / "agent.toml"
    settings.write_text(settings.read_text().replace("report_every = 60.0", "report_every = 1.0"))
    watched = f"ports = [{place.port}]\ninterval = 1.0\nsettle = 1.0\nrefresh = 2.0\n"
    (place.home / "ports.toml").write_text(watched)


@contextmanager
def running_agent(place: Place) -> Iterator[None]:
    command = [sys.executable, "-m", "fleetward", "agent", "run", str(place.home)]
    path = place.folder / "agent.log"
    with path.open("w") as log, subprocess.Popen(command, stderr=log) as agent:
        try:
            yield
        finally:
            os.kill(agent.pid, signal.SIGTERM)
    said = path.read_text()
    assert agent.returncode == 0, said
    assert "Traceback" not in said


@contextmanager
def listening(port: int, program: Path) -> Iterator[None]:
    """A real listener in a process of its own, whose file anybody may replace: suspicious."""
    script = (
        "import socket,sys\n"
        "s=socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        f"s.bind(('127.0.0.1', {port})); s.listen(); print('on', flush=True)\n"
        "sys.stdin.read()\n"
    )
    program.write_text(script)
    program.chmod(0o666)
    with subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as listener:
        assert listener.stdout
        assert listener.stdout.readline() == "on\n"
        try:
            yield
        finally:
            listener.kill()


def log_in(opened: Window, url: str) -> None:
    page = opened.page
    page.goto(f"{url}/login/")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_a_new_listener_is_on_screen_within_one_check_in(place: Place) -> None:
    """A page that is open shows it by itself; its group, its host's history, its alert, its end."""
    with running_agent(place), window() as opened:
        place.until(lambda: place.api("/hosts")["items"][0]["seen"] is not None)
        log_in(opened, place.console)
        page = opened.page
        page.goto(f"{place.console}/ports/")
        expect(page.get_by_text("No listeners are known.")).to_be_visible()
        opened.look("ports-empty")
        with listening(place.port, place.folder / "odd.py"):
            expect(page.get_by_role("link", name=f"tcp/{place.port}")).to_be_visible(
                timeout=PATIENCE * 1_000
            )
            expect(page.locator("#ports tbody .badge", has_text="new")).to_be_visible()
            opened.look("ports")
            look_at_the_group(opened, place)
            look_at_the_host(opened)
            an_alert_opens(opened, place)
            page.go_back()
        page.goto(f"{place.console}/ports/hosts/{place.api('/hosts')['items'][0]['record']}/")
        expect(page.locator(".timeline strong", has_text="closed")).to_be_visible(
            timeout=PATIENCE * 1_000
        )
        expect(page.get_by_text("Nothing is known to listen.")).to_be_visible()
        opened.look("ports-host-after")
        assert not opened.complaints, "\n".join(opened.complaints)


def look_at_the_group(opened: Window, place: Place) -> None:
    page = opened.page
    page.keyboard.press("Tab")
    page.get_by_role("link", name=f"tcp/{place.port}").press("Enter")
    expect(page.get_by_role("heading", name="Why, and what to do")).to_be_visible()
    expect(page.get_by_text("writable-by-anyone").first).to_be_visible()
    expect(page.get_by_text("Anybody on the host can replace its file.")).to_be_visible()
    expect(page.get_by_text("take the write permission away")).to_be_visible()
    opened.look("ports-group")
    page.get_by_role("link", name="Investigate").click()
    expect(page.get_by_role("heading", name="Investigate port 2967")).to_be_visible()
    opened.look("ports-guide")
    page.go_back()


def look_at_the_host(opened: Window) -> None:
    page = opened.page
    page.locator("#group tbody a.row-link").first.click()
    expect(page.get_by_role("heading", name="Listens now")).to_be_visible()
    expect(page.locator(".timeline strong", has_text="opened")).to_be_visible()
    opened.look("ports-host")
    page.get_by_role("link", name="Host", exact=True).click()
    page.get_by_role("link", name="Ports", exact=True).last.click()
    expect(page.get_by_role("heading", name="Listens now")).to_be_visible()


def an_alert_opens(opened: Window, place: Place) -> None:
    page = opened.page
    place.until(
        lambda: any(row["kind"] == "suspicious-listener" for row in place.api("/alerts")["items"])
    )
    page.goto(f"{place.console}/alerts/?kind=suspicious-listener")
    page.get_by_role("link", name=f"tcp/{place.port}").click()
    expect(page.get_by_text("What to do next")).to_be_visible()
    opened.look("ports-alert")
