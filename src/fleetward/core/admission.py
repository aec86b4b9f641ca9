"""Which release a host takes up: the rule of DESIGN, "Trust", as one function.

A host takes up a release only where **channels** points at it *and* the product's **releases**
role signs the same digest, its sequence number is not under the floor, it is not revoked, and the
policy's ramp admits the host at the release's age. The wall clock is used for the ramp alone, and
a clock that stands wrong can only delay or hasten within the ramp.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from fleetward.core.digest import Sha256
from fleetward.core.documents import Channel, Floor, Manifest, Policy, ReleaseRef
from fleetward.core.names import ReleaseName
from fleetward.core.rollout import HostPlace, is_open_to


class Refusal(Enum):
    """Why a release is not taken up; the value is the reason's id in status documents."""

    NOT_SIGNED = "not-signed-by-releases"
    UNDER_FLOOR = "under-floor"
    REVOKED = "revoked"
    RAMP = "waits-for-ramp"
    WAVE = "waits-for-wave"

    @property
    def is_alarming(self) -> bool:
        """Whether it looks like an attack (a stolen channels key) rather than patience."""
        return self in {Refusal.NOT_SIGNED, Refusal.UNDER_FLOOR}


@dataclass(frozen=True, slots=True)
class Signed:
    """What the releases role of one product vouches for.

    Attributes:
        manifests: manifests by the digest of their bytes, as that role names them.
        floor: its floor document.
        policy: its policy document.
    """

    manifests: dict[Sha256, Manifest]
    floor: Floor
    policy: Policy


@dataclass(frozen=True, slots=True)
class Choice:
    """What a host shall run.

    Attributes:
        manifest: the release to have, or None where nothing may be taken from the network.
        refused: what was preferred and why it was not taken, most preferred first.
        alarm: why the channel's own pointer looks like an attack, or None; nothing of such a
            document is followed, its previous release neither.
    """

    manifest: Manifest | None
    refused: tuple[tuple[ReleaseName, Refusal], ...] = ()

    alarm: Refusal | None = None


def choose(
    channel: Channel, signed: Signed, host: HostPlace, now: datetime, installed: Sha256 | None
) -> Choice:
    """Return which release the host shall run: the channel's, else the channel's previous one.

    Args:
        channel: the channel's document.
        signed: what the product's releases role vouches for.
        host: the host's place.
        now: the wall clock.
        installed: the tree that the host runs; it stays admitted by wave and ramp, since the
            host has taken it already.
    """
    refused: list[tuple[ReleaseName, Refusal]] = []
    for ref in (channel.release, channel.previous):
        if ref is None:
            continue
        manifest = signed.manifests.get(ref.manifest)
        refusal = _refusal(ref, manifest, channel, signed, (host, now, installed))
        if refusal is None:
            return Choice(manifest, tuple(refused))
        refused.append((ref.release, refusal))
        if ref is channel.release and refusal.is_alarming:
            return Choice(None, tuple(refused), refusal)
    return Choice(None, tuple(refused))


def _refusal(
    ref: ReleaseRef,
    manifest: Manifest | None,
    channel: Channel,
    signed: Signed,
    context: tuple[HostPlace, datetime, Sha256 | None],
) -> Refusal | None:
    if manifest is None or not _is_named_by(ref, channel, manifest):
        return Refusal.NOT_SIGNED
    if signed.floor.revocation_of(manifest.tree.sha256):
        return Refusal.REVOKED
    if manifest.seq < signed.floor.seq:
        return Refusal.UNDER_FLOOR
    host, now, installed = context
    if manifest.tree.sha256 == installed:
        return None
    if ref is channel.release and not is_open_to(channel, host):
        return Refusal.WAVE
    share = signed.policy.share_at(now - manifest.created)
    admitted = manifest.urgent or host.is_within(share, manifest.tree.sha256)
    return None if admitted else Refusal.RAMP


def _is_named_by(ref: ReleaseRef, channel: Channel, manifest: Manifest) -> bool:
    named = (channel.product, ref.release, ref.seq)
    return named == (manifest.product, manifest.release, manifest.seq)
