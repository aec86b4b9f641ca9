"""`origin publish`: releases, names, deltas, retention, and what it refuses."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest

from fleetward.adapters.disk import Disk, Kind
from fleetward.core.digest import sha256_of
from fleetward.core.documents import Channel, Delta, ReleaseRef, Wave
from fleetward.core.limits import MANIFEST_BYTES, TIMESTAMP_DATAGRAM_BYTES
from fleetward.core.names import ChannelName, ProductName, ReleaseName
from fleetward.deltas import apply_delta
from fleetward.errors import (
    ClockError,
    ConfigurationError,
    DigestError,
    DiskError,
    MetadataError,
    UnsafeTreeError,
)
from fleetward.origin.finish import finish
from fleetward.origin.packing import EmptyTree, open_pack, with_deltas
from fleetward.origin.products import add_product, revoke
from fleetward.origin.releases import archived, read_releases
from fleetward.origin.repository import Repository, intact
from fleetward.origin.staging import Staging
from fleetward.origin.workshop import Silence
from fleetward.trust.keys import Passphrase
from fleetward.trust.signing import SignedRole
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
    workshop,
    write_tree,
)
from support.fakes import START, FakeClock
from support.simdisk import SimDisk

STABLE = ChannelName("stable")
R1 = ReleaseName("r1")


def channel_of(disk: Disk, name: str = "stable") -> Channel:
    found = Staging(workshop(disk)).live_channel(YARA, ChannelName(name))
    assert found is not None
    return found


def test_a_release_goes_live_with_its_channel() -> None:
    shop = made()
    published = publish_files(shop, rules(2), engine="yara", engine_min="1.0")
    assert (published.state, published.waiting) == ("published", ())
    manifest = published.manifest
    assert (manifest.release, manifest.seq) == ("2026.11.24-1", 1)
    assert (manifest.engine.name, manifest.engine.min, manifest.created) == ("yara", "1.0", START)
    require_whole(shop.disk)
    channel = channel_of(shop.disk)
    assert (channel.release.release, channel.previous, channel.plan) == (
        manifest.release,
        None,
        "now",
    )


def test_the_second_release_has_a_delta_that_makes_it() -> None:
    shop = made()
    first = publish_files(shop, rules(5)).manifest
    second = publish_files(shop, rules(6)).manifest
    assert (second.release, second.seq) == ("2026.11.24-2", 2)
    delta = second.deltas[0]
    assert (delta.base, delta.base_tree) == (first.release, first.tree.sha256)
    tree = open_pack(shop.repository, first)
    blob = shop.disk.read(REPO / blob_path(delta.sha256))
    made_tar = b"".join(
        apply_delta(
            delta.codec, tree, blob, encoder=delta.encoder, result_length=second.tree.length
        )
    )
    assert len(made_tar) == second.tree.length
    channel = channel_of(shop.disk)
    assert channel.previous is not None
    assert channel.previous.release == first.release


def test_the_same_tree_again_is_nothing_new() -> None:
    shop = made()
    publish_files(shop, rules(2))
    before = shop.disk.read(REPO / "metadata/timestamp.json")
    again = publish_files(another_run(shop), rules(2))
    assert (again.state, again.manifest.release) == ("unchanged", "2026.11.24-1")
    assert publish_files(shop, rules(2), release=ReleaseName("2026.11.24-1")).state == "unchanged"
    assert shop.disk.read(REPO / "metadata/timestamp.json") == before


def test_the_same_tree_for_another_channel_is_the_same_release() -> None:
    shop = made()
    testing = publish_files(shop, rules(2), channel=ChannelName("testing")).manifest
    stable = publish_files(shop, rules(2))
    assert (stable.state, stable.manifest) == ("published", testing)
    assert channel_of(shop.disk).release == channel_of(shop.disk, "testing").release


def test_an_old_tree_behind_the_channel_becomes_a_new_release() -> None:
    """Hosts go forward to old content: sequence numbers never fall by publishing."""
    shop = made()
    old = publish_files(shop, rules(1)).manifest
    publish_files(shop, rules(2))
    back = publish_files(shop, rules(1)).manifest
    assert (back.seq, back.tree) == (3, old.tree)
    with pytest.raises(ConfigurationError, match="choose another name"):
        publish_files(shop, rules(2), release=old.release)


def test_a_release_name_is_taken_for_ever() -> None:
    shop = made()
    publish_files(shop, rules(1), release=R1)
    with pytest.raises(ConfigurationError, match="never changes"):
        publish_files(shop, rules(2), release=R1)
    for count in (3, 4, 5):
        publish_files(shop, rules(count), keep=1)
    assert [m.release for m in archived(shop.repository, YARA)] == [R1]
    with pytest.raises(ConfigurationError, match="never changes"):
        publish_files(shop, rules(6), release=R1)


def test_an_empty_tree_needs_to_be_asked_for() -> None:
    shop = made()
    with pytest.raises(ConfigurationError, match="--allow-empty"):
        publish_files(shop, {})
    assert publish_files(shop, {}, empty=EmptyTree.ALLOWED).manifest.tree.length == 1024
    with pytest.raises(ConfigurationError, match="not a folder"):
        publish_files(shop, {}, tree=Path("/srv/nowhere"))


@pytest.mark.parametrize(
    "path",
    ["con", "a:b", "dot.", "A/x\x01", "e\u0301", "back\\slash", "space ", "aux.txt"],
)
def test_names_that_mean_something_else_elsewhere_are_refused(path: str) -> None:
    shop = made()
    with pytest.raises(UnsafeTreeError):
        publish_files(shop, {path: b"x"})
    assert require_whole(shop.disk).timestamp.version == 1


@pytest.mark.parametrize("path", ["ü/ß.yar", "a b/c d.yar", "x" * 200, "-rf", "€" * 40])
def test_odd_names_that_are_safe_are_published(path: str) -> None:
    shop = made()
    manifest = publish_files(shop, {path: b"x"}).manifest
    assert open_pack(shop.repository, manifest).read(path) == b"x"


def test_twins_by_case_and_links_are_refused() -> None:
    shop = made()
    with pytest.raises(UnsafeTreeError, match="where case does not count"):
        publish_files(shop, {"A": b"x", "a": b"y"})
    wanted = write_tree(shop.disk, {"a": b"x"}, "linked")
    shop.disk.link("/etc/passwd", wanted / "b")
    with pytest.raises(UnsafeTreeError, match="link"):
        publish_files(shop, {}, tree=wanted)


class Vanishing(SimDisk):
    """A disk on which a file goes away between the walk and the reading."""

    gone = Path()

    def read(self, path: Path) -> bytes:
        if path == self.gone:
            raise FileNotFoundError(path)
        return super().read(path)


def test_a_file_that_goes_away_meanwhile_is_named() -> None:
    disk = Vanishing()
    disk.make_folder(Path("/srv"))
    shop = made(disk)
    disk.gone = write_tree(disk, {"a": b"x"}) / "a"
    with pytest.raises(UnsafeTreeError, match=r"tree/a went away"):
        publish_files(shop, {"a": b"x"})


def test_retention_keeps_what_channels_name_and_archives_the_rest() -> None:
    shop = made()
    publish_files(shop, rules(1), channel=ChannelName("slow"), release=R1)
    for count in range(2, 7):
        publish_files(shop, rules(count), keep=2)
    releases = read_releases(Staging(another_run(shop)), YARA)
    assert releases is not None
    # 4 stays: until the channel moved to 6, hosts outside its waves were to run it.
    assert [m.seq for m in releases.manifests.values()] == [1, 4, 5, 6]
    assert [m.seq for m in archived(shop.repository, YARA)] == [2, 3]
    require_whole(shop.disk)
    assert publish_files(shop, rules(9)).manifest.seq == 7


def test_deltas_come_from_the_newest_releases_once_for_each_tree() -> None:
    shop = made()
    for count in (1, 2, 1, 3):
        publish_files(shop, rules(count), deltas=0)
    manifest = publish_files(shop, rules(4), deltas=2).manifest
    assert {d.base for d in manifest.deltas} == {"2026.11.24-4", "2026.11.24-3"}
    with pytest.raises(ConfigurationError, match="keep at least 1"):
        publish_files(shop, rules(5), keep=0)


def test_a_manifest_of_many_deltas_stays_under_its_limit() -> None:
    """Cheap second deltas of old bases go first, then the oldest bases."""
    shop = made()
    manifest = publish_files(shop, rules(1)).manifest
    digest = sha256_of(b"")
    row = [
        Delta(
            base=ReleaseName("r" * 50),
            base_tree=digest,
            codec="changed-set",
            encoder=None,
            memory=memory,
            sha256=digest,
            length=9,
        )
        for memory in (8_400_000, 1)
    ]
    some = with_deltas(manifest, [tuple(row)] * 20)
    assert len(encode(some)) <= MANIFEST_BYTES
    assert [d.memory for d in some.deltas[:4]] == [8_400_000, 1, 8_400_000, 1]
    assert some.deltas[-1].memory == 8_400_000
    assert sum(d.memory > 1 for d in some.deltas) == 20
    many = with_deltas(manifest, [tuple(row)] * 60)
    assert len(encode(many)) <= MANIFEST_BYTES
    assert {d.memory for d in many.deltas} == {8_400_000}
    assert 25 < len(many.deltas) < 40


def test_a_base_whose_pack_is_damaged_is_skipped_and_named() -> None:
    shop = made()
    first = publish_files(shop, rules(1)).manifest
    shop.disk.remove(REPO / blob_path(first.pack.sha256))
    second = publish_files(shop, rules(2))
    assert second.manifest.deltas == ()
    assert "missing or damaged" in second.skipped[0]


def test_a_base_whose_pack_holds_another_tree_is_skipped() -> None:
    shop = made()
    first = publish_files(shop, rules(1)).manifest
    lying = replace(first, tree=replace(first.tree, files=2))
    with pytest.raises(DigestError, match="another tree than was signed"):
        open_pack(shop.repository, lying)


def test_a_blob_that_cannot_be_read_is_not_intact() -> None:
    class Broken(SimDisk):
        def pieces(self, path: Path) -> Iterator[bytes]:
            raise DiskError("input/output error")

    disk = Broken()
    disk.make_folder(Path("/srv"))
    pack = publish_files(made(disk), rules(1)).manifest.pack
    assert not intact(Repository(disk, REPO), pack.sha256, pack.length)


def test_a_manifest_that_is_too_long_is_not_published() -> None:
    shop = made()
    with pytest.raises(ConfigurationError, match="the manifest has"):
        publish_files(shop, rules(1), engine="e" * MANIFEST_BYTES)


def test_progress_is_told_and_ends_at_the_whole() -> None:
    class Listening(Silence):
        steps: ClassVar[list[tuple[str, int, int]]] = []

        def step(self, name: str, done: int, total: int) -> None:
            self.steps.append((name, done, total))

    shop = replace(made(), progress=Listening())
    publish_files(shop, rules(1))
    Listening.steps.clear()
    publish_files(shop, rules(2))
    assert [name for name, done, total in Listening.steps if done == total] == [
        "tree",
        "pack",
        "deltas",
    ]


def test_a_revoked_tree_is_not_published_again() -> None:
    shop = made()
    first = publish_files(shop, rules(1)).manifest
    publish_files(shop, rules(2))
    revoke(shop, YARA, first.release, "hangs")
    with pytest.raises(ConfigurationError, match=r"revoked as release 2026\.11\.24-1 \(hangs\)"):
        publish_files(shop, rules(1))


def test_the_engine_stays_what_the_product_was_added_with() -> None:
    shop = made()
    add_product(shop, YARA, engine="yara")
    assert publish_files(shop, rules(1)).manifest.engine.name == "yara"
    assert publish_files(shop, rules(2), engine="files").manifest.engine.name == "files"


def test_a_sealed_ring_does_not_add_products_by_itself() -> None:
    shop = made()
    empty = workshop(shop.disk, keys=Path("/srv/none"), passphrase=Passphrase(lambda: "p"))
    with pytest.raises(ConfigurationError, match="origin product add"):
        publish_files(empty, rules(1))


def test_previous_is_never_a_halted_or_revoked_release() -> None:
    shop = made()
    good = publish_files(shop, rules(1)).manifest
    publish_files(shop, rules(2))
    staging = Staging(another_run(shop))
    live = staging.live_channel(YARA, STABLE)
    assert live is not None
    staging.wish(replace(live, state="halted"))
    finish(staging)
    third = publish_files(shop, rules(3))
    channel = channel_of(shop.disk)
    assert channel.previous is not None
    assert channel.previous.release == good.release
    revoke(shop, YARA, good.release, "no")
    revoke(shop, YARA, third.manifest.release, "no")
    publish_files(shop, rules(4))
    assert channel_of(shop.disk).previous is None


def test_a_channel_with_waves_starts_each_release_closed() -> None:
    shop = made()
    publish_files(shop, rules(1))
    staging = Staging(another_run(shop))
    live = staging.live_channel(YARA, STABLE)
    assert live is not None
    staging.wish(replace(live, plan="waves", waves=(Wave(percent=5.0),), open=1))
    finish(staging)
    publish_files(shop, rules(2))
    channel = channel_of(shop.disk)
    assert (channel.plan, len(channel.waves), channel.open, channel.state) == (
        "waves",
        1,
        0,
        "running",
    )


@pytest.mark.parametrize("room", [0, 100, 700, 1500, 3000, 5000])
def test_a_full_disk_leaves_the_old_release_whole(room: int) -> None:
    shop = made()
    publish_files(shop, rules(2))
    assert isinstance(shop.disk, SimDisk)
    wanted = write_tree(shop.disk, rules(30), "next")
    shop.disk.capacity = room
    with pytest.raises(DiskError):
        publish_files(another_run(shop), {}, tree=wanted)
    require_whole(shop.disk)
    assert channel_of(shop.disk).release.seq == 1
    shop.disk.capacity = None
    assert publish_files(another_run(shop), {}, tree=wanted).state == "published"


def test_a_clock_behind_what_was_signed_is_refused() -> None:
    shop = made()
    late = workshop(shop.disk, FakeClock(START - timedelta(hours=1)))
    with pytest.raises(ClockError, match="set the clock right"):
        publish_files(late, rules(1))
    slightly = workshop(shop.disk, FakeClock(START - timedelta(minutes=1)))
    publish_files(slightly, rules(1))
    assert require_whole(shop.disk).timestamp.issued == START


def test_a_repository_that_was_changed_by_others_is_not_built_upon() -> None:
    shop = made()
    publish_files(shop, rules(1))
    path = REPO / "metadata/1.releases-yara.json"
    content = shop.disk.read(path).replace(b'"version":1', b'"version":9')
    with shop.disk.create(path) as file:
        file.write(content)
    with pytest.raises(MetadataError, match="damaged"):
        publish_files(another_run(shop), rules(2))


def test_a_served_file_with_other_bytes_is_not_overwritten() -> None:
    shop = made()
    shop.repository.add_file("targets/x.json", b"one")
    shop.repository.add_file("targets/x.json", b"one")
    with pytest.raises(ConfigurationError, match="exists with other bytes"):
        shop.repository.add_file("targets/x.json", b"two")


def test_version_numbers_that_lie_on_the_disk_are_not_used_again() -> None:
    """A run that died left 7.channels.json, which some cache may have."""
    shop = made()
    shop.repository.add_file("metadata/7.channels.json", b"{}")
    publish_files(shop, rules(1))
    assert require_whole(shop.disk).roles["channels"].version == 8


def test_the_timestamp_always_fits_a_datagram() -> None:
    shop = made()
    publish_files(shop, rules(1))
    assert len(shop.disk.read(REPO / "metadata/timestamp.json")) < TIMESTAMP_DATAGRAM_BYTES


def test_a_wish_for_a_release_that_is_not_signed_is_held_back() -> None:
    """Whoever can write into `pending` cannot move a channel to what nobody signed."""
    shop = made()
    publish_files(shop, rules(1))
    staging = Staging(another_run(shop))
    live = staging.live_channel(YARA, STABLE)
    assert live is not None
    forged = ReleaseRef(release=live.release.release, seq=1, manifest=sha256_of(b"forged"))
    staging.wish(replace(live, release=forged))
    staging.wish(replace(live, product=ProductName("unknown")))
    outcome = finish(staging)
    assert {w.what for w in outcome.waiting} == {"channels/yara/stable", "channels/unknown/stable"}
    assert "not live yet" in outcome.waiting[0].reason
    assert channel_of(shop.disk) == live


def test_pending_files_that_cannot_be_used_are_named_and_stop_nobody() -> None:
    shop = made()
    publish_files(shop, rules(1))
    old = SignedRole.parse("fleet", shop.disk.read(REPO / "metadata/1.fleet.json"))
    staging = Staging(another_run(shop))
    live = staging.live_channel(YARA, STABLE)
    assert live is not None
    staging.wish(replace(live, salt="00"))
    shop.disk.replace(
        REPO / "pending/channels/yara/stable.json", REPO / "pending/channels/yara/other.json"
    )
    for name, content in (
        ("fleet.json", old.revised(1, START).content),
        ("targets.json", b"{}"),
        ("channels/yara/x.json", b"{}"),
    ):
        with shop.disk.create(REPO / "pending" / name) as file:
            file.write(content)
    published = publish_files(another_run(shop), rules(2))
    assert published.state == "published"
    reasons = {waiting.what: waiting.reason for waiting in published.waiting}
    assert set(reasons) == {
        "pending/fleet.json",
        "pending/targets.json",
        "pending/channels/yara/other.json",
        "pending/channels/yara/x.json",
    }
    assert "older state" in reasons["pending/fleet.json"]
    assert all("remove it" in reason for reason in reasons.values())


def test_only_the_named_keys_are_needed() -> None:
    """A build host publishes where the offline keys are gone."""
    shop = made()
    publish_files(shop, rules(1))
    shop.disk.remove_tree(KEYS / "offline")
    assert publish_files(another_run(shop), rules(2)).state == "published"
    assert shop.disk.kind(KEYS / "offline") is Kind.ABSENT
