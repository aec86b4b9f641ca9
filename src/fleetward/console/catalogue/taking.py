"""A verified view, as rows: one transaction, written only once everything was read.

Invariants: nothing here judges. What comes in was verified; what is missing from it because it
could not be read is left as it was. Signed is not sane: whatever a document holds fits its columns,
so that one product's signer cannot keep the console from following the others.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from django.db import transaction

from fleetward.console.catalogue.models import (
    Channel,
    Comparison,
    Delta,
    Move,
    MoveKind,
    Product,
    Release,
    Role,
)
from fleetward.console.catalogue.viewing import ProductReading, Signed
from fleetward.core import documents
from fleetward.core.names import ProductName
from fleetward.trust.client import RoleStanding, TimestampFacts, VerifiedView

MAX_NUMBER: Final = 2**53 - 1
"""The greatest number that is kept of a document (a column that overflows)."""

MAX_AGE: Final = 2**40
"""The greatest age of a ramp that is kept, in seconds: 34,000 years (a duration that overflows)."""

MAX_WORDS: Final = 200
"""Characters that are kept of an engine's name or a ring's."""

MAX_REASON: Final = 2_000
"""Characters that are kept of a reason or a problem."""


def _words(text: str | None, most: int = MAX_WORDS) -> str:
    """Return text as the databases take it."""
    return (text or "").replace("\0", "\N{REPLACEMENT CHARACTER}")[:most]


def _number(number: int) -> int:
    return min(number, MAX_NUMBER)


def known_manifests() -> frozenset[str]:
    """Return the digests of the manifests that are rows."""
    return frozenset(Release.objects.values_list("manifest", flat=True))


def take_view(
    view: VerifiedView, read: Mapping[ProductName, ProductReading | None], now: datetime
) -> None:
    """Write what a view says.

    Args:
        view: for its roles and its timestamp.
        read: every product of the view; None where nothing of it could be read.
        now: when.
    """
    with transaction.atomic():
        _take_roles(view.roles, now)
        Product.objects.exclude(name__in=list(read)).update(listed=False)
        for name, reading in read.items():
            product, _ = Product.objects.get_or_create(name=name, defaults={"seen": now})
            if reading is None:
                _note_unreadable(product)
            else:
                _take_product(product, reading, view.timestamp, now)


def _take_roles(roles: tuple[RoleStanding, ...], now: datetime) -> None:
    known = {row.role: row for row in Role.objects.all()}
    Role.objects.exclude(role__in=[each.role for each in roles]).delete()
    for place, each in enumerate(roles):
        row = known.get(each.role) or Role(role=each.role, version=-1)
        if row.version != each.version:
            row.version, row.expires, row.changed = each.version, None, now
        # An expired role is not read again; what it said before still holds.
        row.expires = each.expires or row.expires
        row.keyids, row.threshold, row.place = list(each.keyids), each.threshold, place
        row.save()


def _note_unreadable(product: Product) -> None:
    product.listed = True
    product.problem = "Its releases role could not be read: see Trust."
    product.save()


def _take_product(
    product: Product, reading: ProductReading, stamp: TimestampFacts, now: datetime
) -> None:
    product.floor = _number(reading.floor.seq)
    product.ramp = [
        {"age": min(step.age, MAX_AGE), "percent": step.percent} for step in reading.policy.ramp
    ]
    product.when_nothing_is_allowed = reading.policy.when_nothing_is_allowed
    product.listed, product.problem = True, _words(reading.problem, MAX_REASON)
    product.save()
    for signed in sorted(reading.manifests.values(), key=lambda each: each.manifest.seq):
        _take_release(product, signed, now)
    _follow_releases(product, reading)
    if reading.channels is not None:
        product.channels.exclude(name__in=list(reading.channels)).update(listed=False)
        for channel in reading.channels.values():
            _take_channel(product, channel, stamp, now)


def _take_release(product: Product, signed: Signed, now: datetime) -> None:
    manifest = signed.manifest
    values = {
        "seq": _number(manifest.seq),
        "created": manifest.created,
        "manifest": signed.sha256,
        "engine": _words(manifest.engine.name),
        "engine_min": _words(manifest.engine.min),
        "engine_max": _words(manifest.engine.max),
        "tree": manifest.tree.sha256,
        "tree_length": _number(manifest.tree.length),
        "files": _number(manifest.tree.files),
        "codec": _words(manifest.pack.codec, 32),
        "pack": manifest.pack.sha256,
        "pack_length": _number(manifest.pack.length),
        "urgent": manifest.urgent,
    }
    row, is_new = Release.objects.update_or_create(
        product=product,
        name=manifest.release,
        defaults=values,
        create_defaults={**values, "seen": now},
    )
    if not is_new:
        # The release keys signed other bytes under a name that was taken: nothing computed holds.
        row.deltas.all().delete()
        Comparison.objects.filter(old=row).delete()
        Comparison.objects.filter(new=row).delete()
    Delta.objects.bulk_create(_delta(row, delta) for delta in manifest.deltas)


def _delta(release: Release, delta: documents.Delta) -> Delta:
    return Delta(
        release=release,
        base=delta.base,
        base_tree=delta.base_tree,
        codec=_words(delta.codec, 32),
        encoder=_words(delta.encoder),
        memory=_number(delta.memory),
        sha256=delta.sha256,
        length=_number(delta.length),
    )


def _follow_releases(product: Product, reading: ProductReading) -> None:
    product.releases.filter(listed=True).exclude(name__in=reading.names).update(listed=False)
    product.releases.filter(listed=False, name__in=reading.names).update(listed=True)
    trees = [revoked.tree for revoked in reading.floor.revoked]
    product.releases.filter(revoked=True).exclude(tree__in=trees).update(revoked=False, reason="")
    for revoked in reading.floor.revoked:
        product.releases.filter(tree=revoked.tree).update(
            revoked=True, reason=_words(revoked.reason, MAX_REASON)
        )


def _take_channel(
    product: Product, channel: documents.Channel, stamp: TimestampFacts, now: datetime
) -> None:
    row = product.channels.filter(name=channel.channel).first()
    kind = MoveKind.FIRST if row is None else _kind_of_move(row, channel)
    if row is None:
        row = Channel(product=product, name=channel.channel, since=now)
    elif kind is MoveKind.RELEASE:
        row.since = now
    row.release = _vouched(product, channel.release)
    row.previous = _vouched(product, channel.previous) if channel.previous else None
    row.points_at = channel.release.release
    row.plan, row.state, row.open = channel.plan, channel.state, channel.open
    row.salt = channel.salt.encode()
    row.waves = [
        {"rings": [_words(ring) for ring in wave.rings], "percent": wave.percent}
        for wave in channel.waves
    ]
    row.listed = True
    row.save()
    if kind is not None:
        row.moves.add(_move(channel, kind, stamp, now), bulk=False)


def _kind_of_move(row: Channel, channel: documents.Channel) -> MoveKind | None:
    last = row.moves.first()
    if last is None or (last.release, last.seq) != (
        channel.release.release,
        _number(channel.release.seq),
    ):
        return MoveKind.RELEASE
    if row.state != channel.state:
        return MoveKind.STATE
    return (
        MoveKind.WAVES if (row.open, len(row.waves)) != (channel.open, len(channel.waves)) else None
    )


def _move(channel: documents.Channel, kind: MoveKind, stamp: TimestampFacts, now: datetime) -> Move:
    return Move(
        at=now,
        issued=stamp.issued,
        timestamp=stamp.version,
        kind=kind,
        release=channel.release.release,
        seq=_number(channel.release.seq),
        previous=channel.previous.release if channel.previous else "",
        state=channel.state,
        open=channel.open,
        waves=len(channel.waves),
    )


def _vouched(product: Product, ref: documents.ReleaseRef) -> Release | None:
    return product.releases.filter(name=ref.release, manifest=ref.manifest).first()
