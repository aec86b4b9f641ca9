"""The fuzz target on random inputs: some for everybody, many for `make slow`."""

import pytest

from fuzz.http_head import PIECES, fuzz_one, random_input


@pytest.mark.parametrize("seed", [2967])
def test_random_bytes_that_are_nearly_requests(seed: int) -> None:
    for piece in PIECES:
        fuzz_one(b"\x07" + piece)
    for number in range(600):
        fuzz_one(random_input(seed * 1_000_000 + number))


@pytest.mark.slow
def test_many_random_bytes() -> None:
    for number in range(30_000):
        fuzz_one(random_input(number))


def test_nothing_at_all() -> None:
    fuzz_one(b"")
    fuzz_one(b"\0")
