"""Gzip members: opened only where making them again gives the same bytes."""

import base64
import gzip
import random
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward.deltas import deflate, members
from fleetward.deltas.cursor import Cursor, UnusableDeltaError
from fleetward.deltas.members import (
    Member,
    Opener,
    Recipe,
    closed,
    opened_form,
    read_recipe,
    recipe_bytes,
)
from fleetward.errors import DocumentError

GOLDEN = Path(__file__).parent / "golden"
WORDS = [b"rule", b"strings", b"condition", b"all of them", b"uint16(0) == 0x5A4D", b"\n", b" "]


def prose(seed: int, words: int = 3000) -> bytes:
    chosen = random.Random(seed)
    return b"".join(chosen.choice(WORDS) + b"%x" % chosen.randrange(4000) for _ in range(words))


def round_trip(content: bytes) -> tuple[Recipe, bytes, list[str]]:
    opener = Opener()
    opened = opener.open(content)
    assert opened is not None
    recipe, body = opened
    cursor = Cursor(recipe_bytes(recipe))
    assert read_recipe(cursor, len(recipe.members)) == recipe
    assert not cursor.left
    assert closed(recipe, body, opener.encoders) == content
    assert len(body) == recipe.body
    return recipe, body, opener.encoders


def test_the_known_answer_is_this_zlibs() -> None:
    assert members.zlib_is_known()


@pytest.mark.parametrize("level", range(1, 10))
def test_pythons_gzip_is_opened(level: int) -> None:
    _, body, encoders = round_trip(gzip.compress(prose(level), level, mtime=12345))
    assert prose(level) in body
    assert encoders[0].startswith("zlib/")


def test_a_cvd_is_opened_behind_its_header() -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, 31, 8, zlib.Z_FILTERED)
    cvd = b"ClamAV-VDB:".ljust(512) + deflater.compress(prose(1)) + deflater.flush()
    recipe, _, encoders = round_trip(cvd)
    assert encoders == ["zlib/9/8/filtered"]
    assert recipe.members[0].gap == 512 + 10
    assert recipe.members[0].trailer
    assert recipe.tail == 0


def test_members_one_behind_another_and_bytes_between() -> None:
    content = gzip.compress(prose(1)) + gzip.compress(prose(2), 6) + b"between" + gzip.compress(b"")
    recipe, body, encoders = round_trip(content + b"after")
    assert len(recipe.members) == 3
    assert body.endswith(b"after")
    assert len(encoders) == 2


def test_header_fields_are_kept() -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    raw = stream.compress(prose(3)) + stream.flush()
    for flags, fields in (
        (4, b"\x03\x00abc"),
        (8, b"name\0"),
        (16, b"comment\0"),
        (2, b"\x12\x34"),
        (30, b"\x01\x00znm\0cm\0\x12\x34"),
    ):
        recipe, body, _ = round_trip(
            b"\x1f\x8b\x08" + bytes([flags]) + bytes(6) + fields + raw + bytes(8)
        )
        assert not recipe.members[0].trailer, "the trailer is wrong, so it travels as it is"
        assert body.startswith(b"\x1f\x8b\x08")
        assert recipe.tail == 8


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"plain",
        b"\x1f\x8b\x08",
        b"\x1f\x8b\x08\xff" + bytes(20),
        b"\x1f\x8b\x08\x08" + b"n" * 5000,
        b"\x1f\x8b\x08\x04\0\0\0\0\0\0\xff\xff" + bytes(30),
        b"\x1f\x8b\x08\x00\0\0\0\0\0\0\xff\xff\xff",
        gzip.compress(prose(4))[:-200],
    ],
)
def test_what_is_no_member_stays_plain(content: bytes) -> None:
    assert Opener().open(content) is None
    assert opened_form(content) == content


def test_what_zlib_did_not_make_stays_plain() -> None:
    made = zlib.compressobj(9, zlib.DEFLATED, 31)
    flushed = made.compress(prose(5)[:5000]) + made.flush(zlib.Z_FULL_FLUSH)
    content = flushed + made.compress(prose(5)[5000:]) + made.flush()
    assert Opener().open(content) is None
    assert prose(5) in opened_form(content)


def test_a_bomb_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(bytes(300_000))
    monkeypatch.setattr(members, "OPEN_LIMIT", 200_000)
    assert Opener().open(bomb) is None
    assert opened_form(bomb) == bomb


def test_a_member_too_long_to_cut_stays_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    content = gnu_gzip(6)
    monkeypatch.setattr(members, "CUT_LIMIT", 1000)
    assert Opener().open(content) is None


def gnu_gzip(level: int) -> bytes:
    """Return `prose(7, 9000)` as GNU gzip 1.12 wrote it; tests/deltas/golden/README.md."""
    return base64.b64decode((GOLDEN / f"gnu-gzip-{level}.b64").read_bytes())


@pytest.mark.parametrize("level", [1, 6, 9])
def test_gnu_gzip_is_opened_by_its_block_ends(level: int) -> None:
    recipe, body, encoders = round_trip(gnu_gzip(level))
    assert prose(7, 9000) in body
    assert encoders == [f"zlib/{level}/8/default"]
    assert recipe.members[0].cuts


@pytest.mark.skipif(not shutil.which("gzip"), reason="the program gzip is absent")
@pytest.mark.parametrize("level", range(1, 10))
def test_this_machines_gzip_is_opened(level: int) -> None:
    for content, kind in (
        (prose(level, 4000) + b"a" * 300, deflate.DYNAMIC),
        (random.Random(level).randbytes(40_000), deflate.STORED),
        (b"short", deflate.FIXED),
    ):
        made = subprocess.run(
            ["gzip", f"-{level}", "-n"], input=content, capture_output=True, check=True
        ).stdout
        recipe, body, _ = round_trip(made)
        assert content in body
        cuts = recipe.members[0].cuts
        assert not cuts or kind in {kind for _, kind in cuts}


def test_a_recipe_with_wrong_numbers_is_refused() -> None:
    body = prose(1)
    with pytest.raises(DocumentError, match="manifest does not"):
        closed(Recipe((Member(0, len(body), 0),), 0), body, [])
    with pytest.raises(UnusableDeltaError, match="unknown here"):
        closed(Recipe((Member(0, len(body), 0),), 0), body, ["brotli/11"])
    for cuts in (((5, 3), (0, 2)),):
        with pytest.raises(DocumentError, match="kind"):
            closed(Recipe((Member(0, len(body), 0, cuts=cuts),), 0), body, ["zlib/6/8/default"])


@pytest.mark.parametrize("count", [0, 5, 10**6])
def test_a_recipe_of_other_members_than_it_has_is_refused(count: int) -> None:
    with pytest.raises(DocumentError):
        read_recipe(Cursor(b"\x01\x01"), count)


@given(
    st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 2)), max_size=6),
    st.binary(max_size=300),
)
@settings(deadline=None)
def test_any_block_ends_make_a_stream_with_the_same_content(
    cuts: list[tuple[int, int]], content: bytes
) -> None:
    cuts = [(tokens, kind) for tokens, kind in cuts if tokens] + [(0, 2)]
    recipe = Recipe((Member(0, len(content), 0, trailer=False, cuts=tuple(cuts)),), 0)
    made = closed(recipe, content, ["zlib/6/8/default"])
    assert zlib.decompress(made, -15) == content
