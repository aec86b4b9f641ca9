"""The fuzz target for captures, with a bounded number of random inputs."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.captures import fuzz_one, random_input
from portwatch.captures import section


@pytest.mark.parametrize("batch", range(8))
def test_nearly_captures_break_nothing(batch: int) -> None:
    for seed in range(batch * 40, batch * 40 + 40):
        print(f"seed {seed}")
        fuzz_one(random_input(seed))


@pytest.mark.slow
def test_many_more_of_them() -> None:
    start = random.randrange(1 << 40)
    for seed in range(start, start + 20_000):
        print(f"seed {seed}")
        fuzz_one(random_input(seed))


@given(st.binary(max_size=400), st.sampled_from([b"", bytes.fromhex("d4c3b2a1"), section()]))
def test_noise_breaks_nothing(noise: bytes, start: bytes) -> None:
    fuzz_one(b"\5" + start + noise)
