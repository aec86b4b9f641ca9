"""Which trees of an agent on this machine may be served, and opening their files.

Invariants: only trees that the agent's own record names as confirmed (wire.productrecord), never
one in trial; nothing is opened through a link below the subscription's folder, so nothing outside
a slot is ever served; nothing is written.

What cannot be read (no agent, no record, no permission) means: nothing is served, and `problem`
says why.
"""

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from fleetward.adapters.clock import Clock
from fleetward.adapters.disk import Disk
from fleetward.config.agent import load_agent_settings
from fleetward.config.relay import MirrorSettings
from fleetward.core.digest import Sha256
from fleetward.core.names import ProductName
from fleetward.errors import ConfigurationError, DiskError, DocumentError
from fleetward.wire.productrecord import InstalledTree, decode_product_record

_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NOT_THERE: Final = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.EACCES,
        errno.ENAMETOOLONG,
        errno.ENXIO,
        errno.EINVAL,
    }
)
"""What `open` says of a name that no file of a tree has; all else (EMFILE, EIO) is trouble."""


@dataclass(frozen=True, slots=True)
class ServedTree:
    """A confirmed tree.

    Attributes:
        release: its name.
        digest: of its canonical tar.
        folder: the slot.
        since: seconds since 1970, when it became the one that is served; for Last-Modified.
    """

    release: str
    digest: Sha256
    folder: Path
    since: int


class ConfirmedTrees:
    """The trees of one product, as the agent's record names them now.

    Attributes:
        problem: why there are none; empty where there are.
    """

    def __init__(self, settings: MirrorSettings, clock: Clock, disk: Disk) -> None:
        self.problem = "the agent's record was not read yet"
        self._settings = settings
        self._record = settings.home / "products" / f"{settings.product}.json"
        self._clock = clock
        self._disk = disk
        self._seen: tuple[int, int, int] | None = None
        self._trees: tuple[ServedTree, ...] = ()
        self._since: dict[Sha256, int] = {}

    def look(self) -> tuple[ServedTree, ...]:
        """Return the confirmed trees, the one to serve first; reads the record where it changed."""
        try:
            found = self._record.stat()
        except OSError as error:
            self._nothing(f"cannot read {self._record}: {error.strerror}")
            return ()
        seen = (found.st_ino, found.st_size, found.st_mtime_ns)
        if seen != self._seen:
            self._seen = seen
            self._read(int(found.st_mtime))
        return self._trees

    def _nothing(self, problem: str) -> None:
        self.problem = problem
        self._seen = None
        self._trees = ()

    def _read(self, written: int) -> None:
        try:
            record = decode_product_record(self._disk.read(self._record))
            folder = self._folder()
        except (OSError, DiskError, DocumentError, ConfigurationError) as error:
            self._nothing(f"{self._record}: {error}")
            return
        confirmed = [tree for tree in record.confirmed() if _is_name(tree.slot)]
        self.problem = "" if confirmed else f"no release is confirmed ({record.state.value})"
        self._note_times(folder, confirmed, written)
        self._trees = tuple(
            ServedTree(
                tree.release, tree.tree, folder / "slots" / tree.slot, self._since[tree.tree]
            )
            for tree in confirmed
        )

    def _folder(self) -> Path:
        if self._settings.folder is not None:
            return self._settings.folder
        agent = load_agent_settings(self._disk, self._settings.home)
        return agent.subscription(ProductName(self._settings.product)).folder

    def _note_times(self, folder: Path, trees: list[InstalledTree], written: int) -> None:
        """Note since when each tree is served: always rising, so that a date tells trees apart.

        A tree that comes back (a rollback) counts as new. After a start of the relay, the record's
        own time stands for what was missed.
        """
        now = int(self._clock.now().timestamp())
        known = {tree.tree: self._since[tree.tree] for tree in trees if tree.tree in self._since}
        for tree in trees:
            known.setdefault(tree.tree, min(now, _modified(folder / "slots" / tree.slot)))
        if trees and self._trees and self._trees[0].digest != trees[0].tree:
            known[trees[0].tree] = max(now, 1 + max(self._since.values()))
        elif trees and not self._trees:
            started = max(written, _modified(folder / "current"), known[trees[0].tree])
            known[trees[0].tree] = min(now, started)
        self._since = known


def _is_name(slot: str) -> bool:
    return bool(slot) and "/" not in slot and not slot.startswith(".")


def _modified(path: Path) -> int:
    try:
        return int(path.lstat().st_mtime)
    except OSError:
        return 0


def open_in(folder: Path, names: Iterable[str]) -> int | None:
    """Open a regular file below `folder`, following no link; None where there is none.

    Args:
        folder: the slot; links in its own path are the operator's.
        names: the file's path, one name after another.

    Raises:
        OSError: the system cannot open more files, or the disk fails.
    """
    names = list(names)
    try:
        descriptor = os.open(folder, _FLAGS | os.O_DIRECTORY)
        for number, name in enumerate(names, 1):
            flags = _FLAGS if number == len(names) else _FLAGS | os.O_DIRECTORY
            outer = descriptor
            try:
                descriptor = os.open(name, flags, dir_fd=outer)
            finally:
                os.close(outer)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


@dataclass(slots=True)
class Stays:
    """Which tree each client is on, so that a switch does not mix files in its hands.

    A client stays for a time after its first request; a table that is full forgets the oldest.

    Attributes:
        clock: its monotonic part is used.
        max_clients: remembered at once; a crowd of made-up addresses ends here.
    """

    clock: Clock
    max_clients: int
    _entries: OrderedDict[tuple[str, str], tuple[Sha256, timedelta]] = field(
        default_factory=OrderedDict, init=False
    )

    def __len__(self) -> int:
        """Return how many clients are remembered."""
        return len(self._entries)

    def choose(
        self, product: str, client: str, trees: tuple[ServedTree, ...], stay: timedelta
    ) -> ServedTree:
        """Return the client's tree: the one on which it is while that may run, else the first.

        Args:
            product: which product.
            client: its address.
            trees: at least one; the first is what a new client gets.
            stay: how long after its first request a client stays.
        """
        now = self.clock.monotonic()
        self._forget_old(now)
        key = (product, client)
        digest, until = self._entries.get(key, (None, now))
        if now < until:
            for tree in trees:
                if tree.digest == digest:
                    return tree
        self._entries[key] = (trees[0].digest, now + stay)
        self._entries.move_to_end(key)
        if len(self._entries) > self.max_clients:
            self._entries.popitem(last=False)
        return trees[0]

    def _forget_old(self, now: timedelta) -> None:
        while self._entries:
            _, until = next(iter(self._entries.values()))
            if now < until:
                return
            self._entries.popitem(last=False)
