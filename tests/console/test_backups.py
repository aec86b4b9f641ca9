"""Backup and restore of a console on SQLite."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from console.programs import Console
from fleetward.adapters.disk import SystemDisk
from fleetward.cli import main
from fleetward.console.backups import back_up, restore
from fleetward.errors import ConfigurationError


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
