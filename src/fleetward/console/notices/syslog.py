"""Syslog messages (RFC 5424), and their framing over TCP (RFC 6587, octet counting)."""

from datetime import datetime

from fleetward.console.notices.models import Level

FACILITY = 13
"""Log audit (RFC 5424, table 1)."""

MAX_BYTES = 2048
"""A message, at most: what every receiver should take (RFC 5424, 6.1)."""

_SEVERITY = {Level.NOTE: 5, Level.WARNING: 4, Level.CRITICAL: 2}


def message(level: Level, at: datetime, host: str, key: str, text: str) -> bytes:
    """Return one message, in UTF-8, cut where it would be too long.

    Args:
        level: how bad it is.
        at: when.
        host: this machine's name.
        key: what it is about; the MSGID, cut to its 32 printable characters.
        text: the words; line ends and other control characters become spaces, so that nobody
            begins a message of his own inside.
    """
    priority = FACILITY * 8 + _SEVERITY[level]
    moment = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    named = _printable(key)[:32] or "-"
    where = _printable(host)[:255] or "-"
    words = "".join(c if c.isprintable() else " " for c in text)
    made = f"<{priority}>1 {moment} {where} fleetward-console - {named} - \ufeff{words}"
    return made.encode()[:MAX_BYTES].decode(errors="ignore").encode()


def _printable(text: str) -> str:
    return "".join(c if "!" <= c <= "~" else "-" for c in text)


def framed(content: bytes) -> bytes:
    """Return a message as it goes over TCP."""
    return f"{len(content)} ".encode() + content
