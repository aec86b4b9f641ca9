"""A rule as a file holds it: a name to find it by, and digests to see whether it changed."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MAX_RULES: Final = 200_000
"""Rules of one release, at most; more are not listed by name (endless data)."""

MAX_NOTES: Final = 24
"""Notes that are kept of one rule (a rule of endless metadata)."""

MAX_CHARS: Final = 200
"""Characters of a name, title or note (a line that would break every page)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    Attributes:
        family: `YARA`, `Suricata`, `ClamAV`, `Sigma`.
        key: what it is known by within its family.
        title: what people read; empty where the key says it.
        body: a digest of what it detects, without spaces, comments and notes.
        notes: what else it says of itself, by name: revision, message, tags, metadata.
        enabled: False where it is commented out.
    """

    family: str
    key: str
    title: str = ""
    body: str = ""
    notes: tuple[tuple[str, str], ...] = ()
    enabled: bool = True


def words(raw: bytes | str) -> str:
    """Return text out of a file as one short printable line."""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    line = " ".join(text[: 4 * MAX_CHARS].split())
    shown = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line
    )
    return shown if len(shown) <= MAX_CHARS else shown[: MAX_CHARS - 1] + "…"


def digest(parts: Iterable[bytes]) -> str:
    """Return a digest of some tokens, in which their borders count."""
    made = hashlib.sha256()
    for part in parts:
        made.update(b"%d:" % len(part))
        made.update(part)
    return made.hexdigest()[:32]
