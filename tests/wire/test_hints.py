"""Hints from unverified metadata: right for what an origin makes, harmless for everything else."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.digest import sha256_of
from fleetward.core.limits import MetadataLimits
from fleetward.errors import DocumentError
from fleetward.origin.publish import publish
from fleetward.wire.documents import encode
from fleetward.wire.hints import (
    DocumentHint,
    HintLimits,
    manifest_hint,
    read_channel,
    read_manifest,
    read_snapshot,
    read_targets,
    read_timestamp,
)
from fleetward.wire.layout import TIMESTAMP_PATH, parse_repository_path
from origin.rigging import REPO, made, order
from support.samples import CHANNEL, MANIFEST

HASH = "a" * 64
LISTING = {"_type": "timestamp", "version": 7, "meta": {"snapshot.json": {"version": 3}}}
TARGETS = {
    "_type": "targets",
    "version": 1,
    "targets": {"channels/yara/stable.json": {"length": 5, "hashes": {"sha256": HASH}}},
    "delegations": {"roles": [{"name": "channels"}]},
}


def signed(document: dict[str, Any]) -> bytes:
    return json.dumps({"signatures": [], "signed": document}).encode()


def changed(document: dict[str, Any], **fields: Any) -> bytes:  # noqa: ANN401
    merged = {**document, **fields}
    return signed({name: value for name, value in merged.items() if value is not ...})


def path_hint(path: str, content: bytes) -> DocumentHint:
    parsed = parse_repository_path(path)
    assert parsed is not None
    return DocumentHint(parsed, len(content), sha256_of(content))


# -- what an origin makes ----------------------------------------------------------------------


def test_the_way_from_an_origins_timestamp_to_its_blobs() -> None:
    """Each file that a hint names lies there, with the length and digest that it tells."""
    shop = made()
    publish(shop, order(shop.disk, {"a.yar": b"rule a"}))
    published = publish(shop, order(shop.disk, {"a.yar": b"rule a", "b.yar": b"rule b"}))

    def read(hint: DocumentHint) -> bytes:
        content = shop.disk.read(REPO / hint.path.path)
        assert hint.length in {None, len(content)}
        assert hint.digest == sha256_of(content)
        return content

    timestamp = read_timestamp(shop.disk.read(REPO / TIMESTAMP_PATH))
    assert timestamp.version == 3
    roles = read_snapshot(read(timestamp.snapshot))
    assert sorted(roles) == ["channels", "fleet", "releases-yara", "targets"]
    top = read_targets(read(roles["targets"]))
    assert (top.channels, top.targets) == ((), 0)
    assert set(top.delegations) == {"channels", "fleet", "releases-yara"}
    releases = read_targets(read(roles["releases-yara"]))
    assert releases.targets == 4
    assert sorted(hint.path.path.rsplit(".", 2)[1] for hint in releases.standing) == [
        "floor",
        "policy",
    ]
    assert [read(hint)[:1] for hint in releases.standing] == [b"{", b"{"]
    (hint,) = read_targets(read(roles["channels"])).channels
    channel = read_channel(hint, read(hint))
    assert channel.release.release == published.manifest.release
    manifest = read_manifest(
        channel, channel.release, read(manifest_hint(channel, channel.release))
    )
    assert manifest == published.manifest
    assert channel.previous is not None
    before = read_manifest(
        channel, channel.previous, read(manifest_hint(channel, channel.previous))
    )
    assert manifest.deltas[0].base == before.release


# -- what is not right -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"_type": "snapshot"},
        {"_type": ...},
        {"version": 0},
        {"version": -1},
        {"version": 1.5},
        {"version": "7"},
        {"version": True},
        {"version": 10**10},
        {"version": ...},
        {"meta": ...},
        {"meta": []},
        {"meta": {}},
        {"meta": {"other.json": {"version": 1}}},
        {"meta": {"snapshot.json": {"version": 1}, "more.json": {"version": 1}}},
        {"meta": {"snapshot.json": {"version": 0}}},
        {"meta": {"snapshot.json": {}}},
        {"meta": {"snapshot.json": {"version": 1, "length": -1}}},
        {"meta": {"snapshot.json": {"version": 1, "length": 1 << 60}}},
        {"meta": {"snapshot.json": {"version": 1, "hashes": {"sha256": HASH[:-1]}}}},
        {"meta": {"snapshot.json": {"version": 1, "hashes": {"sha256": HASH.upper()}}}},
        {"meta": {"snapshot.json": {"version": 1, "hashes": {"sha256": 1}}}},
        {"meta": {"snapshot.json": {"version": 1, "hashes": "sha256"}}},
    ],
)
def test_near_misses_of_a_timestamp(fields: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        read_timestamp(changed(LISTING, **fields))


def test_a_timestamp_without_length_and_digest_is_enough() -> None:
    hint = read_timestamp(signed(LISTING))
    assert hint.version == 7
    assert hint.snapshot.path.path == "metadata/3.snapshot.json"
    assert (hint.snapshot.length, hint.snapshot.digest) == (None, None)
    other = {"snapshot.json": {"version": 3, "hashes": {"sha512": "x"}, "custom": 1}}
    assert read_timestamp(changed(LISTING, meta=other, more=[])) == hint


@pytest.mark.parametrize(
    "name", ["", ".json", "a", "a.jsn", "../a.json", "a/b.json", "A.json", "a\u0000.json", "é.json"]
)
def test_role_names_that_no_layout_has(name: str) -> None:
    """They would become paths on the disk and in requests upstream."""
    meta = {name: {"version": 1}}
    with pytest.raises(DocumentError):
        read_snapshot(changed(LISTING, _type="snapshot", meta=meta))


@pytest.mark.parametrize(
    "targets",
    [
        {"channels/../x.json": {"length": 1, "hashes": {"sha256": HASH}}},
        {"channels/a/B.json": {"length": 1, "hashes": {"sha256": HASH}}},
        {"channels/a/b.json": {"length": 1, "hashes": {}}},
        {"channels/a/b.json": {"length": 1, "hashes": {"sha256": "zz"}}},
        {"channels/a/b.json": {"length": -1, "hashes": {"sha256": HASH}}},
        {"channels/a/b.json": {"hashes": {"sha256": HASH}}},
        {"channels/a/b.json": 5},
        5,
    ],
)
def test_targets_that_cannot_be(targets: object) -> None:
    with pytest.raises(DocumentError):
        read_targets(changed(TARGETS, targets=targets))


def test_targets_that_are_no_channels_are_counted_and_passed_over() -> None:
    entry = {"length": 1, "hashes": {"sha512": "-"}}
    names = ("releases/yara/1.json", "fleet/a/b.json", "channels/a.json", "../../etc/passwd")
    hint = read_targets(changed(TARGETS, targets=dict.fromkeys(names, entry), delegations=...))
    assert (hint.channels, hint.standing, hint.targets, hint.delegations) == ((), (), 4, ())


def test_counts_are_bounded() -> None:
    limits = HintLimits(max_roles=2, max_delegations=2, max_targets=2)
    three = {f"{name}.json": {"version": 1} for name in "abc"}
    with pytest.raises(DocumentError, match="3 roles"):
        read_snapshot(changed(LISTING, _type="snapshot", meta=three), limits)
    roles = {"roles": [{"name": name} for name in "abc"]}
    with pytest.raises(DocumentError, match="3 roles"):
        read_targets(changed(TARGETS, delegations=roles), limits)
    targets = {name: {"length": 1, "hashes": {"sha256": HASH}} for name in "abc"}
    with pytest.raises(DocumentError, match="3 targets"):
        read_targets(changed(TARGETS, targets=targets), limits)
    two = {f"{name}.json": {"version": 1} for name in "ab"}
    assert len(read_snapshot(changed(LISTING, _type="snapshot", meta=two), limits)) == 2


def test_lengths_are_bounded_before_anything_is_read() -> None:
    bounds = MetadataLimits()
    for read, bound in (
        (read_timestamp, bounds.timestamp_bytes),
        (read_snapshot, bounds.snapshot_bytes),
        (read_targets, bounds.targets_bytes),
    ):
        with pytest.raises(DocumentError, match="bytes"):
            read(b" " * (bound + 1))


def test_documents_of_another_channel_or_release_are_refused() -> None:
    """An upstream swaps two documents: what they name is not what was asked for."""
    channel = encode(CHANNEL)
    digest = sha256_of(channel)
    right = path_hint(f"targets/channels/yara/{digest}.stable.json", channel)
    assert read_channel(right, channel) == CHANNEL
    with pytest.raises(DocumentError, match="another channel"):
        read_channel(path_hint(f"targets/channels/sigma/{digest}.stable.json", channel), channel)
    with pytest.raises(DocumentError, match="another channel"):
        read_channel(DocumentHint(right.path), channel)
    manifest = encode(MANIFEST)
    assert read_manifest(CHANNEL, CHANNEL.release, manifest) == MANIFEST
    assert manifest_hint(CHANNEL, CHANNEL.release).digest == CHANNEL.release.manifest
    for field in ("product", "release"):
        other = encode(replace(MANIFEST, **{field: "other"}))  # type: ignore[arg-type]
        with pytest.raises(DocumentError, match="says that it is"):
            read_manifest(CHANNEL, CHANNEL.release, other)


# -- hostile bytes -----------------------------------------------------------------------------

READERS: tuple[Callable[[bytes], object], ...] = (
    read_timestamp,
    read_snapshot,
    read_targets,
    lambda content: read_channel(
        DocumentHint(read_timestamp(signed(LISTING)).snapshot.path), content
    ),
    lambda content: read_manifest(CHANNEL, CHANNEL.release, content),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["signed", "_type", "version", "meta", "targets", "delegations", "x"])
            | st.text(max_size=12),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)


def harmless(content: bytes) -> None:
    for read in READERS:
        with contextlib.suppress(DocumentError):
            read(content)


@given(st.binary(max_size=400))
def test_any_bytes_raise_nothing_but_a_document_error(content: bytes) -> None:
    harmless(content)


@given(JSON, st.sampled_from(["timestamp", "snapshot", "targets"]))
def test_any_json_raises_nothing_but_a_document_error(inside: Any, kind: str) -> None:  # noqa: ANN401
    harmless(json.dumps(inside).encode())
    body = inside if isinstance(inside, dict) else {"meta": inside, "targets": inside}
    harmless(signed({"version": 1, "meta": {}, "targets": {}, **body, "_type": kind}))


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=3))
def test_damaged_metadata_raises_nothing_but_a_document_error(at: int, piece: bytes) -> None:
    for whole in (signed(LISTING), signed(TARGETS), encode(CHANNEL), encode(MANIFEST)):
        cut = at % len(whole)
        harmless(whole[:cut] + piece + whole[cut + len(piece) :])
        harmless(whole[:cut])


@pytest.mark.parametrize("opening", [b"[", b'{"signed":', b'{"a":'])
def test_nesting_without_end(opening: bytes) -> None:
    harmless(opening * 6000)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9._/-]{1,20}", fullmatch=True),
        st.fixed_dictionaries({"version": st.integers(-2, 10**11)}),
        max_size=5,
    )
)
def test_what_a_snapshot_leads_to_always_has_a_place_in_a_repository(meta: dict[str, Any]) -> None:
    try:
        hints = read_snapshot(changed(LISTING, _type="snapshot", meta=meta))
    except DocumentError:
        return
    for role, hint in hints.items():
        assert parse_repository_path(hint.path.path) == hint.path
        assert hint.path.path == f"metadata/{meta[role + '.json']['version']}.{role}.json"
