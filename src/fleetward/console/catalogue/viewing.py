"""A verified view read as products: everything before anything is written.

Invariants: what a role's expiry or a malformed document makes unreadable is noted and left as it
was; it never looks like something that is gone. A network that fails ends the whole reading.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleetward.core.digest import Sha256
from fleetward.core.documents import Channel, Floor, Manifest, Policy
from fleetward.core.fleet import Relays
from fleetward.core.names import ChannelName, ProductName, ReleaseName, parse_release
from fleetward.errors import ConfigurationError, FleetwardError, TrustError, UsageError
from fleetward.trust.client import VerifiedView
from fleetward.wire.layout import manifest_target


@dataclass(frozen=True, slots=True)
class Signed:
    """A manifest, and the digest by which it is signed."""

    sha256: Sha256
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class ProductReading:
    """What a view says of one product.

    Attributes:
        floor: its floor.
        policy: its policy.
        names: all releases that are named.
        manifests: those that were not known yet.
        channels: its channels; None where they could not be read.
        problem: what could not be read, as sentences.
    """

    floor: Floor
    policy: Policy
    names: frozenset[ReleaseName]
    manifests: Mapping[ReleaseName, Signed]
    channels: Mapping[ChannelName, Channel] | None
    problem: str


@dataclass(slots=True)
class Reader:
    """Reads products out of a view; a manifest that is known by its digest is not read again.

    Attributes:
        view: the view.
        known: digests of manifests that are rows already.
        unreadable: what could not be read, as sentences.
    """

    view: VerifiedView
    known: frozenset[str]
    unreadable: list[str] = field(default_factory=list)

    def product(self, name: ProductName) -> ProductReading | None:
        """Return what the view says of a product; None where its releases role cannot be read.

        Raises:
            NetworkError: something could not be brought.
        """
        before = len(self.unreadable)
        try:
            floor, policy = self.view.floor(name), self.view.policy(name)
            names = [each for each in self.view.releases(name) if _is_name(each)]
        except TrustError as error:
            self._note(name, error)
            return None
        read = {release: self._manifest(name, release) for release in names}
        manifests = {release: signed for release, signed in read.items() if signed}
        channels = self._channels(name)
        problem = " ".join(self.unreadable[before:])
        return ProductReading(floor, policy, frozenset(names), manifests, channels, problem)

    def relays(self) -> Relays | None:
        """Return the fleet's signed list of relays; None where it cannot be read.

        An empty list where none is signed. Raises as `product`.
        """
        try:
            return self.view.relays() or Relays()
        except TrustError as error:
            self._note("fleet", error)
            return None

    def _manifest(self, product: ProductName, release: ReleaseName) -> Signed | None:
        try:
            target = self.view.find(manifest_target(product, release))
            if target is None or target.sha256 in self.known:
                return None
            manifest = self.view.release(product, release)
        except TrustError as error:
            self._note(f"{product} {release}", error)
            return None
        if manifest is None or (manifest.product, manifest.release) != (product, release):
            self.unreadable.append(
                f"{product} {release}: it is signed with another release's manifest, and refused."
            )
            return None
        return Signed(target.sha256, manifest)

    def _channels(self, product: ProductName) -> dict[ChannelName, Channel] | None:
        try:
            names = self.view.channels(product)
            return {name: self.view.channel(product, name) for name in names}
        except (TrustError, ConfigurationError) as error:
            self._note(f"channels of {product}", error)
            return None

    def _note(self, what: str, error: FleetwardError) -> None:
        self.unreadable.append(f"{what}: {error}.")


def _is_name(text: str) -> bool:
    try:
        return parse_release(text) == text
    except UsageError:
        return False
