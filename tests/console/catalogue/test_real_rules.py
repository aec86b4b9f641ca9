"""The readers of rules on real collections: the names are those that the engine itself finds."""

import pytest

from deltas.test_corpora import CORPORA, versions
from fleetward.console.catalogue.rules.changes import RuleSet, compare_rules
from fleetward.console.catalogue.rules.reading import read_rules
from fleetward.deltas import MemoryTree

pytestmark = [
    pytest.mark.corpora,
    pytest.mark.skipif(not CORPORA.is_dir(), reason="../shared/corpora is absent"),
]

EXTERNALS = ("filename", "filepath", "extension", "filetype", "owner", "md5")


def rules_of(tree: MemoryTree) -> RuleSet:
    found = RuleSet()
    for entry in tree.entries:
        for rule in read_rules(entry.path, tree.read(entry.path)):
            found.add(rule, entry.path)
    return found


def test_yara_rules_are_those_that_the_engine_finds() -> None:
    yara_x = pytest.importorskip("yara_x")
    [tree] = versions("signature-base", 1)
    compared = 0
    for entry in tree.entries:
        if not entry.path.endswith((".yar", ".yara")):
            continue
        content = tree.read(entry.path)
        compiler = yara_x.Compiler(relaxed_re_syntax=True)
        for name in EXTERNALS:
            compiler.define_global(name, "")
        compiler.add_source(content.decode())
        engines = [rule.identifier for rule in compiler.build()]
        assert [rule.key for rule in read_rules(entry.path, content)] == engines, entry.path
        compared += len(engines)
    assert compared > 5_000


def test_months_of_yara_and_days_of_suricata() -> None:
    old, new = versions("signature-base", 1, 3)
    [family] = compare_rules(rules_of(old), rules_of(new))
    assert (family.counts["added"], family.counts["removed"], family.counts["changed"]) == (
        12,
        0,
        15,
    )
    old, new = versions("hunting-rules", 9, 10)
    [family] = compare_rules(rules_of(old), rules_of(new))
    assert family.counts["disabled"] == 3
