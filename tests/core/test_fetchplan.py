"""The cheapest way: chains of deltas, the pack, and what a small host cannot do."""

from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.digest import Sha256
from fleetward.core.documents import Manifest
from fleetward.core.fetchplan import REQUEST_COST, Means, plan_fetch
from support.samples import delta, digest_of, manifest

ALL = Means(max_memory=10_000, codecs={"changed-set", "whole-tree"})
R1 = digest_of("tree 1")


def codecs(
    target: Manifest, have: Sha256 | None, known: tuple[Manifest, ...], means: Means
) -> list[str]:
    return [f"{s.delta.base}:{s.delta.codec}" for s in plan_fetch(target, have, known, means).steps]


def test_a_new_host_takes_the_pack() -> None:
    plan = plan_fetch(manifest(2, delta(1, 2, 10)), None, (), ALL)
    assert (plan.steps, plan.wire_bytes) == ((), 100_000)


def test_a_delta_that_is_smaller_is_taken() -> None:
    plan = plan_fetch(manifest(2, delta(1, 2, 10)), R1, (), ALL)
    assert plan.wire_bytes == 10
    assert [s.delta.base for s in plan.steps] == ["r1"]


def test_a_delta_that_is_larger_than_the_pack_is_not() -> None:
    assert plan_fetch(manifest(2, delta(1, 2, 200_000)), R1, (), ALL).steps == ()


def test_an_unknown_base_takes_the_pack() -> None:
    assert plan_fetch(manifest(3, delta(2, 3, 10)), R1, (), ALL).steps == ()


def test_a_chain_is_cheaper_than_one_large_delta() -> None:
    middle = manifest(2, delta(1, 2, 1_000))
    target = manifest(3, delta(1, 3, 50_000), delta(2, 3, 1_000))
    assert codecs(target, R1, (middle,), ALL) == ["r1:changed-set", "r2:changed-set"]


def test_requests_have_a_price() -> None:
    middle = manifest(2, delta(1, 2, 1_000))
    target = manifest(3, delta(1, 3, 2_000 + REQUEST_COST - 1), delta(2, 3, 1_000))
    assert codecs(target, R1, (middle,), ALL) == ["r1:changed-set"]


def test_a_small_host_takes_the_cheap_delta() -> None:
    target = manifest(
        2, delta(1, 2, 10, memory=9_000, codec="whole-tree"), delta(1, 2, 20, memory=500)
    )
    assert codecs(target, R1, (), ALL) == ["r1:whole-tree"]
    small = Means(max_memory=1_000, codecs=ALL.codecs)
    assert codecs(target, R1, (), small) == ["r1:changed-set"]


def test_a_host_without_the_codec_or_the_encoder_passes_over() -> None:
    target = manifest(2, delta(1, 2, 10))
    assert codecs(target, R1, (), Means(10_000, {"whole-tree"})) == []
    assert codecs(target, R1, (), Means(10_000, ALL.codecs, encoders=())) == ["r1:changed-set"]


def test_cycles_end() -> None:
    back = manifest(1, delta(2, 1, 5))
    forth = manifest(2, delta(1, 2, 5))
    assert plan_fetch(manifest(4, delta(3, 4, 5)), R1, (back, forth), ALL).steps == ()


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(0, 90_000)), max_size=20),
    st.integers(1, 6),
)
def test_a_plan_never_costs_more_than_the_pack_and_its_chain_holds(
    edges: list[tuple[int, int, int]], want: int
) -> None:
    known = {
        seq: manifest(seq, *(delta(b, seq, n) for b, r, n in edges if r == seq and b != seq))
        for seq in range(1, 7)
    }
    plan = plan_fetch(known[want], R1, tuple(known.values()), ALL)
    assert plan.wire_bytes <= plan.target.pack.length + REQUEST_COST
    at = R1
    for step in plan.steps:
        assert step.delta.base_tree == at
        at = step.makes.tree.sha256
    assert not plan.steps or at == plan.target.tree.sha256
