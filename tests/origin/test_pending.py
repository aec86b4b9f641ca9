"""Who holds which key: two signers of a product, offline keys in a safe, a steward apart."""

from pathlib import Path

import pytest

from fleetward.core.documents import Policy
from fleetward.core.names import ChannelName
from fleetward.errors import (
    ConfigurationError,
    DocumentError,
    KeyUnavailableError,
)
from fleetward.origin.finish import finish
from fleetward.origin.holders import renew, rotate, sign_pending
from fleetward.origin.keyring import PlainKeys, write_key
from fleetward.origin.products import (
    add_product,
    floor_at,
    parse_ramp,
    revoke,
    set_floor,
    set_policy,
)
from fleetward.origin.releases import free_name, read_releases
from fleetward.origin.reporting import pending_sentences, waiting_sentences
from fleetward.origin.roles import Quorum
from fleetward.origin.staging import Staging
from fleetward.origin.steward import steward_once
from fleetward.origin.workshop import Workshop
from fleetward.trust.keys import SigningKey
from fleetward.trust.signing import RoleKeys
from origin.rigging import KEYS, REPO, YARA, made, publish_files, require_whole, rules, workshop
from support.fakes import SeededEntropy

QA, SAFE, ONLINE = Path("/srv/qa"), Path("/srv/safe"), Path("/srv/online")
STABLE = ChannelName("stable")


def move_key(shop: Workshop, name: str, to: Path) -> None:
    """Carry a key file, or a folder of them, to another person's place."""
    target = to / name
    shop.disk.make_folder(target.parent)
    shop.disk.replace(KEYS / name, target)
    shop.keyring.look_again()


def at(shop: Workshop, keys: Path) -> Workshop:
    return workshop(shop.disk, keys=keys, seed=3)


def channel_seq(shop: Workshop) -> int | None:
    channel = Staging(workshop(shop.disk)).live_channel(YARA, STABLE)
    return channel.release.seq if channel else None


def two_signers() -> Workshop:
    """Return build's workshop; QA has the second key, nobody else has it."""
    shop = made()
    assert add_product(shop, YARA, threshold=2).changed
    move_key(shop, "products/yara/releases-2.pem", QA)
    return workshop(shop.disk, seed=2)


def test_the_channel_moves_only_when_both_have_signed() -> None:
    build = two_signers()
    published = publish_files(build, rules(1))
    assert published.state == "pending"
    assert [(w.what, w.missing) for w in published.waiting] == [
        ("releases-yara", 1),
        ("channels/yara/stable", 0),
    ]
    assert waiting_sentences(published.waiting)[0].startswith("releases-yara waits for 1 more")
    assert channel_seq(build) is None
    assert publish_files(at(build, KEYS), rules(1)).state == "pending"
    assert sign_pending(at(build, KEYS)).waiting
    after_qa = sign_pending(at(build, QA))
    assert {w.what: w.reason for w in after_qa.waiting} == {
        "releases-yara": "the online keys",
        "channels/yara/stable": "the online keys",
    }
    move_key(build, "online", ONLINE)
    done = steward_once(at(build, ONLINE))
    assert done.outcome.became_live == ("releases-yara", "channels", "snapshot", "timestamp")
    assert channel_seq(build) == 1
    require_whole(build.disk)
    assert build.disk.listing(REPO / "pending/channels/yara") == []


def test_a_second_release_may_join_one_that_waits() -> None:
    build = two_signers()
    publish_files(build, rules(1))
    second = publish_files(build, rules(2))
    assert (second.state, second.manifest.seq) == ("pending", 2)
    sign_pending(at(build, QA))
    sign_pending(at(build, KEYS))
    releases = read_releases(Staging(at(build, KEYS)), YARA)
    assert releases is not None
    assert [m.seq for m in releases.manifests.values()] == [1, 2]
    assert channel_seq(build) == 2


def test_a_signer_sees_what_would_be_signed() -> None:
    build = two_signers()
    publish_files(build, rules(1))
    rotate(build, "fleet", 3)
    lines = pending_sentences(at(build, QA))
    assert any("releases-yara: adds or changes releases/yara/2026.11.24-1.json" in x for x in lines)
    assert "channels/yara/stable: to 2026.11.24-1" in lines
    for role in ("root", "targets"):
        move_key(build, f"offline/{role}-1.pem", SAFE)
        move_key(build, f"offline/{role}-2.pem", SAFE)
    poor = at(build, KEYS)
    rotate(poor, "root", 3)
    add_product(poor, type(YARA)("sigma"))
    lines = pending_sentences(at(build, QA))
    assert any(line.startswith("root: root is signed by 2 of ") for line in lines)
    assert any("targets: releases-sigma is signed by 1 of" in line for line in lines)


def test_a_product_waits_for_the_offline_keys() -> None:
    shop = made()
    move_key(shop, "offline", SAFE)
    build = at(shop, KEYS)
    change = add_product(build, YARA)
    assert {w.what: (w.missing, w.reason) for w in change.outcome.waiting} == {
        "targets": (2, "signatures"),
        "releases-yara": (0, "a delegation from targets"),
    }
    published = publish_files(build, rules(1))
    assert published.state == "pending"
    assert require_whole(shop.disk).roles.keys() == {"targets", "fleet", "channels"}
    sign_pending(at(shop, SAFE))
    steward_with_online = at(shop, KEYS)
    assert finish(Staging(steward_with_online)).became_live
    assert channel_seq(shop) == 1


def test_a_product_whose_delegation_was_dropped_says_what_it_waits_for() -> None:
    shop = made()
    move_key(shop, "offline", SAFE)
    add_product(at(shop, KEYS), YARA)
    shop.disk.remove(REPO / "pending/targets.json")
    waiting = sign_pending(at(shop, SAFE)).waiting
    assert [(w.what, w.reason) for w in waiting] == [("releases-yara", "a delegation from targets")]


def test_targets_wait_for_the_first_metadata_of_a_product() -> None:
    shop = made()
    shop.disk.make_folder(REPO / "pending")
    move_key(shop, "offline", SAFE)
    add_product(at(shop, KEYS), YARA)
    shop.disk.remove(REPO / "pending/releases-yara.json")
    move_key(shop, "online", SAFE)
    outcome = sign_pending(at(shop, SAFE))
    assert [(w.what, w.reason) for w in outcome.waiting] == [
        ("targets", "the first metadata of releases-yara")
    ]
    again = add_product(at(shop, KEYS), YARA)
    assert again.changed
    move_key(shop, "products", SAFE)
    assert not sign_pending(at(shop, SAFE)).waiting


def test_without_online_keys_all_of_it_is_pending() -> None:
    shop = made()
    publish_files(shop, rules(1))
    move_key(shop, "online", ONLINE)
    build = at(shop, KEYS)
    published = publish_files(build, rules(2))
    assert published.state == "pending"
    assert channel_seq(shop) == 1
    steward_once(at(shop, ONLINE))
    assert channel_seq(shop) == 2
    with pytest.raises(KeyUnavailableError, match="KEYS/online"):
        finish(Staging(build), renew=("timestamp",))


def test_a_complete_role_that_is_half_written_gets_no_third_signature() -> None:
    """Its bytes are served under its version already; a cache may have them."""
    shop = made()
    publish_files(shop, rules(1))
    move_key(shop, "online", ONLINE)
    move_key(shop, "offline/fleet-3.pem", SAFE)
    renew(at(shop, KEYS), ["fleet"])
    pending = shop.disk.read(REPO / "pending/fleet.json")
    shop.repository.add_file("metadata/2.fleet.json", pending)
    sign_pending(at(shop, SAFE))
    assert shop.disk.read(REPO / "pending/fleet.json") == pending
    steward_once(at(shop, ONLINE))
    assert require_whole(shop.disk).roles["fleet"].version == 2


# -- renewal and rotation ------------------------------------------------------------------------


def test_renew_signs_what_is_under_half_of_its_life() -> None:
    shop = made()
    publish_files(shop, rules(1))
    assert renew(shop, ()).roles == ()
    live = renew(shop, ["root", "fleet"]).outcome.became_live
    assert live == ("fleet", "snapshot", "timestamp", "root")
    assert require_whole(shop.disk).root.version == 2
    for name in ("timestamp", "channels", "nothing"):
        with pytest.raises(ConfigurationError, match="no offline or product role"):
            renew(shop, [name])


def test_rotation_of_root_needs_old_and_new_keys() -> None:
    shop = made()
    old = require_whole(shop.disk).root.delegates["root"].keyids
    move_key(shop, "offline/root-1.pem", SAFE)
    move_key(shop, "offline/root-2.pem", SAFE)
    outcome = rotate(at(shop, KEYS), "root", 3).outcome
    assert [(w.what, w.missing) for w in outcome.waiting] == [("root", 1)]
    assert require_whole(shop.disk).root.version == 1
    sign_pending(at(shop, SAFE))
    finish(Staging(at(shop, KEYS)))
    root = require_whole(shop.disk).root
    assert root.version == 2
    assert not set(old) & set(root.delegates["root"].keyids)


def test_a_single_lost_key_is_replaced_and_the_others_stay() -> None:
    shop = made()
    old = require_whole(shop.disk).root.delegates["targets"].keyids
    shop.disk.remove(KEYS / "offline/targets-2.pem")
    rotated = rotate(at(shop, KEYS), "targets", 1, drop=[old[1]])
    assert rotated.dropped == (old[1],)
    new = require_whole(shop.disk).root.delegates["targets"].keyids
    assert new == [old[0], old[2], *rotated.added]
    publish_files(at(shop, KEYS), rules(1))


def test_rotation_refuses_what_could_not_sign() -> None:
    shop = made()
    with pytest.raises(ConfigurationError, match="make more keys"):
        rotate(shop, "root", 2)
    with pytest.raises(ConfigurationError, match="no key 00"):
        rotate(shop, "root", 1, drop=["00"])
    with pytest.raises(ConfigurationError, match="there is no role nothing"):
        rotate(shop, "nothing", 1)


def test_the_threshold_of_a_product_is_not_changed_by_adding_it() -> None:
    shop = made()
    assert add_product(shop, YARA).changed
    assert not add_product(shop, YARA).changed
    with pytest.raises(ConfigurationError, match="origin rotate"):
        add_product(shop, YARA, threshold=2)
    with pytest.raises(ConfigurationError, match="1 of 1 or 2 of 2"):
        add_product(shop, YARA, threshold=3)


# -- floor, revocation, policy -------------------------------------------------------------------


def test_a_floor_rises_and_strands_no_channel() -> None:
    shop = made()
    for count in (1, 2, 3):
        publish_files(shop, rules(count))
    with pytest.raises(ConfigurationError, match="strand the previous release"):
        set_floor(shop, YARA, 3)
    seq = floor_at(shop, YARA, free_name("2026.11.24", ["2026.11.24-1"]))  # type: ignore[list-item]
    assert seq == 2
    assert set_floor(shop, YARA, seq).changed
    assert not set_floor(shop, YARA, seq).changed
    with pytest.raises(ConfigurationError, match="never take a lower one"):
        set_floor(shop, YARA, 1)
    with pytest.raises(ConfigurationError, match="no release nope"):
        floor_at(shop, YARA, "nope")  # type: ignore[arg-type]
    releases = read_releases(Staging(shop), YARA)
    assert releases is not None
    assert releases.floor.seq == 2


def test_a_revocation_is_for_ever_and_warns_where_nothing_is_left() -> None:
    shop = made()
    first = publish_files(shop, rules(1)).manifest
    change = revoke(shop, YARA, first.release, "hangs")
    assert "no release left" in change.warnings[0]
    assert not revoke(shop, YARA, first.release, "again").changed
    publish_files(shop, rules(2))
    publish_files(shop, rules(3))
    for count in (4, 5, 6):
        publish_files(shop, rules(count), keep=1)
    second = revoke(shop, YARA, "2026.11.24-2", "archived")  # type: ignore[arg-type]
    assert second.changed
    assert second.warnings == ()
    releases = read_releases(Staging(shop), YARA)
    assert releases is not None
    assert [r.reason for r in releases.floor.revoked] == ["hangs", "archived"]


def test_a_policy_is_parsed_and_set() -> None:
    shop = made()
    add_product(shop, YARA)
    ramp = parse_ramp("0:1,3600:10,14400:50,86400:100")
    assert [(s.age, s.percent) for s in ramp][-1] == (86400, 100.0)
    assert parse_ramp("") == ()
    for bad in ("1", "a:b", "1:", "1:2:3"):
        with pytest.raises(ConfigurationError, match="AGE:PERCENT"):
            parse_ramp(bad)
    with pytest.raises(DocumentError):
        parse_ramp("0:101")
    assert set_policy(shop, Policy(product=YARA, ramp=ramp)).changed
    assert not set_policy(shop, Policy(product=YARA, ramp=ramp)).changed
    with pytest.raises(ConfigurationError, match="no product sigma"):
        set_policy(shop, Policy(product=type(YARA)("sigma")))


def test_quorums() -> None:
    assert Quorum(2, 2).threshold == 2
    with pytest.raises(ConfigurationError, match="end the repository"):
        Quorum(2, 2).for_offline_role("root")


# -- what must wait so that all fits together ----------------------------------------------------


def test_a_root_with_new_keys_for_targets_waits_until_they_have_signed_targets() -> None:
    shop = made()
    rotate(shop, "fleet", 3)
    move_key(shop, "online", ONLINE)
    rotate(at(shop, KEYS), "targets", 3)
    pending = REPO / "pending/targets.json"
    kept = shop.disk.read(pending)
    shop.disk.remove(pending)
    waiting = steward_once(at(shop, ONLINE)).outcome.waiting
    assert [(w.what, w.reason) for w in waiting] == [
        ("root", "targets metadata that the new keys have signed")
    ]
    with shop.disk.create(pending) as file:
        file.write(kept)
    assert not steward_once(at(shop, ONLINE)).outcome.waiting
    assert require_whole(shop.disk).root.version == 2


def test_targets_with_new_keys_for_a_role_wait_until_they_have_signed_it() -> None:
    shop = made()
    publish_files(shop, rules(1))
    move_key(shop, "online", ONLINE)
    rotate(at(shop, KEYS), "releases-yara", 1)
    shop.disk.remove(REPO / "pending/releases-yara.json")
    waiting = steward_once(at(shop, ONLINE)).outcome.waiting
    assert [(w.what, w.reason) for w in waiting] == [
        ("targets", "metadata of releases-yara that its new keys have signed")
    ]
    require_whole(shop.disk)
    sign_pending(at(shop, KEYS))
    renew(at(shop, KEYS), ["releases-yara"])
    assert not steward_once(at(shop, ONLINE)).outcome.waiting
    require_whole(shop.disk)


def test_a_timestamp_that_does_not_fit_a_datagram_is_not_published() -> None:
    shop = made()
    root = require_whole(shop.disk).root
    keys = [SigningKey.generate(SeededEntropy(n)) for n in range(20, 26)]
    shop.disk.make_folder(KEYS / "online")
    for number, key in enumerate(keys):
        write_key(shop.disk, KEYS / f"online/t{number}", key, PlainKeys())
    named = RoleKeys(tuple(key.public for key in keys), 6)
    shop.keyring.look_again()
    staging = Staging(shop)
    staging.stage(root.with_role_keys("timestamp", named))
    with pytest.raises(ConfigurationError, match=r"must fit a datagram of 1200: .* fewer keys"):
        finish(staging)
    assert require_whole(shop.disk).timestamp.version == 1


def test_a_wish_that_came_true_is_dropped() -> None:
    """The commit was made, and the machine stopped before pending was emptied."""
    shop = made()
    publish_files(shop, rules(1))
    live = Staging(shop).live_channel(YARA, STABLE)
    assert live is not None
    Staging(shop).wish(live)
    assert Staging(shop).wishes == {}
    assert shop.disk.listing(REPO / "pending/channels/yara") == []
