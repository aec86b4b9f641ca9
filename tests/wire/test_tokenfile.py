"""The token file: one form, and nothing else is taken."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.errors import DocumentError
from fleetward.wire.tokenfile import (
    ConsolePins,
    TokenFile,
    decode_token_file,
    encode_token_file,
)

PINS = ConsolePins(
    console="https://console.example:8443", signing=("ab" * 32, "cd" * 32), sealing="ef" * 32
)
FILE = TokenFile(pins=PINS, token="fwt1.0011223344556677.c2VjcmV0")


def test_it_comes_back_as_it_was() -> None:
    content = encode_token_file(FILE)
    assert decode_token_file(content) == FILE
    assert decode_token_file(b"\n" + content + b"\n") == FILE
    assert content.startswith(b'{"schema":"fleetward.token-file/1","console":')


def test_it_gives_keys_as_bytes() -> None:
    assert PINS.signing_keys() == (b"\xab" * 32, b"\xcd" * 32)
    assert PINS.sealing_key() == b"\xef" * 32


def test_its_repr_is_no_leak() -> None:
    assert FILE.token not in repr(FILE)
    assert "console.example" in repr(FILE)


@pytest.mark.parametrize(
    "changes",
    [
        {"console": "console.example"},
        {"console": "https://console.example/"},
        {"signing": ()},
        {"signing": ("ab" * 32,) * 5},
        {"signing": ("AB" * 32,)},
        {"sealing": "ab" * 31},
    ],
)
def test_pins_out_of_range_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(DocumentError):
        replace(PINS, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"fwt1.0011223344556677.c2VjcmV0",
        b'{"schema":"fleetward.token-file/2"}',
        b'{"schema":"fleetward.token-file/1","console":"https://a"}',
        b" " * 9000,
    ],
)
def test_what_is_no_token_file_is_refused(content: bytes) -> None:
    with pytest.raises(DocumentError):
        decode_token_file(content)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_taken(content: bytes) -> None:
    try:
        decode_token_file(content)
    except DocumentError:
        return
    pytest.fail("random bytes were taken")
