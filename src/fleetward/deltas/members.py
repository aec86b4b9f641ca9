"""Gzip members inside a file, opened where making them again gives the same bytes.

A **recipe** says how a file's content travels: a row of members, each with the plain bytes that
stand before it, and the plain bytes behind the last one. A file without members is plain. In a
script (deltas.script) a member is four numbers and a list: the gap's length; the inflated length;
`2 * encoder`, plus 1 where a gzip trailer (RFC 1952: CRC-32 and length) follows and is made again
too; the count of block ends; each block end as `4 * tokens + kind`, 0 tokens for all that are
left. Then one number, the tail. The body of the file in the payload is gap and inflated content
of each member, then the tail.

An **encoder** has a name in the manifest, with commas between several: `zlib/LEVEL/MEMLEVEL/
STRATEGY` is `deflateInit2` with a window of 32 KiB (strategy `default` or `filtered`). With block
ends given, its tokens are cut into these blocks (deltas.deflate): so GNU gzip's bytes come back.

The **opened form** of a base's file, in a reference, is the file with each deflate stream of a
gzip member replaced by what it holds; header and trailer stay. It needs no encoder.

Deliberately not here: zip files, pigz, compressors that do not share zlib's tokens, and GNU gzip
over long stretches that do not compress (zlib stores them, and its tokens are lost); such content
travels as it is.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice

from fleetward.core.limits import KIB, MIB, TreeLimits
from fleetward.deltas import deflate
from fleetward.deltas.cursor import Cursor, UnusableDeltaError, number
from fleetward.errors import DocumentError

_LIMITS = TreeLimits()

OPEN_LIMIT = 32 * MIB
"""Bytes of a file's opened form, at most: stops a bomb inside a base."""

CUT_LIMIT = 2 * MIB
"""Inflated bytes of a member that may be cut into blocks again: a second of time for each."""

MAX_EXPANSION = 1_032
"""Deflate makes no more bytes than this of one."""

_KNOWN_CRC = 0x84562E5B
"""Of what zlib makes of a sample; tests/deltas/test_members.py says how it was made."""

_MAGIC = b"\x1f\x8b\x08"
_TRAILER = 8
_FIRST_PIECE = 64 * KIB
_UNSURE_TOKENS = 300
"""Tokens at the end of a piece that the bytes behind it may change: a match has 3 to 258."""

_STRATEGIES = {"default": zlib.Z_DEFAULT_STRATEGY, "filtered": zlib.Z_FILTERED}
_ENCODERS = tuple(
    f"zlib/{level}/{memory}/{strategy}"
    for strategy in ("default", "filtered")
    for memory in (8, 9)
    for level in (6, 9, 1, 2, 3, 4, 5, 7, 8)
)
_CUT_ENCODERS = _ENCODERS[:9]


@dataclass(frozen=True, slots=True)
class Member:
    """One deflate stream of a file, travelling inflated.

    Attributes:
        gap: plain bytes before it.
        inflated: bytes of its content.
        encoder: index of what makes it again in the delta's list of encoders.
        trailer: a gzip trailer follows, made again too.
        cuts: tokens and kind of each of its blocks; empty where the encoder's own are right.
    """

    gap: int
    inflated: int
    encoder: int
    trailer: bool = True
    cuts: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one file's content travels.

    Attributes:
        members: what was opened, in the file's order.
        tail: plain bytes behind the last member; all bytes where there is none.
    """

    members: tuple[Member, ...]
    tail: int

    @property
    def body(self) -> int:
        """How many bytes of payload the file takes."""
        return sum(member.gap + member.inflated for member in self.members) + self.tail


def recipe_bytes(recipe: Recipe) -> bytes:
    """Return `recipe` as it stands in a script."""
    out = bytearray()
    for member in recipe.members:
        out += number(member.gap) + number(member.inflated)
        out += number(member.encoder << 1 | member.trailer) + number(len(member.cuts))
        for tokens, kind in member.cuts:
            out += number(tokens << 2 | kind)
    return bytes(out + number(recipe.tail))


def read_recipe(cursor: Cursor, members: int) -> Recipe:
    """Return the recipe of `members` members at `cursor`.

    Raises:
        DocumentError: it is cut off, has a number above the tree's limits, or a member longer
            than `OPEN_LIMIT`.
    """
    if not 0 < members <= cursor.left:
        raise DocumentError("the delta opens other members than it describes")
    rows = []
    for _ in range(members):
        gap, inflated = cursor.take_number(_LIMITS.max_bytes), cursor.take_number(OPEN_LIMIT)
        encoder, trailer = divmod(cursor.take_number(1 << 16), 2)
        cuts = (cursor.take_number(OPEN_LIMIT) for _ in range(cursor.take_number(cursor.left)))
        pairs = tuple((cut >> 2, cut & 3) for cut in cuts)
        rows.append(Member(gap, inflated, encoder, bool(trailer), pairs))
    return Recipe(tuple(rows), cursor.take_number(_LIMITS.max_bytes))


@dataclass(frozen=True, slots=True)
class _Stream:
    """A deflate stream that was found in a file: where it lies and what it holds."""

    begin: int
    end: int
    inflated: bytes


def _streams(content: bytes) -> Iterator[_Stream]:
    at = content.find(_MAGIC)
    room = OPEN_LIMIT - len(content)
    while at >= 0:
        found = _stream(content, at, room)
        if found:
            yield found
            room -= len(found.inflated)
        at = content.find(_MAGIC, found.end if found else at + 1)


def _stream(content: bytes, at: int, room: int) -> _Stream | None:
    """Return the stream of the gzip member whose header stands at `at`, if one does."""
    begin = _header_end(content, at)
    if begin is None or room <= 0:
        return None
    inflater = zlib.decompressobj(-15)
    try:
        inflated = inflater.decompress(memoryview(content)[begin:], room)
    except zlib.error:
        return None
    if not inflater.eof or len(inflated) >= room:
        return None
    return _Stream(begin, len(content) - len(inflater.unused_data), inflated)


def _header_end(content: bytes, at: int) -> int | None:
    """Return where the deflate stream behind a gzip header begins (RFC 1952, 2.3)."""
    head = content[at : at + 12]
    if len(head) < 12 or head[3] & 0xE0:
        return None
    flags, end = head[3], at + 10
    if flags & 4:
        end += 2 + int.from_bytes(head[10:12], "little")
    for flag in (8, 16):
        if flags & flag:
            zero = content.find(b"\0", end, end + 4 * KIB)
            if zero < 0:
                return None
            end = zero + 1
    end += flags & 2
    return end if end < len(content) else None


def opened_form(content: bytes) -> bytes:
    """Return `content` with its gzip members inflated in place."""
    pieces, at = [], 0
    for stream in _streams(content):
        pieces += [content[at : stream.begin], stream.inflated]
        at = stream.end
    return b"".join([*pieces, content[at:]]) if pieces else content


class Opener:
    """Opens files at the origin, and keeps the list of encoders that it needed."""

    def __init__(self) -> None:
        self.encoders: list[str] = []

    def open(self, content: bytes) -> tuple[Recipe, bytes] | None:
        """Return recipe and body of `content`, or None where no member can be made again."""
        if not zlib_is_known():
            return None
        members: list[Member] = []
        pieces: list[bytes] = []
        at = 0
        for stream in _streams(content):
            proven = self._prove(content, stream)
            if proven is None:
                continue
            members.append(replace(proven, gap=stream.begin - at))
            pieces += [content[at : stream.begin], stream.inflated]
            at = stream.end + _TRAILER * proven.trailer
        if not members:
            return None
        return Recipe(tuple(members), len(content) - at), b"".join([*pieces, content[at:]])

    def _prove(self, content: bytes, stream: _Stream) -> Member | None:
        raw = content[stream.begin : stream.end]
        trailer = content[stream.end : stream.end + _TRAILER] == _trailer(stream.inflated)
        known = [*self.encoders, *(name for name in _ENCODERS if name not in self.encoders)]
        for name in known:
            if _makes(name, stream.inflated, raw):
                return Member(0, len(stream.inflated), self._index(name), trailer)
        return self._prove_cut(stream.inflated, raw, trailer=trailer)

    def _prove_cut(self, inflated: bytes, raw: bytes, *, trailer: bool) -> Member | None:
        if len(inflated) > CUT_LIMIT:
            return None
        blocks = deflate.read_blocks(raw)
        for name in _CUT_ENCODERS:
            if not _begins(name, inflated, blocks[0]):
                continue
            tokens = _tokens(name, inflated)
            cuts = _cuts(blocks, tokens)
            if cuts and _cut(tokens, cuts, inflated) == raw:
                return Member(0, len(inflated), self._index(name), trailer, cuts)
        return None

    def _index(self, name: str) -> int:
        if name not in self.encoders:
            self.encoders.append(name)
        return self.encoders.index(name)


def _trailer(inflated: bytes) -> bytes:
    crc, length = zlib.crc32(inflated), len(inflated) & 0xFFFFFFFF
    return crc.to_bytes(4, "little") + length.to_bytes(4, "little")


def _deflater(name: str) -> "zlib._Compress":
    if name not in _ENCODERS:
        raise UnusableDeltaError(f"the encoder {name[:80]!r} is unknown here: take the pack")
    _, level, memory, strategy = name.split("/")
    return zlib_compressor(int(level), int(memory), _STRATEGIES[strategy])


def zlib_compressor(level: int, memory: int, strategy: int) -> "zlib._Compress":
    """Return a compressor of raw deflate streams with a window of 32 KiB."""
    return zlib.compressobj(level, zlib.DEFLATED, -15, memory, strategy)


@cache
def zlib_is_known() -> bool:
    """Return whether this machine's zlib makes the bytes of zlib 1.2 and 1.3; zlib-ng does not."""
    sample = b"".join(b"%d fleet, %x ward\n" % (i * i, i * 7919) for i in range(2_000))
    crc = 0
    for name in (_ENCODERS[0], _ENCODERS[1], _ENCODERS[2], _ENCODERS[-8]):
        crc = zlib.crc32(_encode(name, sample), crc)
    return crc == _KNOWN_CRC


def _encode(name: str, inflated: bytes) -> bytes:
    deflater = _deflater(name)
    return deflater.compress(inflated) + deflater.flush()


def _makes(name: str, inflated: bytes, raw: bytes) -> bool:
    """Return whether the encoder makes `raw`; gives up at the first piece that differs."""
    deflater = _deflater(name)
    first = deflater.compress(inflated[:_FIRST_PIECE])
    if raw[: len(first)] != first:
        return False
    return first + deflater.compress(inflated[_FIRST_PIECE:]) + deflater.flush() == raw


def _tokens(name: str, inflated: bytes) -> list[int]:
    blocks = deflate.read_blocks(_encode(name, inflated))
    return [token for block in blocks for token in block.tokens]


def _begins(name: str, inflated: bytes, first: deflate.Block) -> bool:
    """Return whether the encoder's first tokens are those of `first`; cheap, may err to yes."""
    if first.kind == deflate.STORED:
        return name in _CUT_ENCODERS[:2]
    tokens = _tokens(name, inflated[:_FIRST_PIECE])
    if len(inflated) > _FIRST_PIECE:
        del tokens[-_UNSURE_TOKENS:]
    shorter = min(len(tokens), len(first.tokens))
    return tokens[:shorter] == first.tokens[:shorter]


def _cuts(
    blocks: Sequence[deflate.Block], tokens: Sequence[int]
) -> tuple[tuple[int, int], ...] | None:
    """Return the ends of `blocks` counted in `tokens`; None where they do not fit together."""
    cuts, at = [], 0
    for block in blocks:
        count = len(block.tokens)
        if block.kind == deflate.STORED:
            left, count = count, 0
            while left > 0 and at + count < len(tokens):
                left -= tokens[at + count] >> 16 or 1
                count += 1
            if left or not count:
                return None
        elif tokens[at : at + count] != block.tokens:
            return None
        at += count
        cuts.append((count, block.kind))
    return (*cuts[:-1], (0, cuts[-1][1])) if at == len(tokens) else None


def _cut(tokens: Sequence[int], cuts: Sequence[tuple[int, int]], inflated: bytes) -> bytes:
    rest = iter(tokens)
    blocks = [(kind, list(islice(rest, count or None))) for count, kind in cuts]
    return deflate.write_blocks(blocks, inflated)


def closed(recipe: Recipe, body: bytes, encoders: Sequence[str]) -> bytes:
    """Return the content of the file that travels as `recipe` and `body`.

    Raises:
        DocumentError: the recipe names an encoder that is not in `encoders`, or block ends of an
            unknown kind.
        UnusableDeltaError: an encoder is unknown here, or this host's zlib is not the known one.
    """
    if recipe.members and not zlib_is_known():
        raise UnusableDeltaError("this host's zlib makes other bytes than zlib: take the pack")
    pieces, at = [], 0
    for member in recipe.members:
        pieces.append(body[at : at + member.gap])
        inflated = body[at + member.gap : at + member.gap + member.inflated]
        at += member.gap + member.inflated
        if member.encoder >= len(encoders):
            raise DocumentError("the delta names an encoder that the manifest does not")
        pieces.append(_remade(member, inflated, encoders[member.encoder]))
        if member.trailer:
            pieces.append(_trailer(inflated))
    return b"".join([*pieces, body[at:]]) if pieces else body


def _remade(member: Member, inflated: bytes, encoder: str) -> bytes:
    if not member.cuts:
        return _encode(encoder, inflated)
    if any(kind > deflate.DYNAMIC for _, kind in member.cuts) or len(inflated) > CUT_LIMIT:
        raise DocumentError("the delta's gzip member has blocks of an unknown kind or is too long")
    return _cut(_tokens(encoder, inflated), member.cuts, inflated)
