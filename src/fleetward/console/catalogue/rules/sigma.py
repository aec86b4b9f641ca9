"""Sigma rules, by their id: the keys at the left margin of YAML, read without a YAML parser.

That is enough for names, titles and levels; the text of everything else is what is compared.
"""

import re
from collections.abc import Iterator
from typing import Final

from fleetward.console.catalogue.rules.rule import Rule, digest, words

_KEY: Final = re.compile(rb"(?P<key>[A-Za-z_][\w-]{0,60}):(?:[ \t](?P<value>.*))?", re.DOTALL)
_SHOWN: Final = ("author", "date", "level", "modified", "status")
_ABOUT: Final = {*_SHOWN, "title", "id", "description", "references", "tags", "falsepositives"}


def read_sigma(content: bytes) -> Iterator[Rule]:
    """Yield the rules of a file: its documents that have a title and a detection or correlation."""
    document: list[bytes] = []
    for line in content.splitlines():
        if line.rstrip() == b"---":
            yield from _rule(document)
            document = []
        else:
            document.append(line)
    yield from _rule(document)


def _rule(lines: list[bytes]) -> Iterator[Rule]:
    keys: dict[str, str] = {}
    blocks: dict[str, list[bytes]] = {}
    key = ""
    for line in lines:
        match = _KEY.fullmatch(line)
        if match:
            key = match["key"].decode()
            keys[key] = words((match["value"] or b"").strip().strip(b"'\""))
        stripped = line.strip()
        if stripped and not stripped.startswith(b"#"):
            blocks.setdefault(key, []).append(line.rstrip())
    if "title" not in keys or not {"detection", "correlation"} & set(keys):
        return
    notes = [(name, keys[name]) for name in _SHOWN if keys.get(name)]
    about = digest(
        line for name in sorted(_ABOUT - {*_SHOWN, "title", "id"}) for line in blocks.get(name, ())
    )
    body = digest(line for name in sorted(blocks.keys() - _ABOUT) for line in blocks[name])
    notes.append(("description", about[:12]))
    yield Rule("Sigma", keys.get("id") or keys["title"], keys["title"], body, tuple(notes))
