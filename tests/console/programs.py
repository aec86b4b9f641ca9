"""The real program, started and ended by a test, on SQLite or on PostgreSQL."""

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
