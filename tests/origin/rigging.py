"""An origin on a simulated disk, and what must hold of its repository at every instant."""

from dataclasses import replace
from pathlib import Path

from fleetward.adapters.disk import Disk, Kind
from fleetward.core.names import ProductName
from fleetward.core.tree import TreeEntry
from fleetward.origin.contents import blob_files, target_files
from fleetward.origin.create import create
from fleetward.origin.keyring import Keyring, PlainKeys
from fleetward.origin.packing import open_pack
from fleetward.origin.publish import Order, Published, publish
from fleetward.origin.releases import read_role
from fleetward.origin.repository import Closure, Repository, intact
from fleetward.origin.workshop import Workshop
from fleetward.trust.keys import Passphrase
from support.fakes import FakeClock, SeededEntropy
from support.simdisk import SimDisk

REPO = Path("/srv/repo")
KEYS = Path("/srv/keys")
YARA = ProductName("yara")


def simdisk() -> SimDisk:
    """Return an empty disk with the folder that everything lies in."""
    disk = SimDisk()
    disk.make_folder(Path("/srv"))
    return disk


def workshop(
    disk: Disk,
    clock: FakeClock | None = None,
    keys: Path = KEYS,
    repo: Path = REPO,
    passphrase: Passphrase | None = None,
    seed: int = 0,
) -> Workshop:
    return Workshop(
        repository=Repository(disk, repo),
        keyring=Keyring(disk, keys, passphrase),
        clock=clock or FakeClock(),
        entropy=SeededEntropy(seed),
    )


def made(disk: Disk | None = None, clock: FakeClock | None = None) -> Workshop:
    """Return the workshop of a new repository with plain keys."""
    shop = workshop(disk or simdisk(), clock)
    create(shop, PlainKeys())
    return shop


def another_run(shop: Workshop, seed: int = 1, keys: Path | None = None) -> Workshop:
    """Return the workshop of a later process: nothing of the earlier one is remembered."""
    ring = Keyring(shop.disk, keys or shop.keyring.folder)
    return replace(shop, keyring=ring, entropy=SeededEntropy(seed))


def write_tree(disk: Disk, files: dict[str, bytes], name: str = "tree") -> Path:
    """Write a folder of files, in place of one of that name, and make it durable."""
    folder = Path("/srv", name)
    disk.remove_tree(folder)
    disk.make_folder(folder)
    for path, content in files.items():
        full = folder / TreeEntry(path, len(content)).path
        disk.make_folder(full.parent)
        with disk.create(full) as file:
            file.write(content)
            file.sync()
        disk.sync_folder(full.parent)
    return folder


def order(disk: Disk, files: dict[str, bytes], **options: object) -> Order:
    """Return an order to publish `files` as the product yara."""
    return replace(Order(product=YARA, tree=write_tree(disk, files)), **options)  # type: ignore[arg-type]


def publish_files(shop: Workshop, files: dict[str, bytes], **options: object) -> Published:
    return publish(shop, order(shop.disk, files, **options))


def rules(count: int) -> dict[str, bytes]:
    """Return a tree of `count` small rules that differ."""
    return {f"rules/r{n}.yar": b"rule r%d { condition: true }\n" % n * 20 for n in range(count)}


def fingerprint(disk: Disk, folder: Path = Path("/srv")) -> int:
    """Return a number that two disks share where they hold the same."""
    names = []
    for name in disk.listing(folder):
        path = folder / name
        is_folder = disk.kind(path) is Kind.FOLDER
        names.append((name, fingerprint(disk, path) if is_folder else disk.read(path)))
    return hash(tuple(names))


def require_whole(disk: Disk, repo: Path = REPO) -> Closure:
    """Assert that timestamp.json names a whole, verified closure, and return it."""
    repository = Repository(disk, repo)
    closure = repository.closure()
    targets = target_files(closure.roles.values())
    for target in targets:
        assert target.ref.matches(disk.read(repo / target.path)), target
    for blob in blob_files(repository, targets):
        assert intact(repository, blob.ref.sha256, blob.ref.length), blob
    role = closure.roles.get("releases-yara")
    for manifest in read_role(repository, role, YARA).manifests.values() if role else ():
        open_pack(repository, manifest)
    return closure


def people_and_steward(disk: Disk) -> tuple[Workshop, Workshop, Workshop]:
    """Give each of three people one fleet key, and the steward the online ones.

    Returns:
        What two of the people sign with, and what the steward signs with.
    """
    for number in (1, 2, 3):
        disk.make_folder(Path(f"/srv/person{number}/offline"))
        name = f"offline/fleet-{number}.pem"
        disk.replace(KEYS / name, Path(f"/srv/person{number}") / name)
    first, second = (workshop(disk, keys=Path(f"/srv/person{n}")) for n in (1, 2))
    steward = workshop(disk, keys=Path("/srv/steward"))
    disk.make_folder(Path("/srv/steward"))
    disk.replace(KEYS / "online", Path("/srv/steward/online"))
    return first, second, steward
