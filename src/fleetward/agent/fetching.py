"""Blobs from sources: resumed where they stopped, bounded by the signed length, verified whole.

Invariants: a partial file belongs to the source that sent it, so no source is asked to finish
what another began; nothing past the signed length is kept; a blob is handed on only after its whole
digest matched, and no decoder sees a byte before; a blob that does not match is discarded and
its source put aside for the rest of the run.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fleetward.adapters.disk import Disk, Kind
from fleetward.core.digest import Sha256
from fleetward.core.sourcechoice import Fault
from fleetward.errors import DigestError, FleetwardError, NetworkError, NotFoundError, TrustError
from fleetward.wire.layout import blob_path

SYNC_EVERY_BYTES = 4 * 1024 * 1024
"""How much of a partial blob may be lost to power loss; it is fetched again then."""

Progress = Callable[[str, int, int], None]
"""Called with what is under way, the bytes done and the bytes in all."""


def no_progress(doing: str, done: int, total: int) -> None:
    """Show nothing."""


class Answer(Protocol):
    """An HTTP answer whose body has not been read."""

    @property
    def status(self) -> int:
        """200, or 206 where the range that was asked for follows."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """Yield the body. Raises NetworkError, SlowTransferError, DigestError (too long)."""
        ...


class Fetcher(Protocol):
    """What fetches from a URL; adapters.http in programs."""

    def get(self, url: str, *, max_bytes: int, offset: int = 0) -> AbstractContextManager[Answer]:
        """Ask for a URL from `offset` on. Raises NetworkError, NotFoundError."""
        ...


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob as a manifest names it."""

    sha256: Sha256
    length: int


@dataclass(slots=True)
class BlobFetcher:
    """Fetches blobs for one run of the agent.

    Attributes:
        disk: where partial files are kept.
        folder: the folder of partial files.
        http: what fetches.
        sources: base URLs, the preferred first.
        progress: told of bytes as they arrive.
        put_aside: sources that sent a wrong blob in this run, and why.
        received_bytes: bytes of blobs that arrived in this run, useful or not.
        failed: sources that broke off, or lacked what another one had.
    """

    disk: Disk
    folder: Path
    http: Fetcher
    sources: Sequence[str]
    progress: Progress = no_progress
    put_aside: dict[str, FleetwardError] = field(default_factory=dict)
    received_bytes: int = 0
    failed: set[str] = field(default_factory=set)

    def fetch(self, blob: Blob, doing: str) -> Path:
        """Return a file with the whole, verified blob.

        Raises:
            TrustError: every source that answered sent something else.
            NetworkError: no source could give it.
            DiskError: it cannot be kept.
        """
        self.disk.make_folder(self.folder)
        failures: list[FleetwardError] = []
        lacking: list[str] = []
        for source in self.sources:
            if source in self.put_aside:
                failures.append(self.put_aside[source])
                continue
            try:
                path = self._from_source(blob, source, doing)
            except TrustError as error:
                self.put_aside[source] = error
                failures.append(error)
            except NetworkError as error:
                (lacking.append if isinstance(error, NotFoundError) else self.failed.add)(source)
                failures.append(error)
            else:
                self.failed.update(lacking)
                return path
        raise self._summary(blob, failures)

    def faults(self) -> dict[str, Fault]:
        """Return what was wrong with sources in this run, by URL."""
        failed = dict.fromkeys(self.failed, Fault.FAILED)
        return {**failed, **dict.fromkeys(self.put_aside, Fault.FALSE)}

    def _summary(self, blob: Blob, failures: list[FleetwardError]) -> FleetwardError:
        reasons = "; ".join(str(failure) for failure in failures) or "no source is configured"
        if failures and all(isinstance(failure, TrustError) for failure in failures):
            return DigestError(f"no source has the right blob {blob.sha256[:12]}…: {reasons}")
        return NetworkError(f"no source gave the blob {blob.sha256[:12]}…: {reasons}")

    def _from_source(self, blob: Blob, source: str, doing: str) -> Path:
        origin = hashlib.sha256(source.encode()).hexdigest()[:12]
        partial = self.folder / f"{blob.sha256}.{origin}"
        have = self.disk.size(partial) if self.disk.kind(partial) is Kind.FILE else 0
        if have > blob.length:
            self.disk.remove(partial)
            have = 0
        if have < blob.length or blob.length == 0:
            self._receive(blob, source, partial, have, doing)
        if self._digest(partial) != blob.sha256:
            self.disk.remove(partial)
            self.disk.sync_folder(self.folder)
            raise DigestError(
                f"{source} sent something else in place of the blob {blob.sha256[:12]}…; "
                "it is put aside"
            )
        return partial

    def _receive(self, blob: Blob, source: str, partial: Path, have: int, doing: str) -> None:
        url = f"{source}/{blob_path(blob.sha256)}"
        with self.http.get(url, max_bytes=blob.length, offset=have) as answer:
            resumed = have > 0 and answer.status == 206
            done = have if resumed else 0
            opening = self.disk.append(partial) if resumed else self.disk.create(partial)
            with opening as file:
                unsynced = 0
                for piece in answer.pieces():
                    self.received_bytes += len(piece)
                    done += len(piece)
                    if done > blob.length:
                        raise DigestError(f"{source} sent more than the signed length")
                    file.write(piece)
                    unsynced += len(piece)
                    if unsynced >= SYNC_EVERY_BYTES:
                        file.sync()
                        unsynced = 0
                    self.progress(doing, done, blob.length)
                file.sync()
        if done < blob.length:
            raise NetworkError(f"{source} sent {done} of {blob.length} bytes; run it again")

    def _digest(self, path: Path) -> Sha256:
        digest = hashlib.sha256()
        for piece in self.disk.pieces(path):
            digest.update(piece)
        return Sha256(digest.hexdigest())

    def discard(self) -> None:
        """Remove every partial file: nothing of them is needed any more."""
        if self.disk.kind(self.folder) is Kind.FOLDER:
            for name in self.disk.listing(self.folder):
                self.disk.remove(self.folder / name)
