"""One zstd frame: whole, alone, and never more than was allowed."""

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from fleetward.adapters.compression import compress, decompress
from fleetward.errors import DocumentError


@given(st.binary(max_size=5000))
def test_every_message_comes_back(content: bytes) -> None:
    assert decompress(compress(content), len(content)) == content


def test_a_bomb_stops_at_the_limit() -> None:
    """A frame of some kilobytes holds a hundred megabytes."""
    bomb = compress(bytes(100_000_000))
    assert len(bomb) < 20_000
    with pytest.raises(DocumentError):
        decompress(bomb, 1_000_000)


def test_a_bomb_that_hides_its_length_stops_at_the_limit() -> None:
    hidden = zstd.ZstdCompressor(options={zstd.CompressionParameter.content_size_flag: 0})
    bomb = hidden.compress(bytes(2_000_000)) + hidden.flush()
    with pytest.raises(DocumentError):
        decompress(bomb, 1_000_000)


def test_a_little_more_than_allowed_is_refused() -> None:
    with pytest.raises(DocumentError, match="more than 1000000 bytes"):
        decompress(compress(bytes(1_000_001)), 1_000_000)


def test_a_window_larger_than_the_message_is_refused_before_it_is_allocated() -> None:
    wide = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    frame = wide.compress(b"x") + wide.flush()
    with pytest.raises(DocumentError):
        decompress(frame, 1000)


@pytest.mark.parametrize(
    "frame",
    [b"", b"nonsense", compress(b"x" * 500)[:-3], compress(b"x") + b"y", compress(b"x") * 2],
)
def test_what_is_not_one_whole_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(DocumentError):
        decompress(frame, 1000)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_one_error(content: bytes) -> None:
    with pytest.raises(DocumentError):
        decompress(content, 1000)
