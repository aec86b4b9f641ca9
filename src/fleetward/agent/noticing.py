"""What happened on this host since the last report: pure, from what was noted then and what is now.

An event is told once, when a state is entered. What was noted is saved after the events are in the
spool; a stop between the two tells them twice, which is better than never.

Deliberately not here: the port watch's events, which it records by itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from fleetward.agent.records import Record
from fleetward.agent.updating import LastCheck
from fleetward.core.documents import whole_second
from fleetward.core.install import State
from fleetward.core.limits import STATUS
from fleetward.core.status import EventKind, HostEvent
from fleetward.errors import DocumentError
from fleetward.wire.preparing import prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """An event that has no number yet; fields as `core.status.HostEvent`."""

    at: datetime
    kind: EventKind
    product: str = ""
    release: str = ""
    subject: str = ""
    detail: str = ""

    def line(self) -> bytes:
        """Return it as the spool keeps it: one line of JSON."""
        return msgspec.json.encode(self)

    def numbered(self, e: int) -> HostEvent:
        """Return it as an event of a check-in."""
        return HostEvent(
            e=e,
            at=self.at,
            kind=self.kind,
            product=self.product,
            release=self.release,
            subject=self.subject,
            detail=self.detail,
        )


def happening(
    at: datetime,
    kind: EventKind,
    *,
    product: str = "",
    release: str = "",
    subject: str = "",
    detail: str = "",
) -> Happening:
    """Return a happening whose texts are made to fit: printable, and cut where they are long."""
    return Happening(
        at=whole_second(at),
        kind=kind,
        product=product,
        release=release,
        subject=short(subject),
        detail=short(detail),
    )


def short(text: str) -> str:
    """Return a text as one printable line of at most `STATUS.text_chars`."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= STATUS.text_chars else f"{line[: STATUS.text_chars - 1]}…"


def parse_line(line: bytes) -> Happening:
    """Return what `Happening.line` wrote.

    Raises:
        DocumentError: a later version wrote it, or nobody did.
    """
    try:
        return msgspec.json.decode(line, type=prepared(Happening))
    except msgspec.MsgspecError as error:
        raise DocumentError(f"not an event of this version: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedProduct:
    """What the last report knew of a product; a repair changes nothing but the slot."""

    state: State = State.NONE
    release: str = ""
    slot: str = ""
    held_back: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What the last report knew.

    Attributes:
        products: by name.
        frozen: whether every source gave old metadata only.
        refused: the sources whose metadata was refused, as the remarks named them.
        clock: the remark about the clock; empty for none.
    """

    products: dict[str, NotedProduct] = field(default_factory=dict)
    frozen: bool = False
    refused: tuple[str, ...] = ()
    clock: str = ""


_KINDS = {
    State.TRIAL: EventKind.ACTIVATED,
    State.CONFIRMED: EventKind.CONFIRMED,
    State.ROLLED_BACK: EventKind.ROLLED_BACK,
    State.REJECTED: EventKind.REJECTED,
    State.UNPROTECTED: EventKind.UNPROTECTED,
}
_FAILED = frozenset({State.ROLLED_BACK, State.REJECTED})


def notice(
    noted: Noted, records: Iterable[Record], check: LastCheck | None, now: datetime
) -> tuple[Noted, tuple[Happening, ...]]:
    """Return what is to be noted now, and what happened since.

    Args:
        noted: what the last report knew.
        records: the host's products.
        check: what the last run found.
        now: the wall clock.
    """
    products = {str(record.product): _noted_product(record) for record in records}
    happened = [
        found
        for record in records
        if (found := _of_product(noted.products.get(record.product), record, now))
    ]
    if check is None:
        return Noted(products=products), tuple(happened)
    after = Noted(
        products=products,
        frozen=check.frozen,
        refused=tuple(sorted(r for r in check.remarks if " is refused: " in r)),
        clock=next((r for r in check.remarks if r.startswith("the clock of this host")), ""),
    )
    return after, (*happened, *_of_check(noted, after, now))


def _noted_product(record: Record) -> NotedProduct:
    return NotedProduct(
        state=record.state,
        release=record.current.release if record.current else "",
        slot=record.current.slot if record.current else "",
        held_back=record.held_back.release if record.held_back else "",
    )


def _of_product(before: NotedProduct | None, record: Record, now: datetime) -> Happening | None:
    kind = _KINDS.get(record.state)
    if kind is None or _noted_product(record) == before:
        return None
    release = record.current.release if record.current else ""
    if record.state in _FAILED and record.held_back:
        release = record.held_back.release
    return happening(now, kind, product=record.product, release=release, detail=_reason(record))


def _reason(record: Record) -> str:
    if record.state in _FAILED and record.held_back:
        return record.held_back.reason
    return record.reason or ""


def _of_check(before: Noted, after: Noted, now: datetime) -> list[Happening]:
    happened = [
        happening(now, EventKind.REFUSED_SOURCE, subject=source, detail=why)
        for source, _, why in (remark.partition(" is refused: ") for remark in after.refused)
        if not any(known.startswith(f"{source} is refused") for known in before.refused)
    ]
    if after.frozen and not before.frozen:
        happened.append(happening(now, EventKind.FROZEN_SOURCE))
    if after.clock and not before.clock:
        happened.append(happening(now, EventKind.CLOCK, detail=after.clock))
    return happened
