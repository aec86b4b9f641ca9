"""Content that is signed and hostile all the same: a stolen product key, or a careless publisher.

Each story: the origin publishes it properly signed; the host refuses it before a reader sees
anything, keeps what it had, and writes nothing outside its folders.
"""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from fleetward.agent.following import Outcome, ProductReport
from fleetward.core.digest import sha256_of
from fleetward.core.documents import Manifest, Pack, TreeIdentity
from fleetward.deltas import encode_pack
from fleetward.errors import DigestError, UnsafeTreeError
from support.simdisk import SimDisk
from support.world import FOLDER, V1, V2, Files, World, fresh_disk, record_on, running


def publish_tar(world: World, tar: bytes, told: int | None = None) -> Manifest:
    """Publish a release whose pack holds `tar`, and whose tree is said to be `told` bytes long."""
    manifest = world.publish({**V1, "seq": b"%d" % len(world.documents.manifests)})
    pack = Pack(codec="zstd", **world._blob(encode_pack(tar, len(tar))))
    tree = TreeIdentity(
        sha256=sha256_of(tar), length=len(tar) if told is None else told, files=1000
    )
    changed = replace(manifest, pack=pack, tree=tree, deltas=())
    world.point(changed)
    return changed


def update(world: World, disk: SimDisk) -> ProductReport:
    return world.agent(disk).update().products[0]


def host_with_v1() -> tuple[World, SimDisk]:
    world, disk = World(), fresh_disk()
    world.publish(V1)
    assert update(world, disk).outcome is Outcome.INSTALLED
    return world, disk


def names_on(disk: SimDisk, folder: Path = Path("/")) -> set[str]:
    found: set[str] = set()
    for name in disk.listing(folder):
        path = folder / name
        found.add(str(path))
        if disk.kind(path).name == "FOLDER":
            found |= names_on(disk, path)
    return found


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def member(name: str, **attributes: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(made, key, value)
    return made


EVIL = {
    "a path that climbs": tar_of((member("../../etc/cron.d/evil"), b"x")),
    "an absolute path": tar_of((member("/etc/cron.d/evil"), b"x")),
    "a symlink": tar_of((member("a", type=tarfile.SYMTYPE, linkname="/etc"), b"")),
    "a file under a symlink": tar_of(
        (member("a", type=tarfile.SYMTYPE, linkname="/etc"), b""), (member("a/passwd"), b"x")
    ),
    "a hard link": tar_of((member("a", type=tarfile.LNKTYPE, linkname="/etc/passwd"), b"")),
    "a device": tar_of((member("a", type=tarfile.BLKTYPE, devmajor=8), b"")),
    "case-fold twins": tar_of((member("A"), b"1"), (member("a"), b"2")),
    "a device of Windows": tar_of((member("nul.yar"), b"")),
}


@pytest.mark.parametrize("what", EVIL)
def test_a_tree_that_would_leave_its_slot_is_refused(what: str) -> None:
    """The product key is stolen; the attacker signs a tar that no honest origin makes."""
    world, disk = host_with_v1()
    before = names_on(disk)
    publish_tar(world, EVIL[what])
    report = update(world, disk)
    assert isinstance(report.error, UnsafeTreeError)
    assert running(disk) == V1
    assert {name for name in names_on(disk) - before if not name.startswith("/var/lib")} == set()


def test_a_pack_that_is_a_decompression_bomb_is_cut_at_the_signed_length() -> None:
    """The blob is 1,000 times smaller than what it makes; the manifest tells a small length."""
    world, disk = host_with_v1()
    bomb = bytes(8 << 20)
    manifest = publish_tar(world, bomb, told=10_000)
    assert manifest.pack.length < 10_000
    report = update(world, disk)
    assert isinstance(report.error, DigestError | UnsafeTreeError)
    assert running(disk) == V1
    assert record_on(disk).current


def test_a_pack_that_ends_early_is_refused() -> None:
    world, disk = host_with_v1()
    honest = world.publish(V2, deltas=False)
    world.point(replace(honest, tree=replace(honest.tree, length=honest.tree.length + 512)))
    report = update(world, disk)
    assert isinstance(report.error, DigestError | UnsafeTreeError)
    assert running(disk) == V1


def test_a_delta_that_is_a_decompression_bomb_is_cut_and_the_pack_fetched() -> None:
    """The delta makes far more than the manifest tells; the honest pack still does."""
    world, disk = host_with_v1()
    large = world.publish({**V1, "zeros": bytes(4 << 20)})
    small = world.publish(V2)
    bombs = tuple(
        replace(delta, base_tree=small.deltas[0].base_tree)
        for delta in large.deltas
        if delta.base_tree == small.deltas[0].base_tree
    )
    assert bombs
    world.point(replace(small, deltas=bombs))
    report = update(world, disk)
    assert (report.outcome, report.means) == (Outcome.INSTALLED, ("pack",))
    assert running(disk) == V2


def test_more_files_than_were_signed_are_refused() -> None:
    world, disk = host_with_v1()
    honest = world.publish(V2, deltas=False)
    world.point(replace(honest, tree=replace(honest.tree, files=1)))
    assert isinstance(update(world, disk).error, UnsafeTreeError)
    assert running(disk) == V1


def test_a_mix_of_two_releases_is_refused() -> None:
    """The attacker signs a manifest with the tree of one release and the pack of another."""
    world, disk = host_with_v1()
    second = world.publish(V2, deltas=False)
    third = world.publish({**V2, "more": b"x"}, deltas=False)
    world.point(replace(third, pack=second.pack))
    assert isinstance(update(world, disk).error, DigestError)
    assert running(disk) == V1


@pytest.mark.parametrize(
    "name",
    ["x" * 255, "日本語/ルール.yar", "ﬁle with ligature.yar", "😀.rules", "a" + "\u0327" * 3],
)
def test_odd_names_are_installed_as_they_are(name: str) -> None:
    files: Files = {name: b"content", "plain": b""}
    world, disk = World(), fresh_disk()
    world.publish(files)
    assert update(world, disk).outcome is Outcome.INSTALLED
    assert running(disk) == files


def test_an_empty_tree_is_installed_where_it_was_signed() -> None:
    world, disk = host_with_v1()
    world.publish({})
    assert update(world, disk).outcome is Outcome.INSTALLED
    assert running(disk) == {}
    assert disk.listing(FOLDER / "current") == []
