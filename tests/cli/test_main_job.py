"""The main job by the commands that people and scripts type, over real sockets."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleetward.adapters.disk import SystemDisk
from fleetward.agent.home import Home
from fleetward.cli import agentd
from fleetward.cli.main import run
from httpd.rawhttp import get
from httpd.waiting import wait_until
from support.programs import serving


@dataclass(frozen=True)
class Site:
    """An origin with one release, its server and a relay."""

    folder: Path
    origin: str
    relay: str

    @property
    def repo(self) -> str:
        return str(self.folder / "repo")

    @property
    def keys(self) -> str:
        return str(self.folder / "keys")

    @property
    def root(self) -> str:
        return f"{self.repo}/metadata/1.root.json"

    @property
    def home(self) -> str:
        return str(self.folder / "agent")

    @property
    def current(self) -> Path:
        return self.folder / "content" / "current"

    def publish(self, release: str, **files: str) -> int:
        """Publish, and return once the relay, which may keep a timestamp for seconds, has it."""
        tree = self.folder / "tree"
        tree.mkdir(exist_ok=True)
        for name, content in files.items():
            (tree / f"{name}.yar").write_text(content)
        where = ["--keys", self.keys, "--release", release]
        code = run(["origin", "publish", self.repo, "rules", str(tree), *where])
        newest = Path(f"{self.repo}/metadata/timestamp.json").read_bytes()
        wait_until(lambda: get(self.relay, "/metadata/timestamp.json").body == newest)
        return code

    def init_agent(self, *more: str) -> int:
        follows = ["--source", self.relay, "--subscribe", f"rules={self.current.parent}"]
        return run(["agent", "init", self.home, "--root", self.root, *follows, *more])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    repo, keys = str(tmp_path / "repo"), str(tmp_path / "keys")
    assert run(["origin", "init", repo, "--keys", keys, "--plain-keys"]) == 0
    with (
        serving("origin", "serve", repo, "--listen", "127.0.0.1:0") as origin,
        serving(
            "relay",
            "run",
            "--upstream",
            origin,
            "--cache",
            str(tmp_path / "cache"),
            "--listen",
            "127.0.0.1:0",
        ) as relay,
    ):
        yield Site(tmp_path, origin, relay)


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    out = capsys.readouterr().out
    found: dict[str, Any] = json.loads(out)
    assert next(iter(found)) == "schema"
    return found


def test_a_pilot_from_init_to_rollback(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert site.publish("r1", a="rule a {}") == 0
    assert site.init_agent() == 0
    capsys.readouterr()

    assert run(["agent", "update", site.home, "--json"]) == 0
    told = document(capsys)
    assert told["schema"] == "fleetward.update/1"
    assert told["products"][0]["outcome"] == "installed"
    assert (site.current / "a.yar").read_text() == "rule a {}"

    assert run(["agent", "update", site.home, "--json"]) == 0
    assert document(capsys)["products"][0]["outcome"] == "current"

    assert site.publish("r2", a="rule a {condition: true}", b="rule b {}") == 0
    assert run(["agent", "update", site.home]) == 0
    capsys.readouterr()
    assert (site.current / "b.yar").exists()

    assert run(["agent", "status", site.home, "--json"]) == 0
    status = document(capsys)
    assert list(status)[:3] == ["schema", "host", "products"]
    assert (status["schema"], status["freshness"]) == ("fleetward.status/1", "current")
    product = status["products"][0]
    assert product["release"] == "r2"
    assert (product["state"], product["previous"], product["reason"]) == ("confirmed", "r1", None)
    assert run(["agent", "status", site.home]) == 0
    assert "confirmed" in capsys.readouterr().out

    assert run(["agent", "verify", site.home]) == 0
    (site.current / "a.yar").write_text("rule a {condition: fals}")
    assert run(["agent", "verify", site.home, "--json"]) == 1
    found = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(found)["products"][0]["differences"] == [{"path": "a.yar", "kind": "changed"}]
    assert run(["agent", "verify", site.home]) == 1
    assert "changed  a.yar" in capsys.readouterr().out
    assert run(["agent", "update", site.home, "--repair"]) == 0
    assert run(["agent", "verify", site.home]) == 0
    capsys.readouterr()

    assert run(["agent", "rollback", site.home, "rules"]) == 0
    assert "rolled-back, runs r1" in capsys.readouterr().out
    assert run(["agent", "update", site.home]) == 0
    assert not (site.current / "b.yar").exists()


def test_exit_codes_that_scripts_rely_on(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["agent", "update", str(tmp_path / "none")]) == 12
    assert "is no agent's folder" in capsys.readouterr().err
    assert run(["agent", "update"]) == 2
    assert run(["agent", "frobnicate"]) == 2
    assert run(["relay", "run", "--upstream", "x", "--cache", "/x", "--listen", "nowhere"]) == 2
    assert run(["agent", "init", str(tmp_path / "a")]) == 2
    assert site.init_agent("--root", str(tmp_path / "no.json")) == 12
    (tmp_path / "bad.json").write_text("{}")
    assert site.init_agent("--root", str(tmp_path / "bad.json")) == 10
    assert site.init_agent() == 0
    assert site.init_agent() == 12
    assert run(["agent", "rollback", site.home, "rules"]) == 12
    settings = Path(site.home) / "agent.toml"
    settings.write_text(settings.read_text().replace(site.relay, "http://127.0.0.1:9"))
    assert run(["agent", "update", site.home]) == 11
    assert run(["agent", "update", site.home, "--json"]) == 11
    settings.write_text("sorces = []")
    capsys.readouterr()
    assert run(["agent", "status", site.home]) == 12
    assert "did you mean 'sources'" in capsys.readouterr().err


def test_subscriptions_come_and_go(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert site.publish("r1", a="rule a {}") == 0
    assert site.init_agent("--ring", "canary", "--proxy", "http://127.0.0.1:9") == 0
    other = site.folder / "other"
    assert run(["agent", "subscribe", site.home, f"rules@canary={other}"]) == 0
    assert "canary" in (Path(site.home) / "agent.toml").read_text()
    assert run(["agent", "unsubscribe", site.home, "rules"]) == 0
    assert run(["agent", "unsubscribe", site.home, "rules"]) == 12
    assert "[[subscriptions]]" not in (Path(site.home) / "agent.toml").read_text()
    capsys.readouterr()
    assert run(["agent", "status", site.home]) == 0
    assert "never checked" in capsys.readouterr().out


def test_a_bundle_of_authorities_must_be_there(site: Site, tmp_path: Path) -> None:
    assert site.init_agent("--ca-bundle", str(tmp_path / "no.pem")) == 12


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("fleetward ")
    for words in (["agent", "update"], ["agent", "init"], ["relay", "run"], ["demo"]):
        assert run([*words, "--help"]) == 0
        assert "Example" in capsys.readouterr().out
    assert run([]) in {0, 2}


def test_agent_run_is_one_process_that_ends_with_sigterm(site: Site) -> None:
    assert site.publish("r1", a="rule a {}") == 0
    assert site.init_agent() == 0
    command = [sys.executable, "-m", "fleetward", "agent", "run", site.home]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr
        lines = [program.stderr.readline(), program.stderr.readline()]
        os.kill(program.pid, signal.SIGTERM)
        rest = program.stderr.read()
        assert program.wait(timeout=30) == 0
    assert "begins" in lines[0]
    assert "rules installed, runs r1" in lines[1]
    assert "ended" in rest


def test_the_loops_parts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site.publish("r1", a="rule a {}") == 0
    assert site.init_agent() == 0

    def ends(*_: object, **__: object) -> None:
        raise agentd._EndedError

    monkeypatch.setattr(agentd, "run_loop", ends)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert agentd.main([site.home]) == 0
    report, poll = agentd.updates(Home(SystemDisk(), Path(site.home)))()
    assert report.exit_code == 0
    assert poll.total_seconds() == 600
    with pytest.raises(agentd._EndedError):
        agentd._end(15, None)


def test_agent_run_replaces_its_process(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site.init_agent() == 0
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: started.append(command))
    assert run(["agent", "run", site.home]) == 0
    assert started == [[sys.executable, "-m", "fleetward.cli.agentd", site.home]]
