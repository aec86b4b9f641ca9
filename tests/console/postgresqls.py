"""A PostgreSQL for tests: the one that is named, one that listens here, or one of our own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

ADVICE = "no PostgreSQL: apt-get install postgresql, or set FLEETWARD_POSTGRESQL to a URL"

_USUAL = "postgresql://postgres@127.0.0.1:5432/postgres"


def binaries() -> Path | None:
    """Return the folder of initdb and pg_ctl, the newest there is."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return folders[-1].parent if folders else Path(on_path).parent if on_path else None


@contextmanager
def server() -> Iterator[str | None]:
    """Give the URL of a server where databases may be made; None where there is none."""
    for url in (os.environ.get("FLEETWARD_POSTGRESQL", ""), _USUAL):
        if url and _answers(url):
            yield url
            return
    found = binaries()
    if found is None:
        yield None
        return
    with _own_server(found) as url:
        yield url


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=3) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def _own_server(found: Path) -> Iterator[str]:
    """Run a server in a folder of its own, on a socket file alone; root lends it another user."""
    folder = Path(tempfile.mkdtemp(prefix="fleetward-pg-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)

    def run(*words: str) -> None:
        subprocess.run(
            [str(found / words[0]), *words[1:]],
            user=user,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8"},
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=90,
        )

    name = user or pwd.getpwuid(os.geteuid()).pw_name
    try:
        run("initdb", "-D", "data", "-A", "trust", "-U", name, "--no-sync")
        options = f"-k {folder} -c listen_addresses= -c fsync=off"
        run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")
        try:
            yield f"postgresql://{name}@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-D", "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
