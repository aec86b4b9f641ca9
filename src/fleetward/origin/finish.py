"""Making pending live, in one step that is seen as a whole: the commit of every transaction.

The order (docs/adr/0007-origin-transaction.md): blobs and targets, synced, were there before;
then the roles, then channels, then snapshot, and timestamp.json last, in place of the old one.
Killed anywhere, the old timestamp still names a whole closure, and a second run does the rest.

A pending role becomes live where its threshold is reached and every role fits its delegator
afterwards. A channel moves where its product's live releases role names the manifest. Whoever
lacks the online keys leaves all of it pending.

A new root becomes live after timestamp, snapshot and targets carry signatures by which both the
old and the new root accept them, so no instant has a root that its metadata fails.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from fleetward.adapters.atomicfile import write_file
from fleetward.core.documents import Channel
from fleetward.core.limits import CLOCK_BEHIND_TOLERANCE, TIMESTAMP_DATAGRAM_BYTES
from fleetward.errors import ClockError, ConfigurationError, KeyUnavailableError, MetadataError
from fleetward.origin.roles import ONLINE_ROLES
from fleetward.origin.staging import CHANNELS, Staging
from fleetward.trust.keys import SigningKey
from fleetward.trust.signing import TOP_LEVEL, SignedRole, TargetRef, snapshot_of, timestamp_of
from fleetward.wire.documents import encode
from fleetward.wire.layout import (
    TIMESTAMP_PATH,
    channel_target,
    manifest_target,
    metadata_path,
    releases_role,
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that is pending still.

    Attributes:
        what: the role, or `channels/P/C`.
        missing: signatures that lack; 0 where it waits for something else.
        keyids: the keys that may sign.
        reason: what it waits for, for people.
    """

    what: str
    missing: int
    keyids: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a commit did.

    Attributes:
        became_live: roles that have a new live version, in the order of writing.
        waiting: what is pending still.
    """

    became_live: tuple[str, ...]
    waiting: tuple[Waiting, ...]


def finish(staging: Staging, renew: Collection[str] = ()) -> Outcome:
    """Make live what can be.

    Args:
        staging: what is live and pending; the caller holds the lock.
        renew: online roles that get a new version in any case.

    Raises:
        ConfigurationError: the timestamp would not fit a datagram.
        KeyUnavailableError: `renew` asks for keys that are not here, or the passphrase is wrong.
        DiskError: something could not be written; what is live is whole.
    """
    commit = _Commit(staging)
    commit.choose_roles()
    commit.move_channels(force=CHANNELS in renew)
    if not (commit.changed or commit.new_root or renew):
        return Outcome((), commit.waiting())
    if not commit.can_sign():
        if renew:
            raise KeyUnavailableError(
                f"the keys of {', '.join(ONLINE_ROLES)} are not under "
                f"{staging.shop.keyring.folder}: run it where KEYS/online can be read"
            )
        return Outcome((), commit.waiting())
    return commit.write(force_snapshot=bool({"snapshot", CHANNELS} & set(renew)))


class _Commit:
    """The roles as they will be, and the writing of them."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._shop = staging.shop
        self._live = staging.closure
        self.new_root: SignedRole | None = None
        self.changed: dict[str, SignedRole] = {}
        self._reasons: dict[str, str] = {}
        self._documents: list[tuple[str, bytes]] = []
        self._held: dict[str, str] = {}

    # -- what will be live -----------------------------------------------------------------------

    def choose_roles(self) -> None:
        """Take the pending roles that are complete and fit together."""
        pending = dict(self._staging.roles)
        self.new_root = pending.pop("root", None)
        self.changed = pending
        while misfit := self._misfit():
            name, reason = misfit
            self._reasons[name] = reason
            if name == "root":
                self.new_root = None
            else:
                del self.changed[name]

    def _misfit(self) -> tuple[str, str] | None:
        """Return a pending role that cannot become live with the others, and why."""
        if self.new_root and self.new_root.shortfall(self._live.root).missing:
            return "root", "signatures"
        for name in self.changed:
            if any(name not in judge.delegates for judge in self._judges(name)):
                return name, "a delegation from targets"
            if any(self.changed[name].shortfall(judge).missing for judge in self._judges(name)):
                return name, "signatures"
        return self._misfit_of_delegates()

    def _misfit_of_delegates(self) -> tuple[str, str] | None:
        targets = self._after("targets")
        if self.new_root and targets and targets.shortfall(self.new_root).missing:
            return "root", "targets metadata that the new keys have signed"
        if "targets" not in self.changed:
            return None
        for name in self.changed["targets"].delegates:
            role = self._after(name)
            if role is None:
                return "targets", f"the first metadata of {name}"
            if name != CHANNELS and role.shortfall(self.changed["targets"]).missing:
                return "targets", f"metadata of {name} that its new keys have signed"
        return None

    def _after(self, name: str) -> SignedRole | None:
        return self.changed.get(name) or self._live.roles.get(name)

    def _judges(self, name: str) -> list[SignedRole]:
        """Return all by whom the next version of a role must be accepted."""
        if name in TOP_LEVEL:
            return [self._live.root, *([self.new_root] if self.new_root else [])]
        return [self._after("targets") or self._live.roles["targets"]]

    # -- channels --------------------------------------------------------------------------------

    def move_channels(self, *, force: bool) -> None:
        """Make the channels role that carries what channels shall be."""
        live = self._live.roles[CHANNELS]
        targets = live.targets
        for wish in list(self._staging.wishes.values()):
            if not self._is_signed(wish):
                self._held[f"{CHANNELS}/{wish.product}/{wish.channel}"] = (
                    f"release {wish.release.release}, which is not live yet"
                )
                continue
            name, content = channel_target(wish.product, wish.channel), encode(wish)
            targets[name] = TargetRef.of(content)
            self._documents.append((name, content))
        changed_keys = any(live.shortfall(judge).missing for judge in self._judges(CHANNELS))
        if self._documents or force or changed_keys:
            self.changed[CHANNELS] = self._next(live.with_targets(targets), live.version)

    def _is_signed(self, wish: Channel) -> bool:
        role = self._after(releases_role(wish.product))
        if role is None:
            return False
        ref = role.targets.get(manifest_target(wish.product, wish.release.release))
        return ref is not None and ref.sha256 == wish.release.manifest

    # -- signing and writing ---------------------------------------------------------------------

    def can_sign(self) -> bool:
        """Return whether the online keys that this commit needs are at hand."""
        needed = [name for name in ONLINE_ROLES if name != CHANNELS or CHANNELS in self.changed]
        return all(self._has_keys(name) for name in needed)

    def _has_keys(self, name: str) -> bool:
        return all(
            len(self._signers(judge, name)) == judge.delegates[name].threshold
            for judge in self._judges(name)
        )

    def _signers(self, judge: SignedRole, name: str) -> list[SigningKey]:
        """Return as many keys as the threshold asks for: a timestamp has room for few."""
        keys = judge.delegates[name]
        return self._shop.keyring.signers(keys)[: keys.threshold]

    def write(self, *, force_snapshot: bool) -> Outcome:
        """Write everything, timestamp last, and forget what was pending."""
        if CHANNELS in self.changed:
            self.changed[CHANNELS] = self._sign(self.changed[CHANNELS])
        snapshot = self._live.snapshot
        if self.changed or force_snapshot or self._lacks(snapshot):
            after = {**self._live.roles, **self.changed}
            version = self._shop.repository.next_version("snapshot", snapshot.version)
            snapshot = self._sign(snapshot_of(after.values(), version, self._expiry("snapshot")))
        timestamp = self._timestamp(snapshot)
        written = [*(role.role for role in self._write_files(snapshot)), "timestamp"]
        write_file(self._shop.disk, self._shop.folder / TIMESTAMP_PATH, timestamp.content)
        if self.new_root:
            path = metadata_path("root", self.new_root.version)
            self._shop.repository.add_file(path, self.new_root.content)
            written.append("root")
        self._forget()
        return Outcome(tuple(written), self.waiting())

    def _write_files(self, snapshot: SignedRole) -> list[SignedRole]:
        repository = self._shop.repository
        for name, content in self._documents:
            repository.add_target(name, content)
        last = {CHANNELS: 1, "snapshot": 2}
        roles = sorted(self.changed.values(), key=lambda role: (last.get(role.role, 0), role.role))
        if snapshot is not self._live.snapshot:
            roles.append(snapshot)
        for role in roles:
            repository.add_file(metadata_path(role.role, role.version), role.content)
        return roles

    def _timestamp(self, snapshot: SignedRole) -> SignedRole:
        now, interval = self._issue(), self._shop.lifetimes.interval
        version = self._live.timestamp.version + 1
        timestamp = self._sign(
            timestamp_of(snapshot, version, self._expiry("timestamp"), now, interval)
        )
        if len(timestamp.content) > TIMESTAMP_DATAGRAM_BYTES:
            raise ConfigurationError(
                f"the timestamp has {len(timestamp.content)} bytes and must fit a datagram of "
                f"{TIMESTAMP_DATAGRAM_BYTES}: give the timestamp role fewer keys"
            )
        return timestamp

    def _issue(self) -> datetime:
        """Return now, never before what was signed already: hosts take it as the proven time."""
        now, last = self._shop.clock.now(), self._live.timestamp.issued
        if last and last - now > CLOCK_BEHIND_TOLERANCE:
            raise ClockError(
                f"this machine's clock says {now:%Y-%m-%d %H:%M}, and the repository was signed "
                f"at {last:%Y-%m-%d %H:%M} already: set the clock right"
            )
        return max(now, last) if last else now

    def _forget(self) -> None:
        for name in [*self.changed, *(["root"] if self.new_root else [])]:
            if name in self._staging.roles:
                self._staging.drop_role(name)
        for wish in list(self._staging.wishes.values()):
            if f"{CHANNELS}/{wish.product}/{wish.channel}" not in self._held:
                self._staging.drop_wish(wish)

    def _next(self, role: SignedRole, live: int) -> SignedRole:
        version = self._shop.repository.next_version(role.role, live)
        return role.revised(version, self._expiry(role.role))

    def _expiry(self, role: str) -> datetime:
        return self._shop.clock.now() + self._shop.lifetimes.of(role)

    def _lacks(self, role: SignedRole) -> bool:
        return any(role.shortfall(judge).missing for judge in self._judges(role.role))

    def _sign(self, role: SignedRole) -> SignedRole:
        keys = [key for judge in self._judges(role.role) for key in self._signers(judge, role.role)]
        signed = role.signed_by(keys)
        for judge in self._judges(role.role):
            signed.require_signatures(judge)
        return signed

    # -- what is left ----------------------------------------------------------------------------

    def waiting(self) -> tuple[Waiting, ...]:
        """Return what is pending still, and for what."""
        roles = [self._waiting_role(role) for role in self._staging.roles.values()]
        moves = [
            Waiting(
                f"{CHANNELS}/{wish.product}/{wish.channel}",
                0,
                (),
                self._held.get(f"{CHANNELS}/{wish.product}/{wish.channel}", "the online keys"),
            )
            for wish in self._staging.wishes.values()
        ]
        unusable = [
            Waiting(path, 0, (), f"an operator: {reason}")
            for path, reason in self._staging.unusable.items()
        ]
        return (*roles, *moves, *unusable)

    def _waiting_role(self, role: SignedRole) -> Waiting:
        judge = self._live.root if role.role == "root" else self._staging.delegator(role.role)
        try:
            short = role.shortfall(judge)
        except MetadataError:
            return Waiting(role.role, 0, (), "a delegation from targets")
        reason = self._reasons.get(role.role, "the online keys")
        return Waiting(role.role, short.missing, short.unsigned if short.missing else (), reason)
