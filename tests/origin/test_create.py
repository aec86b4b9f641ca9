"""`origin init`: what it makes, and what it refuses."""

import json
from pathlib import Path

import pytest

from fleetward.adapters.disk import Kind
from fleetward.errors import BusyError, ConfigurationError, DiskError, KeyUnavailableError
from fleetward.origin.create import Plan, create
from fleetward.origin.keyring import Keyring, PlainKeys, SealedKeys
from fleetward.origin.repository import Repository
from fleetward.origin.roles import Quorum
from fleetward.trust.keys import KeyCost, Passphrase, Sealer
from origin.rigging import (
    KEYS,
    REPO,
    another_run,
    made,
    publish_files,
    require_whole,
    rules,
    simdisk,
    workshop,
)
from support.fakes import SeededEntropy
from support.simdisk import SimDisk


def test_the_roles_are_those_of_the_design() -> None:
    closure = require_whole(made().disk)
    top = closure.root.delegates
    assert {name: (len(k.keys), k.threshold) for name, k in top.items()} == {
        "root": (3, 2),
        "targets": (3, 2),
        "snapshot": (1, 1),
        "timestamp": (1, 1),
    }
    below = closure.roles["targets"].delegates
    assert {name: (len(k.keys), k.threshold) for name, k in below.items()} == {
        "fleet": (3, 2),
        "channels": (1, 1),
    }
    every = [key.keyid for keys in (*top.values(), *below.values()) for key in keys.keys]
    assert len(set(every)) == len(every)


def test_the_timestamp_says_when_it_was_made_and_fits_a_datagram() -> None:
    shop = made()
    content = shop.disk.read(REPO / "metadata/timestamp.json")
    signed = json.loads(content)["signed"]
    assert signed["x-issued"] == "2026-11-24T02:00:00Z"
    assert signed["x-interval"] == 600
    assert len(content) <= 1200
    assert b"\n" not in content


def test_keys_lie_apart_by_who_holds_them() -> None:
    disk = made().disk
    assert disk.listing(KEYS) == ["offline", "online", "products"]
    assert disk.listing(KEYS / "online") == ["channels.pem", "snapshot.pem", "timestamp.pem"]
    assert len(disk.listing(KEYS / "offline")) == 9


@pytest.mark.parametrize("threshold", [3, 4, 0])
def test_a_threshold_that_needs_every_key_is_refused(threshold: int) -> None:
    disk = simdisk()
    with pytest.raises(ConfigurationError, match="key"):
        create(workshop(disk), PlainKeys(), Plan(fleet=Quorum(3, threshold)))
    assert disk.kind(REPO) is Kind.ABSENT


def test_what_exists_is_never_overwritten() -> None:
    shop = made()
    before = shop.disk.read(REPO / "metadata/1.root.json")
    with pytest.raises(ConfigurationError, match="exists already"):
        create(another_run(shop), PlainKeys())
    with pytest.raises(ConfigurationError, match="/srv/keys exists already"):
        create(workshop(shop.disk, repo=Path("/srv/other")), PlainKeys())
    assert shop.disk.read(REPO / "metadata/1.root.json") == before


@pytest.mark.parametrize("keys", ["/srv/repo/keys", "/srv/repo", "/srv"])
def test_keys_are_not_made_where_they_would_be_served(keys: str) -> None:
    with pytest.raises(ConfigurationError, match="separate folders"):
        create(workshop(simdisk(), keys=Path(keys)), PlainKeys())


def test_the_remains_of_an_init_with_other_keys_are_not_taken() -> None:
    """Init A died before its keys were in place; init B uses keys that exist: not A's."""
    shop = made()
    other = workshop(shop.disk, repo=Path("/srv/b"), keys=Path("/srv/b-keys"), seed=5)
    create(other, PlainKeys())
    shop.disk.replace(Path("/srv/b"), Path("/srv/.b.new"))
    with pytest.raises(ConfigurationError, match="exists already"):
        create(workshop(shop.disk, repo=Path("/srv/b")), PlainKeys())


def test_sealed_keys_work_with_their_passphrase_alone() -> None:
    disk = simdisk()
    passphrase = Passphrase(lambda: "p")
    shop = workshop(disk, passphrase=passphrase)
    create(shop, SealedKeys(Sealer(passphrase, SeededEntropy(), KeyCost(1, 8192))))
    assert all(name.endswith(".json") for name in disk.listing(KEYS / "offline"))
    wrong = another_run(shop)
    closure = require_whole(disk)
    with pytest.raises(KeyUnavailableError):
        wrong.keyring.signers(closure.root.delegates["timestamp"])
    bad = Keyring(disk, KEYS, Passphrase(lambda: "q"))
    with pytest.raises(KeyUnavailableError, match="does not open"):
        bad.signers(closure.root.delegates["timestamp"])


@pytest.mark.parametrize("room", [0, 300, 3000, 6000])
def test_a_full_disk_leaves_nothing_that_looks_like_a_repository(room: int) -> None:
    disk = simdisk()
    disk.capacity = room
    with pytest.raises(DiskError):
        create(workshop(disk), PlainKeys())
    assert disk.kind(REPO) is Kind.ABSENT
    disk.capacity = None
    create(workshop(disk), PlainKeys())
    require_whole(disk)


def test_commands_need_a_repository() -> None:
    shop = workshop(simdisk())
    with pytest.raises(ConfigurationError, match="no repository"):
        publish_files(shop, rules(1))
    with pytest.raises(ConfigurationError, match="no repository"):
        Repository(shop.disk, REPO).closure()


def test_a_command_waits_for_another_and_then_gives_up() -> None:
    shop = made()
    assert isinstance(shop.disk, SimDisk)
    with shop.alone(), pytest.raises(BusyError), another_run(shop).alone():
        pass
    assert shop.clock.monotonic() == shop.wait
    with another_run(shop).alone():
        pass
