"""The pack: one ordinary Zstandard frame, opened in bounds."""

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward.deltas import (
    MemoryTree,
    decode_pack,
    encode_pack,
    pack_pieces,
    tar_bytes,
    zstdframe,
)
from fleetward.errors import DigestError, DocumentError, TrustError

TAR = tar_bytes(MemoryTree({"a": b"x" * 1000, "b/c": bytes(range(256)) * 3}))


@given(st.binary(max_size=2000), st.integers(1, 300))
@settings(deadline=None)
def test_a_pack_opens_again_however_it_is_cut(content: bytes, cut: int) -> None:
    pack = encode_pack(content, len(content))
    pieces = [pack[i : i + cut] for i in range(0, len(pack), cut)]
    assert b"".join(decode_pack(pieces, len(content))) == content


def test_pieces_make_the_same_pack_as_the_whole() -> None:
    pieces = (TAR[i : i + 100] for i in range(0, len(TAR), 100))
    assert b"".join(decode_pack([encode_pack(pieces, len(TAR))], len(TAR))) == TAR


def test_the_header_has_length_and_the_frame_a_checksum() -> None:
    pack = encode_pack(TAR, len(TAR))
    assert pack[:4] == zstdframe.MAGIC
    assert pack[4] & 0x04, "checksum flag (RFC 8878, 3.1.1.1.1)"
    assert pack[4] & 0xE0, "content size or single segment"


@pytest.mark.skipif(not shutil.which("zstd"), reason="the program zstd is absent")
def test_the_program_zstd_opens_it() -> None:
    made = subprocess.run(
        ["zstd", "-dc"], input=encode_pack(TAR, len(TAR)), capture_output=True, check=True
    )
    assert made.stdout == TAR


@pytest.mark.parametrize("lie", [0, 1, len(TAR) - 1, len(TAR) + 1])
def test_a_lying_length_is_found_on_both_sides(lie: int) -> None:
    with pytest.raises(DigestError):
        encode_pack(TAR, lie)
    with pytest.raises(DigestError):
        list(pack_pieces([TAR[:50], TAR[50:]], lie))
    made = 0
    with pytest.raises(DigestError):
        for piece in decode_pack([encode_pack(TAR, len(TAR))], lie):
            made += len(piece)
    assert made <= lie


def test_a_bomb_is_cut_off() -> None:
    bomb = encode_pack(bytes(30_000_000), 30_000_000)
    made = 0
    with pytest.raises(DigestError):
        for piece in decode_pack([bomb], 1_000_000):
            made += len(piece)
    assert made <= 1_000_000


def test_a_window_larger_than_a_packs_is_refused() -> None:
    window_of_128_mib = bytes([0, 27 - 10 << 3])
    frame = zstdframe.MAGIC + window_of_128_mib + (100 << 3 | 1).to_bytes(3, "little") + bytes(100)
    with pytest.raises(DocumentError, match="malformed"):
        list(decode_pack([frame], 100))
    small = frame.replace(window_of_128_mib, bytes([0, 0]))
    assert b"".join(decode_pack([small], 100)) == bytes(100)


def test_what_is_cut_off_flipped_or_followed_is_refused() -> None:
    pack = encode_pack(TAR, len(TAR))
    for end in range(len(pack)):
        with pytest.raises(TrustError):
            list(decode_pack([pack[:end]], len(TAR)))
    for at in range(len(pack)):
        broken = pack[:at] + bytes([pack[at] ^ 0x41]) + pack[at + 1 :]
        try:
            made = b"".join(decode_pack([broken], len(TAR)))
        except TrustError:
            continue
        assert made == TAR
    for rest in ([pack + b"x"], [pack, b"x"]):
        with pytest.raises(DocumentError):
            list(decode_pack(rest, len(TAR)))
