"""Deflate streams as tokens, and back."""

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward.deltas import deflate
from fleetward.errors import DocumentError

CONTENTS = st.one_of(
    st.binary(max_size=2000),
    st.lists(st.sampled_from([b"abc", b"rule ", b"\n", b"0"]), max_size=900).map(b"".join),
)


def raw(content: bytes, level: int, strategy: int = 0) -> bytes:
    deflater = zlib.compressobj(level, zlib.DEFLATED, -15, 8, strategy)
    return deflater.compress(content) + deflater.flush()


@given(CONTENTS, st.integers(0, 9), st.sampled_from([0, 1, 2, 3, 4]))
@settings(deadline=None, max_examples=200)
def test_zlibs_own_blocks_are_written_as_zlib_wrote_them(
    content: bytes, level: int, strategy: int
) -> None:
    stream = raw(content, level, strategy)
    blocks = deflate.read_blocks(stream)
    assert sum(deflate.covered(block.tokens) for block in blocks) == len(content)
    made = deflate.write_blocks([(b.kind, b.tokens) for b in blocks], content)
    assert made == stream


@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=286))
def test_code_lengths_are_a_complete_code_within_the_limit(counts: list[int]) -> None:
    for most in (9, 15):
        lengths = deflate.code_lengths(counts, most)
        used = [bits for bits in lengths if bits]
        assert max(used) <= most
        assert sum(2.0**-bits for bits in used) == 1


def test_codes_longer_than_the_limit_are_shortened() -> None:
    fibonacci = [1, 1]
    while len(fibonacci) < 30:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    lengths = deflate.code_lengths(fibonacci, 15)
    assert max(lengths) == 15
    assert sum(2.0**-bits for bits in lengths) == 1


@pytest.mark.parametrize("stream", [b"", b"\x07", b"\x04\xff\xff\xff\xff\xff\xff\xff\xff", b"\x05"])
def test_what_is_no_stream_is_refused(stream: bytes) -> None:
    with pytest.raises(DocumentError):
        deflate.read_blocks(stream)
