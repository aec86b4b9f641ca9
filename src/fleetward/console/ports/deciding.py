"""What listens on a host, from its events in any order: pure.

Each listener keeps its newest event; what is older changes nothing but `first_seen`. Two kinds of
marks stand beside the listeners, since what they close may be told of later than they are:

    SUPERSEDED  a `listener-changed` with another digest before: what had that digest at this place
                (protocol, port, reach, container) is gone
    LISTED      an answer to `list-ports`: what has none of the ports in it is gone

So a listener is open where its newest event says so and no newer mark closes it. Events of an
epoch are ordered by their number; those of two epochs by the host's clock.

Known limits: of two listeners with one digest at one place in two units, a change of one closes
both until the host lists its ports again; an answer that was cut closes nothing; a key holds
`MAX_LISTENERS`, and what comes beyond is in the events alone.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec

from fleetward.core.portrules import Verdict
from fleetward.core.status import EventKind
from fleetward.errors import DocumentError
from fleetward.wire.ports import ListenerNote, parse_listener_event

SUPERSEDED: Final = "*superseded"
"""The unit of a mark for a digest; a systemd unit has no star."""

LISTED: Final = "*listed"
"""The unit of a mark for a list; its ports are in `path`, its event in `sha256`."""

MAX_LISTENERS: Final = 1_000
"""Rows of one key, marks included (a host that makes listeners up without end)."""

CONTAINER_CHARS: Final = 40
"""Kept of a container: an event is cut, and this much is never cut."""

UNIT_CHARS: Final = 40

NOTHING_LISTENS: Final = "nothing listens on the watched ports"
_LISTED_ONE: Final = re.compile(r"(tcp|udp)/[0-9]{1,5}(?= )")

LISTENER_KINDS: Final = frozenset(
    {
        EventKind.LISTENER_OPENED.value,
        EventKind.LISTENER_CLOSED.value,
        EventKind.LISTENER_CHANGED.value,
    }
)

Identity = tuple[str, int, str, str, str, str]
"""Protocol, port, reach, digest, unit, container."""


class ListenerRow(msgspec.Struct, array_like=True, gc=False):
    """A row of `models.Listener`, in the order of the table that `taking` writes.

    `is_open` is 0 or 1, as SQLite has it.
    """

    key: int
    host: int
    protocol: str
    port: int
    reach: str
    sha256: str
    unit: str
    container: str
    name: str
    path: str
    verdict: str
    reasons: str
    is_open: int
    first_seen: datetime
    at: datetime
    epoch: str
    e: int

    @property
    def identity(self) -> Identity:
        """What the listener is, whichever PID it has."""
        return (self.protocol, self.port, self.reach, self.sha256, self.unit, self.container)

    @property
    def is_mark(self) -> bool:
        """Whether this closes others, and is no listener itself."""
        return self.unit.startswith("*")

    def is_after(self, other: "ListenerRow") -> bool:
        """Return whether this row's event is newer; a tie is broken by content, the same way always."""
        if self.epoch == other.epoch:
            return (self.e, *self.content_order()) > (other.e, *other.content_order())
        return (self.at, self.epoch) > (other.at, other.epoch)

    def content_order(self) -> tuple[datetime, int, str, str, str, str]:
        """What breaks a tie of two events with one number (a clone)."""
        return (self.at, self.is_open, self.verdict, self.reasons, self.name, self.path)


class Told(msgspec.Struct, frozen=True, gc=False):
    """A stored event that may say something of listeners; fields as `fleet.models.Event`."""

    key: int
    host: int
    epoch: str
    e: int
    at: datetime
    kind: str
    subject: str
    detail: str


def rows_of(told: Told) -> tuple[ListenerRow, ...]:
    """Return what an event says: a listener and perhaps a mark, a list, or nothing.

    An answer to a directive is read as one to `list-ports`: the caller knows whether it was.
    """
    if told.kind == EventKind.DIRECTIVE_DONE:
        listed = _listed(told.detail)
        return () if listed is None else (_list_mark(told, listed),)
    if told.kind not in LISTENER_KINDS:
        return ()
    try:
        note = parse_listener_event(told.subject, told.detail)
    except DocumentError:
        return ()  # a count of what was not told, or a later version's
    if not 0 < note.port <= 65_535:
        return ()
    row = _row(told, note)
    if row.is_mark:
        return ()
    return (row, _superseding(row, note)) if _supersedes(told, note) else (row,)


def _row(told: Told, note: ListenerNote) -> ListenerRow:
    return ListenerRow(
        key=told.key,
        host=told.host,
        protocol=note.protocol.value,
        port=note.port,
        reach=note.reach.value,
        sha256=note.sha256[:32],
        unit=note.unit[:UNIT_CHARS],
        container=note.container[:CONTAINER_CHARS],
        name=note.name[:200],
        path=note.path[:200],
        verdict=note.verdict.value,
        reasons=",".join(note.reasons)[:200],
        is_open=int(told.kind != EventKind.LISTENER_CLOSED),
        first_seen=told.at,
        at=told.at,
        epoch=told.epoch,
        e=told.e,
    )


def _supersedes(told: Told, note: ListenerNote) -> bool:
    return told.kind == EventKind.LISTENER_CHANGED and note.was not in set(Verdict)


def _superseding(row: ListenerRow, note: ListenerNote) -> ListenerRow:
    return msgspec.structs.replace(
        row,
        sha256=note.was[:32],
        unit=SUPERSEDED,
        name="",
        path="",
        verdict="",
        reasons="",
        is_open=0,
    )


def _listed(answer: str) -> frozenset[str] | None:
    """Return the places (`tcp/2967`) in an answer to `list-ports`; None where it is not all there."""
    if answer == NOTHING_LISTENS:
        return frozenset()
    found = [_LISTED_ONE.match(part) for part in answer.split("; ")]
    if answer.endswith("…") or not all(found):
        return None
    return frozenset(match[0] for match in found if match)


def _list_mark(told: Told, listed: frozenset[str]) -> ListenerRow:
    return ListenerRow(
        key=told.key,
        host=told.host,
        protocol="",
        port=0,
        reach="",
        sha256=f"{told.epoch[:16]}{told.e:016d}"[:32],
        unit=LISTED,
        container="",
        name="",
        path=",".join(sorted(listed))[:200],
        verdict="",
        reasons="",
        is_open=0,
        first_seen=told.at,
        at=told.at,
        epoch=told.epoch,
        e=told.e,
    )


class Kept(msgspec.Struct, gc=False):
    """What is kept of one key, as far as events at hand concern it.

    Attributes:
        rows: by identity; all at the ports of the events, all marks of lists, and all that is open
            where an event is a list.
        room: how many rows may still be added.
    """

    rows: dict[Identity, ListenerRow]
    room: int = MAX_LISTENERS

    def take(self, events: Iterable[Told]) -> list[ListenerRow]:
        """Take events; return the rows that are to be written, each once."""
        changed: dict[Identity, ListenerRow] = {}
        for event in events:
            for row in rows_of(event):
                changed |= {one.identity: one for one in self._take_one(row)}
        return list(changed.values())

    def _take_one(self, row: ListenerRow) -> list[ListenerRow]:
        before = self.rows.get(row.identity)
        if before is None and self.room <= 0:
            return []
        if before is None:
            self.room -= 1
            now = row
        else:
            first_seen = min(before.first_seen, row.first_seen)
            newer = row if row.is_after(before) else before
            if newer is before and first_seen == before.first_seen:
                return []
            now = msgspec.structs.replace(newer, first_seen=first_seen)
        self.rows[row.identity] = now
        if now.is_mark:
            return [now, *self._closed_by(now)]
        if now.is_open and any(_closes(mark, now) for mark in self.rows.values() if mark.is_mark):
            now.is_open = 0
        return [now]

    def _closed_by(self, mark: ListenerRow) -> list[ListenerRow]:
        found = [row for row in self.rows.values() if row.is_open and _closes(mark, row)]
        for row in found:
            row.is_open = 0
        return found


def _closes(mark: ListenerRow, row: ListenerRow) -> bool:
    """Return whether a mark says that a listener is gone."""
    if mark.unit == LISTED:
        is_named = f"{row.protocol}/{row.port}" in mark.path.split(",")
    else:
        place = (mark.protocol, mark.port, mark.reach, mark.sha256, mark.container)
        is_named = place != (row.protocol, row.port, row.reach, row.sha256, row.container)
    return not is_named and _is_later(mark, row)


def _is_later(mark: ListenerRow, row: ListenerRow) -> bool:
    if mark.epoch == row.epoch:
        return mark.e > row.e
    return mark.at > row.at
