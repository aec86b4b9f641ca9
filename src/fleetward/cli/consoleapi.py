"""A console's API, as commands ask it: one token, one console, every refusal as a sentence.

The token comes from a file or from the environment, never from the command line, where every user of
the machine could read it. It goes over TLS, or to this machine itself.
"""

import ipaddress
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Final, Self
from urllib.parse import urlencode, urlsplit

import typer
from rich.markup import escape

from fleetward import __version__
from fleetward.adapters.clock import SystemClock
from fleetward.adapters.http import HttpSession, HttpSettings
from fleetward.adapters.proxies import Proxies
from fleetward.cli.output import remarks
from fleetward.core.limits import MIB
from fleetward.errors import ConfigurationError, NetworkError, UsageError

TOKEN: Final = "FLEETWARD_TOKEN"  # noqa: S105 (the name of a variable)
"""The variable that may hold the token."""

CONSOLE: Final = "FLEETWARD_CONSOLE"
"""The variable that may hold the console's URL."""

MAX_ANSWER: Final = 16 * MIB
"""The longest answer that is read (endless data)."""

DEADLINE: Final = timedelta(seconds=60)
"""How long one answer may take."""

PAGE: Final = 500
"""Rows of a list that are asked for at once."""

_ERRORS: Final = frozenset({400, 401, 403, 404, 405, 409, 422, 500, 503})
"""Statuses whose problem document is read."""

_TOKEN_FORM: Final = re.compile(r"[\x21-\x7e]{1,500}")

ConsoleOption = Annotated[
    str | None,
    typer.Option("--console", metavar="URL", envvar=CONSOLE, help="The console to ask."),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="F",
        help=f"A file with an API token of scope read; without it the variable {TOKEN} counts.",
    ),
]
CaFileOption = Annotated[
    Path | None,
    typer.Option("--ca-file", metavar="F", help="Trust these authorities alone (PEM)."),
]


class ConsoleApi:
    """Asks one console; use it in a `with` block."""

    def __init__(self, url: str | None, token_file: Path | None, ca_file: Path | None) -> None:
        """Prepare; nothing connects yet.

        Args:
            url: the console's URL, as people open it.
            token_file: where the token is; None for the environment.
            ca_file: a PEM file of the authorities to believe; None for the system's.

        Raises:
            UsageError: no URL.
            ConfigurationError: no URL that may be used, no token, or a file that cannot be read.
        """
        self.url = _parse_console(url)
        if ca_file is not None and not ca_file.is_file():
            raise ConfigurationError(f"there is no file {ca_file}: give a PEM file of authorities")
        settings = HttpSettings(
            user_agent=f"fleetward-cli/{__version__}",
            proxies=Proxies.from_environment(os.environ),
            ca_bundle=ca_file,
            bearer=_read_token(token_file),
        )
        self._session = HttpSession(SystemClock(), settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session.close()

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Return the answer to a question.

        Args:
            path: below /api/v1/, as `rollouts`.
            query: what limits it; None is left out.

        Raises:
            UsageError: the console has no such thing, or does not understand the question.
            ConfigurationError: it refuses the token, or is no console.
            NetworkError: it cannot be reached, or fails.
        """
        pairs = {name: value for name, value in query.items() if value is not None}
        url = f"{self.url}/api/v1/{path}{f'?{urlencode(pairs)}' if pairs else ''}"
        with self._session.get(
            url, max_bytes=MAX_ANSWER, deadline=DEADLINE, errors=_ERRORS
        ) as answer:
            status, content = answer.status, answer.read()
        document = _document(content)
        if status != 200:
            raise self._refusal(status, document)
        if document is None:
            raise self._no_console()
        return document

    def every(self, path: str, **query: object) -> Iterator[dict[str, Any]]:
        """Yield all rows of a list. Raises as `get`."""
        cursor: object = None
        while True:
            page = self.get(path, limit=PAGE, cursor=cursor, **query)
            items = page.get("items")
            if not isinstance(items, list):
                raise self._no_console()
            yield from items
            if (cursor := page.get("next")) is None:
                return

    def _refusal(
        self, status: int, document: Mapping[str, Any] | None
    ) -> UsageError | ConfigurationError | NetworkError:
        """Return what a status means to the person who asked."""
        if document is None or "detail" not in document:
            return self._no_console(f" (it answered {status})")
        detail = _line(document["detail"])
        if status == 401:
            return ConfigurationError(
                f"{self.url} does not take the token: {detail}; make another there, "
                "under Settings, API tokens, or by: fleetward console token NAME --scope read"
            )
        if status == 403:
            return ConfigurationError(f"{self.url} does not permit this to the token: {detail}")
        if status in {500, 503}:
            return NetworkError(f"{self.url} failed (HTTP status {status}): {detail}; try again")
        wrong = "; ".join(_line(each.get("why")) for each in document.get("errors") or ())
        return UsageError(f"{self.url}: {detail}{f' ({wrong})' if wrong else ''}")

    def _no_console(self, more: str = "") -> ConfigurationError:
        return ConfigurationError(
            f"{self.url} is no Fleetward console{more}: give the URL under which people open it"
        )


def _parse_console(url: str | None) -> str:
    if not url:
        raise UsageError(f"name the console: --console https://console.example (or {CONSOLE})")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if host is None or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        raise UsageError(f"{url!r} is no URL of a console: give https://HOST[:PORT]")
    if "@" in parts.netloc:
        raise UsageError("a name or password has no place in a console's URL: use --token-file")
    if parts.scheme == "http" and not _is_this_machine(host):
        raise ConfigurationError(
            f"{url} would send the token in clear: give https:// (http:// is for this machine alone)"
        )
    return url.rstrip("/")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_token(file: Path | None) -> str:
    if file is None:
        text = os.environ.get(TOKEN, "")
        if not text:
            raise ConfigurationError(
                f"there is no token: give --token-file F, or set {TOKEN}; one is made by: "
                "fleetward console token NAME --name cli --scope read --db URL > F"
            )
        where = TOKEN
    else:
        text, where = _read(file), str(file)
    token = text.strip()
    if _TOKEN_FORM.fullmatch(token) is None:
        raise ConfigurationError(f"{where} holds no token: it is one line, as fw_…")
    return token


def _read(file: Path) -> str:
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            words = f"others can read {file}, which holds a secret: chmod 600 {file}"
            remarks.print(f"note: {escape(words)}", soft_wrap=True)
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the token file {file}: {error}") from error


def _document(content: bytes) -> dict[str, Any] | None:
    """Return a JSON object; None for anything else."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _line(text: object) -> str:
    """Return the console's words as one printable line."""
    return "".join(c if c.isprintable() else " " for c in str(text))[:500]
