"""kill -9 of console, relay and hosts at random: every acknowledged event is stored exactly once.

Two hosts report to a real console, one through a real relay, one directly; the three kinds of
processes are killed again and again and come back. Whatever a host was told is stored (a signature
of the console says so) is looked up in the console's database after each kill of the console.
`make slow` brings 20,000 events; `make test` a few hundred. The seed is printed.
"""

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SEED = random.SystemRandom().randrange(1 << 32)

TESTS = str(Path(__file__).parents[1])

MAKE_TOKEN = """
import sys
from pathlib import Path
from fleetward.adapters.disk import SystemDisk
from fleetward.config.console import ConsoleFileSettings
from fleetward.console.starting import start_django
from fleetward.console.wiring import Wiring
start_django(SystemDisk(), Wiring(settings=ConsoleFileSettings(db=sys.argv[1], url=sys.argv[2])))
from fleetward.console.audit.chain import SYSTEM
from fleetward.console.fleet.keys import console_keys
from fleetward.console.fleet.tokens import TokenWish, make_token, token_file
token = make_token(SYSTEM, TokenWish(uses=10))
sys.stdout.buffer.write(token_file(SYSTEM, token, console_keys()[0]))
"""


@dataclass
class Program:
    """A program that is killed and comes back; a server keeps its port."""

    command: list[str]
    log: Path
    serves: bool = False
    url: str = ""
    kills: int = 0
    process: "subprocess.Popen[str] | None" = field(default=None, repr=False)

    def start(self) -> str:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.command],
                stdout=log,
                stderr=subprocess.PIPE if self.serves else log,
                text=True,
                env={**os.environ, "PYTHONPATH": TESTS},
            )
        if self.serves:
            assert self.process.stderr
            first = self.process.stderr.readline()
            assert first.startswith("listening on http"), first + self.process.stderr.read()
            self.url = first.split()[-1]
            self.command = [
                self.url.rpartition("/")[2] if part == "127.0.0.1:0" else part
                for part in self.command
            ]
        return self.url

    @property
    def has_ended(self) -> bool:
        assert self.process
        return self.process.poll() is not None

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()
        if self.process.stderr:
            self.process.stderr.close()
        self.kills += 1


class Fleet:
    """A console, a relay, two hosts."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        db = f"sqlite:///{folder}/console.db"
        self.console = Program(
            ["fleetward", "console", "run", "--db", db, "--listen", "127.0.0.1:0"],
            folder / "console.log",
            serves=True,
        )
        url = self.console.start()
        relay = ["fleetward", "relay", "run", "--upstream", "http://127.0.0.1:1"]
        relay += ["--cache", f"{folder}/cache", "--listen", "127.0.0.1:0", "--console", url]
        self.relay = Program(relay, folder / "relay.log", serves=True)
        carrier = self.relay.start()
        token = subprocess.run(
            [sys.executable, "-c", MAKE_TOKEN, db, url], capture_output=True, check=True, timeout=60
        ).stdout
        self.hosts = [self._host("direct", token), self._host("carried", token, carrier)]

    def _host(self, name: str, token: bytes, *sources: str) -> Program:
        home = self.folder / name
        home.mkdir()
        (home / "token.json").write_bytes(token)
        command = ["support.reportinghost", str(home), str(self.count), *sources]
        host = Program(command, self.folder / f"{name}.log")
        host.start()
        return host

    def end(self) -> None:
        for program in (*self.hosts, self.relay, self.console):
            program.kill()

    def diary(self, name: str) -> list[list[str]]:
        text = (self.folder / name / "diary").read_text() if self._has(name) else ""
        return [line.split() for line in text.splitlines()]

    def _has(self, name: str) -> bool:
        return (self.folder / name / "diary").exists()

    def stored(self) -> list[tuple[str, str, int, str]]:
        """Every event in the console's database: host, epoch, number, words."""
        query = (
            "SELECT h.name, e.epoch, e.e, e.detail || e.subject FROM fleet_event e "
            "JOIN fleet_host h ON h.id = e.host_id"
        )
        with sqlite3.connect(self.folder / "console.db", timeout=30) as database:
            found = database.execute(query).fetchall()
        database.close()
        return found

    def require_acknowledged_are_stored(self) -> None:
        stored: dict[tuple[str, str], set[int]] = {}
        for host, epoch, e, _ in self.stored():
            stored.setdefault((host, epoch), set()).add(e)
        for name in ("direct", "carried"):
            acked = [line[1:] for line in self.diary(name) if line[0] == "acked" and len(line) == 3]
            if acked:
                epoch, greatest = acked[-1]
                missing = set(range(1, int(greatest) + 1)) - stored.get((name, epoch), set())
                assert not missing, f"{name} was told that {missing} are stored; seed {SEED}"

    def require_exactly_once(self) -> None:
        words = Counter(detail for *_, detail in self.stored())
        assert set(words.values()) == {1}, (words.most_common(3), SEED)
        for name in ("direct", "carried"):
            lines = self.diary(name)
            recorded = {f"{name} {line[1]}" for line in lines if line[0] == "recorded"}
            assert recorded <= set(words), (sorted(recorded - set(words))[:5], SEED)
            intended = {f"{name} {line[1]}" for line in lines if line[0] == "intend"}
            assert len(intended) == self.count


def storm(fleet: Fleet, chance: random.Random, kills: int) -> None:
    """Kill and start again, until the hosts are done or enough were killed."""
    for _ in range(kills):
        victim = chance.choice([fleet.console, fleet.relay, *fleet.hosts, *fleet.hosts])
        if all(host.has_ended for host in fleet.hosts):
            return
        running = next(host for host in fleet.hosts if not host.has_ended)
        assert running.process
        with contextlib.suppress(subprocess.TimeoutExpired):  # early where the host is done
            running.process.wait(chance.uniform(0.1, 2.0))
        if victim.has_ended:
            continue
        victim.kill()
        if victim is fleet.console:
            fleet.require_acknowledged_are_stored()
        victim.start()


def run(folder: Path, count: int, kills: int, patience: float) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    fleet = Fleet(folder, count)
    try:
        storm(fleet, chance, kills)
        for host in fleet.hosts:
            assert host.process
            assert host.process.wait(patience) == 0, host.log.read_text()
        fleet.require_acknowledged_are_stored()
        fleet.require_exactly_once()
        assert sum(p.kills for p in (fleet.console, fleet.relay, *fleet.hosts)) > 0
    finally:
        fleet.end()


def test_a_storm_of_kills_loses_and_repeats_nothing(tmp_path: Path) -> None:
    run(tmp_path, count=150, kills=8, patience=90)


@pytest.mark.slow
def test_twenty_thousand_events_through_a_long_storm(tmp_path: Path) -> None:
    run(tmp_path, count=10_000, kills=400, patience=1800)
