"""Check-ins: the sealed content, and the batches in which relays carry the envelopes.

The content is JSON with rows in place of objects where they repeat, since a usual check-in (three
products, no event) must fit one datagram of 1,200 bytes once sealed and signed. A row may grow at
its end, an object by a field: readers pass over what they do not know (docs/adr/0005).

A batch is `FWCHECK1`, then for each envelope: its length (4 bytes), the time of receipt (8 bytes,
milliseconds since 1970), how many relays carried it before the sender (1 byte), the length of the
peer's address (1 byte), the address as ASCII, the envelope. All numbers are unsigned, big-endian. Compression is the carrier's (adapters.compression).

See docs/formats-status.md.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

import msgspec

from fleetward.core.documents import whole_second
from fleetward.core.install import State
from fleetward.core.limits import STATUS
from fleetward.core.status import (
    CheckIn,
    Epoch,
    EventKind,
    HostEvent,
    HostId,
    PortsSummary,
    ProductStatus,
    SeenVersions,
    require,
)
from fleetward.errors import DocumentError
from fleetward.wire.preparing import prepared

CHECKIN_SCHEMA: Final = "fleetward.checkin/1"
CHECKIN_TYPE: Final = "application/vnd.fleetward.checkin"
"""The payload's type in a check-in's envelope: the content above, sealed to the console."""

ENVELOPE_MEDIA_TYPE: Final = "application/json"
"""Content-Type of one envelope, as a host posts it."""

BATCH_MEDIA_TYPE: Final = "application/vnd.fleetward.checkins+zstd"
"""Content-Type of a batch, as a relay posts it: the bytes of `encode_batch` as a zstd frame."""

CHECKINS_PATH: Final = "/v1/checkins"

_MAGIC: Final = b"FWCHECK1"
_RECORD: Final = struct.Struct(">IQBB")
_EPOCH_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
MAX_HOPS: Final = 255
"""What a batch can say; relays stop far earlier."""

MAX_PEER_CHARS: Final = 45
"""The longest address: IPv6 with an embedded IPv4."""

_LAST_INSTANT: Final = 253_402_300_799_999
"""Milliseconds: the end of the year 9999, where dates end."""


class _Product(msgspec.Struct, frozen=True, array_like=True):
    product: str
    channel: str
    release: str
    seq: int
    state: State
    tree: str
    wave: int | None


class _Event(msgspec.Struct, frozen=True, omit_defaults=True):
    e: int
    at: datetime
    kind: EventKind
    product: str = ""
    release: str = ""
    subject: str = ""
    detail: str = ""


class _CheckIn(msgspec.Struct, frozen=True, omit_defaults=True):
    schema: str
    host: str
    epoch: str
    n: int
    sent: datetime
    products: tuple[_Product, ...] = ()
    tuf: tuple[int, int, int] = (0, 0, 0)
    relay: str = ""
    clock: int | None = None
    ports: tuple[int, int, str] | None = None
    events: tuple[_Event, ...] = ()


_DECODER: Final = msgspec.json.Decoder(prepared(_CheckIn))
_ENCODER: Final = msgspec.json.Encoder()


def encode_check_in(check_in: CheckIn) -> bytes:
    """Return a check-in's content; instants lose what is finer than a second."""
    seen, ports = check_in.tuf, check_in.ports
    return _ENCODER.encode(
        _CheckIn(
            schema=CHECKIN_SCHEMA,
            host=check_in.host,
            epoch=check_in.epoch,
            n=check_in.n,
            sent=whole_second(check_in.sent),
            products=tuple(_row_of(product) for product in check_in.products),
            tuf=(seen.root, seen.timestamp, seen.snapshot),
            relay=check_in.relay,
            clock=check_in.clock,
            ports=(ports.listeners, ports.unexpected, ports.digest) if ports else None,
            events=tuple(_event_of(event) for event in check_in.events),
        )
    )


def _row_of(product: ProductStatus) -> _Product:
    return _Product(
        product.product,
        product.channel,
        product.release,
        product.seq,
        product.state,
        product.tree,
        product.wave,
    )


def _event_of(event: HostEvent) -> _Event:
    return _Event(
        event.e,
        whole_second(event.at),
        event.kind,
        event.product,
        event.release,
        event.subject,
        event.detail,
    )


def decode_check_in(content: bytes) -> CheckIn:
    """Return a check-in's content.

    Raises:
        DocumentError: longer than an envelope may be, not JSON, another schema, or a value that is
            missing or out of range.
    """
    require(len(content) <= STATUS.envelope_bytes, f"a check-in of {len(content)} bytes")
    try:
        raw = _DECODER.decode(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DocumentError(f"not a {CHECKIN_SCHEMA} document: {error}") from error
    require(raw.schema == CHECKIN_SCHEMA, f"the schema {raw.schema[:60]!r}, not {CHECKIN_SCHEMA}")
    root, timestamp, snapshot = raw.tuf
    return CheckIn(
        host=HostId(raw.host),
        epoch=Epoch(raw.epoch),
        n=raw.n,
        sent=raw.sent,
        products=tuple(_product_of(row) for row in raw.products),
        tuf=SeenVersions(root=root, timestamp=timestamp, snapshot=snapshot),
        relay=raw.relay,
        clock=raw.clock,
        ports=_ports_of(raw.ports),
        events=tuple(_host_event_of(event) for event in raw.events),
    )


@lru_cache(maxsize=4096)
def _product_of(row: _Product) -> ProductStatus:
    """Return a row as its value, which is held: the rows of a fleet are much the same."""
    return ProductStatus(
        product=row.product,
        channel=row.channel,
        release=row.release,
        seq=row.seq,
        state=row.state,
        tree=row.tree,
        wave=row.wave,
    )


def _host_event_of(event: _Event) -> HostEvent:
    return HostEvent(
        e=event.e,
        at=event.at,
        kind=event.kind,
        product=event.product,
        release=event.release,
        subject=event.subject,
        detail=event.detail,
    )


def _ports_of(row: tuple[int, int, str] | None) -> PortsSummary | None:
    if row is None:
        return None
    listeners, unexpected, digest = row
    return PortsSummary(listeners=listeners, unexpected=unexpected, digest=digest)


# -- batches -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Carried:
    """An envelope, as the first relay got it; nothing of it is verified.

    Attributes:
        received: when, by the relay's clock, in milliseconds since 1970.
        peer: from which address, as the relay saw it.
        envelope: its bytes.
        hops: how many relays carried it before; a chain that is a circle ends by it.
    """

    received: int
    peer: str
    envelope: bytes
    hops: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.hops <= MAX_HOPS, f"{self.hops} relays carried it")
        require(0 <= self.received <= _LAST_INSTANT, f"no time of receipt: {self.received}")
        is_address = self.peer.isascii() and self.peer.isprintable()
        require(is_address and len(self.peer) <= MAX_PEER_CHARS, f"no address: {self.peer[:80]!r}")
        is_short = 0 < len(self.envelope) <= STATUS.envelope_bytes
        require(is_short, f"an envelope of {len(self.envelope)} bytes")

    @property
    def received_at(self) -> datetime:
        """Return the time of receipt as an instant."""
        return _EPOCH_START + self.received * _MILLISECOND


def milliseconds_of(instant: datetime) -> int:
    """Return an aware instant in milliseconds since 1970."""
    return (instant - _EPOCH_START) // _MILLISECOND


def encoded_length(carried: Carried) -> int:
    """Return how many bytes `carried` takes in a batch."""
    return _RECORD.size + len(carried.peer) + len(carried.envelope)


def encode_batch(batch: Iterable[Carried]) -> bytes:
    """Return a batch's bytes, before compression."""
    pieces = [_MAGIC]
    for one in batch:
        peer = one.peer.encode("ascii")
        head = _RECORD.pack(len(one.envelope), one.received, one.hops, len(peer))
        pieces += (head, peer, one.envelope)
    return b"".join(pieces)


def decode_batch(content: bytes) -> tuple[Carried, ...]:
    """Return what a batch carries.

    Raises:
        DocumentError: too long, too many, not a batch, or broken off.
    """
    require(len(content) <= STATUS.batch_bytes, f"a batch of {len(content)} bytes")
    require(content.startswith(_MAGIC), "not a batch of check-ins")
    at = len(_MAGIC)
    batch: list[Carried] = []
    while at < len(content):
        require(len(batch) < STATUS.batch_check_ins, f"more than {len(batch)} check-ins")
        carried, at = _next_carried(content, at)
        batch.append(carried)
    return tuple(batch)


def _next_carried(content: bytes, at: int) -> tuple[Carried, int]:
    start = at + _RECORD.size
    require(start <= len(content), "the batch is broken off")
    length, received, hops, peer_length = _RECORD.unpack_from(content, at)
    body = start + peer_length
    end = body + length
    require(end <= len(content), "the batch is broken off")
    peer = content[start:body].decode("latin-1")
    return Carried(received, peer, content[body:end], hops), end
