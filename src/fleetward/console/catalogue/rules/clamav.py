"""ClamAV's signatures, by name: the text databases, and those inside a CVD or CLD.

A CVD is a 512-byte header and a gzip'd tar of text databases; a CLD may hold the plain tar. Both
are opened in bounded memory, and read only as far as `MAX_OPENED` bytes.
"""

import io
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from fleetward.console.catalogue.rules.rule import Rule, digest, words

HEADER: Final = 512
MAX_OPENED: Final = 64 * 1024 * 1024
"""Bytes of one database, decompressed; what lies behind is not read (a decompression bomb)."""

MAX_MEMBERS: Final = 1_000
"""Files of one database (a tar of endless empty entries)."""

_NAME_FIRST: Final = {".ndb": b":", ".ndu": b":", ".ldb": b";", ".ldu": b";", ".cdb": b":"}
_NAME_THIRD: Final = {".hdb", ".hdu", ".hsb", ".hsu", ".mdb", ".mdu", ".msb", ".msu", ".imp"}
_ALLOWED: Final = {".fp", ".sfp"}
_IGNORED: Final = {".ign", ".ign2"}
TEXT: Final = frozenset({*_NAME_FIRST, *_NAME_THIRD, *_ALLOWED, *_IGNORED})
"""Suffixes of the databases that are lines of text."""

CONTAINERS: Final = frozenset({".cvd", ".cld", ".cud"})


def read_clamav(content: bytes, suffix: str) -> Iterator[Rule]:
    """Yield the signatures of a text database, which its suffix says the form of."""
    for line in content.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith(b"#"):
            continue
        name = _name(stripped, suffix)
        if name:
            yield Rule("ClamAV", words(name), body=digest([suffix.encode(), stripped]))


def _name(line: bytes, suffix: str) -> bytes:
    if suffix in _NAME_FIRST:
        return line.split(_NAME_FIRST[suffix], 1)[0]
    fields = line.split(b":")
    if suffix in _NAME_THIRD or suffix in _ALLOWED:
        name = fields[2] if len(fields) > 2 else b""
        return b"allowed: " + name if name and suffix in _ALLOWED else name
    # NAME, or FILE:LINE:NAME of older ones.
    return b"ignored: " + (fields[2] if len(fields) > 2 else fields[0])


def read_container(content: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a CVD or CLD with their names, and its header as a file `NAME.header`."""
    yield f"{name}.header", content[:HEADER]
    body = memoryview(content)[HEADER:]
    opened = _inflated(body) if bytes(body[:2]) == b"\x1f\x8b" else bytes(body[:MAX_OPENED])
    try:
        with tarfile.open(fileobj=io.BytesIO(opened), mode="r:") as tar:
            for count, member in enumerate(tar):
                if count >= MAX_MEMBERS:
                    return
                file = tar.extractfile(member) if member.isreg() else None
                if file is not None:
                    yield PurePosixPath(member.name).name, file.read()
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError):
        return  # cut off, or no tar: what was read of it is what is known


def _inflated(body: memoryview) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    try:
        return inflater.decompress(body, MAX_OPENED)
    except zlib.error:
        return b""


def read_header(content: bytes, database: str) -> Iterator[Rule]:
    """Yield a database's header as a rule, so that its version is seen to change."""
    fields = content.decode("ascii", "replace").strip().split(":")
    if fields[0] != "ClamAV-VDB" or len(fields) < 4:
        return
    notes = (("version", words(fields[2])), ("signatures", words(fields[3])))
    yield Rule("ClamAV", f"{words(database)} (the database itself)", words(fields[1]), notes=notes)
