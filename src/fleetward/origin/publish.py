"""A folder becomes a release, and a channel moves to it: `origin publish`.

Making the blobs takes minutes and holds the publishers' lock alone; only signing and the commit
hold the lock that the steward needs too. Everything before the commit is added beside what is
live, under names that are digests; run again, it is found and used.

Deliberately not here: the commit (finish), blobs (packing), and rollouts by waves.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from fleetward.core.digest import Sha256
from fleetward.core.documents import Channel, Engine, Manifest, ReleaseRef, whole_second
from fleetward.core.limits import MANIFEST_BYTES, MAX_KEPT_DELTAS
from fleetward.core.names import ChannelName, ProductName, ReleaseName
from fleetward.errors import ConfigurationError
from fleetward.origin.finish import Outcome, Waiting, finish
from fleetward.origin.packing import (
    Content,
    Deltas,
    EmptyTree,
    add_deltas,
    add_pack,
    read_tree,
    with_deltas,
)
from fleetward.origin.products import DEFAULT_ENGINE, stage_product
from fleetward.origin.releases import (
    Releases,
    archive,
    archived,
    free_name,
    manifest_names,
    read_releases,
    require_releases,
)
from fleetward.origin.staging import Staging
from fleetward.origin.workshop import PUBLISH_LOCK, Workshop
from fleetward.wire.documents import encode
from fleetward.wire.layout import manifest_target, releases_role

_SALT_BYTES = 16
STABLE = ChannelName("stable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to publish.

    Attributes:
        product: of which product.
        tree: the folder that becomes the release.
        release: its name; None for `YYYY.MM.DD-N`.
        channel: the channel that moves to it.
        engine: what loads it; None for what the product's releases had before.
        engine_min: the least version of the engine that can load it, or None.
        engine_max: the greatest such version, or None.
        urgent: whether it passes the policy's ramp.
        deltas: from how many kept releases deltas are made.
        keep: how many releases stay in the metadata, beside those that channels name.
        empty: whether the folder may hold no file.
    """

    product: ProductName
    tree: Path
    release: ReleaseName | None = None
    channel: ChannelName = STABLE
    engine: str | None = None
    engine_min: str | None = None
    engine_max: str | None = None
    urgent: bool = False
    deltas: int = MAX_KEPT_DELTAS
    keep: int = MAX_KEPT_DELTAS
    empty: EmptyTree = EmptyTree.REFUSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What publish did.

    Attributes:
        state: `published` (the channel points at it), `pending` (something waits), or
            `unchanged` (the channel pointed at this very tree already).
        manifest: the release.
        channel: the channel.
        waiting: what is pending.
        skipped: bases without a delta, with the reason.
    """

    state: Literal["published", "pending", "unchanged"]
    manifest: Manifest
    channel: ChannelName
    waiting: tuple[Waiting, ...] = ()
    skipped: tuple[str, ...] = ()


def publish(shop: Workshop, order: Order) -> Published:
    """Make a release of a folder and move a channel to it.

    Raises:
        ConfigurationError: no such product, an empty folder, a release name that is taken, or a
            revoked tree.
        UnsafeTreeError: something in the folder has no place in a tree.
        KeyUnavailableError: the passphrase is wrong or was not given.
        BusyError: another publisher is at work.
        DiskError: the disk is full or failing; what is live is whole.
    """
    _refuse_numbers(order)
    with shop.alone(PUBLISH_LOCK):
        shop.progress.step("tree", 0, 1)
        content = read_tree(shop.disk, order.tree, order.empty)
        shop.progress.step("tree", 1, 1)
        with shop.alone():
            known = _known(Staging(shop), order)
        reused = _reusable(known, order, content) if known else None
        if reused:
            return _point(shop, order, reused, Deltas((), ()))
        _refuse_name(shop, order, known)
        made = _make(shop, order, content, known)
        return _point(shop, order, made[0], made[1])


def _refuse_numbers(order: Order) -> None:
    if order.keep < 1 or order.deltas < 0:
        raise ConfigurationError("keep at least 1 release, and make 0 or more deltas")


@dataclass(frozen=True, slots=True)
class _Known:
    """A product as it is before the release, with the channel."""

    releases: Releases
    channel: Channel | None


def _known(staging: Staging, order: Order) -> _Known | None:
    """Return the product, or None where it shall be added on the way.

    Raises:
        ConfigurationError: there is no such product, and the keys are not plain.
    """
    releases = read_releases(staging, order.product)
    if releases is None:
        if not staging.shop.keyring.is_plain:
            require_releases(staging, order.product)
        return None
    return _Known(releases, staging.channel(order.product, order.channel))


def _reusable(known: _Known, order: Order, content: Content) -> Manifest | None:
    """Return the release that has this very tree and may be pointed at again, newest first.

    Raises:
        ConfigurationError: the tree is revoked.
    """
    tree = content.identity.sha256
    revoked = known.releases.floor.revocation_of(tree)
    if revoked:
        raise ConfigurationError(
            f"this very tree is revoked as release {revoked.release} ({revoked.reason or 'no reason'}): "
            "hosts refuse it for ever; publish another one"
        )
    at = known.channel.release.seq if known.channel else 0
    for manifest in known.releases.newest_first:
        is_asked_for = order.release in {None, manifest.release}
        if manifest.tree == content.identity and is_asked_for and manifest.seq >= at:
            return manifest
    return None


def _refuse_name(shop: Workshop, order: Order, known: _Known | None) -> None:
    if order.release in _taken(shop, order.product, known):
        raise ConfigurationError(
            f"{order.product} has a release {order.release} already, with another tree or behind "
            "its channel: a release never changes, so choose another name"
        )


def _taken(shop: Workshop, product: ProductName, known: _Known | None) -> list[ReleaseName]:
    live = known.releases.manifests.values() if known else ()
    return [m.release for m in (*live, *archived(shop.repository, product))]


def _make(
    shop: Workshop, order: Order, content: Content, known: _Known | None
) -> tuple[Manifest, Deltas]:
    """Write the release's blobs and return its manifest."""
    releases = known.releases if known else None
    pack = add_pack(shop.repository, content, shop.progress)
    bases = _bases(releases, order, content.identity.sha256)
    deltas = add_deltas(shop.repository, bases, content, pack, shop.progress)
    now = whole_second(shop.clock.now())
    seqs = [m.seq for m in releases.newest_first[:1]] + [releases.floor.seq - 1] if releases else []
    manifest = Manifest(
        product=order.product,
        release=order.release or _free_name(shop, order.product, known, now),
        seq=max([0, *seqs]) + 1,
        created=now,
        engine=_engine(order, releases),
        tree=content.identity,
        pack=pack,
        urgent=order.urgent,
    )
    return with_deltas(manifest, deltas.per_base), deltas


def _free_name(
    shop: Workshop, product: ProductName, known: _Known | None, now: datetime
) -> ReleaseName:
    return free_name(f"{now:%Y.%m.%d}", _taken(shop, product, known))


def _bases(releases: Releases | None, order: Order, tree: Sha256) -> list[Manifest]:
    """Return the releases that deltas start from, newest first; each tree once."""
    trees = {tree}
    bases: list[Manifest] = []
    for manifest in releases.newest_first if releases else ():
        if manifest.tree.sha256 not in trees:
            trees.add(manifest.tree.sha256)
            bases.append(manifest)
    return bases[: order.deltas]


def _engine(order: Order, releases: Releases | None) -> Engine:
    name = order.engine or (releases.role.engine if releases else None) or DEFAULT_ENGINE
    return Engine(name=name, min=order.engine_min, max=order.engine_max)


# -- the commit --------------------------------------------------------------------------------


def _point(shop: Workshop, order: Order, manifest: Manifest, deltas: Deltas) -> Published:
    """Sign the release where it is new, and move the channel."""
    content = encode(manifest)
    if len(content) > MANIFEST_BYTES:
        raise ConfigurationError(f"the manifest has {len(content)} bytes, over {MANIFEST_BYTES}")
    with shop.alone():
        staging = Staging(shop)
        stage_missing_product(staging, order.product)
        releases = require_releases(staging, order.product)
        digest = _stage_release(staging, releases, manifest, order.keep)
        ref = ReleaseRef(release=manifest.release, seq=manifest.seq, manifest=digest)
        moved = _stage_channel(staging, releases, order, ref)
        outcome = finish(staging)
    return Published(
        state=_state(outcome, order, moved=moved),
        manifest=manifest,
        channel=order.channel,
        waiting=outcome.waiting,
        skipped=deltas.skipped,
    )


def stage_missing_product(staging: Staging, product: ProductName) -> None:
    """Stage the product where it is missing and the keys are plain."""
    if read_releases(staging, product) is None and staging.shop.keyring.is_plain:
        stage_product(staging, product)


def _state(
    outcome: Outcome, order: Order, *, moved: bool
) -> Literal["published", "pending", "unchanged"]:
    mine = {releases_role(order.product), f"channels/{order.product}/{order.channel}"}
    if mine & {waiting.what for waiting in outcome.waiting}:
        return "pending"
    return "published" if moved or outcome.became_live else "unchanged"


def _stage_release(staging: Staging, releases: Releases, manifest: Manifest, keep: int) -> Sha256:
    """Stage the releases role with the manifest, unless it names it; return its digest."""
    found = releases.named(manifest.release)
    if found and found[1] == manifest:
        return found[0]
    shop, names = staging.shop, manifest_names(releases)
    name = manifest_target(manifest.product, manifest.release)
    ref = shop.repository.add_target(name, encode(manifest))
    targets = dict(releases.role.targets)
    for old in _retired(staging, releases, keep - 1):
        target = manifest_target(old.product, old.release)
        archive(shop.repository, target, names[target])
        del targets[target]
    targets[name] = ref
    staging.stage(releases.role.with_targets(targets))
    return ref.sha256


def _retired(staging: Staging, releases: Releases, keep: int) -> list[Manifest]:
    """Return the releases that leave the metadata: not among the newest, named by no channel."""
    named = {
        ref.manifest
        for channel in staging.channels(releases.product)
        for ref in (channel.release, channel.previous)
        if ref
    }
    old = list(releases.manifests.items())[: max(0, len(releases.manifests) - keep)]
    return [manifest for digest, manifest in old if digest not in named]


def _stage_channel(staging: Staging, releases: Releases, order: Order, ref: ReleaseRef) -> bool:
    """Wish for the channel to point at `ref`; return False where it does or shall already."""
    current = staging.channel(order.product, order.channel)
    if current and current.release == ref:
        return False
    live = staging.live_channel(order.product, order.channel)
    previous = _previous(live, releases, ref) if live else None
    plan = live.plan if live else "now"
    staging.wish(
        Channel(
            product=order.product,
            channel=order.channel,
            release=ref,
            previous=previous,
            salt=staging.shop.entropy.token(_SALT_BYTES).hex(),
            plan=plan,
            waves=live.waves if live else (),
            state="complete" if plan == "now" else "running",
        )
    )
    return True


def _previous(live: Channel, releases: Releases, ref: ReleaseRef) -> ReleaseRef | None:
    """Return what hosts outside the open waves run: the live release, unless it is a bad one."""
    halted = live.state in {"halted", "reverting"}
    candidates: Iterable[ReleaseRef | None] = (None if halted else live.release, live.previous)
    for candidate in candidates:
        manifest = releases.manifests.get(candidate.manifest) if candidate else None
        if candidate is None or manifest is None or candidate == ref:
            continue
        allowed = manifest.seq >= releases.floor.seq
        if allowed and not releases.floor.revocation_of(manifest.tree.sha256):
            return candidate
    return None
