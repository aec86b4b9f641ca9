"""A disk in memory that forgets what was not synced and can stop at every operation.

It is as harsh as `adapters.disk` promises the real one may be: content survives from `sync` on,
names from `sync_folder` on. `crash` gives the disk that a machine finds after power loss, in one
of several outcomes that real file systems have been seen to leave.
"""

import random
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from fleetward.adapters.disk import Kind, OpenFile
from fleetward.errors import BusyError, DiskError


class PowerLossError(BaseException):
    """The machine stops here. No `except Exception` may catch it."""


class Aftermath(Enum):
    """What is found after power loss."""

    FORGETS = "only what was synced"
    EMPTIES = "all names, but content that was not synced is empty"
    TEARS = "all names, but content that was not synced is cut in half"
    KEEPS = "everything (the process was killed, the machine stayed)"
    MIXES = "each unsynced name and content is kept or lost by chance"


@dataclass
class _File:
    content: bytes = b""
    durable: bytes = b""
    executable: bool = False
    private: bool = False


@dataclass
class _Link:
    content: str


@dataclass
class _Folder:
    names: dict[str, "_Node"] = field(default_factory=dict)
    durable: dict[str, "_Node"] = field(default_factory=dict)


_Node = _File | _Link | _Folder


class _OpenSimFile:
    def __init__(self, disk: "SimDisk", node: _File) -> None:
        self._disk = disk
        self._node = node

    def write(self, content: bytes) -> None:
        self._disk.step("write")
        self._disk.take_room(len(content))
        self._node.content += content

    def sync(self) -> None:
        self._disk.step("sync")
        self._node.durable = self._node.content


class SimDisk:
    """Satisfies `adapters.disk.Disk`.

    Attributes:
        steps: the operations so far that could change something, by name.
        stop_at: the number of the operation before which the machine stops, or None.
        capacity: bytes that may be written before the disk is full, or None.
        on_step: called after each operation that was allowed, for invariants that must always hold.
    """

    def __init__(self, stop_at: int | None = None, capacity: int | None = None) -> None:
        self.steps: list[str] = []
        self.stop_at = stop_at
        self.capacity = capacity
        self.on_step: Callable[[], None] | None = None
        self._root = _Folder()
        self._locks: set[Path] = set()

    # -- what tests do ---------------------------------------------------------------------

    def step(self, name: str) -> None:
        if self.stop_at is not None and len(self.steps) >= self.stop_at:
            raise PowerLossError(f"before operation {self.stop_at}: {name}")
        self.steps.append(name)

    def take_room(self, length: int) -> None:
        if self.capacity is not None:
            if length > self.capacity:
                raise DiskError("the simulated disk is full; free some space and run it again")
            self.capacity -= length

    def crash(self, aftermath: Aftermath, seed: int = 0) -> "SimDisk":
        """Return the disk that the machine finds when it starts again."""
        after = SimDisk()
        after._root = _after(self._root, aftermath, random.Random(seed))
        return after

    # -- Disk --------------------------------------------------------------------------------

    def kind(self, path: Path) -> Kind:
        node = self._find(path)
        if node is None:
            return Kind.ABSENT
        return {_File: Kind.FILE, _Folder: Kind.FOLDER, _Link: Kind.LINK}[type(node)]

    def size(self, path: Path) -> int:
        node = self._at(path)
        return len(node.content) if isinstance(node, _File | _Link) else 4096

    def is_executable(self, path: Path) -> bool:
        node = self._at(path)
        return node.executable if isinstance(node, _File) else True

    def listing(self, path: Path) -> list[str]:
        return sorted(self._folder(path).names)

    def read(self, path: Path) -> bytes:
        node = self._at(path)
        if not isinstance(node, _File):
            raise DiskError(f"{path} is no file")
        return node.content

    def pieces(self, path: Path) -> Iterator[bytes]:
        content = self.read(path)
        for at in range(0, len(content), 65536):
            yield content[at : at + 65536]

    def make_folder(self, path: Path, *, private: bool = False) -> None:
        for folder in reversed((path, *path.parents)):
            if folder == folder.parent:
                continue
            parent = self._folder(folder.parent)
            known = parent.names.get(folder.name)
            if known is None:
                self.step("make_folder")
                parent.names[folder.name] = _Folder()
                self.sync_folder(folder.parent)
            elif not isinstance(known, _Folder):
                raise DiskError(f"{folder} is not a folder: move it away")

    @contextmanager
    def create(
        self, path: Path, *, executable: bool = False, private: bool = False
    ) -> Generator[OpenFile]:
        node = self._writable(path)
        node.content = b""
        node.executable = executable
        node.private = private
        yield _OpenSimFile(self, node)

    @contextmanager
    def append(self, path: Path) -> Generator[OpenFile]:
        yield _OpenSimFile(self, self._writable(path))

    def _writable(self, path: Path) -> _File:
        self.step("open")
        folder = self._folder(path.parent)
        node = folder.names.setdefault(path.name, _File())
        if not isinstance(node, _File):
            raise DiskError(f"{path} is no file")
        return node

    def replace(self, source: Path, target: Path) -> None:
        self.step("replace")
        node = self._at(source)
        folder = self._folder(target.parent)
        known = folder.names.get(target.name)
        if isinstance(known, _Folder) and (known.names or not isinstance(node, _Folder)):
            raise DiskError(f"cannot replace the folder {target}")
        del self._folder(source.parent).names[source.name]
        folder.names[target.name] = node

    def link(self, content: str, path: Path) -> None:
        self.step("link")
        folder = self._folder(path.parent)
        if path.name in folder.names:
            raise DiskError(f"{path} exists")
        folder.names[path.name] = _Link(content)

    def read_link(self, path: Path) -> str:
        node = self._find(path)
        if not isinstance(node, _Link):
            raise FileNotFoundError(path)
        return node.content

    def remove(self, path: Path) -> None:
        self.step("remove")
        node = self._find(path)
        if isinstance(node, _Folder):
            raise DiskError(f"{path} is a folder")
        if node is not None:
            del self._folder(path.parent).names[path.name]

    def remove_tree(self, path: Path) -> None:
        node = self._find(path)
        if isinstance(node, _Folder):
            for name in list(node.names):
                self.remove_tree(path / name)
        if node is not None:
            self.step("remove_tree")
            del self._folder(path.parent).names[path.name]

    def sync_folder(self, path: Path) -> None:
        self.step("sync_folder")
        folder = self._folder(path)
        folder.durable = dict(folder.names)

    def lock(self, path: Path) -> AbstractContextManager[None]:
        return self._lock(path)

    @contextmanager
    def _lock(self, path: Path) -> Generator[None]:
        self._writable(path)
        if path in self._locks:
            raise BusyError(f"another process works here (it holds {path}): wait for it to end")
        self._locks.add(path)
        try:
            yield
        finally:
            self._locks.discard(path)

    # -- inside --------------------------------------------------------------------------------

    def _find(self, path: Path, hops: int = 0) -> _Node | None:
        node: _Node | None = self._root
        parts = path.parts[1:]
        for depth, part in enumerate(parts):
            if isinstance(node, _Link) and hops < 8:
                target = Path(*path.parts[:depth], node.content)
                return self._find(target.joinpath(*parts[depth:]), hops + 1)
            if not isinstance(node, _Folder):
                return None
            node = node.names.get(part)
        return node

    def _at(self, path: Path) -> _Node:
        node = self._find(path)
        if node is None:
            raise FileNotFoundError(path)
        return node

    def _folder(self, path: Path) -> _Folder:
        node = self._at(path)
        if isinstance(node, _Link):
            return self._folder(path.parent / node.content)
        if not isinstance(node, _Folder):
            raise DiskError(f"{path} is no folder")
        return node


def _after(folder: _Folder, aftermath: Aftermath, chance: random.Random) -> _Folder:
    after = _Folder()
    for name, node in _surviving(folder, aftermath, chance).items():
        after.names[name] = _survivor(node, aftermath, chance)
    after.durable = dict(after.names)
    return after


def _surviving(folder: _Folder, aftermath: Aftermath, chance: random.Random) -> dict[str, _Node]:
    if aftermath is Aftermath.FORGETS:
        return folder.durable
    if aftermath is not Aftermath.MIXES:
        return folder.names
    mixed: dict[str, _Node] = {}
    for name in sorted({*folder.names, *folder.durable}):
        node = (folder.names if chance.random() < 0.5 else folder.durable).get(name)
        if node is not None:
            mixed[name] = node
    return mixed


def _survivor(node: _Node, aftermath: Aftermath, chance: random.Random) -> _Node:
    if isinstance(node, _Folder):
        return _after(node, aftermath, chance)
    if isinstance(node, _Link):
        return node
    content = node.content
    if content != node.durable:
        torn = content[: max(len(content) // 2, len(_common(content, node.durable)))]
        content = {
            Aftermath.FORGETS: node.durable,
            Aftermath.EMPTIES: node.durable if content.startswith(node.durable) else b"",
            Aftermath.TEARS: torn,
            Aftermath.KEEPS: content,
            Aftermath.MIXES: chance.choice([node.durable, torn, content]),
        }[aftermath]
    return _File(content, content, node.executable, node.private)


def _common(content: bytes, durable: bytes) -> bytes:
    """Return what was synced and is still the start of `content` (a file that only grew)."""
    return durable if content.startswith(durable) else b""
