"""The demo's console: `fleetward console run` as a child, on SQLite in the demo's own folder.

It starts beside everything else; `ready` waits for it. What the demo asks of it goes through its
API with a token, as a script of the user's would. Its administrator's password is made for this
one run. It listens on loopback alone.

Deliberately not here: whether what it says is true (demo.acts compares that with the hosts).
"""

import json
from base64 import b32encode
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.clock import Clock
from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.entropy import SystemEntropy
from fleetward.adapters.processes import Program, python_command, run_limited
from fleetward.config.console import (
    ConsoleFileSettings,
    KnownRelay,
    RelaysSettings,
    RepositorySettings,
    SignInSettings,
)
from fleetward.config.strict import toml_text
from fleetward.core.limits import GIB
from fleetward.errors import NetworkError

ADMINISTRATOR: Final = "demo"
_NEEDS: Final = ("django", "ninja", "uvicorn", "argon2")
"""What the extra `console` brings, by the names that are imported."""

_PATIENCE: Final = timedelta(seconds=60)
"""For its start, and for one answer, on a busy machine."""

_PAUSE: Final = timedelta(milliseconds=50)
_COMMAND_BYTES: Final = 2 * GIB
_PASSWORD_BYTES: Final = 10
_ROWS: Final = 500
"""Rows of one answer of the API."""


def is_installed() -> bool:
    """Return whether this installation has what a console needs."""
    return all(find_spec(name) is not None for name in _NEEDS)


@dataclass(frozen=True, slots=True)
class Ready:
    """A console that serves.

    Attributes:
        url: where people open it.
        token: for its API; a secret.
    """

    url: str
    token: str


class LiveConsole:
    """A console that starts in the background: `with LiveConsole(…) as console: console.ready()`."""

    def __init__(self, folder: Path, clock: Clock, settings: ConsoleFileSettings) -> None:
        """Prepare it.

        Args:
            folder: its own; made private.
            clock: what patience is measured with.
            settings: as `settings_for` makes them.
        """
        self._folder = folder
        self._clock = clock
        self.settings = settings
        self._config = folder / "console.toml"
        self._pool = ThreadPoolExecutor(1)
        self._opening: Future[Ready]
        secret = b32encode(SystemEntropy().token(_PASSWORD_BYTES)).decode().lower()
        self.password: Final = "-".join(secret[i : i + 4] for i in range(0, len(secret), 4))

    def __enter__(self) -> Self:
        disk = SystemDisk()
        disk.make_folder(self._folder, private=True)
        write_file(disk, self._config, toml_text(self.settings).encode())
        write_file(disk, self._folder / "password", self.password.encode(), private=True)
        self._program = Program(self._command("run"), self._folder / "console.log")
        self._opening = self._pool.submit(self._open)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._program.stop()
        self._pool.shutdown()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._program.pid

    def ready(self) -> Ready:
        """Wait until it serves, with an administrator and a token.

        Raises:
            NetworkError: it did not start; its own words.
        """
        return self._opening.result()

    # -- its API -----------------------------------------------------------------------------------

    def token_file(self, uses: int) -> bytes:
        """Return a file that enrols `uses` hosts; a secret. Raises NetworkError as `ask`."""
        made = self.ask("/enrolment-tokens", {"note": "the demo's hosts", "uses": uses})
        return json.dumps(self.ask(f"/enrolment-tokens/{made['token']}/file")).encode()

    def rows(self, path: str) -> Iterator[dict[str, Any]]:
        """Give every row of a list, page by page. Raises NetworkError as `ask`."""
        cursor: int | None = 0
        joint = "&" if "?" in path else "?"
        while cursor is not None:
            after = f"&cursor={cursor}" if cursor else ""
            page = self.ask(f"{path}{joint}limit={_ROWS}{after}")
            yield from page["items"]
            cursor = page["next"]

    def ask(self, path: str, content: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 (JSON)
        """Return what the API answers to a GET, or to a POST of `content`.

        Raises:
            NetworkError: it did not answer, or with an error.
        """
        ready = self.ready()
        place = HTTPConnection(
            ready.url.partition("://")[2], timeout=int(_PATIENCE.total_seconds())
        )
        body = None if content is None else json.dumps(content)
        headers = {"Authorization": f"Bearer {ready.token}", "Content-Type": "application/json"}
        try:
            place.request("GET" if body is None else "POST", f"/api/v1{path}", body, headers)
            answer = place.getresponse()
            told = answer.read()
        except (OSError, HTTPException) as error:
            raise NetworkError(f"the demo's console does not answer: {error}") from error
        finally:
            place.close()
        if answer.status >= 300:
            raise NetworkError(f"the demo's console answers {answer.status}: {told[:200]!r}")
        return json.loads(told)

    # -- its start ---------------------------------------------------------------------------------

    def _open(self) -> Ready:
        password = str(self._folder / "password")
        self._run("createadmin", ADMINISTRATOR, "--password-file", password)
        SystemDisk().remove(self._folder / "password")
        scopes = [word for scope in ("read", "operate") for word in ("--scope", scope)]
        said = self._run("token", ADMINISTRATOR, "--name", "demo", *scopes)
        return Ready(self._listening(), said.split()[-1])

    def _run(self, *words: str) -> str:
        done = run_limited(self._command(*words), max_memory=_COMMAND_BYTES, max_time=_PATIENCE)
        if done.exit_code != 0:
            raise NetworkError(f"`fleetward console {words[0]}` failed: {done.output}")
        return done.output

    def _command(self, *words: str) -> tuple[str, ...]:
        return python_command("fleetward", "console", *words, "--config", str(self._config))

    def _listening(self) -> str:
        end = self._clock.monotonic() + _PATIENCE
        while True:
            is_running, said = self._program.is_running(), self._program.said()
            for line in said.splitlines(keepends=True):
                if line.startswith("listening on ") and line.endswith("\n"):
                    return line.split()[-1]
            if not is_running or self._clock.monotonic() > end:
                raise NetworkError(f"the demo's console did not start: {said or 'no word of it'}")
            self._clock.sleep(_PAUSE)


def settings_for(folder: Path, origin: str, root: Path, relay: str) -> ConsoleFileSettings:
    """Return the settings of a demo's console.

    Args:
        folder: where its database and keys lie.
        origin: URL of the repository that it follows.
        root: its trust anchor.
        relay: URL of the relay that it asks how it is.
    """
    return ConsoleFileSettings(
        db=f"sqlite:///{folder / 'console.db'}",
        listen="127.0.0.1:0",
        name="Fleetward demo",
        state=folder,
        # A console of minutes, on loopback: nobody should have to set up a second factor.
        sign_in=SignInSettings(totp_for_administrators=False),
        repository=RepositorySettings(url=origin, root=root, poll=timedelta(seconds=1)),
        relays=RelaysSettings(known=(KnownRelay(url=relay),), poll=timedelta(seconds=2)),
    )
