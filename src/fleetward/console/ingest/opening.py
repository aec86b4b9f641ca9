"""From an envelope to what the console needs of it: verified, opened, checked; nothing stored.

This is where the time goes (Ed25519 65 µs, X25519 40 µs of about 140 µs for each check-in), so it
runs aside: `open_envelopes` takes and gives bytes and short tuples, which go cheaply to another
thread or process and back.

Invariant: what comes back as `Opened` was signed by the host that it names and sealed to this
console. Whether that host is enrolled is for `deciding`.
"""

import hashlib
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from fleetward.adapters.disk import SystemDisk
from fleetward.core.digest import sha256_of
from fleetward.core.status import CheckIn, HostEvent
from fleetward.identity.checkins import open_check_ins
from fleetward.identity.consoles import ConsoleKeys, load_console_keys


class OpenedEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event; fields as `core.status.HostEvent`, `digest` of all but its number."""

    e: int
    digest: str
    at: int
    kind: str
    product: str
    release: str
    subject: str
    detail: str


class OpenedProduct(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A product's row; fields as `core.status.ProductStatus`."""

    product: str
    channel: str
    release: str
    seq: int
    state: str
    tree: str
    wave: int | None


class Opened(msgspec.Struct, frozen=True, array_like=True):
    """A verified check-in, flat; instants in seconds since 1970.

    Attributes:
        digest: of the envelope's bytes.
        content: of what it runs: changes when products, ports or the root do.
    """

    host: str
    epoch: str
    n: int
    sent: int
    digest: str
    content: str
    relay: str
    clock: int | None
    tuf: tuple[int, int, int]
    ports: tuple[int, int, str] | None
    products: tuple[OpenedProduct, ...]
    events: tuple[OpenedEvent, ...]


Results = list[Opened | None]

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Results)


def open_envelopes(envelopes: Sequence[bytes], consoles: Sequence[ConsoleKeys]) -> Results:
    """Return each envelope's content, or None where it cannot be believed or read.

    Args:
        envelopes: their bytes.
        consoles: the console's present keys, then those just replaced.
    """
    said = open_check_ins(envelopes, consoles)
    return [
        None if one is None else _flat(one, sha256_of(envelope))
        for one, envelope in zip(said, envelopes, strict=True)
    ]


def _flat(said: CheckIn, digest: str) -> Opened:
    ports = said.ports
    products = tuple(
        OpenedProduct(p.product, p.channel, p.release, p.seq, p.state.value, p.tree, p.wave)
        for p in said.products
    )
    summary = (ports.listeners, ports.unexpected, ports.digest) if ports else None
    about = _ENCODER.encode((products, summary, said.tuf.root))
    return Opened(
        host=said.host,
        epoch=said.epoch,
        n=said.n,
        sent=int(said.sent.timestamp()),
        digest=digest,
        content=hashlib.sha256(about).hexdigest()[:32],
        relay=said.relay,
        clock=said.clock,
        tuf=(said.tuf.root, said.tuf.timestamp, said.tuf.snapshot),
        ports=summary,
        products=products,
        events=tuple(_flat_event(event) for event in said.events),
    )


def _flat_event(event: HostEvent) -> OpenedEvent:
    fields = (
        int(event.at.timestamp()),
        event.kind.value,
        event.product,
        event.release,
        event.subject,
        event.detail,
    )
    return OpenedEvent(event.e, sha256_of(_ENCODER.encode(fields)), *fields)


# -- in another process -----------------------------------------------------------------------------


class _Process:
    """What a process of the pool keeps."""

    consoles: tuple[ConsoleKeys, ...] = ()


def begin(paths: Sequence[Path]) -> None:
    """Load the console's keys; the first thing that a process of the pool does.

    It ends with the console, however that ends: a killed one must leave nobody who has its keys.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    _Process.consoles = tuple(load_console_keys(SystemDisk(), path) for path in paths)


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def open_in_process(envelopes: Sequence[bytes]) -> bytes:
    """Return `open_envelopes` in a form that goes cheaply through a pipe."""
    return _ENCODER.encode(open_envelopes(envelopes, _Process.consoles))


def unpack(packed: bytes) -> Results:
    """Return what `open_in_process` gave."""
    return _DECODER.decode(packed)
