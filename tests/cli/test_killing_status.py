"""Console, relay and agents are killed at random while hosts report; no event is lost or doubled (P7).

Real processes: `fleetward console run`, `fleetward relay run`, and hosts that run the agent's own code
(cli.reporting_hosts). Each is ended with SIGKILL at random instants, also while it starts, and begins
again on the same folder. What must hold is looked at the whole time:

- an event that a host saw acknowledged is in the console's database at that moment, not only later
- no acknowledgement and no check-in number goes back

and once all is quiet: every event that a host has recorded is stored exactly once with its words, and
nothing else is; no host looks like two; the database is whole. Only a SIGKILL is tried here; what power
loss leaves is tried where each file is written (tests/agent/test_events.py, tests/relay/test_spool.py).
"""

import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from console.databases import on_postgresql
from console.postgresqls import ADVICE, server
from console.programs import Console, fetch, free_port
from fleetward.agent.checkins import DATAGRAMS_BETWEEN
from fleetward.cli.main import run
from support.programs import serving

TESTS = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Plan:
    """How much is done, and how long each program lives on average, in seconds."""

    agents: int
    hosts: int
    check_ins: int
    console_life: float
    relay_life: float
    agent_life: float
    patience: float


LOST = DATAGRAMS_BETWEEN + 1
"""Of a host's last check-ins, how many may never come: datagrams, and one that was not sent."""

SETTLES = 60
"""Seconds in which a relay that is up has brought the last check-in."""

SMALL = Plan(2, 6, 60, console_life=5, relay_life=3, agent_life=4, patience=150)
LARGE = Plan(4, 10, 500, console_life=15, relay_life=10, agent_life=10, patience=1800)


# -- programs that are killed ------------------------------------------------------------------------


@dataclass
class Mortal:
    """A program that is killed now and then, and begins again on the same folder.

    Attributes:
        name: for people.
        command: what is run.
        log: takes its standard error, life after life.
        life: how long it lives on average once it works, in seconds.
        works: what it says as soon as it does.
    """

    name: str
    command: list[str]
    log: Path
    life: float
    works: bytes = b"listening on"
    kills: int = 0
    span: float = 0.0
    dies: float = math.inf
    begun: int = 0
    program: "subprocess.Popen[bytes] | None" = None

    def start(self, chance: random.Random) -> None:
        """Begin a life; every fifth may end before it works."""
        with self.log.open("ab") as log:
            self.begun = log.tell()
            path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
            env = os.environ | {"PYTHONPATH": path, "PYTHONFAULTHANDLER": "1"}
            self.program = subprocess.Popen(self.command, stderr=log, env=env)
        is_early = chance.random() < 0.2
        self.span = chance.uniform(0.1, 3.0 if is_early else 2 * self.life)
        self.dies = time.monotonic() + self.span if is_early else math.inf

    def live(self, chance: random.Random) -> bool:
        """Kill it where its time has come, and start it again; return whether it has ended well."""
        assert self.program
        code = self.program.poll()
        if code is not None:
            assert code == 0, f"{self.name} ended by itself: {self.log.read_text()[-3000:]}"
            return True
        if self.dies == math.inf and self._works():
            self.dies = time.monotonic() + self.span
        if self.dies <= time.monotonic():
            os.kill(self.program.pid, signal.SIGKILL)
            self.program.wait(30)
            self.kills += 1
            self.start(chance)
        return False

    def _works(self) -> bool:
        return self.works in self.log.read_bytes()[self.begun :]

    def end(self) -> None:
        """End it as an operator does."""
        assert self.program
        self.program.terminate()
        assert self.program.wait(60) == 0, self.log.read_text()[-3000:]

    def destroy(self) -> None:
        if self.program and self.program.poll() is None:
            self.program.kill()
            self.program.wait(30)


# -- what the console has, and what hosts have ---------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """The console's database, looked at from outside."""

    url: str

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what a query gives; it changes nothing, and mends nothing that a kill has left."""
        if self.url.startswith("sqlite:"):
            path = self.url.removeprefix("sqlite:///")
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as file:
                return file.execute(query.replace("%s", "?"), values).fetchall()
        with psycopg.connect(self.url) as connection:
            return connection.execute(query, values).fetchall()


@dataclass(frozen=True)
class Host:
    """One host's folder."""

    folder: Path

    def read(self, name: str) -> str:
        with suppress(FileNotFoundError):
            return (self.folder / name).read_text()
        return ""

    def key(self, store: Store) -> int:
        """Return the primary key of the host's key at the console."""
        query = "SELECT h.key_id FROM fleet_host h WHERE h.name = %s"
        found = store.rows(query, self.folder.name)
        assert len(found) == 1, found
        key: int = found[0][0]
        return key

    def recorded(self) -> list[tuple[str, int, dict[str, Any]]]:
        """Return epoch, number and words of each event in the agent's spool."""
        head, *lines = self.read("reports/events.log").splitlines()
        schema, epoch, base = head.split(" ")
        assert (schema, base) == ("fleetward.events/1", "0"), "nothing is old enough to go"
        numbered = [line.split(" ", 2)[1:] for line in lines]
        return [(epoch, int(e), json.loads(content)) for e, content in numbered]


@dataclass
class Witness:
    """Looks the whole time: at the ledgers of hosts, and at the console's database."""

    store: Store
    hosts: Sequence[Host]
    read: Counter[Path] = field(default_factory=Counter)
    acknowledged: dict[Path, tuple[str, int]] = field(default_factory=dict)
    numbers: dict[int, tuple[str, int]] = field(default_factory=dict)
    looks: int = 0

    def look(self) -> None:
        """Compare; where the database cannot be opened at this moment, at the next look."""
        news = {host: told for host in self.hosts if (told := self._told(host))}
        if news:
            self._compare(news)
        query = "SELECT key_id, epoch, greatest_n FROM fleet_presence"
        for key, epoch, n in self.store.rows(query):
            before = self.numbers.get(key, (epoch, 0))
            assert (epoch, n) >= before, f"key {key} went back from {before} to {(epoch, n)}"
            assert epoch == before[0], "no state directory was made anew"
            self.numbers[key] = (epoch, n)
        self.looks += 1

    def _told(self, host: Host) -> tuple[str, int] | None:
        """Return the newest acknowledgement that a host has noted since the last look."""
        lines = host.read("ledger").splitlines()
        fresh = [line.split(" ") for line in lines[self.read[host.folder] :]]
        self.read[host.folder] = len(lines)
        newest = self.acknowledged.get(host.folder, ("", 0))
        found = None
        for epoch, e in ((words[1], int(words[2])) for words in fresh if words[0][0] == "a"):
            assert e >= newest[1], f"{host.folder.name}: acknowledged {newest}, then {e}"
            assert newest[0] in {"", epoch}, f"{host.folder.name} began a new epoch"
            found = newest = (epoch, e)
        self.acknowledged[host.folder] = newest
        return found

    def _compare(self, news: dict[Host, tuple[str, int]]) -> None:
        for host, (epoch, e) in news.items():
            query = "SELECT count(*) FROM fleet_event WHERE key_id=%s AND epoch=%s AND e <= %s"
            there = self.store.rows(query, host.key(self.store), epoch, e)[0][0]
            assert there == e, f"{host.folder.name} saw {e} events acknowledged; {there} are stored"


# -- a site -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """A whole site: what is killed, and who looks."""

    plan: Plan
    console: Mortal
    relay: Mortal
    agents: list[Mortal]
    hosts: list[Host]
    store: Store
    url: str
    token: str
    chance: random.Random

    @property
    def mortals(self) -> list[Mortal]:
        return [self.console, self.relay, *self.agents]

    def live(self) -> Witness:
        """Let all live and die until every host has reported often enough and all is heard."""
        witness = Witness(self.store, self.hosts)
        end = time.monotonic() + self.plan.patience
        for mortal in self.agents:
            mortal.start(self.chance)
        while sum(agent.live(self.chance) for agent in self.agents) < len(self.agents):
            assert time.monotonic() < end, self.told()
            for mortal in (self.console, self.relay):
                assert not mortal.live(self.chance), f"{mortal.name} has ended"
            with suppress(sqlite3.OperationalError):
                witness.look()
            time.sleep(0.05)
        witness.look()
        return witness

    def told(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(f"{m.name}: {m.log.read_text()[-1500:]}" for m in self.mortals)

    def api(self, path: str) -> Any:  # noqa: ANN401 (JSON)
        """Return what the API says, once the console has started again."""
        end = time.monotonic() + 60
        while True:
            with suppress(OSError):
                status, _, body = fetch(
                    f"{self.url}/api/v1{path}", {"Authorization": f"Bearer {self.token}"}
                )
                assert status == 200, body
                return json.loads(body)
            assert time.monotonic() < end, self.console.log.read_text()[-3000:]
            time.sleep(0.1)


@contextmanager
def a_site(folder: Path, db: str, plan: Plan, seed: int) -> Iterator[Site]:
    """Make an origin, a console, a relay and hosts; whatever happens, nothing is left running."""
    console = Console(folder / "console", db)
    console.folder.mkdir()
    url = f"http://127.0.0.1:{free_port()}"
    repo, keys = str(folder / "repo"), str(folder / "keys")
    assert run(["origin", "init", repo, "--keys", keys, "--plain-keys"]) == 0
    token_file, token = console.enrolment(url, plan.agents * plan.hosts)
    (folder / "token.json").write_bytes(token_file)
    with ExitStack() as stack:
        origin = stack.enter_context(serving("origin", "serve", repo, "--listen", "127.0.0.1:0"))
        relay_url = f"http://127.0.0.1:{free_port()}"
        mortals = [
            Mortal(
                "console",
                console.command("run", "--listen", url.removeprefix("http://")),
                folder / "console.log",
                plan.console_life,
            ),
            Mortal(
                "relay",
                relay_command(folder, origin, url, relay_url.removeprefix("http://")),
                folder / "relay.log",
                plan.relay_life,
            ),
            *[agent(folder, n, plan, relay_url, seed) for n in range(plan.agents)],
        ]
        chance = random.Random(seed)
        for mortal in mortals:
            stack.callback(mortal.destroy)
        for mortal in mortals[:2]:
            mortal.start(chance)
        hosts = [Host(folder / f"host-{n:03}") for n in range(plan.agents * plan.hosts)]
        yield Site(plan, mortals[0], mortals[1], mortals[2:], hosts, Store(db), url, token, chance)


def relay_command(folder: Path, origin: str, console: str, listen: str) -> list[str]:
    config = folder / "relay.toml"
    config.write_text('[spool]\ndelay = 0.05\ndownstream = ["127.0.0.0/8"]\n')
    where = ["--upstream", origin, "--console", console, "--cache", str(folder / "cache")]
    program = [sys.executable, "-m", "fleetward", "relay", "run", "--config", str(config)]
    return [*program, *where, "--listen", listen]


def agent(folder: Path, number: int, plan: Plan, relay: str, seed: int) -> Mortal:
    """A process with some hosts."""
    words = [folder, folder / "token.json", relay, number * plan.hosts, plan.hosts, plan.check_ins]
    return Mortal(
        f"agents {number}",
        [sys.executable, "-m", "cli.reporting_hosts", *map(str, words), str(seed)],
        folder / f"agents-{number}.log",
        plan.agent_life,
        works=b"reporting",
    )


# -- what must hold -----------------------------------------------------------------------------------


def require_stored_once(site: Site) -> int:
    """Compare what hosts recorded with what is stored, event by event; return how many."""
    count = 0
    fields = ("kind", "product", "release", "subject", "detail")
    query = f"SELECT epoch, e, at, {', '.join(fields)} FROM fleet_event WHERE key_id = %s"  # noqa: S608
    for host in site.hosts:
        rows = site.store.rows(query, host.key(site.store))
        stored = Counter((r[0], r[1], _instant(r[2]), *r[3:]) for r in rows)
        recorded = Counter(
            (epoch, e, _instant(said["at"]), *(said[name] for name in fields))
            for epoch, e, said in host.recorded()
        )
        assert stored == recorded, host.folder.name
        assert set(stored.values()) <= {1}
        ledger = [line.split(" ") for line in host.read("ledger").splitlines()]
        durable = {(w[1], int(w[2]), w[3]) for w in ledger if w[0] == "recorded"}
        assert durable <= {(epoch, e, said["subject"]) for epoch, e, said in host.recorded()}
        assert durable
        count += len(recorded)
    total = site.store.rows("SELECT count(*) FROM fleet_event")[0][0]
    assert total == count, "nothing else is stored"
    return count


def _instant(stored: object) -> datetime:
    found = stored if isinstance(stored, datetime) else datetime.fromisoformat(str(stored))
    return found.replace(tzinfo=None)


def settled(site: Site, record: str, drawn: int) -> dict[str, Any]:
    """Return what is shown of a host once its newest check-in that cannot be lost is there.

    The last number may have been drawn in the instant in which the process ended, and those before it
    sent by datagram to a relay that was dead; each tenth goes by TCP.
    """
    end = time.monotonic() + SETTLES
    while True:
        detail: dict[str, Any] = site.api(f"/hosts/{record}")
        if detail["presence"]["n"] >= drawn - LOST or time.monotonic() >= end:
            return detail
        time.sleep(0.2)


def require_one_of_each(site: Site) -> int:
    """Look at each host as people do: its number is its own newest, and it is one host."""
    check_ins = 0
    shown = site.api("/hosts?limit=200")["items"]
    assert len(shown) == len(site.hosts)
    for row in shown:
        state = json.loads(
            Host(site.hosts[0].folder.parent / row["name"]).read("reports/state.json")
        )
        detail = settled(site, row["record"], state["n"])
        presence = detail["presence"]
        assert detail["cloned"] is None, detail
        assert len(detail["keys"]) == 1, "asking again makes no other key"
        assert presence["epoch"] == state["epoch"]
        assert state["n"] - LOST <= presence["n"] <= state["n"]
        assert state["n"] >= site.plan.check_ins
        check_ins += state["n"]
    assert site.store.rows("SELECT count(*) FROM fleet_retiredepoch") == [(0,)]
    return check_ins


def all_live_and_die(folder: Path, db: str, plan: Plan, seed: int) -> None:
    print(f"seed {seed}")
    begun = time.monotonic()
    with a_site(folder, db, plan, seed) as site:
        witness = site.live()
        check_ins = require_one_of_each(site)
        events = require_stored_once(site)
        site.relay.end()
        site.console.end()
        if db.startswith("sqlite:"):
            assert site.store.rows("PRAGMA integrity_check") == [("ok",)]
        assert Console(folder / "console", db).ask("audit", "verify").returncode == 0
        kills = {m.name: m.kills for m in site.mortals}
        assert all(kills.values()), f"somebody was never killed: {kills}"
        assert witness.looks > 10
        for mortal in site.agents:
            assert "Traceback" not in mortal.log.read_text(), mortal.log.read_text()[-3000:]
    print(f"{check_ins} check-ins, {events} events, kills {kills}, {witness.looks} looks")
    print(f"{time.monotonic() - begun:.0f} s")


SEED = int(os.environ.get("FLEETWARD_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)


def test_a_thousand_check_ins(tmp_path: Path) -> None:
    all_live_and_die(tmp_path, f"sqlite:///{tmp_path}/console/console.db", SMALL, SEED)


@pytest.mark.slow
def test_twenty_thousand_check_ins(tmp_path: Path) -> None:
    all_live_and_die(tmp_path, f"sqlite:///{tmp_path}/console/console.db", LARGE, SEED)


@pytest.mark.slow
@pytest.mark.postgresql
def test_twenty_thousand_check_ins_on_postgresql(tmp_path: Path) -> None:
    with server() as url:
        if url is None:
            pytest.skip(ADVICE)
        with on_postgresql(url) as db:
            all_live_and_die(tmp_path, db, LARGE, SEED)
