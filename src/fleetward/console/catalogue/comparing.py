"""What changed between two releases: their trees fetched, opened on disk, and read.

1. Somebody asks (`ask`): a row is queued; a page shows what is there and looks again.
2. A process takes the oldest queued row up (`take_up`), so that two never do the same.
3. The old tree comes from its pack; the new one from a delta where there is one, else its pack.
   No decoder sees a byte before the blob's digest matched, and the tree's digest is compared
   after. Both digests were signed.
4. Files are compared by digest; rules are read only out of files that differ.

Limits: a tree over `[repository] max_tree` is not opened; trees lie in the console's folder while
they are compared and are removed after.

Deliberately not here: the thread (`working`).
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from django.db import transaction
from django.db.models import Q

from fleetward.adapters.clock import Clock
from fleetward.adapters.disk import Disk, OpenFile
from fleetward.adapters.http import HttpSession
from fleetward.adapters.treefolder import TreeFolder
from fleetward.console.catalogue.models import Comparison, Delta, Release, Stage
from fleetward.console.catalogue.rules.changes import (
    Changes,
    RuleSet,
    compare_files,
    compare_rules,
)
from fleetward.console.catalogue.rules.reading import MAX_FILE, may_hold_rules, read_rules
from fleetward.console.catalogue.rules.rule import MAX_RULES, words
from fleetward.core.digest import Sha256
from fleetward.core.limits import MIB
from fleetward.deltas import apply_delta, decode_pack
from fleetward.errors import DigestError, FleetwardError, NotFoundError, TrustError
from fleetward.wire.layout import blob_path
from fleetward.wire.tar import FileBegins, FileBytes, FileEnds, TarReader

_log = logging.getLogger(__name__)

READER: Final = 1
"""Version of the readers of rules: results of an older one are computed anew."""

STUCK: Final = timedelta(minutes=15)
"""After so long a comparison that is being computed is taken up again (its process died)."""

MAX_DELTA: Final = 256 * MIB
"""Bytes of a delta, at most; it is held in memory."""

MAX_MEMORY: Final = 512 * MIB
"""Bytes that applying a delta may take; where it takes more, the pack is fetched."""

MAX_UNREAD: Final = 50
"""Files named as unread, at most."""

KEPT: Final = 500
"""Comparisons that are kept, the newest; older ones are computed anew when asked for."""

TREES: Final = "compared-trees"


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where and with what trees are opened.

    Attributes:
        disk: the disk.
        folder: the console's own folder.
        session: what fetches.
        url: the repository.
        max_tree: bytes of a tree that is opened, at most.
        clock: the wall clock.
    """

    disk: Disk
    folder: Path
    session: HttpSession
    url: str
    max_tree: int
    clock: Clock


def ask(old: Release, new: Release, now: datetime) -> Comparison:
    """Return the comparison of two releases, queued where it was not yet."""
    fresh = {"stage": Stage.QUEUED, "reader": READER, "asked": now}
    row, _ = Comparison.objects.get_or_create(old=old, new=new, defaults=fresh)
    if row.reader < READER:
        again = {**fresh, "result": None, "reason": ""}
        Comparison.objects.filter(pk=row.pk, reader__lt=READER).update(**again)
        row.refresh_from_db()
    return row


def ask_again(row: Comparison, now: datetime) -> None:
    """Queue a comparison that failed once more."""
    Comparison.objects.filter(pk=row.pk, stage=Stage.FAILED).update(
        stage=Stage.QUEUED, asked=now, reason=""
    )


def take_up(now: datetime) -> Comparison | None:
    """Return the oldest comparison that waits, now this process's; None where none waits."""
    waits = Q(stage=Stage.QUEUED) | Q(stage=Stage.COMPUTING, begun__lt=now - STUCK)
    for row in Comparison.objects.filter(waits).order_by("id")[:5]:
        taken = Comparison.objects.filter(waits, pk=row.pk).update(stage=Stage.COMPUTING, begun=now)
        if taken:
            return Comparison.objects.select_related("old", "new").get(pk=row.pk)
    return None


def work_off_one(place: Workplace) -> bool:
    """Compute one comparison that waits; return whether there was one."""
    row = take_up(place.clock.now())
    if row is None:
        return False
    try:
        changes = compare(place, row.old, row.new)
    except FleetwardError as error:
        _end(row, place.clock.now(), Stage.FAILED, reason=str(error))
    except Exception:  # noqa: BLE001 (whatever it was: this pair fails, and the others are computed)
        _log.exception("comparing %s with %s failed", row.old, row.new)
        reason = "the console has a fault here; its log says more"
        _end(row, place.clock.now(), Stage.FAILED, reason=reason)
    else:
        _end(row, place.clock.now(), Stage.DONE, result=msgspec.to_builtins(changes))
    return True


def _end(
    row: Comparison, now: datetime, stage: Stage, *, result: object = None, reason: str = ""
) -> None:
    with transaction.atomic():
        Comparison.objects.filter(pk=row.pk, begun=row.begun).update(
            stage=stage,
            result=result,
            reason=reason.replace("\0", "")[:2_000],
            ended=now,
            reader=READER,
        )
        kept = Comparison.objects.order_by("-id").values_list("id", flat=True)
        for oldest in kept[KEPT : KEPT + 1]:
            Comparison.objects.filter(pk__lte=oldest, ended__isnull=False).delete()


def compare(place: Workplace, old: Release, new: Release) -> Changes:
    """Return what changed from one release to another.

    Raises:
        TrustError: a blob or a tree is not what was signed, or is too large to be opened.
        NetworkError: the repository did not give a blob.
        DiskError: the trees cannot be kept.
    """
    for release in (old, new):
        if release.tree_length > place.max_tree:
            raise DigestError(
                f"{release.name} has {release.tree_length:,} bytes, more than `[repository] "
                f"max_tree` allows to be opened ({place.max_tree:,})"
            )
    root = place.folder / TREES
    place.disk.remove_tree(root)
    place.disk.make_folder(root, private=True)
    try:
        before = open_pack(place, old, root / "old")
        after = _open_new(place, new, before, root / "new")
        return _changes(before, after)
    finally:
        place.disk.remove_tree(root)


@dataclass(frozen=True, slots=True)
class OpenedTree:
    """A tree on disk with the digests of its files; a `TreeSource`."""

    tree: TreeFolder
    digests: dict[str, tuple[int, str]]

    def read(self, path: str) -> bytes:
        """Return one file's content."""
        return self.tree.read(path)


def open_pack(place: Workplace, release: Release, folder: Path) -> OpenedTree:
    """Return a release's tree out of its pack. Raises as `compare`."""
    blob = place.folder / TREES / "blob"
    _fetch(place, Sha256(release.pack), release.pack_length, blob)
    pieces = decode_pack(place.disk.pieces(blob), release.tree_length)
    return _unpacked(place, pieces, release, folder)


def _open_new(place: Workplace, new: Release, before: OpenedTree, folder: Path) -> OpenedTree:
    """Return the new tree by a delta from the old one, or by its pack where that is not to be had."""
    delta = new.deltas.filter(base_tree=_identity(before), length__lt=MAX_DELTA).first()
    if delta is None or delta.length >= new.pack_length:
        return open_pack(place, new, folder)
    try:
        return _applied(place, new, delta, before, folder)
    except (TrustError, NotFoundError):
        place.disk.remove_tree(folder)
        return open_pack(place, new, folder)


def _applied(
    place: Workplace, new: Release, delta: Delta, before: OpenedTree, folder: Path
) -> OpenedTree:
    blob = place.folder / TREES / "blob"
    _fetch(place, Sha256(delta.sha256), delta.length, blob)
    pieces = apply_delta(
        delta.codec,
        before.tree,
        place.disk.read(blob),
        encoder=delta.encoder or None,
        result_length=new.tree_length,
        max_memory=MAX_MEMORY,
    )
    return _unpacked(place, pieces, new, folder)


def _identity(opened: OpenedTree) -> str:
    return opened.digests[""][1]


def _fetch(place: Workplace, sha256: Sha256, length: int, path: Path) -> None:
    made = hashlib.sha256()
    url = f"{place.url}/{blob_path(sha256)}"
    with place.session.get(url, max_bytes=length) as answer, place.disk.create(path) as file:
        for piece in answer.pieces():
            made.update(piece)
            file.write(piece)
    if made.hexdigest() != sha256:
        raise DigestError(f"{place.url} sent something else in place of the blob {sha256[:12]}…")


def _unpacked(
    place: Workplace, pieces: Iterable[bytes], release: Release, folder: Path
) -> OpenedTree:
    digests = dict(_written(place.disk, pieces, folder))
    if digests[""][1] != release.tree:
        raise DigestError(f"what came for {release.name} is not the tree that was signed")
    return OpenedTree(TreeFolder(place.disk, folder), digests)


def _written(
    disk: Disk, pieces: Iterable[bytes], folder: Path
) -> Iterator[tuple[str, tuple[int, str]]]:
    """Write a tar's files below `folder`; yield each with length and digest, "" for the tar."""
    disk.make_folder(folder)
    reader, whole, length = TarReader(), hashlib.sha256(), 0
    with ExitStack() as opened:
        file: OpenFile | None = None
        made, entry = hashlib.sha256(), None
        for piece in pieces:
            whole.update(piece)
            length += len(piece)
            for event in reader.feed(piece):
                if isinstance(event, FileBegins):
                    made, entry = hashlib.sha256(), event.entry
                    path = folder / entry.path
                    disk.make_folder(path.parent)
                    file = opened.enter_context(disk.create(path, executable=entry.executable))
                elif isinstance(event, FileBytes) and file is not None:
                    made.update(event.content)
                    file.write(event.content)
                elif isinstance(event, FileEnds) and entry is not None:
                    opened.close()
                    yield entry.path, (entry.length, made.hexdigest())
        reader.close()
    yield "", (length, whole.hexdigest())


def _changes(before: OpenedTree, after: OpenedTree) -> Changes:
    old = {path: facts for path, facts in before.digests.items() if path}
    new = {path: facts for path, facts in after.digests.items() if path}
    unread: list[str] = []
    rules_before = _rules(before, [p for p in old if old[p] != new.get(p)], unread)
    rules_after = _rules(after, [p for p in new if new[p] != old.get(p)], unread)
    families = compare_rules(rules_before, rules_after)
    return replace(compare_files(old, new), families=families, unread=tuple(unread[:MAX_UNREAD]))


def _rules(opened: OpenedTree, paths: list[str], unread: list[str]) -> RuleSet:
    found = RuleSet()
    for path in sorted(filter(may_hold_rules, paths)):
        length = opened.digests[path][0]
        if length > MAX_FILE:
            unread.append(f"{words(path)}: {length:,} bytes, over {MAX_FILE:,}")
            continue
        for rule in read_rules(path, opened.read(path)):
            if found.count >= MAX_RULES:
                unread.append(f"{words(path)} and what follows: over {MAX_RULES:,} rules")
                return found
            found.add(rule, path)
    return found
