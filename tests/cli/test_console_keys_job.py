"""A console's keys by commands: signed offline, learned by a host, rotated, and the old one refused.

A real origin, console and agent. The old key is in the wrong hands at the end: a second console runs
with it at an address of its own, on the same database, and orders a roll-back.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cli.test_console_job import Site
from console.programs import Console
from fleetward.cli.main import run
from support.programs import fleetward, serving

PATIENCE = 60.0
"""Seconds."""


@dataclass
class Fleet:
    """An origin that serves, and a console that may be stopped and started."""

    folder: Path
    origin: str
    console: Console
    token: str
    url: str = ""
    running: ExitStack = field(default_factory=ExitStack)

    @property
    def home(self) -> Path:
        return self.folder / "agent"

    @property
    def site(self) -> Site:
        return Site(self.folder, self.origin, self.url, self.token)

    def start(self) -> None:
        """Start the console anew, with the keys that it has now."""
        self.running.close()
        self.url = self.running.enter_context(self.console.running())

    def keys(self, *step: str) -> list[dict[str, Any]]:
        """What `console keys --json` prints for the fleet keys, which name the console's URL."""
        asked = self.console.ask("keys", "--json", "--name", "main", "--url", self.url, *step)
        assert asked.returncode == 0, asked.stderr
        (self.folder / "console-keys.json").write_text(asked.stdout)
        found: list[dict[str, Any]] = json.loads(asked.stdout)["keys"]
        return found

    def sign(self, pairs: list[dict[str, Any]]) -> None:
        """The fleet keys sign these pairs."""
        file = self.folder / "to-sign.json"
        file.write_text(json.dumps({"schema": "fleetward.console-keys/1", "keys": pairs}))
        words = ["origin", "console", str(self.folder / "repo"), "--pins", str(file)]
        assert run([*words, "--keys", str(self.folder / "keys")]) == 0

    def init_agent(self, home: Path) -> None:
        follows = ["--source", self.origin, "--subscribe", f"rules={home}-content"]
        root = str(self.folder / "repo/metadata/1.root.json")
        assert run(["agent", "init", str(home), "--root", root, *follows]) == 0

    def token_file(self) -> Path:
        made = self.site.api("/enrolment-tokens", {"note": "pilot"})
        file = self.folder / "token.json"
        file.write_text(json.dumps(self.site.api(f"/enrolment-tokens/{made['token']}/file")))
        return file

    def update(self) -> None:
        done = fleetward("agent", "update", str(self.home))
        assert done.returncode == 0, done.stderr

    def events(self) -> list[tuple[str, str]]:
        """Kind and detail of what the host told, as the console shows it."""
        record = self.site.host()["record"]
        rows = self.site.api(f"/hosts/{record}/events")["items"]
        return [(row["kind"], row["detail"]) for row in rows]

    def runs(self) -> tuple[str, str]:
        return self.site.runs()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    repo = str(tmp_path / "repo")
    assert run(["origin", "init", repo, "--keys", str(tmp_path / "keys"), "--plain-keys"]) == 0
    console = Console(tmp_path / "console", f"sqlite:///{tmp_path}/console/console.db")
    console.folder.mkdir()
    console.create_admin()
    scopes = ("--scope", "read", "--scope", "operate", "--scope", "administer")
    asked = console.ask("token", "ada", "--name", "test", *scopes)
    assert asked.returncode == 0, asked.stderr
    with serving("origin", "serve", repo, "--listen", "127.0.0.1:0") as origin:
        made = Fleet(tmp_path, origin, console, asked.stdout.split()[-1])
        with made.running:
            made.start()
            yield made


def until(condition: Callable[[], bool], why: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.2)


@contextmanager
def stolen(fleet: Fleet, before: Path) -> Iterator[str]:
    """A console with the old keys, on a copy of the old database; give its URL."""
    thief = Console(before, f"sqlite:///{before}/console.db")
    with thief.running() as url:
        yield url


def test_keys_are_signed_learned_and_rotated_and_the_old_one_is_refused(fleet: Fleet) -> None:
    fleet.site.publish("r1", "rule a {}")
    (old,) = fleet.keys()
    fleet.sign([old])
    fleet.init_agent(fleet.home)
    enrolled = fleetward(
        "agent", "enroll", str(fleet.home), "--token-file", str(fleet.token_file())
    )
    assert enrolled.returncode == 0, enrolled.stderr
    fleet.update()
    until(lambda: fleet.runs() == ("r1", "confirmed"), fleet.site.host)
    record = fleet.site.host()["record"]
    assert "enrolled" in [kind for kind, _ in fleet.events()]

    # A thief copies the console with its keys; the host has reported to it until here.
    backup = fleet.folder / "stolen"
    assert fleet.console.ask("backup", str(backup)).returncode == 0
    assert json.loads((fleet.home / "signed-console.json").read_text())["keys"] == [old]

    # The keys rotate: prepared and signed, switched, the old pair taken out.
    pairs = fleet.keys("--prepare")
    assert pairs[0]["signing"] == old["signing"]
    fleet.sign(pairs)
    fleet.update()
    fleet.running.close()
    assert [pair["signing"] for pair in fleet.keys("--switch")] == [
        pair["signing"] for pair in reversed(pairs)
    ]
    fleet.start()
    (new, _) = fleet.keys()
    fleet.site.publish("r2", "rule b {}")
    fleet.sign([new])
    fleet.update()
    until(lambda: fleet.runs() == ("r2", "confirmed"), fleet.site.host)
    assert len(fleet.keys("--retire")) == 1

    # The thief's console orders a roll-back, signed with the old key, where the host asks first.
    with stolen(fleet, backup) as evil:
        wanted = {"records": [record], "kind": "roll-back", "product": "rules"}
        Site(fleet.folder, fleet.origin, evil, fleet.token).api("/directives", wanted)
        ask_first(fleet, evil)
        fleet.site.publish("r3", "rule c {}")
        done = fleetward("agent", "update", str(fleet.home))
    assert done.returncode == 0, done.stderr
    until(lambda: fleet.runs() == ("r3", "confirmed"), fleet.site.host)
    refused = [detail for kind, detail in fleet.events() if kind == "refused-source"]
    assert refused == ["an inbox: signed by no console key that this host trusts"]
    assert not fleet.site.api(f"/directives?record={record}")["items"]


def ask_first(fleet: Fleet, evil: str) -> None:
    """Somebody leads the host to a carrier of his own, for instance by DNS."""
    settings = fleet.home / "agent.toml"
    settings.write_text(
        settings.read_text().replace(f'"{fleet.origin}"', f'"{evil}", "{fleet.origin}"')
    )
    noted = fleet.home / "reports/noted.json"
    memory = json.loads(noted.read_text())
    noted.write_text(json.dumps({**memory, "carrier": evil}))


def test_a_token_file_of_a_console_that_is_not_signed_enrols_nobody(fleet: Fleet) -> None:
    """The fleet keys name the console's next pair alone, as after a theft; the token file is older."""
    file = fleet.token_file()
    pairs = fleet.keys("--prepare")
    fleet.sign(pairs[1:])
    fleet.init_agent(fleet.home)
    refused = fleetward("agent", "enroll", str(fleet.home), "--token-file", str(file))
    assert refused.returncode == 10
    assert "the fleet keys do not" in refused.stderr
    assert fleet.site.host() == {}
    assert not (fleet.home / "host.key").exists()


def test_before_the_first_document_the_token_file_is_believed(fleet: Fleet) -> None:
    fleet.site.publish("r1", "rule a {}")
    fleet.init_agent(fleet.home)
    file = fleet.token_file()
    asked = fleetward("agent", "enroll", str(fleet.home), "--token-file", str(file))
    assert asked.returncode == 0, asked.stderr
    fleet.update()
    until(lambda: fleet.runs() == ("r1", "confirmed"), fleet.site.host)
    assert not (fleet.home / "signed-console.json").exists()


def test_two_of_three_sign_it(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """The fleet keys lie apart: with one of them the document waits, with the second it is live."""
    fleet.keys()
    repo, keys = str(fleet.folder / "repo"), fleet.folder / "keys"
    away = fleet.folder / "away"
    away.mkdir()
    for number in (2, 3):
        (keys / f"offline/fleet-{number}.pem").rename(away / f"fleet-{number}.pem")
    pins = ["--pins", str(fleet.folder / "console-keys.json"), "--keys", str(keys)]
    assert run(["origin", "console", repo, *pins]) == 0
    assert "fleet waits for 1 more signature" in capsys.readouterr().out
    assert run(["origin", "console", repo, "--show"]) == 0
    assert "no console is signed" in capsys.readouterr().out
    (away / "fleet-2.pem").rename(keys / "offline/fleet-2.pem")
    assert run(["origin", "sign", repo, "--keys", str(keys)]) == 0
    assert run(["origin", "console", repo, "--show"]) == 0
    assert fleet.url in capsys.readouterr().out


def test_one_step_at_a_time(fleet: Fleet) -> None:
    assert fleet.console.ask("keys", "--prepare", "--switch").returncode == 2
    early = fleet.console.ask("keys", "--switch")
    assert early.returncode == 12
    assert "--prepare" in early.stderr
