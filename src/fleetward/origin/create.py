"""A new repository and its keys: `origin init`.

Both are built beside their place and get their names last, keys before repository, so a run that
was killed is either seen by nobody or finished by the next one.

Deliberately not here: products (products).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Disk, Kind
from fleetward.errors import ConfigurationError
from fleetward.origin.keyring import OFFLINE, ONLINE, PRODUCTS, KeyForm, write_key
from fleetward.origin.repository import BLOBS, METADATA, PENDING, TARGETS, Repository
from fleetward.origin.roles import OFFLINE_ROLES, ONLINE_ROLES, Quorum
from fleetward.origin.workshop import Workshop
from fleetward.trust.keys import SigningKey
from fleetward.trust.signing import (
    TOP_LEVEL,
    Delegation,
    RoleKeys,
    SignedRole,
    first_root,
    first_targets,
    snapshot_of,
    timestamp_of,
)
from fleetward.wire.layout import TIMESTAMP_PATH, metadata_path

DELEGATED_PATHS = {"fleet": ("fleet/*",), "channels": ("channels/*/*",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many keys the offline roles get."""

    root: Quorum = field(default_factory=Quorum)
    targets: Quorum = field(default_factory=Quorum)
    fleet: Quorum = field(default_factory=Quorum)

    def quorum(self, role: str) -> Quorum:
        """Return the quorum of `role`; online roles have one key each."""
        if role not in OFFLINE_ROLES:
            return Quorum(1, 1)
        quorum: Quorum = getattr(self, role)
        return quorum.for_offline_role(role)


@dataclass(frozen=True, slots=True)
class Created:
    """What init made.

    Attributes:
        repository: its folder.
        root: the trust anchor that agents are given.
        keys: the folder of the keys.
    """

    repository: Path
    root: Path
    keys: Path


def create(shop: Workshop, form: KeyForm, plan: Plan | None = None) -> Created:
    """Make a repository and its keys.

    Args:
        shop: where; its repository's folder and its keyring's folder must not exist.
        form: how the keys are written.
        plan: how many keys the offline roles get.

    Raises:
        ConfigurationError: something is there already, or a threshold needs every key.
        KeyUnavailableError: the keys are to be sealed and no passphrase was given.
        DiskError: something cannot be written.
    """
    keys = shop.keyring.folder
    made = Created(shop.folder, shop.folder / metadata_path("root", 1), keys)
    beside = _beside(shop.folder)
    if shop.folder == keys or shop.folder in keys.parents or keys in shop.folder.parents:
        raise ConfigurationError(
            f"{keys} and {shop.folder} lie in each other, and the repository is served: choose "
            "two separate folders"
        )
    if _was_interrupted(shop, beside):
        _put_in_place(shop.disk, beside, shop.folder)
        return made
    for folder in (shop.folder, keys):
        if shop.disk.kind(folder) is not Kind.ABSENT:
            raise ConfigurationError(
                f"{folder} exists already and is never overwritten: choose another folder, or "
                "move it away"
            )
    signers = _write_keys(shop, form, plan or Plan())
    _write_metadata(shop, beside, plan or Plan(), signers)
    _put_in_place(shop.disk, _beside(keys), keys)
    _put_in_place(shop.disk, beside, shop.folder)
    return made


def _was_interrupted(shop: Workshop, beside: Path) -> bool:
    """Whether an earlier run wrote everything, and only the repository lacks its name."""
    if shop.disk.kind(shop.folder) is not Kind.ABSENT:
        return False
    if shop.disk.kind(beside / TIMESTAMP_PATH) is not Kind.FILE:
        return False
    root = Repository(shop.disk, beside).role("root", 1)
    wanted = {keyid for keys in root.delegates.values() for keyid in keys.keyids}
    return wanted <= {found.file.keyid for found in shop.keyring.found()}


def _beside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.new")


def _put_in_place(disk: Disk, beside: Path, folder: Path) -> None:
    disk.replace(beside, folder)
    disk.sync_folder(folder.parent)


def _write_keys(shop: Workshop, form: KeyForm, plan: Plan) -> dict[str, tuple[SigningKey, ...]]:
    beside = _beside(shop.keyring.folder)
    shop.disk.remove_tree(beside)
    shop.disk.make_folder(beside, private=True)
    for place in (OFFLINE, PRODUCTS, ONLINE):
        shop.disk.make_folder(beside / place, private=True)
    signers: dict[str, tuple[SigningKey, ...]] = {}
    for role in (*OFFLINE_ROLES, *ONLINE_ROLES):
        count = plan.quorum(role).keys
        signers[role] = tuple(SigningKey.generate(shop.entropy) for _ in range(count))
        for number, key in enumerate(signers[role], 1):
            name = (
                Path(OFFLINE, f"{role}-{number}") if role in OFFLINE_ROLES else Path(ONLINE, role)
            )
            write_key(shop.disk, beside / name, key, form)
    return signers


def _write_metadata(
    shop: Workshop, folder: Path, plan: Plan, signers: Mapping[str, tuple[SigningKey, ...]]
) -> None:
    shop.disk.remove_tree(folder)
    for name in (METADATA, TARGETS, BLOBS, PENDING):
        shop.disk.make_folder(folder / name)
    repository = Repository(shop.disk, folder)
    *roles, timestamp = _first_roles(shop, plan, signers)
    for role in roles:
        repository.add_file(metadata_path(role.role, role.version), role.content)
    write_file(shop.disk, folder / TIMESTAMP_PATH, timestamp.content)


def _first_roles(
    shop: Workshop, plan: Plan, signers: Mapping[str, tuple[SigningKey, ...]]
) -> list[SignedRole]:
    now, lifetimes = shop.clock.now(), shop.lifetimes
    named = {
        role: RoleKeys(tuple(key.public for key in keys), plan.quorum(role).threshold)
        for role, keys in signers.items()
    }
    top = {role: named[role] for role in TOP_LEVEL}
    root = first_root(top, now + lifetimes.root)
    targets = first_targets("targets", now + lifetimes.targets)
    for role, paths in DELEGATED_PATHS.items():
        targets = targets.with_delegation(Delegation(role, named[role], paths))
    listed = [
        role.signed_by(signers[role.role])
        for role in (
            targets,
            first_targets("fleet", now + lifetimes.fleet),
            first_targets("channels", now + lifetimes.channels),
        )
    ]
    snapshot = snapshot_of(listed, 1, now + lifetimes.snapshot).signed_by(signers["snapshot"])
    timestamp = timestamp_of(snapshot, 1, now + lifetimes.timestamp, now, lifetimes.interval)
    return [
        root.signed_by(signers["root"]),
        *listed,
        snapshot,
        timestamp.signed_by(signers["timestamp"]),
    ]
