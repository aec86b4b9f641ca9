"""The file list of a result as a script over the file list of its base.

A script is a row of steps, each a number `value * 8 + step` (deltas.cursor) and what the step
adds. A place in the base's list moves forward; the result's list grows in its own order:

- 0 keep: the next `value` files stay as they are; with `value` 0, all that are left, and the
  script ends;
- 1 remove: the next `value` files are gone;
- 2 change, 3 change opened: the next file has new content, and the other mode where `value` is
  odd; `value // 2` is a signed number, the new length less the old, for a plain file, and the
  count of members for an opened one (deltas.members);
- 4 add, 5 add opened, 6 copy: a file at another path, 0755 where `value` is odd; `value // 2` is
  its length, the count of its members, or the index of the base's file whose content it has;
- 7 turn: the next `value` files have the other mode.

The path of steps 4 to 6 follows: a number, how many bytes it shares with the start of the path
before it in the result, then a number and that many bytes. The recipe of an opened file comes
last in its step.

Deliberately not here: contents. They follow the script in the payload (deltas.layouts).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import groupby

from fleetward.core.limits import TreeLimits
from fleetward.core.tree import TreeEntry
from fleetward.deltas.cursor import Cursor, folded, number, unfolded
from fleetward.deltas.members import Recipe, read_recipe, recipe_bytes
from fleetward.errors import DocumentError

_LIMITS = TreeLimits()


class _Step(IntEnum):
    KEEP = 0
    REMOVE = 1
    CHANGE = 2
    CHANGE_OPENED = 3
    ADD = 4
    ADD_OPENED = 5
    COPY = 6
    TURN = 7


@dataclass(frozen=True, slots=True)
class Kept:
    """The content of a file of the base.

    Attributes:
        index: its place in the base's list.
    """

    index: int


@dataclass(frozen=True, slots=True)
class ScriptedFile:
    """One file of the result.

    Attributes:
        path: where it lies.
        executable: mode 0755 rather than 0644.
        source: the base's file that it equals, or how its content travels in the payload.
        replaces: the place in the base's list of the file at the same path, None where it is new.
    """

    path: str
    executable: bool
    source: Kept | Recipe
    replaces: int | None


def write_script(base: Sequence[TreeEntry], result: Sequence[ScriptedFile]) -> bytes:
    """Return the script that makes `result` (sorted) from `base` (sorted)."""
    steps = list(_steps(base, result))
    while steps and steps[-1][0] is _Step.KEEP:
        steps.pop()
    out = bytearray()
    for step, rows in groupby(steps, key=lambda row: row[0]):
        if step in {_Step.KEEP, _Step.REMOVE, _Step.TURN}:
            out += number(len(list(rows)) << 3 | step)
        else:
            for _, value, tail in rows:
                out += number(value << 3 | step) + tail
    return bytes(out + number(_Step.KEEP))


def _steps(
    base: Sequence[TreeEntry], result: Sequence[ScriptedFile]
) -> Iterator[tuple[_Step, int, bytes]]:
    at, last = 0, b""
    for file in result:
        if file.replaces is None:
            yield _added(file, last)
        else:
            for _ in range(at, file.replaces):
                yield _Step.REMOVE, 1, b""
            at = file.replaces + 1
            yield _changed(base[file.replaces], file)
        last = file.path.encode()
    for _ in range(at, len(base)):
        yield _Step.REMOVE, 1, b""


def _changed(old: TreeEntry, file: ScriptedFile) -> tuple[_Step, int, bytes]:
    turned = old.executable != file.executable
    if isinstance(file.source, Kept):
        return (_Step.TURN if turned else _Step.KEEP), 1, b""
    if file.source.members:
        value = len(file.source.members) << 1 | turned
        return _Step.CHANGE_OPENED, value, recipe_bytes(file.source)
    grown = folded(file.source.tail - old.length)
    return _Step.CHANGE, grown << 1 | turned, b""


def _added(file: ScriptedFile, last: bytes) -> tuple[_Step, int, bytes]:
    path = file.path.encode()
    shared = next(
        (i for i, (a, b) in enumerate(zip(path, last, strict=False)) if a != b),
        min(len(path), len(last)),
    )
    tail = number(shared) + number(len(path) - shared) + path[shared:]
    if isinstance(file.source, Kept):
        return _Step.COPY, file.source.index << 1 | file.executable, tail
    if file.source.members:
        value = len(file.source.members) << 1 | file.executable
        return _Step.ADD_OPENED, value, tail + recipe_bytes(file.source)
    return _Step.ADD, file.source.tail << 1 | file.executable, tail


def read_script(base: Sequence[TreeEntry], cursor: Cursor, most_files: int) -> list[ScriptedFile]:
    """Return the result's files and leave `cursor` behind the script.

    Raises:
        DocumentError: the script is cut off, reaches past the base's list, makes more than
            `most_files` files, or names a path that is not UTF-8.
    """
    reader = _Reader(base, cursor)
    while reader.step():
        if len(reader.files) > most_files:
            raise DocumentError("the delta has more files than the length that was signed")
    return reader.files


class _Reader:
    """Carries out a script, step by step."""

    def __init__(self, base: Sequence[TreeEntry], cursor: Cursor) -> None:
        self._base = base
        self._cursor = cursor
        self._at = 0
        self.files: list[ScriptedFile] = []

    def step(self) -> bool:
        value = self._cursor.take_number(_LIMITS.max_bytes << 5)
        step, value = _Step(value & 7), value >> 3
        match step:
            case _Step.KEEP:
                self._keep(value or len(self._base) - self._at, turn=False)
                return value != 0
            case _Step.TURN:
                self._keep(value, turn=True)
            case _Step.REMOVE:
                self._next(value)
            case _Step.CHANGE | _Step.CHANGE_OPENED:
                self._change(step, value)
            case _Step.ADD | _Step.ADD_OPENED | _Step.COPY:
                self._add(step, value)
        return True

    def _next(self, count: int) -> range:
        first = self._at
        self._at += count
        if self._at > len(self._base):
            raise DocumentError("the delta's file list reaches past the base's: wrong base?")
        return range(first, self._at)

    def _keep(self, count: int, *, turn: bool) -> None:
        for index in self._next(count):
            old = self._base[index]
            mode = old.executable != turn
            self.files.append(ScriptedFile(old.path, mode, Kept(index), index))

    def _change(self, step: _Step, value: int) -> None:
        index = self._next(1)[0]
        old = self._base[index]
        turned, value = bool(value & 1), value >> 1
        if step is _Step.CHANGE_OPENED:
            recipe = read_recipe(self._cursor, value)
        else:
            recipe = Recipe((), old.length + unfolded(value))
        if recipe.tail < 0:
            raise DocumentError(f"the delta gives {old.path!r} a negative length")
        self.files.append(ScriptedFile(old.path, old.executable != turned, recipe, index))

    def _add(self, step: _Step, value: int) -> None:
        executable, value = bool(value & 1), value >> 1
        path = self._path()
        source: Kept | Recipe
        if step is _Step.COPY:
            if value >= len(self._base):
                raise DocumentError("the delta copies a file that the base does not have")
            source = Kept(value)
        elif step is _Step.ADD_OPENED:
            source = read_recipe(self._cursor, value)
        else:
            source = Recipe((), value)
        self.files.append(ScriptedFile(path, executable, source, None))

    def _path(self) -> str:
        last = self.files[-1].path.encode() if self.files else b""
        shared = self._cursor.take_number(len(last))
        own = self._cursor.take(self._cursor.take_number(_LIMITS.max_path_bytes))
        try:
            return (last[:shared] + own).decode()
        except UnicodeDecodeError as error:
            raise DocumentError("the delta names a path that is not UTF-8") from error
