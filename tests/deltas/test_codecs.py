"""Every codec under one contract suite."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetward.deltas import (
    CODECS,
    MEMORY_BUDGET,
    MemoryTree,
    apply_delta,
    encode_deltas,
    tar_bytes,
)
from fleetward.deltas.layouts import compare
from fleetward.errors import TrustError

RULE = b'rule r%d { strings: $a = "value %d" condition: $a }\n'


def text(seed: int, lines: int = 40) -> bytes:
    return b"".join(RULE % (seed, seed * 7919 % 1000 + i) for i in range(lines))


PAIRS = {
    "identical": ({"a": b"1", "b": text(1)}, {"a": b"1", "b": text(1)}),
    "both empty": ({}, {}),
    "from empty": ({}, {"a/b": text(1)}),
    "to empty": ({"a/b": text(1)}, {}),
    "an empty file": ({"a": b""}, {"a": b"", "b": b""}),
    "changed": ({"a": text(1), "b": text(2)}, {"a": text(1) + text(3), "b": text(2)}),
    "renamed": ({"a": text(1), "b": text(2)}, {"c": text(1), "b": text(2)}),
    "added and removed": ({"a": text(1), "z": text(2)}, {"b": text(1)[:99], "z/y": text(2)}),
    "binary": ({"a": bytes(range(256)) * 99}, {"a": bytes(range(255, -1, -1)) * 99}),
    "long name": ({"é" * 90: text(1)}, {"é" * 90: text(2), "é" * 90 + "x": text(1)}),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize("name", CODECS)
def test_each_codec_makes_the_result_again(
    name: str, pair: tuple[dict[str, bytes], dict[str, bytes]]
) -> None:
    base, result = MemoryTree(pair[0]), MemoryTree(pair[1], frozenset(list(pair[1])[:1]))
    tar = tar_bytes(result)
    for content, memory in CODECS[name].encode(compare(base, result), MEMORY_BUDGET):
        made = apply_delta(name, base, content, encoder=None, result_length=len(tar))
        assert b"".join(made) == tar
        assert memory > len(content)


paths = st.sampled_from(["a", "b", "c/d", "c/e", "f/g/h", "zz"])
trees = st.dictionaries(paths, st.binary(max_size=200), max_size=6)


@given(trees, trees)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=40)
def test_the_deltas_returned_make_the_result(old: dict[str, bytes], new: dict[str, bytes]) -> None:
    base, result = MemoryTree(old), MemoryTree(new)
    tar = tar_bytes(result)
    deltas = encode_deltas(base, result)
    assert deltas
    for delta in deltas:
        made = apply_delta(
            delta.codec, base, delta.content, encoder=delta.encoder, result_length=len(tar)
        )
        assert b"".join(made) == tar


@pytest.mark.parametrize("name", CODECS)
def test_a_delta_cut_short_is_refused(name: str) -> None:
    base, result = MemoryTree({"a": text(1)}), MemoryTree({"a": text(2), "b": text(3)})
    length = len(tar_bytes(result))
    for content, _ in CODECS[name].encode(compare(base, result), MEMORY_BUDGET):
        for end in range(len(content)):
            with pytest.raises(TrustError):
                list(apply_delta(name, base, content[:end], encoder=None, result_length=length))
