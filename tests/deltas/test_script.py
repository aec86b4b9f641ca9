"""The file list as a script over the base's, and the head that carries it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.tree import TreeEntry
from fleetward.deltas import MemoryTree, UnusableDeltaError
from fleetward.deltas.cursor import Cursor, number
from fleetward.deltas.layouts import Bounds, compare, receive, reference
from fleetward.deltas.members import Recipe
from fleetward.deltas.script import Kept, ScriptedFile, read_script, write_script
from fleetward.errors import DigestError, DocumentError

BASE = (TreeEntry("a", 5), TreeEntry("b", 6, executable=True), TreeEntry("c", 7))
BOUNDS = Bounds(1 << 20, 1 << 24)

names = st.sampled_from(["a", "b", "c", "d/e", "d/f", "é", "z" * 200])
trees = st.dictionaries(names, st.tuples(st.binary(max_size=9), st.booleans()), max_size=7)


def tree(files: dict[str, tuple[bytes, bool]]) -> MemoryTree:
    executable = frozenset(path for path, (_, bit) in files.items() if bit)
    return MemoryTree({path: content for path, (content, _) in files.items()}, executable)


@given(trees, trees)
def test_a_script_comes_back(
    old: dict[str, tuple[bytes, bool]], new: dict[str, tuple[bytes, bool]]
) -> None:
    base, result = tree(old), tree(new)
    comparison = compare(base, result)
    cursor = Cursor(write_script(base.entries, comparison.files))
    assert tuple(read_script(base.entries, cursor, 100)) == comparison.files
    assert not cursor.left


def test_nothing_changed_is_one_byte() -> None:
    files = [ScriptedFile(e.path, e.executable, Kept(i), i) for i, e in enumerate(BASE)]
    assert write_script(BASE, files) == b"\0"
    assert read_script(BASE, Cursor(b"\0"), 3) == files


@pytest.mark.parametrize(
    "script",
    [
        b"",
        number(4 << 3 | 0) + b"\0",
        number(4 << 3 | 1) + b"\0",
        number(9 << 3 | 7) + b"\0",
        number(3 << 4 << 3 | 2),
        number((2 * 9 - 1) << 1 << 3 | 2) + b"\0",
        number(9 << 1 << 3 | 6) + b"\0\x01x\0",
        number(1 << 1 << 3 | 4) + b"\x05\x01x\0",
        number(1 << 1 << 3 | 4) + b"\0\x02\xff\xfe\0",
        number(1 << 1 << 3 | 4) + b"\0" + number(5000),
        number(5 << 1 << 3 | 5) + b"\0\x01x\x01",
        number(0 << 1 << 3 | 3) + b"\0\0",
        b"".join(number(0 << 1 << 3 | 4) + b"\0\x01" + b"%c" % i for i in range(60, 99)) + b"\0",
    ],
)
def test_a_script_that_is_no_file_list_is_refused(script: bytes) -> None:
    with pytest.raises(DocumentError):
        read_script(BASE, Cursor(script), 30)


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(DocumentError, match="negative"):
        read_script(BASE, Cursor(number((2 * 9 - 1) << 1 << 3 | 2) + b"\0"), 30)


def head(script: bytes, form: int = 0) -> bytes:
    return bytes([form]) + number(len(script)) + script + number(0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        head(b"\0\0"),
        head(b"\0", form=7),
        head(b"\0", form=1),
        head(b"\xff\xff", form=1),
        head(b"\xff\xff\xff\xff\xff\xff", form=2),
    ],
)
def test_a_malformed_head_is_refused(content: bytes) -> None:
    with pytest.raises(DocumentError):
        receive(MemoryTree({"a": b"1"}), Cursor(content), BOUNDS)


def test_more_content_than_was_signed_is_refused_before_it_is_made() -> None:
    script = write_script(
        (), [ScriptedFile("x", executable=False, source=Recipe((), 1 << 30), replaces=None)]
    )
    with pytest.raises(DigestError, match="signed"):
        receive(MemoryTree({}), Cursor(head(script)), BOUNDS)


def test_a_reference_larger_than_the_bounds_is_refused() -> None:
    base = MemoryTree({"a": bytes(900), "b": bytes(900)})
    assert len(reference(base, (), 0, 1800).content) == 1800
    with pytest.raises(UnusableDeltaError, match="memory"):
        reference(base, (), 0, 1799)


def test_files_beside_the_changed_stand_last_and_a_large_one_is_left_out() -> None:
    files = {"a/x": b"1" * 9, "b/y": b"2" * 9, "b/z": b"3" * 9, "c/w": b"4" * 90}
    base, result = MemoryTree(files), MemoryTree(files | {"b/new": b"5"})
    known = compare(base, result).reference(50)
    assert known.content == b"1" * 9 + b"2" * 9 + b"3" * 9
    assert known.near == 27
    assert compare(base, result).reference(20).content == b"2" * 9 + b"3" * 9
