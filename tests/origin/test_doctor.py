"""`origin doctor`: each fault that is planted is found, and a healthy repository has none."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.adapters.disk import Disk, Kind
from fleetward.core.digest import sha256_of
from fleetward.core.names import ChannelName
from fleetward.errors import (
    ConfigurationError,
)
from fleetward.origin.create import Plan, create
from fleetward.origin.doctor import Finding, examine
from fleetward.origin.finish import finish
from fleetward.origin.holders import renew
from fleetward.origin.keyring import Keyring, PlainKeys, SealedKeys
from fleetward.origin.products import revoke
from fleetward.origin.roles import Quorum
from fleetward.origin.staging import Staging
from fleetward.origin.workshop import Silence, Workshop
from fleetward.trust.keys import KeyCost, Passphrase, Sealer
from fleetward.trust.signing import SignedRole, snapshot_of, timestamp_of
from fleetward.wire.documents import encode
from fleetward.wire.layout import blob_path
from origin.rigging import (
    KEYS,
    REPO,
    YARA,
    another_run,
    made,
    publish_files,
    require_whole,
    rules,
    simdisk,
    workshop,
)
from support.fakes import START, FakeClock, SeededEntropy

ONLINE = Path("/srv/online")
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def clock_of(shop: Workshop) -> FakeClock:
    assert isinstance(shop.clock, FakeClock)
    return shop.clock


def stewards(shop: Workshop) -> Workshop:
    """Return the steward's workshop: the same repository, clock, and only the online keys."""
    if shop.disk.kind(ONLINE) is Kind.ABSENT:
        shop.disk.make_folder(ONLINE)
        shop.disk.replace(KEYS / "online", ONLINE / "online")
    return replace(shop, keyring=Keyring(shop.disk, ONLINE))


# -- doctor --------------------------------------------------------------------------------------


def findings(shop: Workshop, keys: Path | None = None) -> dict[str, Finding]:
    ring = Keyring(shop.disk, keys) if keys else None
    found = examine(shop.repository, ring, shop.clock, Silence())
    return {finding.id: finding for finding in found}


def healthy() -> Workshop:
    """Return a repository that the doctor finds nothing wrong with."""
    shop = made()
    publish_files(shop, rules(1))
    staging = Staging(another_run(shop))
    live = staging.live_channel(YARA, ChannelName("stable"))
    assert live is not None
    staging.wish(replace(live, plan="waves"))
    finish(staging)
    assert findings(shop) == {}
    return shop


def test_a_healthy_repository_has_no_findings() -> None:
    healthy()


def test_the_demo_s_repository_has_those_of_a_demo() -> None:
    shop = made()
    publish_files(shop, rules(1))
    assert set(findings(shop, KEYS)) == {
        "plan-now:yara/stable",
        "plain-keys",
        "keys-in-one-place",
    }


@pytest.mark.parametrize(
    ("days", "severity", "roles"),
    [
        (24, "warning", {"releases-yara"}),
        (31, "critical", {"releases-yara"}),
        (310, "warning", {"root"}),
        (325, "warning", {"root", "targets", "fleet"}),
        (366, "critical", {"root", "targets", "fleet"}),
    ],
)
def test_expiry_is_found_for_every_role(days: int, severity: str, roles: set[str]) -> None:
    shop = healthy()
    clock_of(shop).advance(days * DAY)
    found = findings(shop)
    for role in roles:
        assert found[f"expiry:{role}"].severity == severity
    for role in ("channels", "snapshot", "timestamp"):
        assert found[f"expiry:{role}"].severity == "critical"
        assert "steward" in found[f"expiry:{role}"].next_step
    assert "stale" in found


def test_a_timestamp_that_is_not_renewed_is_found() -> None:
    shop = healthy()
    clock_of(shop).advance(31 * MINUTE)
    assert set(findings(shop)) == {"stale"}
    assert "31 min old" in findings(shop)["stale"].sentence
    clock_of(shop).advance(timedelta(hours=2))
    assert "2 h 31 min old" in findings(shop)["stale"].sentence


def test_a_clock_that_is_behind_and_one_that_was_ahead_are_found() -> None:
    shop = healthy()
    clock_of(shop).set_wall(START - timedelta(hours=1))
    assert set(findings(shop)) == {"clock"}
    clock_of(shop).set_wall(START - 40 * DAY)
    assert "valid-too-long:root" in findings(shop)


def named_files(shop: Workshop) -> list[str]:
    closure = require_whole(shop.disk)
    version = closure.roles["releases-yara"].version
    target = next(iter(closure.roles["channels"].targets.values()))
    manifest = next(
        name
        for name in shop.disk.listing(REPO / "targets/releases/yara")
        if name.endswith(".2026.11.24-1.json")
    )
    return [
        f"metadata/{version}.releases-yara.json",
        f"targets/channels/yara/{target.sha256}.stable.json",
        f"targets/releases/yara/{manifest}",
    ]


def remove(disk: Disk, path: Path) -> None:
    disk.remove(path)


def damage(disk: Disk, path: Path) -> None:
    content = disk.read(path)
    with disk.create(path) as file:
        file.write(content[:-1])


@pytest.mark.parametrize(("breaking", "word"), [(remove, "missing"), (damage, "damaged")])
def test_files_that_are_missing_or_damaged_are_found(
    breaking: Callable[[Disk, Path], None], word: str
) -> None:
    for index in range(3):
        shop = healthy()
        path = named_files(shop)[index]
        breaking(shop.disk, REPO / path)
        found = findings(shop)
        assert set(found) == ({"metadata"} if index == 0 else {f"{word}:{path}"})
        assert word in next(iter(found.values())).sentence
    shop = healthy()
    pack = publish_files(shop, rules(2)).manifest.pack
    breaking(shop.disk, REPO / blob_path(pack.sha256))
    assert set(findings(shop)) == {f"{word}:{blob_path(pack.sha256)}"}


def test_a_gap_in_the_roots_is_found() -> None:
    shop = healthy()
    renew(shop, ["root"])
    renew(shop, ["root"])
    remove(shop.disk, REPO / "metadata/2.root.json")
    assert "gap" in findings(shop)["metadata"].sentence
    remove(shop.disk, REPO / "metadata/1.root.json")
    assert "gap" in findings(shop)["metadata"].sentence


@pytest.mark.parametrize("path", ["metadata/timestamp.json", "metadata/1.root.json"])
def test_metadata_without_its_signatures_is_found(path: str) -> None:
    shop = healthy()
    document = json.loads(shop.disk.read(REPO / path))
    document["signatures"] = []
    with shop.disk.create(REPO / path) as file:
        file.write(json.dumps(document).encode())
    assert "lacks" in findings(shop)["metadata"].sentence


def test_a_snapshot_that_lists_another_version_or_no_targets_is_found() -> None:
    shop = healthy()
    closure = require_whole(shop.disk)
    keys = shop.keyring.signers(closure.root.delegates["snapshot"])
    assert keys
    repository = shop.repository

    def sign(snapshot: SignedRole) -> None:
        signed = snapshot.signed_by(keys)
        version = closure.timestamp.version + snapshot.version
        timestamp = timestamp_of(signed, version, START + DAY, START, 10 * MINUTE)
        stamp = shop.keyring.signers(closure.root.delegates["timestamp"])
        repository.add_file(f"metadata/{signed.version}.snapshot.json", signed.content)
        with shop.disk.create(REPO / "metadata/timestamp.json") as file:
            file.write(timestamp.signed_by(stamp).content)

    sign(snapshot_of([closure.roles["fleet"]], 50, START + DAY))
    assert "does not list targets" in findings(shop)["metadata"].sentence
    fleet = closure.roles["fleet"].revised(7, START + DAY)
    repository.add_file("metadata/8.fleet.json", fleet.content)
    listing = snapshot_of([closure.roles["targets"], closure.roles["fleet"]], 51, START + DAY)
    document = json.loads(listing.content)
    document["signed"]["meta"]["fleet.json"] = {"version": 8}
    sign(SignedRole.parse("snapshot", json.dumps(document).encode()))
    assert "says that it is version 7" in findings(shop)["metadata"].sentence


def test_a_channel_that_points_at_what_hosts_refuse_is_found() -> None:
    shop = healthy()
    revoke(shop, YARA, publish_files(shop, rules(1)).manifest.release, "hangs")
    assert set(findings(shop)) == {"refused:yara/stable"}


def test_a_channel_that_points_at_what_nobody_signed_is_found() -> None:
    shop = healthy()
    closure = require_whole(shop.disk)
    name = next(iter(closure.roles["channels"].targets))
    live = Staging(shop).live_channel(YARA, ChannelName("stable"))
    assert live is not None
    forged = replace(live, release=replace(live.release, manifest=sha256_of(b"forged")))
    ref = shop.repository.add_target(name, encode(forged))
    staging = Staging(shop)
    staging.stage(closure.roles["channels"].with_targets({name: ref}))
    finish(staging)
    assert set(findings(shop)) == {"refused:yara/stable"}


def test_a_timestamp_of_another_maker_is_found() -> None:
    shop = healthy()
    closure = require_whole(shop.disk)
    document = json.loads(closure.timestamp.content)
    del document["signed"]["x-issued"]
    keys = shop.keyring.signers(closure.root.delegates["timestamp"])
    changed = SignedRole.parse("timestamp", json.dumps(document).encode()).signed_by(keys)
    with shop.disk.create(REPO / "metadata/timestamp.json") as file:
        file.write(changed.content)
    assert set(findings(shop)) == {"timestamp-form"}


def test_keys_are_looked_at_where_they_are_given() -> None:
    shop = healthy()
    stewards(shop)
    assert set(findings(shop, ONLINE)) == {"plain-keys"}
    assert "keys-in-one-place" in findings(shop, KEYS)
    disk = simdisk()
    passphrase = Passphrase(lambda: "p")
    sealed = workshop(disk, passphrase=passphrase)
    create(sealed, SealedKeys(Sealer(passphrase, SeededEntropy(), KeyCost(1, 8192))))
    assert set(findings(sealed, KEYS)) == {"keys-in-one-place"}
    disk.remove_tree(KEYS / "online")
    assert findings(sealed, KEYS) == {}
    disk.remove_tree(KEYS / "offline")
    assert findings(sealed, KEYS) == {}


def test_online_keys_beside_products_keys_are_found() -> None:
    shop = healthy()
    shop.disk.remove_tree(KEYS / "offline")
    assert set(findings(shop, KEYS)) == {"plain-keys", "keys-in-one-place"}


def test_a_role_without_a_spare_key_is_found() -> None:
    class Careless(Plan):
        def quorum(self, role: str) -> Quorum:
            return Quorum(2, 2) if role == "fleet" else super().quorum(role)

    shop = workshop(simdisk())
    create(shop, PlainKeys(), Careless())
    assert set(findings(shop)) == {"no-spare-key:fleet"}


def test_what_waits_is_found() -> None:
    shop = healthy()
    build = another_run(shop)
    stewards(shop)
    renew(build, ["fleet"])
    assert set(findings(build)) == {"pending"}
    shop.disk.remove_tree(REPO / "pending")
    assert findings(build) == {}


def test_no_repository_is_an_error_and_no_finding() -> None:
    with pytest.raises(ConfigurationError, match="no repository"):
        findings(workshop(simdisk()))
