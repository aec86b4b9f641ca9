"""YARA rules, by name.

A tokenizer, no parser: comments, strings, regular expressions and hexadecimal strings are told
apart (in YARA a `/` that opens no comment always opens a regular expression), so that a brace in
one of them ends no rule. Every pattern takes up what it begins, closed or not, so that no byte is
looked at twice.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from fleetward.console.catalogue.rules.rule import MAX_NOTES, Rule, digest, words

_TOKEN: Final = re.compile(
    rb"""
    (?P<comment> //[^\n]* | /\*.*?(?:\*/|\Z) )
  | (?P<text> "(?:[^"\\\n]|\\[^\n])*"? | /(?:[^/\\\n]|\\[^\n])*/?[a-z]* )
  | (?P<word> [A-Za-z_$\#@!][A-Za-z0-9_.*]* )
  | (?P<number> [0-9][0-9A-Za-z.]* )
  | (?P<sign> [^\s] )
    """,
    re.VERBOSE | re.DOTALL,
)
_SECTIONS: Final = {b"meta", b"strings", b"variables", b"condition", b"events", b"match"}
_MODIFIERS: Final = {b"private", b"global"}


@dataclass(slots=True)
class _Open:
    """A rule that is being read."""

    name: bytes
    modifiers: list[bytes]
    tags: list[bytes] = field(default_factory=list)
    meta: list[bytes] = field(default_factory=list)
    body: list[bytes] = field(default_factory=list)
    section: bytes = b""
    depth: int = 0


def read_yara(content: bytes) -> Iterator[Rule]:
    """Yield the rules of a file; one that is cut off at its end is yielded too."""
    found: _Open | None = None
    modifiers: list[bytes] = []
    before = b""
    for token in _tokens(content):
        if found is None and before == b"rule":
            found, modifiers = _Open(token, modifiers), []
        elif found is None:
            modifiers = _modifiers(modifiers, token)
        elif not found.depth:
            _take_head(found, token)
        elif _take(found, token, before):
            yield _rule(found)
            found = None
        before = token
    if found is not None and found.depth:
        yield _rule(found)


def _tokens(content: bytes) -> Iterator[bytes]:
    for match in _TOKEN.finditer(content):
        if match.lastgroup != "comment":
            yield match.group()


def _modifiers(before: list[bytes], token: bytes) -> list[bytes]:
    """Return what stands before the next `rule` once `token` is read."""
    if token in _MODIFIERS:
        return [*before, token][:MAX_NOTES]
    return before if token == b"rule" else []


def _take_head(rule: _Open, token: bytes) -> None:
    """Take one token between a rule's name and its braces."""
    if token == b"{":
        rule.depth = 1
    elif token != b":" and len(rule.tags) < MAX_NOTES:
        rule.tags.append(token)


def _take(rule: _Open, token: bytes, before: bytes) -> bool:
    """Take one token inside a rule's braces; return whether it closes them."""
    if token == b"{":
        rule.depth += 1
    elif token == b"}":
        rule.depth -= 1
        if rule.depth == 0:
            return True
    is_section = token == b":" and rule.depth == 1 and before in _SECTIONS
    if is_section:
        (rule.meta if rule.section == b"meta" else rule.body)[-1:] = []
        rule.section = before
    (rule.meta if rule.section == b"meta" else rule.body).append(token)
    return False


def _rule(found: _Open) -> Rule:
    tags = words(b" ".join(sorted(found.tags)))
    notes = [("tags", tags)] if tags else []
    if found.modifiers:
        notes.append(("modifiers", words(b" ".join(sorted(found.modifiers)))))
    notes += _meta(found.meta)
    return Rule("YARA", words(found.name), body=digest(found.body), notes=tuple(notes[:MAX_NOTES]))


def _meta(tokens: list[bytes]) -> Iterator[tuple[str, str]]:
    """Yield the metadata, `name = value`, by name."""
    pairs: dict[str, str] = {}
    for at, token in enumerate(tokens):
        if token == b"=" and 0 < at < len(tokens) - 1:
            name, value = words(tokens[at - 1]), tokens[at + 1]
            if value == b"-" and at + 2 < len(tokens):
                value += tokens[at + 2]
            # A name may be there several times, as `hash` often is.
            told = words(value.strip(b'"'))
            pairs[name] = words(f"{pairs[name]}, {told}") if name in pairs else told
    yield from sorted(pairs.items())
