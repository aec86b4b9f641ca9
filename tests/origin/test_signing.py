"""Metadata as values: parsed, revised, signed, judged."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.digest import sha256_of
from fleetward.errors import DocumentError, MetadataError
from fleetward.trust.keys import SigningKey
from fleetward.trust.signing import (
    TOP_LEVEL,
    Delegation,
    RoleKeys,
    SignedRole,
    TargetRef,
    first_root,
    first_targets,
    snapshot_of,
    timestamp_of,
)
from support.fakes import START, SeededEntropy

YEAR = START + timedelta(days=365)
KEYS = [SigningKey.generate(SeededEntropy(n)) for n in range(6)]


def role_keys(*numbers: int, threshold: int = 1) -> RoleKeys:
    return RoleKeys(tuple(KEYS[n].public for n in numbers), threshold)


def root(threshold: int = 2) -> SignedRole:
    roles = {name: role_keys(3) for name in TOP_LEVEL}
    roles["root"] = role_keys(0, 1, 2, threshold=threshold)
    return first_root(roles, YEAR)


def edited(role: SignedRole, **signed: object) -> bytes:
    document = json.loads(role.content)
    document["signed"].update(signed)
    return json.dumps(document).encode()


def test_root_is_judged_by_itself_and_by_the_one_before() -> None:
    first = root()
    assert first.shortfall(first).missing == 2
    first = first.signed_by(KEYS[:2])
    first.require_signatures(first)
    second = first.with_role_keys("root", role_keys(4, 5)).revised(2, YEAR)
    assert second.shortfall(first).missing == 2
    assert set(second.shortfall(first).unsigned) >= {KEYS[4].public.keyid, KEYS[0].public.keyid}
    second = second.signed_by([KEYS[0], KEYS[4]])
    with pytest.raises(MetadataError, match=r"2\.root\.json lacks 1"):
        second.require_signatures(first)
    second.signed_by([KEYS[1]]).require_signatures(first)
    assert KEYS[1].public.keyid not in second.delegates["root"].keyids
    assert KEYS[1].public.keyid.encode() not in second.signed_by([]).content


def test_a_root_that_skips_a_version_is_refused() -> None:
    first = root()
    with pytest.raises(MetadataError, match="sequential"):
        first.revised(3, YEAR).shortfall(first)


def test_a_change_has_no_signatures() -> None:
    signed = first_targets("targets", YEAR).signed_by(KEYS[:2])
    assert signed.keyids == {KEYS[0].public.keyid, KEYS[1].public.keyid}
    for changed in (
        signed.revised(2, YEAR),
        signed.with_targets({}),
        signed.with_engine("yara"),
        signed.with_delegation(Delegation("fleet", role_keys(0), ("fleet/*",))),
    ):
        assert not changed.keyids
        assert signed.keyids


def test_who_is_not_delegated_to_is_vouched_for_by_nobody() -> None:
    targets = first_targets("targets", YEAR)
    with pytest.raises(MetadataError, match="does not vouch"):
        first_targets("fleet", YEAR).shortfall(targets)
    with pytest.raises(MetadataError, match="does not vouch"):
        targets.shortfall(snapshot_of([targets], 1, YEAR))


def test_delegations_end_the_search_and_keep_only_keys_in_use() -> None:
    targets = first_targets("targets", YEAR)
    assert targets.delegates == {}
    targets = targets.with_delegation(Delegation("fleet", role_keys(0, 1), ("fleet/*",)))
    targets = targets.with_delegation(Delegation("channels", role_keys(2), ("channels/*/*",)))
    targets = targets.with_delegation(Delegation("fleet", role_keys(1, 3), ("fleet/*",)))
    signed = json.loads(targets.content)["signed"]
    assert [role["terminating"] for role in signed["delegations"]["roles"]] == [True, True]
    assert set(signed["delegations"]["keys"]) == {KEYS[n].public.keyid for n in (1, 2, 3)}
    assert list(targets.delegates) == ["fleet", "channels"]
    fleet = first_targets("fleet", YEAR).signed_by([KEYS[3]])
    fleet.require_signatures(targets)


def test_targets_are_named_by_length_and_digest() -> None:
    ref = TargetRef.of(b"content")
    assert ref.matches(b"content")
    assert not ref.matches(b"contenT")
    role = first_targets("channels", YEAR).with_targets({"channels/p/c.json": ref})
    assert SignedRole.parse("channels", role.content).targets == {"channels/p/c.json": ref}
    with pytest.raises(MetadataError, match="names no targets"):
        _ = root().targets
    bad = edited(role, targets={"a": {"length": 1, "hashes": {"sha512": "00"}}})
    with pytest.raises(DocumentError):
        _ = SignedRole.parse("channels", bad).targets


def test_snapshot_and_timestamp_list_versions_lengths_and_digests() -> None:
    targets = first_targets("targets", YEAR)
    snapshot = snapshot_of([targets], 5, YEAR)
    timestamp = timestamp_of(snapshot, 9, YEAR, START, timedelta(minutes=10))
    assert snapshot.listed["targets"].version == 1
    assert snapshot.listed["targets"].sha256 == sha256_of(targets.content)
    assert timestamp.listed["snapshot"].version == 5
    assert timestamp.listed["snapshot"].length == len(snapshot.content)
    assert (timestamp.issued, timestamp.interval) == (START, timedelta(minutes=10))
    with pytest.raises(MetadataError, match="lists no metadata"):
        _ = targets.listed
    bare = edited(snapshot, meta={"targets.json": {"version": 3}})
    assert SignedRole.parse("snapshot", bare).listed["targets"].sha256 is None


def test_fields_of_our_own_that_are_malformed_are_none() -> None:
    timestamp = timestamp_of(snapshot_of([], 1, YEAR), 1, YEAR, START, timedelta(minutes=10))
    for issued in ("yesterday", 5, None):
        broken = SignedRole.parse("timestamp", edited(timestamp, **{"x-issued": issued}))
        assert broken.issued is None
    assert SignedRole.parse("timestamp", edited(timestamp, **{"x-interval": "9"})).interval is None
    assert first_targets("releases-p", YEAR).engine is None
    assert first_targets("releases-p", YEAR).with_engine("yara").engine == "yara"


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff", b'{"signed":{}}'])
def test_what_is_no_metadata_is_refused(content: bytes) -> None:
    with pytest.raises(MetadataError, match="malformed"):
        SignedRole.parse("targets", content)


def test_metadata_of_another_type_is_refused() -> None:
    with pytest.raises(MetadataError, match="of the type root"):
        SignedRole.parse("targets", root().content)
    with pytest.raises(MetadataError, match="of the type targets"):
        SignedRole.parse("root", first_targets("targets", YEAR).content)


def test_what_was_read_keeps_its_bytes() -> None:
    spaced = json.dumps(json.loads(root().content), indent=3).encode()
    assert SignedRole.parse("root", spaced).content == spaced
    assert repr(SignedRole.parse("root", spaced)) == "<SignedRole 1.root>"


def test_keys_of_other_kinds_are_passed_over_in_the_list_of_keys() -> None:
    document = json.loads(root().content)
    keyid = KEYS[0].public.keyid
    del document["signed"]["keys"][keyid]
    parsed = SignedRole.parse("root", json.dumps(document).encode())
    assert keyid not in parsed.delegates["root"].keyids


@given(st.dictionaries(st.from_regex(r"[a-z0-9]{1,9}", fullmatch=True), st.binary(max_size=9)))
def test_a_role_survives_a_round_trip_with_its_signatures(files: dict[str, bytes]) -> None:
    targets = {f"releases/p/{name}.json": TargetRef.of(files[name]) for name in files}
    role = first_targets("releases-p", YEAR).with_targets(targets).signed_by([KEYS[0]])
    again = SignedRole.parse("releases-p", role.content)
    assert again.targets == targets
    judge = first_targets("targets", YEAR).with_delegation(
        Delegation("releases-p", role_keys(0), ("releases/p/*",))
    )
    again.require_signatures(judge)
