"""What a store of blobs can do, in three steps: read, write, prune.

`Store -> WriteStore -> PruneStore`: whoever only serves takes a `Store`, so it cannot write.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from fleetward.core.digest import Sha256


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob that is kept.

    Attributes:
        digest: of its content.
        length: in bytes.
        used: when it was last asked for, as far as the store knows; seconds since 1970.
    """

    digest: Sha256
    length: int
    used: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class PartialBlob:
    """The beginning of a blob, which waits for a resume (or is being written).

    Attributes:
        digest: of the whole blob.
        name: tells the partials of one digest apart.
        length: in bytes.
        used: when it was last written; seconds since 1970.
    """

    digest: Sha256
    name: str
    length: int
    used: float = field(default=0.0, compare=False)


class Store(Protocol):
    """A store that can be read."""

    def has(self, digest: Sha256) -> bool:
        """Return whether the blob is kept."""
        ...

    def open(self, digest: Sha256) -> BinaryIO:
        """Open a blob for reading.

        Raises:
            FileNotFoundError: it is not kept.
            DiskError: the disk is failing.
        """
        ...


class BlobWriter(Protocol):
    """One blob on its way in; always ends by `close`, also after `commit` or `discard`.

    Bytes come from one source at a time. `restart` lets another source send the blob again from
    its first byte: what is there is compared, so those who already read it need not be cut unless
    the sources differ.
    """

    @property
    def descriptor(self) -> int:
        """Return a descriptor from which the bytes so far can be read."""
        ...

    @property
    def offset(self) -> int:
        """Return how many bytes the current source has sent (also before a resume)."""
        ...

    @property
    def length(self) -> int:
        """Return how many bytes can be read; more than `offset` while a source is compared."""
        ...

    @property
    def rewrites(self) -> int:
        """Return how often a source differed from the one before, so that bytes changed."""
        ...

    def write(self, piece: bytes) -> None:
        """Take the next bytes of the current source.

        Raises:
            DiskError: the disk is full or failing.
        """
        ...

    def restart(self, source: str) -> None:
        """Begin again at offset 0, from `source`."""
        ...

    def verify(self) -> None:
        """Return where the bytes of the current source are the whole blob.

        Raises:
            DigestError: they are not.
        """
        ...

    def commit(self) -> None:
        """Keep the blob: verified, synced, then named.

        Raises:
            DigestError: as `verify`; nothing is left.
            DiskError: it cannot be kept; nothing is left.
        """
        ...

    def discard(self) -> None:
        """Leave nothing."""
        ...

    def close(self) -> None:
        """Give the descriptor back; bytes neither kept nor discarded wait for a resume."""
        ...


class WriteStore(Store, Protocol):
    """A store that can be written."""

    def writer(self, digest: Sha256, source: str) -> BlobWriter:
        """Return a writer, which goes on where `source` was suspended.

        Args:
            digest: of the blob.
            source: names who sends; a partial blob is never resumed from another source.

        Raises:
            DiskError: the disk is full or failing.
        """
        ...


class PruneStore(WriteStore, Protocol):
    """A store from which blobs can be taken away."""

    def blobs(self) -> Iterator[StoredBlob]:
        """Yield what is kept, in no order."""
        ...

    def remove(self, digest: Sha256) -> None:
        """Remove a blob; nothing where it is not kept.

        It may be there again after power loss, whole.

        Raises:
            DiskError: the disk is failing.
        """
        ...

    def touch(self, digest: Sha256, used: float) -> None:
        """Remember over a restart when a blob was last asked for; nothing where it is not kept.

        Args:
            digest: of the blob.
            used: seconds since 1970.
        """
        ...

    def partials(self) -> Iterator[PartialBlob]:
        """Yield the beginnings of blobs, those that are being written too."""
        ...

    def remove_partial(self, partial: PartialBlob) -> None:
        """Remove the beginning of a blob, which must not be being written.

        Raises:
            DiskError: the disk is failing.
        """
        ...
