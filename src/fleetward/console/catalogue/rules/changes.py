"""What changed between two releases: files by their content, rules by their names."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

from fleetward.console.catalogue.rules.rule import Rule, words

MAX_LISTED: Final = 2_000
"""Entries of each list that are kept; the counts are always whole (a page of endless rows)."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that came, went or changed; sizes in bytes, None where it is not there."""

    path: str
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class RuleChange:
    """A rule that came, went or changed.

    Attributes:
        key: what it is known by.
        title: what people read; empty where the key says it.
        file: where it is now, or was.
        what: how it changed, a phrase each; empty where it came or went.
    """

    key: str
    title: str
    file: str
    what: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """The rules of one family that came, went or changed.

    Attributes:
        name: `YARA`, `Suricata`, `ClamAV`, `Sigma`.
        counts: of `added`, `removed`, `changed`, `disabled`, `enabled`, `moved`: all of them.
        added: the first of them, by key.
        removed: the first of them, by key.
        changed: the first of them, by key.
        disabled: those that are now commented out.
        enabled: those that no longer are.
    """

    name: str
    counts: Mapping[str, int]
    added: tuple[RuleChange, ...] = ()
    removed: tuple[RuleChange, ...] = ()
    changed: tuple[RuleChange, ...] = ()
    disabled: tuple[RuleChange, ...] = ()
    enabled: tuple[RuleChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed from one release to another.

    Attributes:
        counts: of files `added`, `removed`, `changed`, and `bytes_before`, `bytes_after`.
        added: files that came; the first by path.
        removed: files that went.
        changed: files with other content.
        families: rules, by family; only families in which something changed.
        unread: files whose rules were not read, with the reason.
    """

    counts: Mapping[str, int]
    added: tuple[FileChange, ...] = ()
    removed: tuple[FileChange, ...] = ()
    changed: tuple[FileChange, ...] = ()
    families: tuple[Family, ...] = ()
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """A rule, and the file that it stands in."""

    rule: Rule
    file: str


@dataclass(slots=True)
class RuleSet:
    """Rules by family and key; several may have one key (two databases, or a mistake).

    Attributes:
        rules: family and key -> the rules, in the order of their files.
        count: all of them.
    """

    rules: dict[tuple[str, str], list[Placed]] = field(default_factory=dict)
    count: int = 0

    def add(self, rule: Rule, file: str) -> None:
        """Take a rule up."""
        self.rules.setdefault((rule.family, rule.key), []).append(Placed(rule, file))
        self.count += 1


def compare_rules(old: RuleSet, new: RuleSet) -> tuple[Family, ...]:
    """Return what changed, by family; equal rules that only moved between files are counted."""
    found: dict[str, dict[str, list[RuleChange]]] = {}
    for family, key in sorted(old.rules.keys() | new.rules.keys()):
        before, after = old.rules.get((family, key), []), new.rules.get((family, key), [])
        for one, other in _pairs(before, after):
            for kind, change in _changes(key, one, other):
                found.setdefault(family, {}).setdefault(kind, []).append(change)
    return tuple(_family(name, lists) for name, lists in found.items())


def _pairs(
    before: list[Placed], after: list[Placed]
) -> Iterator[tuple[Placed | None, Placed | None]]:
    """Pair the rules of one key: equal ones first, the rest in their order."""
    equal: dict[Rule, deque[Placed]] = {}
    for placed in before:
        equal.setdefault(placed.rule, deque()).append(placed)
    others = []
    for placed in after:
        if equal.get(placed.rule):
            yield equal[placed.rule].popleft(), placed
        else:
            others.append(placed)
    left = [placed for same in equal.values() for placed in same]
    yield from zip_longest(left, others)


def _changes(
    key: str, before: Placed | None, after: Placed | None
) -> Iterator[tuple[str, RuleChange]]:
    if after is None:
        if before is not None:
            yield "removed", RuleChange(key, before.rule.title, before.file)
        return
    title = after.rule.title
    if before is None:
        yield "added", RuleChange(key, title, after.file)
        return
    if before.rule.enabled != after.rule.enabled:
        yield "enabled" if after.rule.enabled else "disabled", RuleChange(key, title, after.file)
    what = tuple(_differences(before.rule, after.rule))
    if what:
        yield "changed", RuleChange(key, title, after.file, what)
    elif before.file != after.file:
        yield "moved", RuleChange(key, title, after.file)


def _differences(before: Rule, after: Rule) -> Iterable[str]:
    if before.body != after.body:
        yield "what it detects"
    if before.title != after.title:
        yield _from_to("title", before.title, after.title)
    old, new = dict(before.notes), dict(after.notes)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            is_digest = name == "description"
            yield name if is_digest else _from_to(name, old.get(name, ""), new.get(name, ""))


def _from_to(name: str, before: str, after: str) -> str:
    return words(f"{name}: {before or 'none'} → {after or 'none'}")


_KINDS: Final = ("added", "removed", "changed", "disabled", "enabled", "moved")


def _family(name: str, lists: Mapping[str, list[RuleChange]]) -> Family:
    counts = {kind: len(lists.get(kind, ())) for kind in _KINDS}
    kept = {kind: tuple(lists.get(kind, ())[:MAX_LISTED]) for kind in _KINDS}
    del kept["moved"]
    return Family(name, counts, **kept)


def compare_files(
    old: Mapping[str, tuple[int, str]], new: Mapping[str, tuple[int, str]]
) -> Changes:
    """Return which files came, went and changed.

    Args:
        old: path to length in bytes and digest, of the release before.
        new: the same of the release after.
    """
    added = [FileChange(path, None, new[path][0]) for path in sorted(new.keys() - old.keys())]
    removed = [FileChange(path, old[path][0], None) for path in sorted(old.keys() - new.keys())]
    changed = [
        FileChange(path, old[path][0], new[path][0])
        for path in sorted(old.keys() & new.keys())
        if old[path] != new[path]
    ]
    counts = {
        "added": len(added),
        "removed": len(removed),
        "changed": len(changed),
        "bytes_before": sum(length for length, _ in old.values()),
        "bytes_after": sum(length for length, _ in new.values()),
    }
    return Changes(
        counts, tuple(added[:MAX_LISTED]), tuple(removed[:MAX_LISTED]), tuple(changed[:MAX_LISTED])
    )
