"""Deflate streams (RFC 1951) as tokens, and tokens cut into blocks again.

GNU gzip and zlib find the same tokens, literals and matches, at the same level; they end blocks
at different places. So GNU gzip's bytes can be made again from zlib's tokens and a list of block
ends: the Huffman codes of a block follow from its tokens by the one algorithm that both use.

A token is a literal, 0 to 255, or a match, `length << 16 | distance` with a length of 3 to 258.

Deliberately not here: finding tokens; zlib does that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from fleetward.errors import DocumentError

STORED, FIXED, DYNAMIC = range(3)
_END = 256
_LENGTH_EXTRA = [0] * 8 + [n for n in range(1, 6) for _ in range(4)] + [0]
_LENGTH_BASE = [*accumulate([3, *(1 << n for n in _LENGTH_EXTRA[:-2])]), 258]
_DISTANCE_EXTRA = [0, 0] + [n for n in range(14) for _ in range(2)]
_DISTANCE_BASE = list(accumulate([1, *(1 << n for n in _DISTANCE_EXTRA[:-1])]))
_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
_FIXED_LENGTHS = ([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8, [5] * 30)
_MAX_BITS, _MAX_LENGTH_BITS = 15, 7

_LENGTH_SYMBOL = [0] * 259
for _symbol, (_base, _extra) in enumerate(zip(_LENGTH_BASE, _LENGTH_EXTRA, strict=True)):
    for _length in range(_base, min(_base + (1 << _extra), 259)):
        _LENGTH_SYMBOL[_length] = _symbol


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a stream.

    Attributes:
        kind: STORED, FIXED or DYNAMIC.
        tokens: its tokens; of a stored block its bytes, as literals.
    """

    kind: int
    tokens: list[int]


class _Bits:
    """Reads bits, least significant first."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0
        self.held = 0
        self.count = 0

    def fill(self) -> None:
        """Hold 48 bits at least; zeros follow the end."""
        piece = self._content[self._at : self._at + 6]
        self._at += 6
        self.held |= int.from_bytes(piece, "little") << self.count
        self.count += 48
        if self._at > len(self._content) + 12:
            raise DocumentError("a deflate stream is cut off")

    def take(self, count: int) -> int:
        """Return the next `count` bits, 48 at most."""
        if self.count < count:
            self.fill()
        value = self.held & ((1 << count) - 1)
        self.held >>= count
        self.count -= count
        return value

    def align(self) -> None:
        """Move on to the next whole byte."""
        self.take(self.count % 8)


_Table = list[int]
"""What the next bits say: `symbol << 4 | bits of the code`, 0 where no code has them."""


def _table(lengths: Sequence[int]) -> tuple[_Table, int]:
    width = max(lengths, default=0) or 1
    table = [0] * (1 << width)
    for symbol, (code, bits) in enumerate(zip(_codes(lengths), lengths, strict=True)):
        if bits:
            for at in range(code, 1 << width, 1 << bits):
                table[at] = symbol << 4 | bits
    return table, width


def _codes(lengths: Sequence[int]) -> list[int]:
    """Return the canonical codes, their bits turned round as they are written."""
    following = [0] * (_MAX_BITS + 2)
    code = 0
    for bits in range(1, _MAX_BITS + 1):
        code = code + (lengths.count(bits - 1) if bits > 1 else 0) << 1
        following[bits] = code
    codes = []
    for bits in lengths:
        codes.append(int(f"{following[bits]:0{bits}b}"[::-1], 2) if bits else 0)
        following[bits] += 1
    return codes


def read_blocks(stream: bytes) -> list[Block]:
    """Return the blocks of `stream`, which zlib has read without complaint before.

    Raises:
        DocumentError: it is malformed or cut off.
    """
    bits = _Bits(stream)
    blocks = []
    last = 0
    while not last:
        last, kind = bits.take(1), bits.take(2)
        if kind == STORED:
            bits.align()
            count = bits.take(16)
            bits.take(16)
            blocks.append(Block(kind, [bits.take(8) for _ in range(count)]))
        elif kind in {FIXED, DYNAMIC}:
            lengths = _FIXED_LENGTHS if kind == FIXED else _read_lengths(bits)
            blocks.append(Block(kind, _read_tokens(bits, *map(_table, lengths))))
        else:
            raise DocumentError("a deflate stream has a block of no known kind")
    return blocks


def _symbol_at(bits: _Bits, table: _Table, width: int) -> int:
    if bits.count < width:
        bits.fill()
    found = table[bits.held & ((1 << width) - 1)]
    if not found:
        raise DocumentError("a deflate stream has a code that its tables do not")
    bits.held >>= found & 15
    bits.count -= found & 15
    return found >> 4


def _read_lengths(bits: _Bits) -> tuple[list[int], list[int]]:
    literals, distances, orders = bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4
    of_lengths = [0] * 19
    for place in _ORDER[:orders]:
        of_lengths[place] = bits.take(3)
    table = _table(of_lengths)
    lengths: list[int] = []
    while len(lengths) < literals + distances:
        symbol = _symbol_at(bits, *table)
        if symbol < 16:
            lengths.append(symbol)
        elif symbol == 16:
            lengths += lengths[-1:] * (3 + bits.take(2))
        else:
            lengths += [0] * (3 + bits.take(3) if symbol == 17 else 11 + bits.take(7))
    return lengths[:literals], lengths[literals:]


def _read_tokens(
    bits: _Bits, literals: tuple[_Table, int], distances: tuple[_Table, int]
) -> list[int]:
    tokens: list[int] = []
    while (symbol := _symbol_at(bits, *literals)) != _END:
        if symbol < _END:
            tokens.append(symbol)
            continue
        place = min(symbol - 257, 28)
        length = _LENGTH_BASE[place] + bits.take(_LENGTH_EXTRA[place])
        place = min(_symbol_at(bits, *distances), 29)
        distance = _DISTANCE_BASE[place] + bits.take(_DISTANCE_EXTRA[place])
        tokens.append(length << 16 | distance)
    return tokens


def covered(tokens: Sequence[int]) -> int:
    """Return how many bytes of content `tokens` stand for."""
    return sum(token >> 16 or 1 for token in tokens)


class _Writer:
    """Writes bits, least significant first."""

    def __init__(self) -> None:
        self.out = bytearray()
        self._held = 0
        self._count = 0

    def put(self, value: int, count: int) -> None:
        self._held |= value << self._count
        self._count += count
        if self._count >= 512:
            whole = self._count // 8
            self.out += (self._held & ((1 << whole * 8) - 1)).to_bytes(whole, "little")
            self._held >>= whole * 8
            self._count -= whole * 8

    def align(self) -> None:
        whole = (self._count + 7) // 8
        self.out += self._held.to_bytes(whole, "little")
        self._held = self._count = 0


def write_blocks(blocks: Sequence[tuple[int, Sequence[int]]], content: bytes) -> bytes:
    """Return the stream of `blocks` (kind and tokens of each), as zlib and GNU gzip write it.

    Args:
        blocks: in order; the last is marked as the last.
        content: what all tokens stand for; stored blocks take their bytes from it.
    """
    writer = _Writer()
    at = 0
    for place, (kind, tokens) in enumerate(blocks):
        length = covered(tokens)
        writer.put((place == len(blocks) - 1) | kind << 1, 3)
        if kind == STORED:
            writer.align()
            writer.put(length & 0xFFFF | (length & 0xFFFF ^ 0xFFFF) << 16, 32)
            writer.align()
            writer.out += content[at : at + length]
        else:
            _write_block(writer, kind, tokens)
        at += length
    writer.align()
    return bytes(writer.out)


def _write_block(writer: _Writer, kind: int, tokens: Sequence[int]) -> None:
    rows = [_symbols(token) for token in tokens]
    literals, distances = _FIXED_LENGTHS
    if kind == DYNAMIC:
        counts, far = [0] * 286, [0] * 30
        counts[_END] = 1
        for row in rows:
            counts[row[0]] += 1
            if len(row) > 1:
                far[row[3]] += 1
        literals, distances = code_lengths(counts, _MAX_BITS), code_lengths(far, _MAX_BITS)
        _write_lengths(writer, literals, distances)
    codes, far_codes = _codes(literals), _codes(distances)
    for row in rows:
        writer.put(codes[row[0]], literals[row[0]])
        if len(row) > 1:
            writer.put(row[1], row[2])
            writer.put(far_codes[row[3]], distances[row[3]])
            writer.put(row[4], row[5])
    writer.put(codes[_END], literals[_END])


def _symbols(token: int) -> tuple[int, ...]:
    """Return a literal's symbol; or a match's symbol, extra, bits, and those of its distance."""
    if token < _END:
        return (token,)
    length, distance = token >> 16, token & 0xFFFF
    place = _LENGTH_SYMBOL[length]
    if distance <= 4:
        far = distance - 1
    else:
        bits = (distance - 1).bit_length()
        far = 2 * bits - 2 + ((distance - 1) >> (bits - 2) & 1)
    return (
        257 + place,
        length - _LENGTH_BASE[place],
        _LENGTH_EXTRA[place],
        far,
        distance - _DISTANCE_BASE[far],
        _DISTANCE_EXTRA[far],
    )


def _write_lengths(writer: _Writer, literals: Sequence[int], distances: Sequence[int]) -> None:
    rows = [*_runs(literals), *_runs(distances)]
    counts = [0] * 19
    for symbol, _, _ in rows:
        counts[symbol] += 1
    lengths = code_lengths(counts, _MAX_LENGTH_BITS)
    lengths += [0] * (19 - len(lengths))
    orders = max(4, *(place + 1 for place, symbol in enumerate(_ORDER) if lengths[symbol]))
    writer.put(len(literals) - 257, 5)
    writer.put(len(distances) - 1, 5)
    writer.put(orders - 4, 4)
    for symbol in _ORDER[:orders]:
        writer.put(lengths[symbol], 3)
    codes = _codes(lengths)
    for symbol, extra, bits in rows:
        writer.put(codes[symbol], lengths[symbol])
        writer.put(extra, bits)


def _runs(lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield code lengths as symbols 0 to 18 with their extra value and its bits."""
    at = 0
    while at < len(lengths):
        length = lengths[at]
        run = 1
        while at + run < len(lengths) and lengths[at + run] == length:
            run += 1
        at += run
        if length:
            yield length, 0, 0
            run -= 1
        yield from _repeats(length, run)


def _repeats(length: int, run: int) -> Iterator[tuple[int, int, int]]:
    while run >= 3:
        if length:
            taken = min(run, 6)
            yield 16, taken - 3, 2
        else:
            taken = min(run, 138)
            yield (17, taken - 3, 3) if taken <= 10 else (18, taken - 11, 7)
        run -= taken
    for _ in range(run):
        yield length, 0, 0


def code_lengths(counts: Sequence[int], most: int) -> list[int]:
    """Return the lengths of the Huffman codes of symbols seen `counts` times, `most` at most.

    The result ends with the last symbol that has a code. Where codes of several lengths would do,
    the choice is zlib's and GNU gzip's: a heap ordered by count, then by depth; codes too long
    are shortened from the deepest level that has room; the rarest symbols get the longest codes.
    """
    heap, parents = _merge(counts)
    depth = {heap[0]: 0}
    per_length = [0] * (most + 1)
    leaves = []
    overflow = 0
    for node in heap[1:]:
        bits = depth[parents[node]] + 1
        overflow += bits > most
        depth[node] = min(bits, most)
        if node < max(len(counts), 2):
            per_length[depth[node]] += 1
            leaves.append(node)
    lengths = [0] * (max(leaves) + 1)
    if not overflow:
        for leaf in leaves:
            lengths[leaf] = depth[leaf]
        return lengths
    while overflow > 0:
        bits = max(b for b in range(most) if per_length[b])
        per_length[bits] -= 1
        per_length[bits + 1] += 2
        per_length[most] -= 1
        overflow -= 2
    for bits in range(most, 0, -1):
        for _ in range(per_length[bits]):
            lengths[leaves.pop()] = bits
    return lengths


def _merge(counts: Sequence[int]) -> tuple[list[int], dict[int, int]]:
    """Return all nodes, root first, in the reverse of the order of merging; and their parents."""
    weight = {symbol: (count, 0) for symbol, count in enumerate(counts) if count}
    top = max(weight, default=-1)
    while len(weight) < 2:
        top, symbol = (top + 1, top + 1) if top < 2 else (top, 0)
        weight[symbol] = (1, 0)
    heap = list(weight)
    for place in reversed(range(len(heap) // 2)):
        _sink(heap, place, weight)
    merged: list[int] = []
    parents: dict[int, int] = {}
    node = max(len(counts), 2)
    while len(heap) > 1:
        first = heap[0]
        heap[0] = heap[-1]
        heap.pop()
        _sink(heap, 0, weight)
        second = heap[0]
        merged += [first, second]
        parents[first] = parents[second] = node
        (a, a_depth), (b, b_depth) = weight[first], weight[second]
        weight[node] = (a + b, max(a_depth, b_depth) + 1)
        heap[0] = node
        _sink(heap, 0, weight)
        node += 1
    return [*heap, *reversed(merged)], parents


def _sink(heap: list[int], place: int, weight: dict[int, tuple[int, int]]) -> None:
    if place >= len(heap):
        return
    moved = heap[place]
    child = 2 * place + 1
    while child < len(heap):
        if child + 1 < len(heap) and weight[heap[child + 1]] <= weight[heap[child]]:
            child += 1
        if weight[moved] <= weight[heap[child]]:
            break
        heap[place] = heap[child]
        place, child = child, 2 * child + 1
    heap[place] = moved
