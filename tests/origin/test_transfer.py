"""`origin export` and `import`: releases by stick, and nothing that the root does not vouch for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fleetward.adapters.disk import Disk, Kind
from fleetward.errors import (
    ConfigurationError,
    DigestError,
    MetadataError,
    RollbackError,
)
from fleetward.origin.create import create
from fleetward.origin.finish import finish
from fleetward.origin.keyring import PlainKeys
from fleetward.origin.repository import Repository
from fleetward.origin.staging import Staging
from fleetward.origin.transfer import export_closure, import_closure
from fleetward.origin.workshop import Silence, Workshop
from fleetward.trust.signing import TargetRef
from fleetward.wire.layout import blob_path, target_path
from origin.rigging import (
    REPO,
    made,
    publish_files,
    require_whole,
    rules,
    workshop,
)


def channel_file(shop: Workshop) -> str:
    target = next(iter(require_whole(shop.disk).roles["channels"].targets.values()))
    return f"targets/channels/yara/{target.sha256}.stable.json"


def remove(disk: Disk, path: Path) -> None:
    disk.remove(path)


def damage(disk: Disk, path: Path) -> None:
    content = disk.read(path)
    with disk.create(path) as file:
        file.write(content[:-1])


# -- export and import ---------------------------------------------------------------------------

SITE, STICK = Path("/srv/site"), Path("/srv/stick")


def carried(shop: Workshop) -> tuple[Repository, Repository, bytes]:
    site, stick = Repository(shop.disk, SITE), Repository(shop.disk, STICK)
    export_closure(shop.repository, stick, Silence())
    return site, stick, shop.disk.read(REPO / "metadata/1.root.json")


def test_a_site_without_internet_gets_releases_by_stick() -> None:
    shop = made()
    publish_files(shop, rules(2))
    site, stick, root = carried(shop)
    done = import_closure(stick, site, root, Silence())
    assert done.timestamp == require_whole(shop.disk, SITE).timestamp.version
    assert done.files > 8
    publish_files(shop, rules(3))
    export_closure(shop.repository, stick, Silence())
    again = import_closure(stick, site, None, Silence())
    assert again.files < done.files + 4
    assert require_whole(shop.disk, SITE).timestamp.version == 3
    assert import_closure(stick, site, None, Silence()).files == 0


def test_an_import_trusts_nothing_but_its_root() -> None:
    shop = made()
    publish_files(shop, rules(1))
    site, stick, root = carried(shop)
    with pytest.raises(ConfigurationError, match="--root"):
        import_closure(stick, site, None, Silence())
    other = workshop(shop.disk, repo=Path("/srv/o"), keys=Path("/srv/ok"), seed=9)
    create(other, PlainKeys())
    with pytest.raises(ConfigurationError, match="not of the repository"):
        import_closure(other.repository, site, root, Silence())
    with pytest.raises(ConfigurationError, match="not of the repository"):
        export_closure(other.repository, stick, Silence())


@pytest.mark.parametrize("top", ["blobs", "targets"])
@pytest.mark.parametrize("breaking", [remove, damage])
def test_what_was_damaged_on_the_way_is_not_taken(
    top: str, breaking: Callable[[Disk, Path], None]
) -> None:
    shop = made()
    manifest = publish_files(shop, rules(1)).manifest
    site, stick, root = carried(shop)
    path = {"blobs": blob_path(manifest.pack.sha256), "targets": channel_file(shop)}[top]
    breaking(shop.disk, STICK / path)
    with pytest.raises(DigestError, match="bring it again"):
        import_closure(stick, site, root, Silence())
    assert shop.disk.kind(SITE / "metadata/timestamp.json") is Kind.ABSENT


def test_an_older_stick_is_refused() -> None:
    shop = made()
    publish_files(shop, rules(1))
    site, stick, root = carried(shop)
    publish_files(shop, rules(2))
    export_closure(shop.repository, site, Silence())
    with pytest.raises(RollbackError, match="bring a newer one"):
        import_closure(stick, site, root, Silence())


@pytest.mark.parametrize("name", ["../../evil.json", "channels/../x/y.json", "channels/P/c.json"])
def test_a_stolen_online_key_writes_nowhere_else(name: str) -> None:
    """The attacker signs a channel whose name leads out of the folder; the site refuses it."""
    shop = made()
    publish_files(shop, rules(1))
    site, stick, root = carried(shop)
    theirs = replace(shop, repository=stick)
    closure = stick.closure()
    ref = TargetRef.of(b"evil")
    shop.disk.make_folder((STICK / target_path(name, ref.sha256)).parent)
    with shop.disk.create(STICK / target_path(name, ref.sha256)) as file:
        file.write(b"evil")
    staging = Staging(theirs)
    staging.stage(closure.roles["channels"].with_targets({name: ref}))
    finish(staging)
    with pytest.raises(MetadataError, match="which no repository has"):
        import_closure(stick, site, root, Silence())
    assert shop.disk.kind(SITE) is Kind.ABSENT
