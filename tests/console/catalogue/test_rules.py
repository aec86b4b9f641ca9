"""Rules read out of files: what is found, and that nothing a file holds can hurt."""

import gzip
import io
import tarfile
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.console.catalogue.rules import clamav
from fleetward.console.catalogue.rules.changes import (
    MAX_LISTED,
    Changes,
    Family,
    RuleSet,
    compare_files,
    compare_rules,
)
from fleetward.console.catalogue.rules.reading import may_hold_rules, read_rules
from fleetward.console.catalogue.rules.rule import MAX_CHARS, MAX_NOTES, Rule, digest, words
from fleetward.console.catalogue.rules.sigma import read_sigma
from fleetward.console.catalogue.rules.suricata import read_suricata
from fleetward.console.catalogue.rules.yara import read_yara

PATHS = ("a.yar", "a.rules", "a.yml", "a.ndb", "a.ldb", "a.hdb", "a.fp", "a.ign2", "a.cvd", "a.cld")


def changed(path: str, old: bytes, new: bytes) -> tuple[Family, ...]:
    sets = RuleSet(), RuleSet()
    for rules, content in zip(sets, (old, new), strict=True):
        for rule in read_rules(path, content):
            rules.add(rule, path)
    return compare_rules(*sets)


def only(rules: object) -> Rule:
    [rule] = list(rules)  # type: ignore[call-overload]
    assert isinstance(rule, Rule)
    return rule


class TestYara:
    def test_names_tags_modifiers_and_metadata(self) -> None:
        text = b"""
        import "pe"
        /* rule not_one { condition: true } */
        // rule nor_this { condition: true }
        private rule Sagevo : worm port2967
        {
            meta:
                author = "somebody"
                version = 3
                score = -5
                hash = "aa"
                hash = "bb"
            strings:
                $brace = "}" nocase
                $quote = "a \\" } b"
                $hex = { 6A 40 [2-4] ( 68 | 69 ) /* } */ }
                $regex = /a{2,3}\\/"}/i
            condition:
                any of them
        }
        rule Next { condition: false }
        """
        first, second = read_yara(text)
        assert (first.key, second.key) == ("Sagevo", "Next")
        assert first.notes == (
            ("tags", "port2967 worm"),
            ("modifiers", "private"),
            ("author", "somebody"),
            ("hash", "aa, bb"),
            ("score", "-5"),
            ("version", "3"),
        )
        assert second.notes == ()

    def test_spaces_and_comments_are_no_change(self) -> None:
        one = b'rule a { strings: $a = "x" condition: $a }'
        other = b'rule a\n{\n  // why\n  strings:\n    $a = "x"\n  condition:\n    $a // all\n}\n'
        assert only(read_yara(one)) == only(read_yara(other))

    def test_metadata_is_no_change_of_what_it_detects(self) -> None:
        one = only(read_yara(b'rule a { meta: v = "1" condition: true }'))
        other = only(read_yara(b'rule a { meta: v = "2" w = true condition: true }'))
        assert one.body == other.body
        assert one.notes != other.notes

    def test_a_word_in_a_string_moves_no_border(self) -> None:
        one = only(read_yara(b'rule a { strings: $a = "b c" condition: $a }'))
        other = only(read_yara(b'rule a { strings: $a = "b" "c" condition: $a }'))
        assert one.body != other.body

    def test_one_that_is_cut_off(self) -> None:
        assert [rule.key for rule in read_yara(b"rule a { condition: true } rule b { cond")] == [
            *("a", "b")
        ]
        assert not list(read_yara(b"rule a : tag"))
        assert not list(read_yara(b"rule"))

    def test_endless_tags_and_modifiers_are_cut(self) -> None:
        text = b"global " * 500 + b"rule a : " + b"t " * 10_000 + b"{ condition: true }"
        rule = only(read_yara(text))
        assert len(rule.notes) <= MAX_NOTES
        assert all(len(value) <= MAX_CHARS for _, value in rule.notes)

    def test_modifiers_of_something_else_are_not_taken(self) -> None:
        assert only(read_yara(b'private import "pe" rule a { condition: true }')).notes == ()


class TestSuricata:
    RULE = (
        b"alert tcp $EXTERNAL_NET any -> $HOME_NET [2967,2968] "
        b'(msg:"ET EXPLOIT Symantec; \\"x\\""; flow:established,to_server; content:"|10|"; '
        b"classtype:attempted-admin; reference:cve,2006-2630; sid:2003250; rev:7; "
        b"metadata:created_at 2010_07_30;)"
    )

    def test_sid_message_and_revision(self) -> None:
        rule = only(read_suricata(self.RULE))
        assert (rule.key, rule.enabled) == ("2003250", True)
        assert rule.title == 'ET EXPLOIT Symantec; \\"x\\'
        assert rule.notes == (
            ("classtype", "attempted-admin"),
            ("rev", "7"),
            ("metadata", "created_at 2010_07_30"),
            ("reference", "cve,2006-2630"),
        )

    def test_one_that_is_commented_out(self) -> None:
        for prefix in (b"#", b"# ", b"  #  "):
            rule = only(read_suricata(prefix + self.RULE))
            assert not rule.enabled
            assert rule.body == only(read_suricata(self.RULE)).body
        [family] = changed("a.rules", self.RULE, b"# " + self.RULE)
        assert family.counts["disabled"] == 1
        assert family.counts["changed"] == 0
        [family] = changed("a.rules", b"#" + self.RULE, self.RULE)
        assert family.counts["enabled"] == 1

    def test_the_revision_alone(self) -> None:
        [family] = changed("a.rules", self.RULE, self.RULE.replace(b"rev:7", b"rev:8"))
        assert family.changed[0].what == ("rev: 7 → 8",)

    def test_what_it_looks_for(self) -> None:
        [family] = changed("a.rules", self.RULE, self.RULE.replace(b"|10|", b"|11|"))
        assert family.changed[0].what == ("what it detects",)
        [family] = changed("a.rules", self.RULE, self.RULE.replace(b"2968]", b"2969]"))
        assert family.changed[0].what == ("what it detects",)

    def test_a_sid_in_a_message_is_none(self) -> None:
        text = b'alert ip any any -> any any (msg:"sid:1; rev:2;"; sid:77;)'
        assert only(read_suricata(text)).key == "77"

    def test_other_generators_have_their_own_numbers(self) -> None:
        text = b"alert ip any any -> any any (gid:3; sid:77;)"
        assert only(read_suricata(text)).key == "3:77"

    def test_lines_go_on(self) -> None:
        text = b'alert ip any any -> any any (msg:"a"; \\\n sid:5; \\\n rev:1;)\n\\'
        assert only(read_suricata(text)).key == "5"

    def test_lines_that_are_no_rule(self) -> None:
        text = (
            b'# alert the team\n\nalert\nalert ip (msg:"no sid";)\nalert ip a (sid:x;)\n# text (a)'
        )
        assert not list(read_suricata(text))


class TestSigma:
    TEXT = b"""title: Port 2967 Listener
id: 11111111-2222-3333-4444-555555555555
status: test
level: high
description: |
    Something
    on two lines
logsource:
    product: linux
detection:
    selection:
        port: 2967
    condition: selection
"""

    def test_id_title_and_level(self) -> None:
        rule = only(read_sigma(self.TEXT))
        assert rule.key == "11111111-2222-3333-4444-555555555555"
        assert rule.title == "Port 2967 Listener"
        assert dict(rule.notes)["level"] == "high"

    def test_what_changed(self) -> None:
        def what(old: bytes, new: bytes) -> tuple[str, ...]:
            [family] = changed("r.yml", self.TEXT, self.TEXT.replace(old, new))
            return family.changed[0].what

        assert what(b"high", b"critical") == ("level: high → critical",)
        assert what(b"on two", b"on 2") == ("description",)
        assert what(b"port: 2967", b"port: 2968") == ("what it detects",)
        assert what(b"Listener", b"Speaker") == ("title: Port 2967 Listener → Port 2967 Speaker",)

    def test_several_documents_and_others(self) -> None:
        other = self.TEXT.replace(b"11111111", b"99999999")
        assert len(list(read_sigma(self.TEXT + b"---\n" + other))) == 2
        assert not list(read_sigma(b"title: a playbook\ntasks:\n  - x\n"))
        assert not list(read_sigma(b"detection:\n  a: b\n"))

    def test_without_an_id_the_title_names_it(self) -> None:
        text = self.TEXT.replace(b"id: 11111111-2222-3333-4444-555555555555\n", b"# nothing\n")
        assert only(read_sigma(text)).key == "Port 2967 Listener"


def database(files: dict[str, bytes], *, packed: bool = True) -> bytes:
    """Return a ClamAV database: its header, then a tar."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    header = b"ClamAV-VDB:24 Nov 2026 02-00 +0000:27001:2:90:md5:sig:builder:0".ljust(512)
    body = made.getvalue()
    return header + (gzip.compress(body) if packed else body)


class TestClamAv:
    @pytest.mark.parametrize(
        ("path", "line", "key"),
        [
            ("a.ndb", b"Win.Worm.Sagevo-1:1:*:deadbeef", "Win.Worm.Sagevo-1"),
            ("a.LDB", b"Unix.Thing-2;Engine:51-255,Target:0;0&1;aa;bb", "Unix.Thing-2"),
            ("a.hdb", b"44d88612fea8a8f36de82e1278abb02f:68:Eicar-Test", "Eicar-Test"),
            ("a.hsb", b"ff:*:Any.Size-3:73", "Any.Size-3"),
            ("a.fp", b"44d8:68:Fine", "allowed: Fine"),
            ("a.ign2", b"Eicar-Test", "ignored: Eicar-Test"),
            ("a.ign", b"main.ndb:12:Old-Name", "ignored: Old-Name"),
            ("a.cdb", b"Zip.Thing-4:CL_TYPE_ZIP:*:*:*:*:*:*:*:*", "Zip.Thing-4"),
        ],
    )
    def test_names(self, path: str, line: bytes, key: str) -> None:
        rule = only(read_rules(path, b"# a comment\n\n" + line + b"\r\n"))
        assert (rule.family, rule.key) == ("ClamAV", key)

    def test_lines_without_a_name(self) -> None:
        assert not list(read_rules("a.hdb", b"aa:1\n:::\n"))

    @pytest.mark.parametrize("packed", [True, False])
    def test_inside_a_database(self, packed: bool) -> None:  # noqa: FBT001 (a parameter of a test)
        content = database(
            {
                "daily.ndb": b"A-1:0:*:aa\nB-2:0:*:bb\n",
                "COPYING": b"words",
                "x.yar": b"rule y { condition: true }",
            },
            packed=packed,
        )
        rules = list(read_rules("db/daily.cvd", content))
        assert [rule.key for rule in rules] == [
            *("daily.cvd (the database itself)", "A-1", "B-2", "y")
        ]
        assert rules[0].notes == (("version", "27001"), ("signatures", "2"))

    def test_one_inside_another_is_not_opened(self) -> None:
        inner = database({"a.ndb": b"A-1:0:*:aa\n"})
        keys = [rule.key for rule in read_rules("o.cvd", database({"i.cvd": inner}))]
        assert keys == ["o.cvd (the database itself)"]

    def test_a_bomb_is_opened_no_further_than_the_limit(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ten megabytes of zeros in ten kilobytes; a limit of one."""
        monkeypatch.setattr(clamav, "MAX_OPENED", 1_000_000)
        content = database(
            {"a.ndb": b"A-1:0:*:aa\n", "bomb": bytes(10_000_000), "z.ndb": b"Z:0:*:a"}
        )
        assert "A-1" in {rule.key for rule in read_rules("a.cvd", content)}
        assert "Z" not in {rule.key for rule in read_rules("a.cvd", content)}

    def test_endless_members(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(clamav, "MAX_MEMBERS", 2)
        content = database({f"{n}.ndb": b"N-%d:0:*:aa" % n for n in range(9)})
        assert len(list(read_rules("a.cvd", content))) == 3

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"ClamAV-VDB:",
            bytes(512),
            bytes(511) + b"\x1f\x8b",
            bytes(512) + b"\x1f\x8bnothing",
        ],
    )
    def test_what_is_none(self, content: bytes) -> None:
        assert not list(read_rules("a.cvd", content))

    def test_one_that_is_cut_off(self) -> None:
        content = database({"a.ndb": b"A-1:0:*:aa\n" * 50_000})
        assert len(list(read_rules("a.cvd", content[: len(content) // 2]))) >= 1


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "one line": lambda n: b"a" * n,
    "quotes": lambda n: b'"' * n,
    "escaped quotes": lambda n: b'"' + b'\\"' * (n // 2),
    "comments that never end": lambda n: b"/*" * (n // 2),
    "regular expressions": lambda n: b"/\\" * (n // 2),
    "braces": lambda n: b"rule a {" + b"{" * n,
    "rules": lambda n: b"rule " * (n // 5),
    "semicolons": lambda n: b"alert ip (" + b";" * n,
    "colons": lambda n: b":" * n,
    "hashes": lambda n: b"#" * n,
    "spaces and hashes": lambda n: b" #" * (n // 2),
    "backslashes at ends": lambda n: b"\\\n" * (n // 2),
    "documents": lambda n: b"---\n" * (n // 4),
    "keys": lambda n: b"title: a\ndetection: b\n" * (n // 22),
    "alerts": lambda n: b"alert " * (n // 6),
    "nothing": bytes,
    "high bytes": lambda n: b"\xff\xfe" * (n // 2),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_content_takes_time_in_proportion(path: str, kind: str) -> None:
    """A release holds a file that is made to keep a reader busy for days."""
    began = time.process_time()
    for rule in read_rules(path, HOSTILE[kind](400_000)):
        assert len(rule.key) <= MAX_CHARS
    # What is quadratic takes minutes at this length; what is not, a second on the slowest machine.
    assert time.process_time() - began < 8


@given(st.sampled_from(PATHS), st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(path: str, content: bytes) -> None:
    for rule in read_rules(path, content):
        assert rule.key.isprintable()
        assert len(rule.key) <= MAX_CHARS


@given(
    st.sampled_from(PATHS),
    st.text('rule alert{}():;"/\\*#\n\t=$-sidrevmsg:title detection0123', max_size=200),
)
def test_nearly_rules_are_read_without_an_error(path: str, text: str) -> None:
    content = text.encode()
    assert list(read_rules(path, content)) == list(read_rules(path, content))


_NAMES = st.lists(
    st.from_regex(r"[A-Za-z_][a-z0-9_]{0,8}", fullmatch=True), unique=True, max_size=8
)


@given(_NAMES, _NAMES)
def test_added_and_removed_are_the_difference_of_names(old: list[str], new: list[str]) -> None:
    def text(names: list[str]) -> bytes:
        return b"".join(b"rule %b { condition: true }\n" % name.encode() for name in names)

    taken = {"rule", "private", "global"}
    old, new = [n for n in old if n not in taken], [n for n in new if n not in taken]
    families = changed("a.yar", text(old), text(new))
    added = {rule.key for family in families for rule in family.added}
    removed = {rule.key for family in families for rule in family.removed}
    assert added == set(new) - set(old)
    assert removed == set(old) - set(new)
    assert not any(family.changed for family in families)


@given(st.text(max_size=500))
def test_words_are_one_printable_line(text: str) -> None:
    shown = words(text)
    assert shown.isprintable()
    assert len(shown) <= MAX_CHARS
    assert words(shown) == shown


def test_borders_of_tokens_count() -> None:
    assert digest([b"ab", b"c"]) != digest([b"a", b"bc"])


def test_a_rule_in_another_file_has_moved() -> None:
    rule = b"rule a { condition: true }"
    old, new = RuleSet(), RuleSet()
    old.add(only(read_yara(rule)), "one.yar")
    new.add(only(read_yara(rule)), "other.yar")
    [family] = compare_rules(old, new)
    assert family.counts["moved"] == 1
    assert not family.added


def test_a_name_that_is_there_twice() -> None:
    """Eicar is in three of ClamAV's databases: a fourth one is added, and none has changed."""
    one, two, three = (b"Eicar:0:*:aa\n", b"Eicar:0:*:bb\n", b"Eicar:0:*:cc\n")
    [family] = changed("a.ndb", one + two, three + two + one)
    assert (family.counts["added"], family.counts["changed"]) == (1, 0)
    [family] = changed("a.ndb", one + two + three, two)
    assert (family.counts["removed"], family.counts["changed"]) == (2, 0)
    [family] = changed("a.ndb", one + two, two + three)
    assert (family.counts["added"], family.counts["changed"]) == (0, 1)
    assert not changed("a.ndb", one + one, one + one)


def test_counts_are_whole_where_lists_are_cut() -> None:
    new = {f"{number:05}": (1, "x") for number in range(MAX_LISTED + 5)}
    found: Changes = compare_files({}, new)
    assert found.counts["added"] == MAX_LISTED + 5
    assert len(found.added) == MAX_LISTED
    assert compare_files(new, new).counts["bytes_before"] == MAX_LISTED + 5


def test_which_files_may_hold_rules() -> None:
    assert may_hold_rules("x/Y.YAR")
    assert may_hold_rules("main.cvd")
    assert not may_hold_rules("yar")
    assert not list(read_rules("README.md", b"rule a { condition: true }"))
