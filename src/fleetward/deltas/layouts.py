"""What a delta between two trees has to say, cut down before anything is compressed.

A delta of the changed set is laid out as:

- one byte, the form of the script: 0 as it is, 1 raw deflate with the base's paths as dictionary,
  2 a Zstandard frame (deltas.zstdframe) with the base's paths as prefix;
- a number, the bytes of the script as they follow, and these bytes (deltas.script);
- a number, the spare: how many bytes of unchanged files of the base may stand in the reference;
- the payload, as the codec writes it.

The **payload** is the bodies of all files whose content the base does not have, in the order of
the result. The **reference** is what both sides hold and the payload resembles: unchanged files
as far as the spare goes, then the files of the base that the result changes or drops, each in
the order of the base. Files beside a changed or added one are taken first and stand last.

The base's paths are each followed by a zero byte; the dictionary of deflate is their last 32 KiB.

Files with gzip members travel opened where their encoder was proven; in the reference every file
that is changed or dropped stands in its opened form (deltas.members), unchanged ones as they are.

Deliberately not here: how payload and reference become few bytes (the codecs).
"""

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fleetward.core.limits import KIB, MIB
from fleetward.core.tree import TreeEntry
from fleetward.deltas import zstdframe
from fleetward.deltas.cursor import Cursor, UnusableDeltaError, number
from fleetward.deltas.members import MAX_EXPANSION, Opener, Recipe, closed, opened_form
from fleetward.deltas.script import Kept, ScriptedFile, read_script, write_script
from fleetward.deltas.trees import TreeSource
from fleetward.errors import DigestError, DocumentError
from fleetward.wire.tar import BLOCK, END, header, padding

_MAX_SCRIPT = 64 * MIB
"""Bytes of a file list's script: some sixty for each of a million files."""

MAX_REFERENCE = 1 << 30
"""Bytes of reference that the origin ever makes, whatever the budget."""

OVERHEAD = 2 * MIB
"""Bytes that any decoder takes beside the content."""

PAYLOAD_COPIES = 4
"""Copies of the payload in memory at most: fresh bytes, pieces, the whole, a file of it."""

_PLAIN, _DEFLATED, _FRAMED = range(3)


@dataclass(frozen=True, slots=True)
class Reference:
    """What both sides hold.

    Attributes:
        content: unchanged files, then changed and dropped ones.
        near: where the changed and dropped ones begin.
    """

    content: bytes
    near: int


@dataclass(frozen=True)
class Comparison:
    """Base and result at the origin, and what differs.

    Attributes:
        base: the tree that hosts have.
        result: the tree that they are to have.
        files: the result's files, each with its source.
        bodies: of the opened files, by path.
        encoders: names of what makes gzip members again.
    """

    base: TreeSource
    result: TreeSource
    files: tuple[ScriptedFile, ...]
    bodies: Mapping[str, bytes]
    encoders: tuple[str, ...]

    @cached_property
    def payload(self) -> bytes:
        """The bodies of all files whose content the base does not have."""
        return b"".join(
            self.bodies.get(file.path) or self.result.read(file.path)
            for file in self.files
            if isinstance(file.source, Recipe)
        )

    @cached_property
    def near(self) -> bytes:
        """The reference without spare."""
        return self.reference(0).content

    def reference(self, spare: int) -> Reference:
        """The reference with `spare` bytes of unchanged files at most."""
        return reference(self.base, self.files, spare, MAX_REFERENCE)

    @cached_property
    def script(self) -> bytes:
        """Form, length and bytes of the script."""
        script = write_script(self.base.entries, self.files)
        return min(_scripts(script, _paths(self.base.entries)), key=len)

    @cached_property
    def payload_length(self) -> int:
        """Bytes of payload, known without reading it."""
        return sum(file.source.body for file in self.files if isinstance(file.source, Recipe))

    @cached_property
    def near_length(self) -> int:
        """Bytes of the reference without spare, known without reading it."""
        kept = _kept_in_place(self.files)
        return sum(e.length for i, e in enumerate(self.base.entries) if i not in kept)


def memory_taken(reference_length: int, payload_length: int) -> int:
    """Return the bytes that applying takes: the reference as it is joined, or beside the payload."""
    joined = reference_length + PAYLOAD_COPIES * payload_length
    return max(2 * reference_length, joined) + OVERHEAD


def compare(base: TreeSource, result: TreeSource) -> Comparison:
    """Return what differs between two trees; reads each file once and keeps its digest only."""
    by_path = {entry.path: index for index, entry in enumerate(base.entries)}
    digests = [_content_digest(base, entry) for entry in base.entries]
    by_digest = {digest: index for index, digest in reversed(list(enumerate(digests)))}
    opener = Opener()
    files = []
    bodies = {}
    for entry in result.entries:
        digest = _content_digest(result, entry)
        replaces = by_path.get(entry.path)
        if replaces is not None and digests[replaces] == digest:
            source: Kept | Recipe = Kept(replaces)
        elif replaces is None and digest in by_digest and entry.length:
            source = Kept(by_digest[digest])
        elif opened := opener.open(result.read(entry.path)):
            source, bodies[entry.path] = opened
        else:
            source = Recipe((), entry.length)
        files.append(ScriptedFile(entry.path, entry.executable, source, replaces))
    return Comparison(base, result, tuple(files), bodies, tuple(opener.encoders))


def _content_digest(tree: TreeSource, entry: TreeEntry) -> bytes:
    return hashlib.sha256(tree.read(entry.path)).digest()


def _kept_in_place(files: Sequence[ScriptedFile]) -> set[int]:
    return {f.replaces for f in files if f.replaces is not None and isinstance(f.source, Kept)}


def reference(base: TreeSource, files: Sequence[ScriptedFile], spare: int, most: int) -> Reference:
    """Return the reference: `spare` bytes of unchanged files at most, then the others.

    Raises:
        UnusableDeltaError: it has more than `most` bytes.
    """
    kept = _kept_in_place(files)
    far = _spared(base.entries, files, kept, spare) if spare else []
    pieces = []
    for index in [*far, *(index for index in range(len(base.entries)) if index not in kept)]:
        entry = base.entries[index]
        most -= entry.length
        if most >= 0:
            content = base.read(entry.path)
            pieces.append(content if index in kept else opened_form(content))
            most -= len(pieces[-1]) - entry.length
        if most < 0:
            raise UnusableDeltaError("the delta takes more memory than it may: take the pack")
    return Reference(b"".join(pieces), sum(map(len, pieces[: len(far)])))


def _spared(
    entries: Sequence[TreeEntry], files: Sequence[ScriptedFile], kept: set[int], spare: int
) -> list[int]:
    folders = {_folder(file.path) for file in files if isinstance(file.source, Recipe)}
    chosen: list[int] = []
    by_nearness = sorted(kept, key=lambda i: (_folder(entries[i].path) in folders, i))
    for index in reversed(by_nearness):
        if entries[index].length <= spare:
            spare -= entries[index].length
            chosen.append(index)
    return chosen[::-1]


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _paths(entries: Sequence[TreeEntry]) -> bytes:
    return b"".join(entry.path.encode() + b"\0" for entry in entries)


def _scripts(script: bytes, paths: bytes) -> Iterator[bytes]:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=paths[-32 * KIB :])
    deflated = deflater.compress(script) + deflater.flush()
    framed = zstdframe.squeeze(script, paths, {"compression_level": 19})
    for form, content in ((_PLAIN, script), (_DEFLATED, deflated), (_FRAMED, framed)):
        yield bytes([form]) + number(len(content)) + content


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a delta may do on a host.

    Attributes:
        result_length: signed bytes of the result's tar.
        max_memory: bytes that applying may take.
        encoders: names of what makes gzip members again.
    """

    result_length: int
    max_memory: int
    encoders: tuple[str, ...] = ()

    def admit(self, memory: int) -> None:
        """Return where `memory` bytes may be taken.

        Raises:
            UnusableDeltaError: they may not.
        """
        if memory > self.max_memory:
            raise UnusableDeltaError(
                f"the delta takes {memory} bytes of memory, more than the {self.max_memory} that "
                "it may: take another or the pack"
            )


@dataclass(frozen=True, slots=True)
class Received:
    """A delta of the changed set on a host, its script read.

    Attributes:
        base: the tree that the host has.
        files: the result's files.
        spare: bytes of unchanged files in the reference, at most.
        bounds: what the delta may do.
    """

    base: TreeSource
    files: Sequence[ScriptedFile]
    spare: int
    bounds: Bounds

    @property
    def payload_length(self) -> int:
        """Bytes of payload that the script asks for."""
        return sum(file.source.body for file in self.files if isinstance(file.source, Recipe))

    def reference(self) -> Reference:
        """Return the reference, as the origin made it.

        Raises:
            UnusableDeltaError: it takes more memory than the bounds.
        """
        most = min(
            self.bounds.max_memory // 2,
            self.bounds.max_memory - PAYLOAD_COPIES * self.payload_length,
        )
        return reference(self.base, self.files, self.spare, most)

    def tar(self, payload: bytes) -> Iterator[bytes]:
        """Yield the canonical tar of the result, one file in memory at a time.

        Raises:
            DocumentError: a gzip member cannot be made again as its recipe says.
        """
        at = 0
        for file in self.files:
            if isinstance(file.source, Kept):
                content = self.base.read(self.base.entries[file.source.index].path)
            else:
                body = payload[at : at + file.source.body]
                content = closed(file.source, body, self.bounds.encoders)
                at += len(body)
            yield header(TreeEntry(file.path, len(content), file.executable))
            yield content
            yield bytes(padding(len(content)))
        yield END


def receive(base: TreeSource, cursor: Cursor, bounds: Bounds) -> Received:
    """Read the head of a delta of the changed set and leave `cursor` at its payload.

    Raises:
        DigestError: the script makes more than the bounds' `result_length` bytes.
        DocumentError: head or script are malformed.
        UnusableDeltaError: the payload takes more memory than the bounds.
    """
    form = cursor.take(1)[0]
    content = cursor.take(cursor.take_number(_MAX_SCRIPT))
    most = min(_MAX_SCRIPT, bounds.max_memory)
    script = Cursor(_open_script(form, content, base.entries, most))
    files = read_script(base.entries, script, bounds.result_length // BLOCK)
    if script.left:
        raise DocumentError("something follows the script of the delta's file list")
    received = Received(base, files, cursor.take_number(1 << 40), bounds)
    inflated = sum(
        member.inflated
        for file in files
        if isinstance(file.source, Recipe)
        for member in file.source.members
    )
    plain = received.payload_length - inflated
    if plain + inflated // MAX_EXPANSION > bounds.result_length:
        raise DigestError("the delta makes more content than the length that was signed")
    bounds.admit(PAYLOAD_COPIES * received.payload_length)
    return received


def _open_script(form: int, content: bytes, entries: Sequence[TreeEntry], most: int) -> bytes:
    if form == _PLAIN:
        return content
    paths = _paths(entries)
    if form == _DEFLATED:
        inflater = zlib.decompressobj(-15, zdict=paths[-32 * KIB :])
        try:
            script = inflater.decompress(content, most)
        except zlib.error as error:
            raise DocumentError(f"the delta's file list is malformed: {error}") from error
        if not inflater.eof or inflater.unused_data:
            raise DocumentError("the delta's file list is cut off or too long")
        return script
    if form == _FRAMED:
        return b"".join(zstdframe.unsqueeze(content, paths, most))
    raise DocumentError(f"the delta's file list has the unknown form {form}")
