"""`--listen HOST:PORT`, and the first line that every server prints."""

import sys

from fleetward.errors import UsageError


def parse_listen(text: str) -> tuple[str, int]:
    """Return `HOST:PORT` (`[HOST]:PORT` for IPv6) as host and port; port 0 takes a free one.

    Raises:
        UsageError: it is not of that form.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise UsageError(f"{text!r} is no HOST:PORT: write 127.0.0.1:2967 or [::1]:2967")
    return host, int(port)


def print_listening(url: str) -> None:
    """Print `listening on URL`, the first line on standard error of every server."""
    sys.stderr.write(f"listening on {url}\n")
    sys.stderr.flush()
