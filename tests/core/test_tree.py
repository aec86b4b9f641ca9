"""What a tree may hold, and what it may not: each rule with the accident or attack behind it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.limits import TreeLimits
from fleetward.core.tree import TreeEntry, TreeRules, check_tree, safe_path
from fleetward.errors import UnsafeTreeError


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "rules/apt/emotet.yar",
        "with space.yar",
        ".hidden",
        "ümlaut/ß.rules",
        "日本語.yar",
        "x" * 255,
        "console.txt",
        "a..b",
        "emoji-😀.yar",
    ],
)
def test_ordinary_and_odd_names_are_safe(path: str) -> None:
    assert safe_path(path) == path


@pytest.mark.parametrize(
    ("path", "because"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("../x", "absolute or has an empty"),
        ("a/../../x", "'..'"),
        ("a//b", "empty"),
        ("./a", "'.'"),
        ("a/", "empty"),
        ("a\\..\\b", "backslash"),
        ("C:x", "colon"),
        ("a\nb", "control"),
        ("a\x00b", "control"),
        ("a\x7f", "control"),
        ("NUL", "device"),
        ("dir/com1.yar", "device"),
        ("lpt¹", "device"),
        ("aux .txt", "device"),
        ("name.", "ends in a dot"),
        ("name ", "ends in a dot or a space"),
        ("e\u0301.yar", "NFC"),
        ("x" * 256, "255 bytes"),
        ("d/" * 64 + "x", "deeper"),
        ("/".join(["x" * 200] * 6), "bytes, more than"),
        ("\udcff.yar", "not UTF-8"),
    ],
)
def test_what_is_unsafe_says_why(path: str, because: str) -> None:
    with pytest.raises(UnsafeTreeError, match=because.replace(".", r"\.")):
        safe_path(path)


def test_a_checked_tree_is_sorted_by_bytes() -> None:
    entries = [TreeEntry(p, 1) for p in ("b", "a/z", "é", "a-b", "Z", "a.b")]
    assert [e.path for e in check_tree(entries)] == ["Z", "a-b", "a.b", "a/z", "b", "é"]


@pytest.mark.parametrize(
    "paths",
    [("A", "a"), ("Rules/x", "rules/y"), ("straße", "STRASSE"), ("a/B", "a/b")],
)
def test_case_fold_twins_are_refused(paths: tuple[str, str]) -> None:
    with pytest.raises(UnsafeTreeError, match="one name where case does not count"):
        check_tree([TreeEntry(p, 0) for p in paths])


def test_a_path_twice_is_refused() -> None:
    with pytest.raises(UnsafeTreeError, match="twice"):
        check_tree([TreeEntry("a", 0), TreeEntry("a", 1)])


def test_a_file_where_a_folder_stands_is_refused() -> None:
    with pytest.raises(UnsafeTreeError, match="both a file and a folder"):
        check_tree([TreeEntry("a", 0), TreeEntry("a/b", 1)])


def test_entries_out_of_order_are_refused() -> None:
    rules = TreeRules()
    rules.admit(TreeEntry("b", 0))
    with pytest.raises(UnsafeTreeError, match="out of order"):
        rules.admit(TreeEntry("a", 0))


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(UnsafeTreeError, match="negative"):
        TreeRules().admit(TreeEntry("a", -1))


@pytest.mark.parametrize("limits", [TreeLimits(max_files=1), TreeLimits(max_bytes=3)])
def test_too_many_files_or_bytes_are_refused(limits: TreeLimits) -> None:
    with pytest.raises(UnsafeTreeError, match="more than"):
        check_tree([TreeEntry("a", 2), TreeEntry("b", 2)], limits)


@given(st.lists(st.text(max_size=12), max_size=8))
def test_whatever_is_admitted_stays_inside(paths: list[str]) -> None:
    try:
        entries = check_tree([TreeEntry(p, 0) for p in paths])
    except UnsafeTreeError:
        return
    for entry in entries:
        parts = entry.path.split("/")
        assert not entry.path.startswith("/")
        assert ".." not in parts
        assert "" not in parts
    assert len({e.path.casefold() for e in entries}) == len(entries)
