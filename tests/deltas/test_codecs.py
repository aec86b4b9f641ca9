"""Every codec under one contract suite."""

import gzip
import random
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetward.deltas import (
    CODECS,
    MEMORY_BUDGET,
    MemoryTree,
    UnusableDeltaError,
    apply_delta,
    encode_deltas,
    members,
    tar_bytes,
    tree_digest,
)
from fleetward.deltas.layouts import compare
from fleetward.errors import DigestError, DocumentError, FleetwardError, TrustError

RULE = b'rule r%d { strings: $a = "value %d" condition: $a }\n'
UNHURRIED = settings(deadline=None, suppress_health_check=list(HealthCheck))


def text(seed: int, lines: int = 40) -> bytes:
    return b"".join(RULE % (seed, seed * 7919 % 1000 + i) for i in range(lines))


def noise(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def edited(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join([*lines[:5], b"// a new line\n", *lines[9:30], *lines[2:4], *lines[30:]])


def zipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


PAIRS = {
    "identical": ({"a": b"1", "b": text(1)}, {"a": b"1", "b": text(1)}),
    "both empty": ({}, {}),
    "from empty": ({}, {"a/b": text(1)}),
    "to empty": ({"a/b": text(1)}, {}),
    "an empty file": ({"a": b""}, {"a": b"", "b": b""}),
    "a file emptied": ({"a": text(1)}, {"a": b""}),
    "changed": ({"a": text(1), "b": text(2)}, {"a": text(1) + text(3), "b": text(2)}),
    "edited": ({"a": text(1, 400), "b": text(2)}, {"a": edited(text(1, 400)), "b": text(2)}),
    "renamed": ({"a": text(1), "b": text(2)}, {"c": text(1), "b": text(2)}),
    "added and removed": ({"a": text(1), "z": text(2)}, {"b": text(1)[:99], "z/y": text(2)}),
    "binary": ({"a": bytes(range(256)) * 99}, {"a": bytes(range(255, -1, -1)) * 99}),
    "noise": ({"a": noise(1, 5000)}, {"a": noise(1, 2500) + noise(2, 40) + noise(1, 5000)[2600:]}),
    "long names": ({"é" * 90: text(1)}, {"é" * 90: text(2), "é" * 90 + "x": text(1)}),
    "many names": (
        {f"rules/{i:02}.yar": text(i, 2) for i in range(60)},
        {f"rules/{i:02}.yar": text(i, 2) for i in range(3, 80, 2)},
    ),
    "gzip": ({"a.gz": zipped(text(1))}, {"a.gz": zipped(edited(text(1))), "b": text(1)}),
}
Pair = tuple[dict[str, bytes], dict[str, bytes]]
each_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
each_codec = pytest.mark.parametrize("name", CODECS)


def applied(
    name: str, base: MemoryTree, content: bytes, length: int, encoder: str | None = None
) -> bytes:
    return b"".join(apply_delta(name, base, content, encoder=encoder, result_length=length))


@each_pair
@each_codec
def test_each_codec_makes_the_result_again(name: str, pair: Pair) -> None:
    base, result = MemoryTree(pair[0]), MemoryTree(pair[1], frozenset(list(pair[1])[:1]))
    tar = tar_bytes(result)
    comparison = compare(base, result)
    encoder = ",".join(comparison.encoders) if CODECS[name].opens else None
    for content, memory in CODECS[name].encode(comparison, MEMORY_BUDGET):
        assert applied(name, base, content, len(tar), encoder) == tar
        assert memory > len(content)


@each_pair
@each_codec
def test_a_delta_cut_short_is_refused(name: str, pair: Pair) -> None:
    base, result = MemoryTree(pair[0]), MemoryTree(pair[1])
    tar = tar_bytes(result)
    comparison = compare(base, result)
    for content, _ in CODECS[name].encode(comparison, MEMORY_BUDGET):
        for end in range(0, len(content), max(1, len(content) // 60)):
            try:
                made = applied(name, base, content[:end], len(tar), ",".join(comparison.encoders))
            except TrustError:
                continue
            assert made != tar or end == len(content)


@each_pair
@each_codec
def test_a_flipped_byte_gives_a_typed_error_or_the_signed_length(name: str, pair: Pair) -> None:
    base, result = MemoryTree(pair[0]), MemoryTree(pair[1])
    length = len(tar_bytes(result))
    comparison = compare(base, result)
    for content, _ in CODECS[name].encode(comparison, MEMORY_BUDGET):
        for at in range(0, len(content), max(1, len(content) // 60)):
            for flip in (1, 0xFF):
                broken = bytearray(content)
                broken[at] ^= flip
                try:
                    made = applied(name, base, bytes(broken), length, ",".join(comparison.encoders))
                except TrustError:
                    continue
                assert len(made) == length


@each_pair
@each_codec
def test_a_lying_length_is_found(name: str, pair: Pair) -> None:
    base, result = MemoryTree(pair[0]), MemoryTree(pair[1])
    length = len(tar_bytes(result))
    comparison = compare(base, result)
    encoder = ",".join(comparison.encoders) or None
    for content, _ in CODECS[name].encode(comparison, MEMORY_BUDGET):
        for lie in (0, length // 2, length - 1, length + 1, length * 3):
            made = 0
            with pytest.raises(TrustError):
                for piece in apply_delta(name, base, content, encoder=encoder, result_length=lie):
                    made += len(piece)
                    assert made <= lie


@each_codec
def test_rubbish_is_refused(name: str) -> None:
    base = MemoryTree({"a": text(1)})
    for seed in range(300):
        rubbish = b"\x01" + noise(seed, seed)
        with pytest.raises(TrustError):
            applied(name, base, rubbish, 10_000)


@each_codec
def test_too_little_memory_asks_for_another_delta(name: str) -> None:
    base, result = MemoryTree({"a": noise(1, 9000)}), MemoryTree({"a": noise(1, 8000)})
    length = len(tar_bytes(result))
    for content, _ in CODECS[name].encode(compare(base, result), MEMORY_BUDGET):
        made = apply_delta(
            name, base, content, encoder=None, result_length=length, max_memory=8_500
        )
        with pytest.raises(UnusableDeltaError, match="memory"):
            list(made)


def test_an_unknown_codec_asks_for_the_pack() -> None:
    with pytest.raises(UnusableDeltaError, match="take the pack"):
        apply_delta("telepathy", MemoryTree({}), b"", encoder=None, result_length=1024)


def test_a_newer_version_asks_for_the_pack() -> None:
    with pytest.raises(UnusableDeltaError, match="newer"):
        applied("changed-set", MemoryTree({}), b"\x02", 1024)


def test_a_host_whose_zlib_differs_asks_for_the_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    base = MemoryTree({"a.gz": zipped(text(1))})
    result = MemoryTree({"a.gz": zipped(edited(text(1)))})
    delta = encode_deltas(base, result)[0]
    assert delta.encoder == "zlib/9/8/default"

    monkeypatch.setattr(members, "zlib_compressor", lambda *_: zlib.compressobj(1, wbits=-15))
    members.zlib_is_known.cache_clear()
    with pytest.raises(UnusableDeltaError, match="zlib"):
        applied(delta.codec, base, delta.content, len(tar_bytes(result)), delta.encoder)
    assert all(other.encoder is None for other in encode_deltas(base, result))
    members.zlib_is_known.cache_clear()


def test_a_wrong_base_is_refused_or_found_by_the_digest() -> None:
    base, result = MemoryTree({"a": text(1), "b": text(2)}), MemoryTree({"a": text(3)})
    tar = tar_bytes(result)
    for delta in encode_deltas(base, result):
        try:
            made = applied(delta.codec, MemoryTree({"a": text(4)}), delta.content, len(tar))
        except TrustError:
            continue
        assert made != tar


def test_executable_bits_travel() -> None:
    files = {"a": text(1), "b": text(2), "c": text(3)}
    base = MemoryTree(files, frozenset({"a"}))
    result = MemoryTree(files | {"c": text(4), "d": b""}, frozenset({"b", "c", "d"}))
    for delta in encode_deltas(base, result):
        made = applied(delta.codec, base, delta.content, len(tar_bytes(result)))
        assert made == tar_bytes(result)
        assert tree_digest(MemoryTree.from_tar(made)) == tree_digest(result)


def test_a_cheap_delta_stands_beside_a_dear_one() -> None:
    unchanged = {f"u/{i}": noise(i, 2_000_000) for i in range(3)}
    base = MemoryTree({**unchanged, "z": text(99)})
    result = MemoryTree({**unchanged, "z": text(99), "zz": noise(2, 2000)})
    small, cheap = encode_deltas(base, result)
    assert len(small.content) < len(cheap.content)
    assert cheap.memory * 2 <= small.memory


def test_no_delta_fits_a_budget_of_nothing() -> None:
    base, result = MemoryTree({"a": text(1)}), MemoryTree({"a": text(2)})
    assert encode_deltas(base, result, memory_budget=10) == ()


def test_a_codec_that_fails_its_own_proof_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    base, result = MemoryTree({"a": text(1)}), MemoryTree({"a": text(2)})

    class Liar:
        name, opens = "liar", False

        def encode(self, comparison: object, memory_budget: int) -> list[tuple[bytes, int]]:
            return [(b"\x01", 1), (b"\x01wrong", 2)]

        def apply(self, tree: object, cursor: object, bounds: object) -> list[bytes]:
            return [bytes(len(tar_bytes(result)))]

    monkeypatch.setitem(CODECS, "liar", Liar())
    assert all(delta.codec != "liar" for delta in encode_deltas(base, result))


def test_errors_are_trust_errors_of_the_one_tree() -> None:
    assert issubclass(UnusableDeltaError, DocumentError)
    assert issubclass(DocumentError, FleetwardError)
    assert issubclass(DigestError, TrustError)


paths = st.sampled_from(["a", "b", "c/d", "c/e", "f/g/h", "zz", "zz.gz"])
contents = st.one_of(
    st.binary(max_size=200),
    st.integers(0, 9).map(text),
    st.integers(0, 9).map(lambda seed: edited(text(seed))),
    st.integers(0, 9).map(lambda seed: b"head" + zipped(text(seed)) + b"tail"),
)
trees = st.dictionaries(paths, contents, max_size=6).map(
    lambda files: {p: c for p, c in files.items() if p not in {"c", "f"}}
)


@given(trees, trees, st.sets(paths), st.sets(paths))
@settings(UNHURRIED, max_examples=30)
def test_the_deltas_returned_make_the_result(
    old: dict[str, bytes], new: dict[str, bytes], some: set[str], others: set[str]
) -> None:
    base = MemoryTree(old, frozenset(some))
    result = MemoryTree(new, frozenset(others))
    tar = tar_bytes(result)
    deltas = encode_deltas(base, result)
    assert deltas
    for delta in deltas:
        assert applied(delta.codec, base, delta.content, len(tar), delta.encoder) == tar
