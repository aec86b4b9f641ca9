"""A document that exists is well-formed; a name or digest that is not one makes no document."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from fleetward.core.digest import Sha256, parse_sha256, sha256_of
from fleetward.core.documents import (
    Channel,
    Floor,
    Policy,
    RampStep,
    ReleaseRef,
    Revoked,
    Wave,
    whole_second,
)
from fleetward.core.names import (
    ChannelName,
    ProductName,
    ReleaseName,
    parse_channel,
    parse_product,
    parse_release,
)
from fleetward.errors import DocumentError, UsageError
from support.samples import CHANNEL, DIGEST, MANIFEST


@pytest.mark.parametrize("name", ["yara", "2026.11.24-1", "a_b", "0", "x" * 64])
def test_names(name: str) -> None:
    assert [parse_product(name), parse_release(name), parse_channel(name)] == [name] * 3


@pytest.mark.parametrize("name", ["", "-a", ".a", "A", "a/b", "a b", "é", "x" * 65, "a\n", "a\x00"])
def test_what_is_no_name(name: str) -> None:
    for parse in (parse_product, parse_release, parse_channel):
        with pytest.raises(UsageError, match="is no"):
            parse(name)


@pytest.mark.parametrize("name", ["floor", "policy"])
def test_reserved_releases(name: str) -> None:
    with pytest.raises(UsageError, match="reserved"):
        parse_release(name)


def test_digests() -> None:
    assert parse_sha256(sha256_of(b"")) == sha256_of(b"")
    for text in ("", "0" * 63, "G" * 64, "A" * 64, "0" * 64 + "\n"):
        with pytest.raises(DocumentError, match="not a sha256"):
            parse_sha256(text)


BAD_MANIFESTS: list[dict[str, Any]] = [
    {"seq": 0},
    {"product": "UP"},
    {"release": "floor"},
    {"created": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))},
]
BAD_PARTS: list[tuple[Any, dict[str, Any]]] = [
    (MANIFEST.tree, {"length": -1}),
    (MANIFEST.tree, {"sha256": "x"}),
    (MANIFEST.pack, {"length": -1}),
    (MANIFEST.deltas[0], {"base": "no/name"}),
    (MANIFEST.deltas[0], {"memory": -1}),
]


@pytest.mark.parametrize("changes", BAD_MANIFESTS)
def test_a_manifest_of_bad_parts_does_not_exist(changes: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        replace(MANIFEST, **changes)


@pytest.mark.parametrize(("part", "changes"), BAD_PARTS)
def test_a_part_that_is_bad_does_not_exist(part: Any, changes: dict[str, Any]) -> None:  # noqa: ANN401
    with pytest.raises(DocumentError):
        replace(part, **changes)


def test_a_channel_of_bad_parts_does_not_exist() -> None:
    with pytest.raises(DocumentError, match="open"):
        replace(CHANNEL, open=1)
    with pytest.raises(DocumentError):
        replace(CHANNEL, channel=ChannelName("no name"))
    with pytest.raises(DocumentError, match="seq"):
        ReleaseRef(release=ReleaseName("r"), seq=0, manifest=DIGEST)
    with pytest.raises(DocumentError, match="percent"):
        Wave(percent=101)
    assert isinstance(CHANNEL, Channel)


def test_revocations_are_by_tree() -> None:
    revoked = Revoked(release=ReleaseName("r"), tree=DIGEST, reason="broke hosts")
    floor = Floor(product=ProductName("p"), seq=3, revoked=(revoked,))
    assert floor.revocation_of(DIGEST) is revoked
    assert floor.revocation_of(Sha256("0" * 64)) is None
    with pytest.raises(DocumentError):
        Floor(product=ProductName("p"), seq=-1)


def test_the_ramp_rises_with_age() -> None:
    policy = Policy(
        product=ProductName("p"),
        ramp=(RampStep(age=0, percent=1), RampStep(age=3600, percent=50)),
    )
    shares = [policy.share_at(timedelta(seconds=age)) for age in (-5, 0, 3599, 3600, 10**9)]
    assert shares == [0.0, 1, 1, 50, 50]
    assert Policy(product=ProductName("p")).share_at(timedelta(days=-1)) == 100.0


@pytest.mark.parametrize(
    "ramp",
    [
        (RampStep(age=5, percent=1), RampStep(age=4, percent=2)),
        (RampStep(age=5, percent=2), RampStep(age=6, percent=1)),
    ],
)
def test_a_ramp_that_falls_does_not_exist(ramp: tuple[RampStep, ...]) -> None:
    with pytest.raises(DocumentError, match="must rise"):
        Policy(product=ProductName("p"), ramp=ramp)
    with pytest.raises(DocumentError):
        RampStep(age=0, percent=-1)


def test_documents_have_whole_seconds() -> None:
    instant = datetime(2026, 1, 1, 1, 0, 0, 999, tzinfo=timezone(timedelta(hours=1)))
    assert whole_second(instant) == datetime(2026, 1, 1, tzinfo=UTC)
