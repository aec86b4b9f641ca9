"""Removing what nothing names any more: `origin gc`.

A file that neither the live closure nor anything pending names is first noted with the time, in
`REPO/.orphans.json`; a later run removes it once it has been noted for the whole grace, so a host
in the middle of an update, or a cache that still serves yesterday's timestamp, finds its files.

Invariants: what the current timestamp names is never removed, nor any root, nor a version above
the live one (its number must not be used again); killed anywhere, only orphans are gone. Files
that are not of the repository's layout are left alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Disk, Kind
from fleetward.errors import DocumentError
from fleetward.origin.contents import blob_files, metadata_files, target_files
from fleetward.origin.repository import BLOBS, METADATA, TARGETS
from fleetward.origin.staging import Staging
from fleetward.origin.workshop import PUBLISH_LOCK, Workshop
from fleetward.trust.signing import SignedRole
from fleetward.wire.documents import decode_json, encode_json
from fleetward.wire.layout import parse_repository_path

GRACE = timedelta(days=7)
ORPHANS = ".orphans.json"
_SCHEMA = "fleetward.orphans/1"


@dataclass(frozen=True, slots=True)
class _Orphans:
    since: dict[str, datetime]


@dataclass(frozen=True, slots=True)
class Collected:
    """What gc did.

    Attributes:
        removed: paths of the files that are gone.
        bytes_freed: their length together.
        waiting: paths that nothing names and whose grace is not over.
    """

    removed: tuple[str, ...]
    bytes_freed: int
    waiting: tuple[str, ...]


def collect(shop: Workshop, grace: timedelta = GRACE) -> Collected:
    """Remove what nothing has named for `grace`.

    Raises:
        ConfigurationError: there is no repository.
        MetadataError: the live metadata does not verify; nothing is removed.
        DocumentError: a named manifest is missing or malformed; nothing is removed.
        BusyError: a publisher is at work.
    """
    with shop.alone(PUBLISH_LOCK), shop.alone():
        staging = Staging(shop)
        named = _named(staging)
        now = shop.clock.now()
        before = _read(shop)
        since = {
            path: min(before.get(path, now), now)
            for path in sorted(_files(shop.disk, shop.folder))
            if path not in named and _may_go(staging, path)
        }
        gone = tuple(path for path, first in since.items() if now - first >= grace)
        kept = {path: first for path, first in since.items() if path not in gone}
        _write(shop, kept)
        return Collected(gone, _remove(shop, gone), tuple(kept))


def _named(staging: Staging) -> set[str]:
    targets = target_files([*staging.closure.roles.values(), *_with_targets(staging)])
    blobs = blob_files(staging.shop.repository, targets)
    return {
        *metadata_files(staging.closure),
        *(target.path for target in targets),
        *(blob.path for blob in blobs),
    }


def _with_targets(staging: Staging) -> list[SignedRole]:
    return [role for role in staging.roles.values() if role.role != "root"]


def _may_go(staging: Staging, path: str) -> bool:
    name = path.rpartition("/")[2]
    if name.startswith("."):
        return name.endswith(".new") or name == ".incoming"
    if parse_repository_path(path) is None:
        return False
    if not path.startswith(f"{METADATA}/"):
        return True
    version, _, role = name.removesuffix(".json").partition(".")
    live = staging.closure.snapshot if role == "snapshot" else staging.closure.roles.get(role)
    return live is not None and int(version) < live.version


def _files(disk: Disk, folder: Path) -> Iterator[str]:
    for top in (METADATA, TARGETS, BLOBS):
        yield from _walk(disk, folder / top, top)


def _walk(disk: Disk, folder: Path, prefix: str) -> Iterator[str]:
    for name in disk.listing(folder):
        kind = disk.kind(folder / name)
        if kind is Kind.FOLDER:
            yield from _walk(disk, folder / name, f"{prefix}/{name}")
        elif kind is Kind.FILE:
            yield f"{prefix}/{name}"


def _read(shop: Workshop) -> dict[str, datetime]:
    try:
        noted = decode_json(_SCHEMA, _Orphans, shop.disk.read(shop.folder / ORPHANS))
    except (FileNotFoundError, DocumentError):
        return {}  # begin the grace again: the safe side
    return {path: first for path, first in noted.since.items() if first.tzinfo is not None}


def _write(shop: Workshop, since: dict[str, datetime]) -> None:
    noted = _Orphans({path: first.astimezone(UTC) for path, first in since.items()})
    write_file(shop.disk, shop.folder / ORPHANS, encode_json(_SCHEMA, noted))


def _remove(shop: Workshop, paths: tuple[str, ...]) -> int:
    freed = 0
    for path in paths:
        freed += shop.disk.size(shop.folder / path)
        shop.disk.remove(shop.folder / path)
    return freed
