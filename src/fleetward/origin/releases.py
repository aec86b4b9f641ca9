"""A product's releases, floor and policy, as its releases role names them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleetward.core.digest import Sha256
from fleetward.core.documents import Floor, Manifest, Policy
from fleetward.core.names import ProductName, ReleaseName, parse_release
from fleetward.errors import ConfigurationError
from fleetward.origin.repository import ARCHIVE, TARGETS, Repository
from fleetward.origin.staging import Staging
from fleetward.trust.signing import SignedRole, TargetRef
from fleetward.wire.documents import decode
from fleetward.wire.layout import floor_target, policy_target, releases_role


@dataclass(frozen=True, slots=True)
class Releases:
    """What one version of a product's releases role says.

    Attributes:
        role: that role's metadata.
        product: of which product.
        manifests: by the digest of their bytes, oldest first.
        floor: its floor document.
        policy: its policy document.
    """

    role: SignedRole
    product: ProductName
    manifests: Mapping[Sha256, Manifest]
    floor: Floor
    policy: Policy

    @property
    def newest_first(self) -> list[Manifest]:
        """The manifests by falling sequence number."""
        return list(self.manifests.values())[::-1]

    def named(self, release: ReleaseName) -> tuple[Sha256, Manifest] | None:
        """Return the release of that name with its manifest's digest, or None."""
        return next((each for each in self.manifests.items() if each[1].release == release), None)


def read_releases(staging: Staging, product: ProductName) -> Releases | None:
    """Return what the product's releases role says (pending, else live), or None without one.

    Raises:
        DocumentError: a document is absent, damaged or malformed.
    """
    role = staging.current(releases_role(product))
    return read_role(staging.shop.repository, role, product) if role else None


def read_role(repository: Repository, role: SignedRole, product: ProductName) -> Releases:
    """Return what one version of a releases role says.

    Raises:
        DocumentError: a document is absent, damaged or malformed.
    """
    targets = dict(role.targets)
    floor_name, policy_name = floor_target(product), policy_target(product)
    floor = repository.document(Floor, floor_name, targets.pop(floor_name))
    policy = repository.document(Policy, policy_name, targets.pop(policy_name))
    manifests = [
        (ref.sha256, repository.document(Manifest, name, ref)) for name, ref in targets.items()
    ]
    manifests.sort(key=lambda each: each[1].seq)
    return Releases(role, product, dict(manifests), floor, policy)


def require_releases(staging: Staging, product: ProductName) -> Releases:
    """Return what the product's releases role says.

    Raises:
        ConfigurationError: there is no such product.
        DocumentError: as `read_releases`.
    """
    releases = read_releases(staging, product)
    if releases is None:
        raise ConfigurationError(
            f"the repository has no product {product}: add it with `fleetward origin product add`"
        )
    return releases


def manifest_names(releases: Releases) -> dict[str, TargetRef]:
    """Return the targets of the role that are manifests."""
    beside = {floor_target(releases.product), policy_target(releases.product)}
    return {name: ref for name, ref in releases.role.targets.items() if name not in beside}


# -- the archive: manifests of releases that left the metadata ---------------------------------


def archive(repository: Repository, name: str, ref: TargetRef) -> None:
    """Keep the manifest that metadata names as `name` for the auditor.

    Raises:
        FileNotFoundError: it is absent.
        DiskError: it cannot be written.
    """
    folder, _, file = name.rpartition("/")
    source = repository.folder / TARGETS / folder / f"{ref.sha256}.{file}"
    repository.add_file(f"{ARCHIVE}/{folder}/{ref.sha256}.{file}", repository.disk.read(source))


def archived(repository: Repository, product: ProductName) -> list[Manifest]:
    """Return the manifests in the archive, oldest first.

    Raises:
        DocumentError: one of them is malformed.
    """
    folder = repository.folder / ARCHIVE / "releases" / product
    try:
        names = repository.disk.listing(folder)
    except FileNotFoundError:
        return []
    manifests = [
        decode(Manifest, repository.disk.read(folder / name))
        for name in names
        if not name.startswith(".")
    ]
    return sorted(manifests, key=lambda manifest: manifest.seq)


def free_name(day: str, taken: Iterable[ReleaseName]) -> ReleaseName:
    """Return the first free name `DAY-N`."""
    known = set(taken)
    number = 1
    while (name := f"{day}-{number}") in known:
        number += 1
    return parse_release(name)
