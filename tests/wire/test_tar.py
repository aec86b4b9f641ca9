"""The canonical tar: one tree, one sequence of bytes; nothing else is read."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.digest import sha256_of
from fleetward.core.limits import TreeLimits
from fleetward.core.tree import TreeEntry, check_tree
from fleetward.errors import UnsafeTreeError
from fleetward.wire.tar import (
    END,
    FileBegins,
    FileBytes,
    FileEnds,
    TarReader,
    header,
    padding,
    tar_length,
    write_tar,
)

GOLDEN = Path(__file__).parent / "golden"

Files = dict[str, bytes]


def tar_of(files: Files, executable: frozenset[str] = frozenset()) -> bytes:
    entries = check_tree([TreeEntry(p, len(c), p in executable) for p, c in files.items()])
    tar = b"".join(write_tar(entries, lambda e: [files[e.path]]))
    assert len(tar) == tar_length(entries)
    return tar


def read_tar(tar: bytes, cuts: int = 1 << 20, limits: TreeLimits | None = None) -> Files:
    reader = TarReader(limits)
    files: dict[str, bytes] = {}
    current = ""
    for at in range(0, len(tar), cuts):
        for event in reader.feed(tar[at : at + cuts]):
            match event:
                case FileBegins(entry):
                    files[entry.path] = b""
                    current = entry.path
                case FileBytes(content):
                    files[current] += content
                case FileEnds():
                    pass
    reader.close()
    return files


def by_tarfile(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Return a tar made by the standard library, cut to Fleetward's end."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    last = max((tar_end(m, c) for m, c in zip(*_spans(out.getvalue()), strict=True)), default=0)
    return out.getvalue()[:last] + END


def _spans(tar: bytes) -> tuple[list[int], list[int]]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        found = archive.getmembers()
    return [m.offset_data for m in found], [m.size if m.isreg() else 0 for m in found]


def tar_end(start: int, size: int) -> int:
    return start + size + padding(size)


def member(name: str, **attributes: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.mode = 0o644
    for key, value in attributes.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize(
    "name", ["a", "b" * 100, "c" * 101, "d/" + "e" * 150, "ü.yar", "日本/" + "語" * 50, "x" * 255]
)
def test_it_is_what_the_standard_library_writes(name: str) -> None:
    assert tar_of({name: b"content"}) == by_tarfile([(member(name), b"content")])


def test_golden_bytes_have_not_changed() -> None:
    files = {
        "LICENSE": b"Apache-2.0\n",
        "rules/eicar.yar": b"rule eicar { condition: false }\n",
        "rules/" + "long" * 30 + ".yar": b"x" * 513,
        "bin/run": b"#!/bin/sh\n",
        "ünï/код.rules": b"",
    }
    tar = tar_of(files, frozenset({"bin/run"}))
    assert sha256_of(tar) == (GOLDEN / "tree.sha256").read_text().strip()
    assert tar == bytes.fromhex((GOLDEN / "tree.tar.hex").read_text())
    assert sha256_of(tar_of({})) == (GOLDEN / "empty.sha256").read_text().strip()


def test_a_size_over_8_gib_has_a_pax_record() -> None:
    large = TreeEntry("large", 8**11)
    assert b"18 size=8589934592"[3:] in header(large)
    reader = TarReader(TreeLimits(max_bytes=9 * 1024**3))
    assert reader.feed(header(large)) == [FileBegins(large)]


def test_gnu_and_other_tools_read_it() -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_of({"a": b"1", "ü": b"2"}))) as tar:
        assert [(m.name, m.mode, m.uid, m.mtime) for m in tar] == [
            ("a", 0o644, 0, 0),
            ("ü", 0o644, 0, 0),
        ]


trees = st.dictionaries(
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=130),
    st.binary(max_size=1500),
    max_size=6,
)


@given(trees, st.integers(min_value=1, max_value=3000))
def test_whatever_is_written_is_read_back_in_any_cut(files: Files, cuts: int) -> None:
    try:
        tar = tar_of(files)
    except UnsafeTreeError:
        return
    assert read_tar(tar, cuts) == files


@given(trees, st.data())
def test_no_flipped_byte_of_a_header_is_the_same_tree(files: Files, data: st.DataObject) -> None:
    try:
        tar = tar_of(files)
    except UnsafeTreeError:
        return
    at = data.draw(st.integers(0, len(tar) - 1))
    altered = tar[:at] + bytes([tar[at] ^ data.draw(st.integers(1, 255))]) + tar[at + 1 :]
    try:
        found = read_tar(altered)
    except UnsafeTreeError:
        return
    assert found != files


@given(st.binary(max_size=3000))
def test_any_bytes_are_read_or_refused(noise: bytes) -> None:
    reader = TarReader()
    try:
        reader.feed(noise)
        reader.close()
    except UnsafeTreeError:
        return
    assert noise == END


def hostile() -> Iterator[tuple[str, bytes]]:
    yield "an absolute path", by_tarfile([(member("/etc/passwd"), b"x")])
    yield "a path that climbs", by_tarfile([(member("../../x"), b"x")])
    yield "a symlink", by_tarfile([(member("l", type=tarfile.SYMTYPE, linkname="/etc"), b"")])
    yield "a hard link", by_tarfile([(member("l", type=tarfile.LNKTYPE, linkname="a"), b"")])
    yield "a device", by_tarfile([(member("d", type=tarfile.CHRTYPE, devmajor=1, devminor=3), b"")])
    yield "a pipe", by_tarfile([(member("p", type=tarfile.FIFOTYPE), b"")])
    yield "a folder", by_tarfile([(member("f", type=tarfile.DIRTYPE), b"")])
    yield "an owner", by_tarfile([(member("a", uid=1000), b"x")])
    yield "an owner's name", by_tarfile([(member("a", uname="root"), b"x")])
    yield "a time", by_tarfile([(member("a", mtime=1), b"x")])
    yield "setuid", by_tarfile([(member("a", mode=0o4755), b"x")])
    yield (
        "a pax record that is not needed",
        by_tarfile([(member("a", pax_headers={"path": "b"}), b"")]),
    )
    yield "another pax record", by_tarfile([(member("a", pax_headers={"comment": "x"}), b"")])
    yield "out of order", by_tarfile([(member("b"), b""), (member("a"), b"")])
    yield "a file twice", by_tarfile([(member("a"), b"1"), (member("a"), b"2")])
    yield "case-fold twins", by_tarfile([(member("A"), b"1"), (member("a"), b"2")])
    yield "truncated content", tar_of({"a": b"x" * 600})[:900]
    yield "no end", tar_of({"a": b"x"})[: -len(END)]
    yield "half an end", tar_of({"a": b"x"})[:-512]
    yield "something after the end", tar_of({"a": b"x"}) + bytes(512)
    yield "padding that is not zero", tar_of({"a": b"x"})[:513] + b"y" + tar_of({"a": b"x"})[514:]
    yield (
        "a number that is not octal",
        tar_of({"a": b"x"}).replace(b"00000000001\0", b"00000000008\0", 1),
    )
    yield "no number", tar_of({"a": b"x"}).replace(b"00000000001\0", bytes(12), 1)
    yield "an end that is not zero", END[:-1] + b"x"
    yield "a pax header that is too long", _pax_of(b"x" * 9000)
    yield "a pax header that is not UTF-8", _pax_of(b"13 path=\xff\xff\n")
    yield "a pax size that is no number", _pax_of(b"12 size=1e9\n")


def _pax_of(body: bytes) -> bytes:
    head = bytearray(header(TreeEntry("ü", 0)))
    head[124:136] = b"%011o\0" % len(body)
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head[:512])
    return bytes(head[:512]) + body + bytes(padding(len(body))) + header(TreeEntry("a", 0)) + END


@pytest.mark.parametrize(
    ("what", "tar"), list(hostile()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_what_is_not_canonical_is_refused(what: str, tar: bytes) -> None:
    print(what)
    for cuts in (1, 511, 1 << 20):
        with pytest.raises(UnsafeTreeError):
            read_tar(tar, cuts)


def test_limits_hold_while_reading() -> None:
    with pytest.raises(UnsafeTreeError, match="more than"):
        read_tar(tar_of({"a": b"12345"}), limits=TreeLimits(max_bytes=4))


def test_a_file_that_changes_while_it_is_read_is_an_error() -> None:
    with pytest.raises(UnsafeTreeError, match="changed while it was read"):
        list(write_tar([TreeEntry("a", 3)], lambda _: [b"12"]))
