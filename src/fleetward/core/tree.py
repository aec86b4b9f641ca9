"""What a tree may hold: the rules for paths, and for many paths together.

Invariants: a `TreeEntry` that exists has a safe path; a sequence that went through `TreeRules` is
sorted by the bytes of its paths and has no two paths that some platform takes for one.

Deliberately not here: the bytes of the tar (wire.tar) and reading folders (adapters.treefolder).
"""

import unicodedata
from dataclasses import dataclass, field

from fleetward.core.limits import TreeLimits
from fleetward.errors import UnsafeTreeError

_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$", "clock$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"]
)
_FORBIDDEN = {chr(code) for code in range(32)} | {chr(127), "\\", ":"}


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One regular file of a tree.

    Attributes:
        path: relative, `/`-separated, UTF-8 in NFC.
        length: bytes of content.
        executable: mode 0755 rather than 0644.
    """

    path: str
    length: int
    executable: bool = False

    @property
    def sort_key(self) -> bytes:
        """The bytes by which a canonical tree is sorted."""
        return self.path.encode()


def safe_path(text: str, limits: TreeLimits = TreeLimits()) -> str:  # noqa: B008 (frozen)
    """Return `text` where it is safe on every platform.

    Raises:
        UnsafeTreeError: absolute, empty, with `.` or `..` parts, control characters, backslash or
            colon, a Windows device name, a part ending in dot or space, not UTF-8, not NFC, or
            longer than the limits.
    """
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise UnsafeTreeError(
            f"the file name {text!r} is not UTF-8: rename it before publishing"
        ) from error
    if len(encoded) > limits.max_path_bytes:
        raise UnsafeTreeError(
            f"the path {text[:60]!r}… has {len(encoded)} bytes, more than {limits.max_path_bytes}"
        )
    if unicodedata.normalize("NFC", text) != text:
        raise UnsafeTreeError(f"the path {text!r} is not in Unicode NFC: rename the file")
    parts = text.split("/")
    if len(parts) > limits.max_depth:
        raise UnsafeTreeError(f"the path {text[:60]!r}… is deeper than {limits.max_depth} folders")
    for part in parts:
        _refuse_part(text, part, limits)
    return text


def _refuse_part(path: str, part: str, limits: TreeLimits) -> None:
    if part in {"", ".", ".."}:
        raise UnsafeTreeError(f"the path {path!r} is absolute or has an empty, '.' or '..' part")
    if _FORBIDDEN.intersection(part):
        raise UnsafeTreeError(
            f"the path {path!r} has a control character, a backslash or a colon, which mean "
            "something else on another platform: rename the file"
        )
    if part[-1] in ". ":
        raise UnsafeTreeError(f"the path {path!r} has a part that ends in a dot or a space")
    if part.split(".", maxsplit=1)[0].rstrip(" ").lower() in _DEVICES:
        raise UnsafeTreeError(f"the path {path!r} names a device on Windows: rename the file")
    if len(part.encode()) > limits.max_component_bytes:
        raise UnsafeTreeError(
            f"the file name {part[:40]!r}… has more than {limits.max_component_bytes} bytes"
        )


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


@dataclass(slots=True)
class TreeRules:
    """Judges entries one after another, in the order of the tar.

    Holds one folded name per file and folder; nothing of their content.
    """

    limits: TreeLimits = field(default_factory=TreeLimits)
    files: int = 0
    total_bytes: int = 0
    _last: bytes = b""
    _seen: dict[str, str] = field(default_factory=dict)
    _files: set[str] = field(default_factory=set)

    def admit(self, entry: TreeEntry) -> TreeEntry:
        """Return `entry` where the tree may hold it after all before it.

        Raises:
            UnsafeTreeError: an unsafe path, a path out of order or twice, a case-fold twin, a file
                where a folder stands, or more files or bytes than the limits.
        """
        safe_path(entry.path, self.limits)
        if entry.length < 0:
            raise UnsafeTreeError(f"{entry.path!r} has a negative length")
        if self.files and entry.sort_key <= self._last:
            raise UnsafeTreeError(f"{entry.path!r} stands out of order or twice in the tree")
        self._admit_spelling(entry.path)
        self.files += 1
        self.total_bytes += entry.length
        if self.files > self.limits.max_files or self.total_bytes > self.limits.max_bytes:
            raise UnsafeTreeError(
                f"the tree has more than {self.limits.max_files} files or "
                f"{self.limits.max_bytes} bytes"
            )
        self._last = entry.sort_key
        return entry

    def _admit_spelling(self, path: str) -> None:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            spelling = "/".join(parts[:depth])
            known = self._seen.setdefault(_folded(spelling), spelling)
            if known != spelling:
                raise UnsafeTreeError(
                    f"{spelling!r} and {known!r} are one name where case does not count: "
                    "rename one of them"
                )
            if depth < len(parts) and spelling in self._files:
                raise UnsafeTreeError(f"{spelling!r} is both a file and a folder")
        self._files.add(path)


def check_tree(
    entries: list[TreeEntry],
    limits: TreeLimits = TreeLimits(),  # noqa: B008 (frozen)
) -> tuple[TreeEntry, ...]:
    """Return `entries` sorted as a canonical tree.

    Raises:
        UnsafeTreeError: as `TreeRules.admit`.
    """
    rules = TreeRules(limits)
    for entry in entries:
        safe_path(entry.path, limits)
    return tuple(rules.admit(entry) for entry in sorted(entries, key=lambda e: e.sort_key))
