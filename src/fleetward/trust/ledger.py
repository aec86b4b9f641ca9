"""What a host has verified and seen, kept so that power loss and lost files take nothing back.

Two folders. `metadata` holds the trusted metadata as ROLE.json, each byte as it came. `state` holds
`anchor.json`, the root that `agent init` was given, and `trust.json`, our own record:

- the greatest version seen of every role (its *floor*), which goes up, or is forgotten where root
  changes the keys that vouched for it, so that a fast-forward attack can be recovered from;
- the digest of each file in `metadata` that passed every check (its *mark*): only a marked file is
  used without its signatures being verified again;
- the last-known time; and the ETag under which a source served the stored timestamp.

Invariant: a file is written before the record that marks it, so a crash leaves an unmarked file,
never a mark without its file. A record that cannot be read is an error, never an empty record.

Deliberately not here: verifying signatures (trust.updating) and Fleetward's rules (trust.rules).
"""

import contextlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, unquote

import msgspec

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Disk
from fleetward.core.digest import Sha256, sha256_of
from fleetward.errors import ConfigurationError, DocumentError, RollbackError
from fleetward.trust.metadata import TOP_LEVEL, read_listing, read_role, read_root
from fleetward.wire.documents import decode_json, encode_json

STATE_SCHEMA = "fleetward.trust-state/1"
MAX_ETAG_LENGTH = 128
"""Characters; a hostile source's ETag is not written down at any length and sent back."""

_Version = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class TrustHome:
    """Where a ledger lies.

    Attributes:
        disk: the disk that keeps it.
        metadata: the folder of trusted metadata; nothing else is written there.
        state: the folder of our own record.
    """

    disk: Disk
    metadata: Path
    state: Path


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    schema: str = STATE_SCHEMA
    last_known_time: datetime | None = None
    floors: dict[str, _Version] = {}
    marks: dict[str, str] = {}
    keyids: dict[str, list[str]] = {}
    etags: dict[str, str] = {}


class Ledger:
    """Trusted metadata and the record of what was seen; one process at a time."""

    def __init__(self, home: TrustHome) -> None:
        """Open an existing ledger.

        Raises:
            ConfigurationError: there is none, or its record cannot be read.
            DiskError: the disk fails.
        """
        self._home = home
        try:
            self.anchor = home.disk.read(home.state / "anchor.json")
            content = home.disk.read(home.state / "trust.json")
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"{home.state} holds no trust state: run `agent init` with the trust anchor"
            ) from error
        try:
            self._record = decode_json(STATE_SCHEMA, _Record, content)
        except DocumentError as error:
            raise ConfigurationError(
                f"{home.state / 'trust.json'} is damaged, so what this host has seen is unknown: "
                "find out why, then remove its folder and run `agent init` with a trust anchor "
                "from a safe place"
            ) from error
        self._saved = content

    @classmethod
    def create(cls, home: TrustHome, anchor: bytes) -> "Ledger":
        """Begin a ledger with `anchor`, a root that was verified by itself.

        Raises:
            ConfigurationError: there is one already.
            DiskError: the disk fails.
        """
        with contextlib.suppress(FileNotFoundError):
            home.disk.read(home.state / "trust.json")
            raise ConfigurationError(
                f"{home.state} holds trust state already: to forget what this host has seen, "
                "remove that folder and run this again"
            )
        home.disk.make_folder(home.metadata)
        home.disk.make_folder(home.state)
        write_file(home.disk, home.state / "anchor.json", anchor)
        write_file(home.disk, home.state / "trust.json", encode_json(STATE_SCHEMA, _Record()))
        ledger = cls(home)
        ledger.take("root", anchor)
        ledger.save()
        return ledger

    # -- what is known ---------------------------------------------------------------------------

    @property
    def last_known_time(self) -> datetime | None:
        """The greatest time that a signature has proven, or None."""
        return self._record.last_known_time

    def read(self, role: str) -> bytes | None:
        """Return the stored metadata of `role`, marked or not, or None."""
        try:
            return self._home.disk.read(self._path(role))
        except FileNotFoundError:
            return None

    def roles(self) -> list[str]:
        """Return the names of all roles whose metadata is stored."""
        names = self._home.disk.listing(self._home.metadata)
        return [unquote(n.removesuffix(".json")) for n in names if n.endswith(".json")]

    def marked(self, role: str) -> bytes | None:
        """Return the stored metadata of `role` where it is what passed every check, or None."""
        content = self.read(role)
        if content is None or sha256_of(content) != self._record.marks.get(role):
            return None
        return content

    def mark(self, role: str) -> Sha256 | None:
        """Return the digest of the metadata of `role` that passed every check, or None."""
        mark = self._record.marks.get(role)
        return None if mark is None else Sha256(mark)

    def root(self) -> bytes:
        """Return the root to begin from: the stored one, or the anchor where that is lost."""
        return self.marked("root") or self.anchor

    def etag(self, source: str) -> str | None:
        """Return the ETag under which `source` served the stored timestamp, or None."""
        return self._record.etags.get(source)

    # -- what is taken up ------------------------------------------------------------------------

    def take(self, role: str, content: bytes) -> None:
        """Keep `content`, verified, as the metadata of `role`.

        Raises:
            RollbackError: it is older than what was seen, or lists something that is.
            DiskError: the disk fails.
        """
        self._raise_floors(role, content)
        digest = sha256_of(content)
        if self._record.marks.get(role) == digest and self.read(role) == content:
            return
        self._forget_marks_under(role)
        write_file(self._home.disk, self._path(role), content)
        self._record.marks[role] = digest

    def learn_time(self, issued: datetime) -> None:
        """Record a time that a signature proves."""
        self._record.last_known_time = max(issued, self._record.last_known_time or issued)

    def learn_etag(self, source: str, etag: str | None) -> None:
        """Record the ETag under which `source` serves the stored timestamp, unless it is long."""
        if etag is None or len(etag) > MAX_ETAG_LENGTH:
            self._record.etags.pop(source, None)
        else:
            self._record.etags[source] = etag

    def save(self) -> None:
        """Make the record survive power loss; nothing is written where it is unchanged."""
        content = encode_json(STATE_SCHEMA, self._record)
        if content != self._saved:
            write_file(self._home.disk, self._home.state / "trust.json", content)
            self._saved = content

    def _path(self, role: str) -> Path:
        return self._home.metadata / f"{quote(role, safe='')}.json"

    def _raise_floors(self, role: str, content: bytes) -> None:
        seen = {role: read_role(content).version}
        if role in {"timestamp", "snapshot"}:
            seen |= {name: listed.version for name, listed in read_listing(content).roles.items()}
        for name, version in seen.items():
            floor = self._record.floors.get(name, 0)
            if version < floor:
                raise RollbackError(
                    f"version {version} of {name} was served where this host has seen {floor}: "
                    "the source replays old metadata; nothing was changed"
                )
        self._record.floors |= seen
        if role == "root":
            self._forget_floors_of_changed_keys(read_root(content).keyids)

    def _forget_floors_of_changed_keys(self, keyids: dict[str, tuple[str, ...]]) -> None:
        """Forget the floors that keys vouched for which root has now replaced (TUF 5.3.11).

        Timestamp's keys vouch for the versions of timestamp and snapshot, snapshot's keys for those
        of snapshot and of all that it lists.
        """
        floors, known = self._record.floors, self._record.keyids
        if known and known["timestamp"] != list(keyids["timestamp"]):
            floors.pop("timestamp", None)
            floors.pop("snapshot", None)
        if known and known["snapshot"] != list(keyids["snapshot"]):
            self._record.floors = {
                name: floors[name] for name in ("root", "timestamp") if name in floors
            }
        self._record.keyids = {role: list(keyids[role]) for role in ("timestamp", "snapshot")}

    def _forget_marks_under(self, role: str) -> None:
        """Forget the marks that `role` vouched for: its successor must vouch for them again."""
        marks = self._record.marks
        if role == "root":
            marks.clear()
        elif role == "targets":
            self._record.marks = {name: marks[name] for name in TOP_LEVEL if name in marks}
        elif role == "timestamp":
            self._record.etags.clear()
