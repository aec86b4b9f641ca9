"""The folders that readers open: one slot per release, and `current`, a link switched by rename.

    FOLDER/current -> slots/NAME
    FOLDER/slots/NAME/…         a whole tree; a name without a leading dot exists only when its
                                content was verified and synced
    FOLDER/slots/.NAME/…        a tree that is being written

Promise on power loss: `stage` makes a slot that is whole or absent, `switch` leaves `current` at
the old slot or the new one.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fleetward.adapters.disk import Disk, Kind, OpenFile
from fleetward.adapters.treefolder import TreeFolder
from fleetward.core.digest import Sha256
from fleetward.core.documents import TreeIdentity
from fleetward.core.limits import TreeLimits
from fleetward.errors import ConfigurationError, DigestError
from fleetward.wire.tar import FileBegins, FileBytes, FileEnds, TarReader


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of an installed tree, as it was when the tree was verified."""

    path: str
    length: int
    executable: bool
    sha256: Sha256


class Slots:
    """The slots of one subscription's folder."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk = disk
        self._folder = folder
        self._slots = folder / "slots"

    def path(self, slot: str) -> Path:
        """Return a slot's folder."""
        return self._slots / slot

    def holds(self, slot: str) -> bool:
        """Return whether the slot is there, whole."""
        return self._disk.kind(self.path(slot)) is Kind.FOLDER

    def tree(self, slot: str) -> TreeFolder:
        """Return a slot as a tree. Raises as `TreeFolder`."""
        return TreeFolder(self._disk, self.path(slot))

    def current(self) -> str | None:
        """Return the slot that readers open, or None."""
        try:
            return PurePosixPath(self._disk.read_link(self._folder / "current")).name
        except FileNotFoundError:
            return None

    def stage(
        self, slot: str, tree: TreeIdentity, pieces: Iterable[bytes]
    ) -> tuple[StoredFile, ...]:
        """Write a canonical tar into a slot, and return what it holds.

        Args:
            slot: the slot's name; what was there under it is replaced.
            tree: what the tar must be.
            pieces: the tar, in pieces of any size.

        Raises:
            DigestError: the tar is not `tree`; the slot is absent then.
            UnsafeTreeError: it is not canonical; the slot is absent then.
            ConfigurationError: something else has the name `current`.
            DiskError: the disk is full or failing.
        """
        staging = self._slots / f".{slot}"
        self._require_free_name()
        self._disk.make_folder(self._slots)
        self._disk.remove_tree(staging)
        self._disk.remove_tree(self.path(slot))
        self._disk.make_folder(staging)
        try:
            files = _TreeWriter(self._disk, staging, tree).write(pieces)
        except BaseException:
            self._disk.remove_tree(staging)
            raise
        self._disk.replace(staging, self.path(slot))
        self._disk.sync_folder(self._slots)
        return files

    def is_in_place(self, slot: str) -> bool:
        """Return whether the slot is there and `current` points at it."""
        return self.holds(slot) and self.current() == slot

    def switch(self, slot: str | None) -> None:
        """Point `current` at a slot; at nothing where it is None.

        Raises:
            ConfigurationError: something else has the name `current`.
        """
        self._require_free_name()
        current = self._folder / "current"
        if slot is None:
            self._disk.remove(current)
        elif self.current() != slot:
            temporary = self._folder / ".current.new"
            self._disk.remove(temporary)
            self._disk.link(f"slots/{slot}", temporary)
            self._disk.replace(temporary, current)
        if self._disk.kind(self._folder) is Kind.FOLDER:
            self._disk.sync_folder(self._folder)

    def _require_free_name(self) -> None:
        current = self._folder / "current"
        if self._disk.kind(current) not in {Kind.ABSENT, Kind.LINK}:
            raise ConfigurationError(
                f"{current} is there already and no link of Fleetward's: move it away, or "
                "subscribe with another folder"
            )

    def prune(self, keep: Iterable[str]) -> None:
        """Remove every slot, and every unfinished one, but those named."""
        if self._disk.kind(self._slots) is not Kind.FOLDER:
            return
        kept = set(keep)
        for name in self._disk.listing(self._slots):
            if name not in kept:
                self._disk.remove_tree(self._slots / name)


class _TreeWriter:
    """Writes one tar's files under a folder, hashing the tar and each file."""

    def __init__(self, disk: Disk, folder: Path, tree: TreeIdentity) -> None:
        self._disk = disk
        self._folder = folder
        self._tree = tree
        self._folders = {folder}
        self._files: list[StoredFile] = []
        self._open: OpenFile | None = None
        self._entry: FileBegins | None = None
        self._file_digest = hashlib.sha256()

    def write(self, pieces: Iterable[bytes]) -> tuple[StoredFile, ...]:
        reader = TarReader(TreeLimits(max_bytes=self._tree.length, max_files=self._tree.files))
        digest, length = hashlib.sha256(), 0
        with ExitStack() as stack:
            for piece in pieces:
                length += len(piece)
                if length > self._tree.length:
                    raise DigestError("the tree is longer than its signed length")
                digest.update(piece)
                for event in reader.feed(piece):
                    self._take(event, stack)
        reader.close()
        if (digest.hexdigest(), length) != (self._tree.sha256, self._tree.length):
            raise DigestError("the tree is not the signed one")
        for folder in sorted(self._folders, key=lambda f: -len(f.parts)):
            self._disk.sync_folder(folder)
        return tuple(self._files)

    def _take(self, event: FileBegins | FileBytes | FileEnds, stack: ExitStack) -> None:
        if isinstance(event, FileBegins):
            path = self._folder / event.entry.path
            self._need(path.parent)
            self._entry = event
            self._file_digest = hashlib.sha256()
            creation = self._disk.create(path, executable=event.entry.executable)
            self._open = stack.enter_context(creation)
        elif isinstance(event, FileBytes) and self._open:
            self._file_digest.update(event.content)
            self._open.write(event.content)
        elif self._open and self._entry:
            self._open.sync()
            stack.pop_all().close()
            entry = self._entry.entry
            sha256 = Sha256(self._file_digest.hexdigest())
            self._files.append(StoredFile(entry.path, entry.length, entry.executable, sha256))
            self._open = None

    def _need(self, folder: Path) -> None:
        missing: list[Path] = []
        while folder not in self._folders:
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            self._disk.make_folder(path)
            self._folders.add(path)


def slot_names(tree: Sha256) -> Iterator[str]:
    """Yield the names that a slot for a tree may have, the usual one first."""
    yield tree[:16]
    for number in range(2, 100):
        yield f"{tree[:16]}-{number}"
