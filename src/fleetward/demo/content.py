"""What a demo publishes: the sample that comes with the project, or the user's own rules.

A series is a list of folders, oldest first. The user's folder may hold subfolders or archives,
each a release, in the order of their names; an archive of folders (or one folder of folders) is a
series too; a folder of plain files is one release.
"""

import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from fleetward.core.names import MAX_NAME_LENGTH
from fleetward.errors import ConfigurationError

SAMPLE = ("first", "second", "third")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".zip")
_NOTE = "fleetward-demo.txt"


@dataclass(frozen=True, slots=True)
class ReleaseFolder:
    """A release to publish: its name, and its tree."""

    name: str
    tree: Path


def sample_series(work: Path) -> list[ReleaseFolder]:
    """Return the sample's releases, written under `work`; each lies over the one before."""
    series: list[ReleaseFolder] = []
    packaged = resources.files("fleetward.demo") / "sample"
    with resources.as_file(packaged) as sample:
        for number, overlay in enumerate(SAMPLE, 1):
            tree = work / f"sample-{number}"
            if series:
                shutil.copytree(series[-1].tree, tree)
            shutil.copytree(sample / overlay, tree, dirs_exist_ok=True)
            series.append(ReleaseFolder(f"sample-{number}", tree))
    return series


def user_series(content: Path, work: Path) -> list[ReleaseFolder]:
    """Return the releases in the user's folder or archive; at least three.

    Where there are fewer, the last is published again with one more small file, so that the story
    has a second and a third release.

    Raises:
        ConfigurationError: there is nothing to publish, or an archive cannot be read.
    """
    if not content.exists():
        raise ConfigurationError(f"there is no {content}: give a folder with your rules")
    trees = _releases(content, work)
    if not trees:
        raise ConfigurationError(f"{content} holds no file: give a folder with your rules")
    series = [ReleaseFolder(_name(tree.name, n), tree) for n, tree in enumerate(trees, 1)]
    while len(series) < 3:
        series.append(_with_a_note(series[-1], work, len(series)))
    return series


def _releases(content: Path, work: Path) -> list[Path]:
    if _is_archive(content):
        return _releases(_unpacked(content, work), work)
    folders = [p for p in sorted(content.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    archives = [p for p in sorted(content.iterdir()) if _is_archive(p)]
    if len(folders) == 1 and not archives and not any(p.is_file() for p in content.iterdir()):
        inner = [p for p in sorted(folders[0].iterdir()) if p.is_dir()]
        return inner if len(inner) > 1 else folders
    if folders:
        return folders
    if archives:
        return [_unpacked(archive, work) for archive in archives]
    return [content] if any(content.iterdir()) else []


def _is_archive(path: Path) -> bool:
    return path.is_file() and path.name.endswith(_ARCHIVES)


def _unpacked(archive: Path, work: Path) -> Path:
    stem = next(archive.name.removesuffix(s) for s in _ARCHIVES if archive.name.endswith(s))
    unpacked = work / "unpacked"
    unpacked.mkdir(exist_ok=True)
    target = unpacked / str(len(list(unpacked.iterdir()))) / stem
    target.mkdir(parents=True)
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(target)  # noqa: S202 (zipfile keeps names inside the folder)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(target, filter="data")
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise ConfigurationError(f"cannot unpack {archive}: {error}") from error
    return target


def _name(text: str, number: int) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in text.lower())
    kept = kept.lstrip("._-")[:MAX_NAME_LENGTH]
    return kept if kept not in {"", "floor", "policy"} else f"release-{number}"


def _with_a_note(last: ReleaseFolder, work: Path, count: int) -> ReleaseFolder:
    tree = work / f"after-{count}"
    shutil.copytree(last.tree, tree)
    (tree / _NOTE).write_text(f"Added by the demo so that there is a release {count + 1}.\n")
    return ReleaseFolder(f"{last.name[: MAX_NAME_LENGTH - 8]}-{count + 1}", tree)
