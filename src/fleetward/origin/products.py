"""Products and the documents beside their releases: floor, revocations, policy.

Each function stages one change of the product's releases role, commits what can be committed and
returns what still waits. Changing a document that says the same already changes nothing.
"""

from dataclasses import dataclass, replace

from fleetward.core.documents import Floor, Manifest, Policy, RampStep, Revoked
from fleetward.core.names import ProductName, ReleaseName
from fleetward.errors import ConfigurationError
from fleetward.origin.finish import Outcome, finish
from fleetward.origin.releases import Releases, archived, require_releases
from fleetward.origin.staging import Staging
from fleetward.origin.workshop import Workshop
from fleetward.trust.signing import RoleKeys, first_targets, releases_delegation
from fleetward.wire.documents import encode
from fleetward.wire.layout import floor_target, policy_target, releases_role

DEFAULT_ENGINE = "files"


@dataclass(frozen=True, slots=True)
class Change:
    """What a command did.

    Attributes:
        changed: False where everything was as asked for already.
        outcome: what became live and what waits.
        warnings: sentences for the operator.
    """

    changed: bool
    outcome: Outcome
    warnings: tuple[str, ...] = ()


def add_product(
    shop: Workshop, product: ProductName, threshold: int = 1, engine: str | None = None
) -> Change:
    """Make a product: its keys, its delegation, an empty floor and policy.

    Args:
        shop: where.
        product: its name.
        threshold: 1 of 1 key, or 2 of 2 (build and QA).
        engine: what loads its releases, unless `publish` says otherwise.

    Raises:
        ConfigurationError: the product is there with another threshold, or it is not 1 or 2.
        KeyUnavailableError: the passphrase is wrong or was not given.
    """
    if threshold not in {1, 2}:
        raise ConfigurationError("a product's releases are signed by 1 of 1 or 2 of 2 keys")
    with shop.alone():
        staging = Staging(shop)
        changed = stage_product(staging, product, threshold, engine)
        return Change(changed, finish(staging))


def stage_product(
    staging: Staging, product: ProductName, threshold: int = 1, engine: str | None = None
) -> bool:
    """Stage a product; return False where it is there already."""
    shop, role = staging.shop, releases_role(product)
    targets = staging.current("targets") or staging.closure.roles["targets"]
    known = targets.delegates.get(role)
    if known and known.threshold != threshold:
        raise ConfigurationError(
            f"{product} exists with {known.threshold} of {len(known.keys)} keys: change its keys "
            "with `fleetward origin rotate`"
        )
    if known and staging.current(role):
        return False
    if known is None:
        keys = shop.keyring.product_keys(product, threshold, shop.entropy)
        named = RoleKeys(tuple(key.public for key in keys), threshold)
        staging.stage(targets.with_delegation(releases_delegation(product, named)))
    first = first_targets(role, shop.clock.now()).with_targets(
        {
            floor_target(product): shop.repository.add_target(
                floor_target(product), encode(Floor(product=product, seq=0))
            ),
            policy_target(product): shop.repository.add_target(
                policy_target(product), encode(Policy(product=product))
            ),
        }
    )
    staging.stage(first.with_engine(engine or DEFAULT_ENGINE))
    return True


def set_floor(shop: Workshop, product: ProductName, seq: int) -> Change:
    """Set the least sequence number that a host may take from the network.

    Raises:
        ConfigurationError: it would lower the floor, or strand a channel's release or previous.
    """
    with shop.alone():
        staging = Staging(shop)
        releases = require_releases(staging, product)
        if seq < releases.floor.seq:
            raise ConfigurationError(
                f"the floor of {product} is {releases.floor.seq} and hosts never take a lower one"
            )
        _refuse_stranding(staging, product, seq)
        return _restage(staging, releases, floor=replace(releases.floor, seq=seq))


def floor_at(shop: Workshop, product: ProductName, release: ReleaseName) -> int:
    """Return the sequence number of a release, for `set_floor`.

    Raises:
        ConfigurationError: there is no such release.
    """
    with shop.alone():
        staging = Staging(shop)
        return _find(staging, require_releases(staging, product), release).seq


def revoke(shop: Workshop, product: ProductName, release: ReleaseName, reason: str) -> Change:
    """Forbid every host to run a release, for ever.

    Raises:
        ConfigurationError: there is no such release.
    """
    with shop.alone():
        staging = Staging(shop)
        releases = require_releases(staging, product)
        tree = _find(staging, releases, release).tree.sha256
        if releases.floor.revocation_of(tree):
            return Change(changed=False, outcome=finish(staging))
        revoked = Revoked(release=release, tree=tree, reason=reason)
        floor = replace(releases.floor, revoked=(*releases.floor.revoked, revoked))
        change = _restage(staging, releases, floor=floor)
        return replace(change, warnings=_left_without(staging, releases, floor))


def set_policy(shop: Workshop, policy: Policy) -> Change:
    """Set how fast the online keys may open a release.

    Raises:
        ConfigurationError: there is no such product.
    """
    with shop.alone():
        staging = Staging(shop)
        return _restage(staging, require_releases(staging, policy.product), policy=policy)


def parse_ramp(text: str) -> tuple[RampStep, ...]:
    """Return the ramp `AGE:PERCENT,…`, ages in seconds.

    Raises:
        ConfigurationError: it is not of that form.
    """
    steps = []
    for part in filter(None, text.split(",")):
        age, _, percent = part.partition(":")
        try:
            steps.append(RampStep(age=int(age), percent=float(percent)))
        except ValueError as error:
            raise ConfigurationError(
                f"{part!r} is no step of a ramp: write AGE:PERCENT, the age in seconds, as in "
                "0:1,3600:10,14400:50,86400:100"
            ) from error
    return tuple(steps)


def _restage(
    staging: Staging,
    releases: Releases,
    *,
    floor: Floor | None = None,
    policy: Policy | None = None,
) -> Change:
    floor, policy = floor or releases.floor, policy or releases.policy
    if (floor, policy) == (releases.floor, releases.policy):
        return Change(changed=False, outcome=finish(staging))
    repository, targets = staging.shop.repository, releases.role.targets
    for name, document in (
        (floor_target(releases.product), floor),
        (policy_target(releases.product), policy),
    ):
        targets[name] = repository.add_target(name, encode(document))
    staging.stage(releases.role.with_targets(targets))
    return Change(changed=True, outcome=finish(staging))


def _find(staging: Staging, releases: Releases, release: ReleaseName) -> Manifest:
    found = releases.named(release)
    if found:
        return found[1]
    for manifest in archived(staging.shop.repository, releases.product):
        if manifest.release == release:
            return manifest
    known = ", ".join(m.release for m in list(releases.manifests.values())[-5:])
    raise ConfigurationError(
        f"{releases.product} has no release {release}; its newest are: {known or 'none'}"
    )


def _refuse_stranding(staging: Staging, product: ProductName, seq: int) -> None:
    for channel in staging.channels(product):
        for what, ref in (("release", channel.release), ("previous release", channel.previous)):
            if ref and ref.seq < seq:
                raise ConfigurationError(
                    f"a floor of {seq} would strand the {what} {ref.release} (seq {ref.seq}) of "
                    f"channel {channel.channel}: publish there first, or choose a lower floor"
                )


def _left_without(staging: Staging, releases: Releases, floor: Floor) -> tuple[str, ...]:
    """Return a warning for each channel that has nothing left to run."""
    warnings = []
    for channel in {c.channel: c for c in staging.channels(releases.product)}.values():
        refs = [ref for ref in (channel.release, channel.previous) if ref]
        manifests = [releases.manifests.get(ref.manifest) for ref in refs]
        if not any(m and not floor.revocation_of(m.tree.sha256) for m in manifests):
            warnings.append(
                f"channel {channel.channel} has no release left that is not revoked: publish one "
                f"(until then its hosts {releases.policy.when_nothing_is_allowed} what they have)"
            )
    return tuple(warnings)
