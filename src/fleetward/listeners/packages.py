"""Which package owns a file, and whether the running bytes are the package's.

    Debian's   /var/lib/dpkg/info/PACKAGE.list and .md5sums, read directly: dpkg -S takes seconds
    RPM's      rpm -qf and rpm -Vf, where there is an rpm database

Both databases can be altered by root, and md5 is no proof against a clever forger: that a file is
intact says that nobody changed it carelessly. The sha256 beside it is what to compare elsewhere.

Deliberately not here: diversions and alternatives; a file that was put there by one of them has no
owner.
"""

import mmap
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

from fleetward.adapters.processes import Finished, run_limited
from fleetward.core.limits import MIB
from fleetward.core.listeners import PackageFile
from fleetward.errors import ConfigurationError
from fleetward.listeners.executables import Digests

_MERGED: Final = ("/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/libx32/")
"""Folders that are links into /usr nowadays; packages may list either path."""


MAX_REMEMBERED: Final = 4_096
"""Paths whose package is remembered: a host that starts programs from ever new paths."""


class Packages(Protocol):
    """A package database."""

    def find(self, files: Iterable[tuple[str, Path]]) -> dict[str, PackageFile]:
        """Return the packages of files.

        Args:
            files: paths as programs were started from, and where their bytes can be read now.
        """
        ...


class NoPackages:
    """The database of a platform that has none which we can read."""

    def find(self, files: Iterable[tuple[str, Path]]) -> dict[str, PackageFile]:
        """Return nothing."""
        return {}


def other_names(path: str) -> tuple[str, ...]:
    """Return the paths under which a package may list a file."""
    if path.startswith(_MERGED):
        return path, f"/usr{path}"
    if path.startswith("/usr") and path.removeprefix("/usr").startswith(_MERGED):
        return path, path.removeprefix("/usr")
    return (path,)


class DpkgPackages:
    """Debian's database.

    Which package owns a path is remembered until the database's folder changes, as it does with
    every package that is installed or removed; whether a file is intact is looked at each time.
    """

    def __init__(self, digests: Digests, folder: Path = Path("/var/lib/dpkg/info")) -> None:
        """Read the database in `folder`."""
        self._digests = digests
        self._folder = folder
        self._read_at = 0
        self._owners: dict[str, tuple[Path, str] | None] = {}

    def find(self, files: Iterable[tuple[str, Path]]) -> dict[str, PackageFile]:
        """Return the packages of files; at most one pass through the lists for all of them."""
        bytes_at = dict(files)
        self._read_lists(bytes_at)
        found: dict[str, PackageFile] = {}
        for path, running in bytes_at.items():
            owner = self._owners[path]
            if owner is not None:
                listing, name = owner
                package = listing.name.removesuffix(".list").partition(":")[0]
                intact = self._intact(listing, name, running)
                found[path] = PackageFile(name=package, intact=intact)
        return found

    def _read_lists(self, paths: Iterable[str]) -> None:
        changed = self._folder.stat().st_mtime_ns
        if changed != self._read_at or len(self._owners) > MAX_REMEMBERED:
            self._owners, self._read_at = {}, changed
        unknown = [path for path in paths if path not in self._owners]
        self._owners.update(dict.fromkeys(unknown))
        wanted = {name: path for path in unknown for name in other_names(path)}
        for listing in sorted(self._folder.glob("*.list")) if wanted else ():
            for name in _lines_among(listing, list(wanted)):
                self._owners[wanted.pop(name)] = (listing, name)

    def _intact(self, listing: Path, name: str, bytes_at: Path) -> bool | None:
        sums = _content(listing.with_suffix(".md5sums"))
        at = sums.find(b"  %s\n" % name.lstrip("/").encode())
        own = self._digests.of(bytes_at, "md5")
        if at < 32 or own is None:
            return None
        return sums[at - 32 : at].decode("ascii", "replace") == own


def _lines_among(listing: Path, names: list[str]) -> list[str]:
    """Return which of `names` are lines of a list, but for its first, which is always `/.`.

    Mapped, not read: some lists have megabytes, and an agent would keep the memory for years.
    """
    try:
        with (
            listing.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as m,
        ):
            return [name for name in names if _has_line(m, b"\n" + name.encode())]
    except (OSError, ValueError):  # gone, or empty
        return []


def _has_line(content: mmap.mmap, line: bytes) -> bool:
    return content.find(line + b"\n") >= 0 or content[-len(line) :] == line


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


Run = Callable[[Sequence[str]], Finished]


def run_rpm(command: Sequence[str]) -> Finished:
    """Run rpm with limits."""
    return run_limited(command, max_memory=512 * MIB, max_time=timedelta(seconds=20))


class RpmPackages:
    """RPM's database, by its own program."""

    def __init__(self, run: Run = run_rpm) -> None:
        """Ask by `run`."""
        self._run = run

    def find(self, files: Iterable[tuple[str, Path]]) -> dict[str, PackageFile]:
        """Return the packages of files, one question for each."""
        found: dict[str, PackageFile] = {}
        for path, _ in files:
            try:
                owner = self._run(("rpm", "-qf", "--queryformat", "%{NAME}\n", "--", path))
                if owner.exit_code == 0 and owner.output:
                    name = owner.output.splitlines()[0].strip()
                    found[path] = PackageFile(name=name, intact=self._intact(path))
            except ConfigurationError:
                break
        return found

    def _intact(self, path: str) -> bool | None:
        """Read `rpm -Vf`: a line for each file that differs, its third letter the digest's."""
        told = self._run(("rpm", "-Vf", "--nodeps", "--noscripts", "--", path))
        if told.exit_code is None:
            return None
        lines = [line for line in told.output.splitlines() if line.endswith(f" {path}")]
        if not lines:
            return True
        return None if lines[0][2:3] == "?" else lines[0][2:3] != "5"


def packages_here(digests: Digests, root: Path = Path("/")) -> Packages:
    """Return the database of this machine."""
    dpkg = root / "var/lib/dpkg/info"
    if dpkg.is_dir():
        return DpkgPackages(digests, dpkg)
    if any((root / folder).is_dir() for folder in ("usr/lib/sysimage/rpm", "var/lib/rpm")):
        return RpmPackages()
    return NoPackages()
