"""Suricata and Snort rules, by sid; one that is commented out is disabled, not gone."""

import re
from collections.abc import Iterator
from typing import Final

from fleetward.console.catalogue.rules.rule import MAX_NOTES, Rule, digest, words

_RULE: Final = re.compile(
    rb"[\s#]*(?P<head>(?:alert|block|config|drop|log|pass|reject(?:src|dst|both)?|sdrop)\s[^(]*)"
    rb"\((?P<options>.*)",
    re.DOTALL,
)
_OPTION: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?|;|[^";]+', re.DOTALL)
_SHOWN: Final = {b"rev", b"classtype", b"priority"}
_NOT_DETECTION: Final = _SHOWN | {b"sid", b"gid", b"msg", b"metadata", b"reference"}


def read_suricata(content: bytes) -> Iterator[Rule]:
    """Yield the rules of a file; lines that are no rule, or have no sid, are passed over."""
    for line in _lines(content):
        match = _RULE.match(line)
        if match:
            is_disabled = line.lstrip().startswith(b"#")
            rule = _rule(match["head"], match["options"], is_enabled=not is_disabled)
            if rule:
                yield rule


def _lines(content: bytes) -> Iterator[bytes]:
    """Yield lines; one that ends in a backslash goes on in the next."""
    pieces: list[bytes] = []
    for line in content.splitlines():
        if line.endswith(b"\\"):
            pieces.append(line[:-1])
            continue
        yield b"".join([*pieces, line])
        pieces.clear()
    if pieces:
        yield b"".join(pieces)


def _rule(head: bytes, text: bytes, *, is_enabled: bool) -> Rule | None:
    options = list(_options(text))
    found = dict(reversed(options))
    sid = found.get(b"sid", b"")
    if not sid.isdigit():
        return None
    gid = found.get(b"gid", b"1")
    detection = [head.strip()]
    detection += [b"%b:%b" % pair for pair in options if pair[0] not in _NOT_DETECTION]
    notes = [(words(name), words(found[name])) for name in sorted(_SHOWN) if name in found]
    notes += [
        (words(name), words(b", ".join(value for key, value in options if key == name)))
        for name in (b"metadata", b"reference")
        if name in found
    ]
    return Rule(
        "Suricata",
        words(sid if gid == b"1" else b"%b:%b" % (gid, sid)),
        title=words(found.get(b"msg", b"").strip(b'"')),
        body=digest(detection),
        notes=tuple(notes[:MAX_NOTES]),
        enabled=is_enabled,
    )


def _options(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield `name:value;` in their order; a semicolon inside quotes ends nothing."""
    pieces: list[bytes] = []
    for match in _OPTION.finditer(text):
        token = match.group()
        if token != b";":
            pieces.append(token)
            continue
        name, _, value = b"".join(pieces).partition(b":")
        pieces.clear()
        yield name.strip(), value.strip()
