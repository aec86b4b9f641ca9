"""What is under way in a repository: metadata that lacks signatures, and channels that shall move.

Lies in `REPO/pending`, which is never served:

- `pending/ROLE.json`: the next version of an offline or product role, with the signatures that it
  has so far;
- `pending/channels/P/C.json`: the channel document that whoever holds the online keys shall sign.

A change goes on from what is pending, else from what is live; so a second release may join one
that still waits for its second signature. What is live already is dropped from pending.

Deliberately not here: making pending live (finish).
"""

from collections.abc import Iterator
from pathlib import Path

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Kind
from fleetward.core.documents import Channel
from fleetward.core.names import ChannelName, ProductName
from fleetward.errors import DocumentError, MetadataError
from fleetward.origin.repository import PENDING, Closure
from fleetward.origin.workshop import Workshop
from fleetward.trust.signing import TOP_LEVEL, RoleKeys, SignedRole
from fleetward.wire.documents import decode, encode
from fleetward.wire.layout import channel_target

CHANNELS = "channels"


class Staging:
    """The live closure and what is pending beside it; the caller holds the repository's lock.

    Attributes:
        shop: what it works with.
        closure: what is live.
        roles: pending roles by name.
        wishes: pending channel documents.
        unusable: files under pending that are passed over, with the reason.
    """

    def __init__(self, shop: Workshop, closure: Closure | None = None) -> None:
        """Read the repository.

        What is pending and malformed, or was made for an older state, stops nobody: it is in
        `unusable`, and the steward goes on.

        Raises:
            ConfigurationError: there is no repository.
            MetadataError: the live metadata does not verify.
        """
        self.shop = shop
        self.closure = closure or shop.repository.closure()
        self._folder = shop.folder / PENDING
        self.unusable: dict[str, str] = {}
        self.roles = {role.role: role for role in self._pending_roles()}
        self.wishes = {(c.product, c.channel): c for c in self._pending_channels()}

    # -- reading ---------------------------------------------------------------------------------

    def live(self, role: str) -> SignedRole | None:
        """Return what is live of a role, or None."""
        return self.closure.root if role == "root" else self.closure.roles.get(role)

    def current(self, role: str) -> SignedRole | None:
        """Return what a change of `role` goes on from: the pending version, else the live one."""
        return self.roles.get(role) or self.live(role)

    def delegator(self, role: str) -> SignedRole:
        """Return who vouches for the next version of `role`."""
        known = self.current("root" if role in TOP_LEVEL else "targets")
        return known or self.closure.delegator(role)

    def role_keys(self, role: str) -> tuple[RoleKeys, ...]:
        """Return whose signatures the next version of `role` needs: by old and new delegators."""
        judges = [self.closure.delegator(role), self.delegator(role)]
        return tuple(judge.delegates[role] for judge in judges if role in judge.delegates)

    def channel(self, product: ProductName, channel: ChannelName) -> Channel | None:
        """Return what a channel shall be, else what it is, or None."""
        return self.wishes.get((product, channel)) or self.live_channel(product, channel)

    def live_channel(self, product: ProductName, channel: ChannelName) -> Channel | None:
        """Return what a channel is, or None."""
        name = channel_target(product, channel)
        ref = self.closure.roles[CHANNELS].targets.get(name)
        return self.shop.repository.document(Channel, name, ref) if ref else None

    def channels(self, product: ProductName) -> list[Channel]:
        """Return all channels of a product, as they are and as they shall be."""
        prefix = f"channels/{product}/"
        live = [
            self.shop.repository.document(Channel, name, ref)
            for name, ref in self.closure.roles[CHANNELS].targets.items()
            if name.startswith(prefix)
        ]
        return live + [wish for wish in self.wishes.values() if wish.product == product]

    # -- writing ---------------------------------------------------------------------------------

    def stage(self, role: SignedRole) -> SignedRole:
        """Make `role` the pending one: with its next version and expiry, signed as far as possible.

        Raises:
            KeyUnavailableError: the passphrase is wrong or was not given.
            DiskError: it cannot be written.
        """
        live = self.live(role.role)
        version = self._next_version(role.role, live.version if live else 0)
        expires = self.shop.clock.now() + self.shop.lifetimes.of(role.role)
        self.roles[role.role] = role.revised(version, expires)
        return self.sign(role.role)

    def sign(self, role: str) -> SignedRole:
        """Add to a pending role the signatures of the keys at hand, and keep it.

        Raises:
            KeyUnavailableError: the passphrase is wrong or was not given.
            DiskError: it cannot be written.
        """
        pending = self.roles[role]
        if pending.version in self.shop.repository.versions(role):
            return pending  # complete, and about to be named by timestamp: its bytes are fixed
        keys = [key for each in self.role_keys(role) for key in self.shop.keyring.signers(each)]
        fresh = [key for key in keys if key.public.keyid not in pending.keyids]
        signed = pending.signed_by(fresh) if fresh else pending
        self.roles[role] = signed
        self._write(self._folder / f"{role}.json", signed.content)
        return signed

    def wish(self, channel: Channel) -> None:
        """Make `channel` what the channel shall be."""
        self.wishes[channel.product, channel.channel] = channel
        self._write(self._wish_path(channel), encode(channel))

    def drop_role(self, role: str) -> None:
        """Forget a pending role."""
        del self.roles[role]
        self.shop.disk.remove(self._folder / f"{role}.json")

    def drop_wish(self, channel: Channel) -> None:
        """Forget a pending channel document."""
        del self.wishes[channel.product, channel.channel]
        self.shop.disk.remove(self._wish_path(channel))

    # -- inside ----------------------------------------------------------------------------------

    def _next_version(self, role: str, live: int) -> int:
        return live + 1 if role == "root" else self.shop.repository.next_version(role, live)

    def _write(self, path: Path, content: bytes) -> None:
        self.shop.disk.make_folder(path.parent)
        write_file(self.shop.disk, path, content)

    def _wish_path(self, channel: Channel) -> Path:
        return self._folder / CHANNELS / channel.product / f"{channel.channel}.json"

    def _pending_roles(self) -> Iterator[SignedRole]:
        for name in self._json_files(self._folder):
            path = self._folder / name
            try:
                pending = SignedRole.parse(name.removesuffix(".json"), self.shop.disk.read(path))
            except MetadataError as error:
                self.unusable[f"{PENDING}/{name}"] = f"{error}; remove it"
                continue
            live = self.live(pending.role)
            if live and live.content == pending.content:
                self.shop.disk.remove(path)
            elif live and live.version >= pending.version:
                self.unusable[f"{PENDING}/{name}"] = (
                    "it was made on top of an older state than the repository has now; remove it "
                    "and make the change again"
                )
            else:
                yield pending

    def _pending_channels(self) -> Iterator[Channel]:
        folder = self._folder / CHANNELS
        products = self.shop.disk.listing(folder) if self._is_folder(folder) else []
        paths = [folder / p / name for p in products for name in self._json_files(folder / p)]
        for path in paths:
            try:
                wish = decode(Channel, self.shop.disk.read(path))
                if self._wish_path(wish) != path:
                    raise DocumentError("it is about another channel")  # noqa: TRY301 (as decode)
            except DocumentError as error:
                self.unusable[str(path.relative_to(self.shop.folder))] = f"{error}; remove it"
                continue
            if self.live_channel(wish.product, wish.channel) == wish:
                self.shop.disk.remove(path)
            else:
                yield wish

    def _json_files(self, folder: Path) -> list[str]:
        if not self._is_folder(folder):
            return []
        names = self.shop.disk.listing(folder)
        return [n for n in names if n.endswith(".json") and not n.startswith(".")]

    def _is_folder(self, folder: Path) -> bool:
        return self.shop.disk.kind(folder) is Kind.FOLDER
