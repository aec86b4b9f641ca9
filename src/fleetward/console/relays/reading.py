"""What a relay says of itself at `GET /v1/relay`, as bounded values; pure.

A relay is untrusted: a number that is none counts as 0, a text is cut, a list is cut, and what is
not known here is passed over. Nothing that it says can grow a row or break a page.
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from fleetward.errors import DocumentError

MAX_NUMBER: Final = (1 << 53) - 1
"""The greatest number that is believed (JSON holds it exactly, and so do the databases)."""

MAX_TEXT: Final = 300
"""Characters of a text that are kept."""

MAX_ROWS: Final = 16
"""Upstreams, problems, or limits of one group that are kept."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What a relay counted since it started; differences make samples."""

    hits: int = 0
    misses: int = 0
    upstream_bytes: int = 0
    delivered_bytes: int = 0
    overloaded: int = 0
    refused_digests: int = 0
    upstream_failures: int = 0

    def since(self, before: "Counters") -> "Counters":
        """Return what was counted since `before`; a relay that started anew begins at 0."""
        restarted = any(getattr(self, f.name) < getattr(before, f.name) for f in fields(self))
        if restarted:
            return self
        return Counters(
            **{f.name: getattr(self, f.name) - getattr(before, f.name) for f in fields(self)}
        )


@dataclass(frozen=True, slots=True)
class Said:
    """How a relay stood when it answered.

    Attributes:
        closure: version of the timestamp whose content it follows; 0 unknown.
        is_complete: whether it knows all that this timestamp leads to.
        spool_bytes: check-ins that wait, in bytes; at most `spool_max`.
        spool_check_ins: the same in number.
        spool_hosts: of so many hosts.
        stored_bytes: what its cache holds; `free_bytes` is what the disk has left.
        connections: open now.
        watchers: hosts that wait for news.
        upstreams: URL and state of each upstream.
        problems: in its own words.
        limits: every limit in force, as `group.name` and its value.
    """

    closure: int = 0
    is_complete: bool = True
    spool_bytes: int = 0
    spool_max: int = 0
    spool_check_ins: int = 0
    spool_hosts: int = 0
    stored_bytes: int = 0
    free_bytes: int | None = None
    connections: int = 0
    watchers: int = 0
    upstreams: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()
    limits: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer of a relay."""

    counters: Counters
    said: Said


def read_status(content: bytes) -> Reading:
    """Return what an answer says.

    Raises:
        DocumentError: it is no JSON object.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"no JSON: {error}; is there a relay at this URL?") from error
    if not isinstance(document, dict):
        raise DocumentError("no JSON object; is there a relay at this URL?")
    names = [field.name for field in fields(Counters)]
    return Reading(Counters(**{name: _number(document, name) for name in names}), _said(document))


def _said(document: dict[str, Any]) -> Said:
    closure, spool = _group(document, "closure"), _group(document, "spool")
    storage, server = _group(document, "storage"), _group(document, "server")
    has_free = isinstance(storage.get("free_bytes"), int)
    return Said(
        closure=_number(closure, "version"),
        is_complete=closure.get("is_complete") is not False,
        spool_bytes=_number(spool, "bytes"),
        spool_max=_number(spool, "max_bytes"),
        spool_check_ins=_number(spool, "check_ins"),
        spool_hosts=_number(spool, "hosts"),
        stored_bytes=_number(storage, "bytes"),
        free_bytes=_number(storage, "free_bytes") if has_free else None,
        connections=_number(server, "connections"),
        watchers=_number(_group(document, "watchers"), "waiting"),
        upstreams=_upstreams(document),
        problems=tuple(_problems(document)),
        limits=_limits(_group(document, "limits")),
    )


def _group(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def _number(document: dict[str, Any], name: str) -> int:
    value = document.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return min(max(value, 0), MAX_NUMBER)


def _text(value: object) -> str:
    text = str(value)[:MAX_TEXT]
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _upstreams(document: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    rows = document.get("upstreams")
    if not isinstance(rows, list):
        return ()
    return tuple(
        (_text(row.get("url", "")), _text(row.get("state", "")))
        for row in rows[:MAX_ROWS]
        if isinstance(row, dict)
    )


def _problems(document: dict[str, Any]) -> list[str]:
    found = []
    for name in sorted(document)[:64]:
        group = document[name]
        problem = group.get("problem") if isinstance(group, dict) else None
        if problem:
            found.append(f"{_text(name)}: {_text(problem)}"[:MAX_TEXT])
    spool = _group(document, "spool")
    found += [
        f"spool: {count} {words}"
        for key, words in (("damaged", "stretches damaged"), ("disk_errors", "disk errors"))
        if (count := _number(spool, key))
    ]
    return found[:MAX_ROWS]


def _limits(groups: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"{_text(group)}.{_text(name)}", _text(value))
        for group, rows in sorted(groups.items())[:MAX_ROWS]
        if isinstance(rows, dict)
        for name, value in sorted(rows.items())[:MAX_ROWS]
        if isinstance(value, int | float | str | bool) and value is not None
    )


def stored(value: Counters | Said) -> dict[str, Any]:
    """Return a value as JSON, for a row."""
    return asdict(value)


def counters_of(row: dict[str, Any]) -> Counters:
    """Return what a row of a relay had counted."""
    return Counters(**{field.name: _number(row, field.name) for field in fields(Counters)})


def said_of(row: dict[str, Any]) -> Said:
    """Return what a row of a relay said; nothing where it never answered."""
    known = {field.name: row[field.name] for field in fields(Said) if field.name in row}
    for name in ("upstreams", "limits"):
        known[name] = tuple((str(pair[0]), str(pair[1])) for pair in known.get(name, ()))
    known["problems"] = tuple(known.get("problems", ()))
    return Said(**known)
