"""A folder read as a tree: what has no place in one is named."""

import os
from pathlib import Path

import pytest

from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.treefolder import TreeFolder
from fleetward.core.tree import TreeEntry
from fleetward.errors import ConfigurationError, UnsafeTreeError


def test_files_are_found_sorted_with_their_mode(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run").write_bytes(b"#!")
    (tmp_path / "b" / "run").chmod(0o755)
    (tmp_path / "a.b").write_bytes(b"12")
    (tmp_path / "empty-folder").mkdir()
    tree = TreeFolder(SystemDisk(), tmp_path)
    assert tree.entries == (TreeEntry("a.b", 2), TreeEntry("b/run", 2, executable=True))
    assert tree.read("a.b") == b"12"
    assert b"".join(tree.pieces(tree.entries[1])) == b"#!"


def test_a_name_of_255_bytes_and_odd_unicode(tmp_path: Path) -> None:
    for name in ("x" * 255, "日本語 “quotes”.yar", "😀"):
        (tmp_path / name).write_bytes(b"")
    assert len(TreeFolder(SystemDisk(), tmp_path).entries) == 3


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(UnsafeTreeError, match="link is a link"):
        TreeFolder(SystemDisk(), tmp_path)
    (tmp_path / "link").unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnsafeTreeError, match="pipe is no regular file"):
        TreeFolder(SystemDisk(), tmp_path)


def test_a_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"bad\xff")).write_bytes(b"")
    with pytest.raises(UnsafeTreeError, match="not UTF-8"):
        TreeFolder(SystemDisk(), tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a folder"):
        TreeFolder(SystemDisk(), tmp_path / "no")


def test_folders_that_are_too_deep_are_named(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(70):
        deep = deep / "d"
    deep.mkdir(parents=True)
    with pytest.raises(UnsafeTreeError, match="deeper than 64"):
        TreeFolder(SystemDisk(), tmp_path)
