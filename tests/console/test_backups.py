"""Backup and restore of a console on SQLite."""

import re
import shlex
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from console.programs import Console, free_port
from fleetward.adapters.clock import SystemClock
from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.entropy import SystemEntropy
from fleetward.agent.acting import AgentActs
from fleetward.agent.checkins import Outcome, Reporter, Seen, Way
from fleetward.agent.enrolling import enrol, load_enrolled, read_token_file
from fleetward.agent.events import EventSpool
from fleetward.agent.home import Home
from fleetward.agent.noticing import happening
from fleetward.agent.wiring import http_session
from fleetward.cli import main
from fleetward.config.agent import NetworkSettings
from fleetward.console.backups import back_up, restore
from fleetward.core.enrolment import HostFacts, Standing
from fleetward.core.status import EventKind
from fleetward.errors import ConfigurationError

CONSOLE_MD = Path(__file__).resolve().parents[2] / "docs/console.md"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A console's folder: a database that is open in WAL, a secret key, keys of its own."""
    folder = tmp_path / "console"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "my.db")) as file:
        file.execute("PRAGMA journal_mode=WAL")
        file.execute("CREATE TABLE things (name TEXT)")
        file.executemany("INSERT INTO things VALUES (?)", [(f"thing {n}",) for n in range(999)])
        file.commit()
    for name in ("console.secret", "console.key", "console-previous.key", "unrelated.txt"):
        (folder / name).write_text(name)
    return folder


def things(path: Path) -> int:
    with closing(sqlite3.connect(path)) as file:
        count: int = file.execute("SELECT count(*) FROM things").fetchone()[0]
        return count


def test_a_backup_is_the_console_with_its_keys_for_the_owner_alone(
    kept: Path, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    back_up(SystemDisk(), kept / "my.db", kept, backup)
    names = {path.name for path in backup.iterdir()}
    assert names == {"console.db", "console.secret", "console.key", "console-previous.key"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in backup.iterdir())
    assert things(backup / "console.db") == 999


def test_what_is_written_meanwhile_is_in_it_whole_or_not_at_all(kept: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(kept / "my.db")) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM things")
        back_up(SystemDisk(), kept / "my.db", kept, tmp_path / "backup")
        writer.commit()
    assert things(tmp_path / "backup" / "console.db") == 999
    assert things(kept / "my.db") == 0


def test_a_restored_console_is_the_one_that_was(kept: Path, tmp_path: Path) -> None:
    back_up(SystemDisk(), kept / "my.db", kept, tmp_path / "backup")
    new = tmp_path / "elsewhere" / "new.db"
    restore(SystemDisk(), tmp_path / "backup", new, new.parent)
    assert things(new) == 999
    assert (new.parent / "console.key").read_text() == "console.key"


def test_nothing_that_exists_is_overwritten(kept: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="exists already"):
        back_up(SystemDisk(), kept / "my.db", kept, kept)
    back_up(SystemDisk(), kept / "my.db", kept, tmp_path / "backup")
    with pytest.raises(ConfigurationError, match="move it away"):
        restore(SystemDisk(), tmp_path / "backup", kept / "my.db", kept)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_what_a_killed_console_left_gets_into_no_restored_one(
    kept: Path, tmp_path: Path, suffix: str
) -> None:
    """The database was moved away, and its log was not: SQLite would play it into the new one."""
    back_up(SystemDisk(), kept / "my.db", kept, tmp_path / "backup")
    left = tmp_path / f"new.db{suffix}"
    left.write_bytes(b"changes of the old database")
    with pytest.raises(ConfigurationError, match=rf"new\.db{suffix} exists: move it away"):
        restore(SystemDisk(), tmp_path / "backup", tmp_path / "new.db", tmp_path)
    assert not (tmp_path / "new.db").exists()
    left.unlink()
    restore(SystemDisk(), tmp_path / "backup", tmp_path / "new.db", tmp_path)
    assert things(tmp_path / "new.db") == 999


def test_what_is_no_console_or_no_backup_is_named(kept: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no database at"):
        back_up(SystemDisk(), kept / "none.db", kept, tmp_path / "b1")
    with pytest.raises(ConfigurationError, match="no backup"):
        restore(SystemDisk(), kept, tmp_path / "x.db", tmp_path)
    (kept / "bad.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(ConfigurationError, match="no database"):
        back_up(SystemDisk(), kept / "bad.db", kept, tmp_path / "b2")


def test_the_commands(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = str(tmp_path / "backup")
    assert main.run(["console", "backup", backup, "--db", f"sqlite:///{kept}/my.db"]) == 0
    new = f"sqlite:///{tmp_path}/new/new.db"
    assert main.run(["console", "restore", backup, "--db", new]) == 0
    assert things(tmp_path / "new" / "new.db") == 999
    assert main.run(["console", "restore", backup, "--db", new]) == 12
    assert main.run(["console", "backup", backup]) == 2
    assert main.run(["console", "backup", backup, "--db", "postgresql://x/y"]) == 12
    assert "pg_dump" in capsys.readouterr().err


def test_a_running_console_is_backed_up_and_begins_anew_from_it(tmp_path: Path) -> None:
    console = Console(tmp_path, f"sqlite:///{tmp_path}/console.db")
    console.create_admin()
    with console.running():
        assert console.ask("backup", str(tmp_path / "backup")).returncode == 0
    (tmp_path / "new").mkdir()
    again = Console(tmp_path / "new", f"sqlite:///{tmp_path}/new/console.db")
    assert again.ask("restore", str(tmp_path / "backup")).returncode == 0
    assert "entries hold" in again.ask("audit", "verify").stdout
    secrets = {(tmp_path / name / "console.secret").read_text() for name in ("", "new")}
    assert len(secrets) == 1, "sessions go on"


# -- hosts and a console that was restored ---------------------------------------------------------------


@dataclass(frozen=True)
class Host:
    """An enrolled host that runs the agent's own code, and reports to the console itself."""

    home: Home

    def enrol(self, token_file: bytes) -> None:
        self.home.disk.make_folder(self.home.path)
        enrol(
            self.home,
            read_token_file(token_file, None),
            (),
            HostFacts(name="pc-1"),
            session=http_session(NetworkSettings(), SystemClock()),
            clock=SystemClock(),
            entropy=SystemEntropy(),
        )
        enrolled = load_enrolled(self.home)
        assert enrolled is not None
        assert enrolled.standing is Standing.APPROVED

    def report(self, *subjects: str) -> Outcome:
        """Record an event for each subject, and report once."""
        clock, session = SystemClock(), http_session(NetworkSettings(), SystemClock())
        acts, facts = AgentActs(self.home), HostFacts(name="pc-1")
        reporter = Reporter(self.home, (), facts, session, clock, SystemEntropy(), acts)
        for subject in subjects:
            reporter.record(happening(clock.now(), EventKind.LISTENER_OPENED, subject=subject))
        outcome = reporter.report(Seen())
        assert (outcome.way, outcome.error) == (Way.STORED, None)
        return outcome

    def epoch(self) -> str:
        return EventSpool(self.home.disk, self.home.path / "reports", SystemEntropy()).epoch


def events(database: Path) -> list[tuple[str, int, str]]:
    """Return epoch, number and subject of every stored event."""
    with closing(sqlite3.connect(database)) as file:
        query = "SELECT epoch, e, subject FROM fleet_event ORDER BY epoch, e"
        return file.execute(query).fetchall()


def documented(word: str) -> list[str]:
    """Return the command of docs/console.md, section Backup, that begins with `word`."""
    section = CONSOLE_MD.read_text().partition("\n## Backup\n")[2].partition("\n## ")[0]
    found = re.findall(rf"^fleetward console {word} .*$", section, re.MULTILINE)
    assert len(found) == 1, section
    return shlex.split(found[0])


def run_documented(word: str, folder: Path) -> None:
    """Run a documented command word for word, below `folder` instead of the machine's root."""
    program, *words = documented(word)
    assert program == "fleetward"
    moved = [
        re.sub(r"(?<![\w.])(/backup/|/var/lib/)", rf"{folder}\1", part) if "/" in part else part
        for part in words
    ]
    command = [sys.executable, "-m", "fleetward", *moved]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_hosts_send_a_restored_console_what_it_lacks(tmp_path: Path) -> None:
    """By the documented commands: what was acknowledged after the backup comes again, stored once."""
    state = tmp_path / "var/lib/fleetward"
    state.mkdir(parents=True)
    (tmp_path / "backup").mkdir()
    database = state / "console.db"
    console = Console(state, f"sqlite:///{database}")
    listen = f"127.0.0.1:{free_port()}"
    token_file, _ = console.enrolment(f"http://{listen}")
    host = Host(Home(SystemDisk(), tmp_path / "agent"))
    with console.running("--listen", listen):
        host.enrol(token_file)
        assert host.report("1", "2", "3").pending == 0
        backed_up = events(database)
        run_documented("backup", tmp_path)
        assert host.report("4", "5").pending == 0
        assert host.report("6").pending == 0
    epoch = host.epoch()
    before = events(database)
    last = len(before)
    assert [e for _, e, _ in before] == list(range(1, last + 1))
    assert before[-3:] == [(epoch, last - 2, "4"), (epoch, last - 1, "5"), (epoch, last, "6")]

    database.rename(tmp_path / "old.db")
    run_documented("restore", tmp_path)
    assert events(database) == backed_up == before[:-3], (
        "the backup knows nothing of what came later"
    )
    with console.running("--listen", listen):
        assert host.report("7").pending == 0, "events 4, 5 and 6 were asked for, and acknowledged"
        assert host.report().pending == 0
    assert events(database) == [*before, (epoch, last + 1, "7")]
    assert host.epoch() == epoch, "nothing was renumbered"
