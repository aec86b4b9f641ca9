"""The real program, started and ended by a test, on SQLite or on PostgreSQL."""

import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Console:
    """A console's database and folder.

    Attributes:
        folder: where the program runs.
        db: its database's URL.
    """

    folder: Path
    db: str

    def command(self, *words: str) -> list[str]:
        """Return a command line of `fleetward console`."""
        main = [sys.executable, "-m", "fleetward", "console", *words]
        return [*main, "--db", self.db, "--state", str(self.folder)]

    def ask(self, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*words),
            input=typed,
            capture_output=True,
            text=True,
            cwd=self.folder,
            check=False,
            timeout=120,
        )

    def create_admin(self, name: str = "ada") -> None:
        """Add an administrator."""
        done = self.ask("createadmin", name, "--password-file", "-", typed=PASSWORD + "\n")
        assert done.returncode == 0, done.stderr

    def enrolment(self, url: str, uses: int = 1) -> tuple[bytes, str]:
        """Return a token file that names this console at `url`, and a token for its API.

        Args:
            url: where it will be run; the file is taken from one that runs meanwhile.
            uses: how many hosts it may enrol.
        """
        self.create_admin()
        scopes = ("--scope", "read", "--scope", "operate", "--scope", "administer")
        asked = self.ask("token", "ada", "--name", "test", *scopes)
        assert asked.returncode == 0, asked.stderr
        token = asked.stdout.split()[-1]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        with self.running() as elsewhere:
            wish = json.dumps({"note": "site", "uses": uses}).encode()
            made = json.loads(fetch(f"{elsewhere}/api/v1/enrolment-tokens", headers, wish)[2])
            path = f"{elsewhere}/api/v1/enrolment-tokens/{made['token']}/file"
            file = json.loads(fetch(path, headers)[2])
        return json.dumps(file | {"console": url}).encode(), token

    @contextmanager
    def running(self, *more: str) -> Iterator[str]:
        """Serve; give the URL; end with SIGTERM, which must end it well."""
        server = subprocess.Popen(
            self.command("run", "--listen", "127.0.0.1:0", *more),
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=os.environ,
        )
        assert server.stderr is not None
        first = server.stderr.readline()
        try:
            found = re.fullmatch(r"listening on (https?://127\.0\.0\.1:\d+)\n", first)
            assert found, first + server.stderr.read()
            yield found[1]
        finally:
            server.terminate()
            rest = server.stderr.read()
            server.stderr.close()
            code = server.wait(timeout=30)
        assert code == 0, rest
        assert "Traceback" not in rest, rest


def free_port() -> int:
    """Return a port that nobody has, for a program that begins again where it was."""
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def fetch(
    url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers (names in small letters) and body of a GET, or of a POST of `body`."""
    request = urllib.request.Request(url, body, dict(headers or {}))  # noqa: S310 (the test's own server)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (see above)
            return answer.status, _lower(answer.headers.items()), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _lower(error.headers.items()), error.read()


def _lower(pairs: object) -> dict[str, str]:
    return {name.lower(): value for name, value in pairs}  # type: ignore[attr-defined]
