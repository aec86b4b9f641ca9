"""What happened on this host since the last report: pure, from what was noted then and what is now.

An event is told once, when a state is entered; what a source did, once an hour for each source and
kind. What was noted is saved after the events are in the spool; a stop between the two tells them
twice, which is better than never.

Deliberately not here: the port watch's events, which it records by itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import msgspec

from fleetward.agent.records import Record
from fleetward.agent.updating import LastCheck, SourceTrouble, Trouble
from fleetward.core.documents import whole_second
from fleetward.core.install import State
from fleetward.core.limits import SOURCE_EVENT_EVERY, STATUS
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
        clock: the remark about the clock; empty for none.
        checked: when the last check began whose sources were told of; each is told of once.
        told: when what a source did was told last, by kind and source.
        record: the id of the record under which the host was enrolled; empty before that.
    """

    products: dict[str, NotedProduct] = field(default_factory=dict)
    frozen: bool = False
    clock: str = ""
    checked: datetime | None = None
    told: dict[str, datetime] = field(default_factory=dict)
    record: str = ""


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
        return replace(noted, products=products), tuple(happened)
    told, sources = _of_sources(noted, check)
    after = replace(
        noted,
        products=products,
        frozen=check.frozen,
        clock=next((r for r in check.remarks if r.startswith("the clock of this host")), ""),
        checked=check.checked if check.troubles else noted.checked,
        told=told,
    )
    return after, (*happened, *sources, *_of_check(noted, after, now))


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
    happened = []
    if after.frozen and not before.frozen:
        happened.append(happening(now, EventKind.FROZEN_SOURCE))
    if after.clock and not before.clock:
        happened.append(happening(now, EventKind.CLOCK, detail=after.clock))
    return happened


def _of_sources(noted: Noted, check: LastCheck) -> tuple[dict[str, datetime], list[Happening]]:
    happened: list[Happening] = []
    told = noted.told
    for trouble in check.troubles if check.checked != noted.checked else ():
        told, found = notice_source(told, trouble, check.checked)
        happened += found
    return told, happened


_SOURCE_KINDS = {
    Trouble.REFUSED: EventKind.REFUSED_SOURCE,
    Trouble.OLD: EventKind.FROZEN_SOURCE,
}


def notice_source(
    told: Mapping[str, datetime], trouble: SourceTrouble, at: datetime
) -> tuple[dict[str, datetime], tuple[Happening, ...]]:
    """Return what was told of sources, and what of this is to be told now, once an hour.

    Args:
        told: when what a source did was told last.
        trouble: what one did.
        at: when it did that.
    """
    recent = {key: then for key, then in told.items() if abs(at - then) < SOURCE_EVENT_EVERY}
    key = f"{trouble.kind} {trouble.source}"
    if key in recent:
        return recent, ()
    found = happening(
        at, _SOURCE_KINDS[trouble.kind], subject=name_of(trouble.source), detail=trouble.why
    )
    return {**recent, key: at}, (found,)


def notice_enrolled(
    noted: Noted, record: str, now: datetime
) -> tuple[Noted, tuple[Happening, ...]]:
    """Return what is to be noted of an approved host, and the event where that is new.

    Args:
        noted: what the last report knew.
        record: the id of the host's record.
        now: the wall clock.
    """
    if noted.record == record:
        return noted, ()
    return replace(noted, record=record), (happening(now, EventKind.ENROLLED, subject=record),)


def name_of(url: str | None) -> str:
    """Return a source as people name it: host and port, without scheme and password."""
    if url is None:
        return ""
    rest = url.partition("://")[2].rstrip("/")
    return rest.rpartition("@")[2][: STATUS.text_chars]
