"""What the holders of offline and product keys do: sign, renew, and change keys.

Each signs with what it can read; whoever has the online keys then finishes. Procedures for lost
and stolen keys are in docs/adr/0008-key-files.md.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from fleetward.core.names import parse_product
from fleetward.errors import ConfigurationError
from fleetward.origin.create import DELEGATED_PATHS
from fleetward.origin.finish import Outcome, finish
from fleetward.origin.keyring import OFFLINE, ONLINE, PRODUCTS, write_key
from fleetward.origin.roles import OFFLINE_ROLES, ONLINE_ROLES
from fleetward.origin.staging import CHANNELS, Staging
from fleetward.origin.workshop import Workshop
from fleetward.trust.keys import PublicKey, SigningKey
from fleetward.trust.signing import (
    TOP_LEVEL,
    Delegation,
    RoleKeys,
    releases_delegation,
)

_RELEASES = "releases-"


def sign_pending(shop: Workshop) -> Outcome:
    """Add the signatures of the keys at hand to all that is pending, and finish what can be.

    Raises:
        KeyUnavailableError: the passphrase is wrong or was not given.
        ConfigurationError: there is no repository.
    """
    with shop.alone():
        staging = Staging(shop)
        for role in list(staging.roles):
            staging.sign(role)
        return finish(staging)


@dataclass(frozen=True, slots=True)
class Renewed:
    """What renew did.

    Attributes:
        roles: roles that got a new version and expiry.
        outcome: what became live and what waits.
    """

    roles: tuple[str, ...]
    outcome: Outcome


def renew(shop: Workshop, roles: Collection[str] = ()) -> Renewed:
    """Sign offline and product roles again with a new expiry, as they are.

    Args:
        shop: where.
        roles: which ones; empty for all that are under half of their life and whose keys are here.

    Raises:
        ConfigurationError: there is no such role.
        KeyUnavailableError: the passphrase is wrong or was not given.
    """
    with shop.alone():
        staging = Staging(shop)
        wanted = tuple(roles) or _due_here(staging)
        for name in wanted:
            current = staging.current(name)
            if current is None or name in ONLINE_ROLES:
                raise ConfigurationError(f"{name} is no offline or product role of this repository")
            staging.stage(current)
        return Renewed(wanted, finish(staging))


def _due_here(staging: Staging) -> tuple[str, ...]:
    shop = staging.shop
    now, due = shop.clock.now(), []
    for name in ("root", *staging.closure.roles):
        role = staging.current(name)
        if name in ONLINE_ROLES or role is None:
            continue
        if role.expires - now < shop.lifetimes.of(name) / 2 and any(
            shop.keyring.signers(keys) for keys in staging.role_keys(name)
        ):
            due.append(name)
    return tuple(due)


@dataclass(frozen=True, slots=True)
class Rotated:
    """What rotate did.

    Attributes:
        added: ids of the new keys.
        dropped: ids of the keys that may be destroyed once nothing waits.
        outcome: what became live and what waits.
    """

    added: tuple[str, ...]
    dropped: tuple[str, ...]
    outcome: Outcome


def rotate(shop: Workshop, role: str, count: int, drop: Collection[str] = ()) -> Rotated:
    """Give a role new keys in place of old ones.

    Args:
        shop: where.
        role: any role.
        count: how many new keys are made.
        drop: ids of the keys to drop; empty for all that the role has.

    Raises:
        ConfigurationError: no such role or key, or the threshold would not suit the keys.
        KeyUnavailableError: the passphrase is wrong or was not given.
    """
    with shop.alone():
        staging = Staging(shop)
        old = _keys_of(staging, role)
        unknown = set(drop) - set(old.keyids)
        if unknown:
            raise ConfigurationError(f"{role} has no key {', '.join(sorted(unknown))}")
        kept = [key for key in old.keys if drop and key.keyid not in drop]
        new = _new_keys(staging, role, count, len(kept) + count, old.threshold)
        keys = RoleKeys((*kept, *new), old.threshold)
        _stage_keys(staging, role, keys)
        outcome = finish(staging)
        dropped = tuple(keyid for keyid in old.keyids if keyid not in keys.keyids)
        return Rotated(tuple(key.keyid for key in new), dropped, outcome)


def _keys_of(staging: Staging, role: str) -> RoleKeys:
    known = staging.delegator(role).delegates
    if role not in known:
        raise ConfigurationError(
            f"there is no role {role}; there are: "
            f"{', '.join([*staging.closure.root.delegates, *staging.closure.roles])}"
        )
    return known[role]


def _new_keys(
    staging: Staging, role: str, count: int, total: int, threshold: int
) -> list[PublicKey]:
    spare = 1 if role in OFFLINE_ROLES else 0
    if count < 1 or total < threshold + spare:
        raise ConfigurationError(
            f"{role} would have {total} keys with a threshold of {threshold}: make more keys"
        )
    shop = staging.shop
    folder, stem = _place(role)
    ring = shop.keyring
    form = ring.form(shop.entropy)
    shop.disk.make_folder(ring.folder / folder, private=True)
    taken = {Path(found.file.name).stem for found in ring.found() if found.place == folder}
    made: list[PublicKey] = []
    number = 1
    while len(made) < count:
        if (name := f"{stem}-{number}") not in taken:
            key = SigningKey.generate(shop.entropy)
            write_key(shop.disk, ring.folder / folder / name, key, form)
            made.append(key.public)
        number += 1
    ring.look_again()
    return made


def _place(role: str) -> tuple[str, str]:
    if role.startswith(_RELEASES):
        return f"{PRODUCTS}/{role.removeprefix(_RELEASES)}", "releases"
    return (OFFLINE if role in OFFLINE_ROLES else ONLINE), role


def _stage_keys(staging: Staging, role: str, keys: RoleKeys) -> None:
    """Stage the delegator with the new keys, and the role itself, signed by old and new ones."""
    if role in TOP_LEVEL:
        root = staging.current("root") or staging.closure.root
        staging.stage(root.with_role_keys(role, keys))
    else:
        targets = staging.current("targets") or staging.closure.roles["targets"]
        staging.stage(targets.with_delegation(_delegation(role, keys)))
    own = staging.current(role)
    if own and role not in {"root", CHANNELS}:
        staging.stage(own)


def _delegation(role: str, keys: RoleKeys) -> Delegation:
    if role.startswith(_RELEASES):
        return releases_delegation(parse_product(role.removeprefix(_RELEASES)), keys)
    return Delegation(role, keys, DELEGATED_PATHS[role])
