"""The events of a host, kept until the console has stored them: numbered, fsync'd, bounded.

    HOME/reports/state.json     the epoch, the last check-in number, what is acknowledged
    HOME/reports/events.log     a line for the epoch, then a line for each event

Invariants:

- An event is durable before `record` returns, so before it can be sent (P7). What a stop leaves of
  a line that was never durable was never sent either, and is dropped.
- `e` is contiguous within an epoch; a check-in number is durable before it is used. So no number is
  ever sent with two contents, unless the folder itself was copied or set back.
- Where the two files do not belong together, one is gone, or a line in the middle is damaged, a new
  epoch begins: what is left of the events is numbered anew, and nothing is sent under old numbers.
- An event leaves the spool only a week after an acknowledgement that the console signed: a console
  that was restored from a backup acknowledges less, and gets them again.
- A console that asks for events which are no longer here gets a new epoch too: in the old one it
  would wait for ever.
- A full spool takes no more, and says how many it did not take as soon as there is room: dropping
  the oldest would leave a gap that nobody can fill.

Deliberately not here: what an event says (wire.checkins), verifying acknowledgements (agent.inbox).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Disk, Kind
from fleetward.adapters.entropy import Entropy
from fleetward.core.limits import KIB, MIB
from fleetward.errors import DocumentError, UsageError
from fleetward.wire.documents import decode_json, encode_json

_STATE_SCHEMA: Final = "fleetward.reports-state/1"
_LOG_HEAD: Final = "fleetward.events/1"
_DIGEST_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """What the spool may hold.

    Attributes:
        events: stops a host that fails over and over from filling its disk with reports of it.
        total_bytes: the same, in bytes.
        event_bytes: longest event; one must fit a check-in.
        kept: how long acknowledged events stay, in case the console is restored from a backup.
    """

    events: int = 10_000
    total_bytes: int = 4 * MIB
    event_bytes: int = 4 * KIB
    kept: timedelta = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class SpooledEvent:
    """An event: its number and its canonical JSON, on one line."""

    e: int
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """Up to where the console has stored events, and when the host learned it."""

    e: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    epoch: str
    n: int = 0
    acknowledged: tuple[Acknowledged, ...] = ()
    dropped: int = 0


def no_notice(_count: int) -> bytes | None:
    """Say nothing of events that found no room."""
    return None


class EventSpool:
    """The spool of one host; one process at a time has it open (Home.lock, or the loop alone)."""

    def __init__(
        self,
        disk: Disk,
        folder: Path,
        entropy: Entropy,
        notice: Callable[[int], bytes | None] = no_notice,
        limits: SpoolLimits | None = None,
    ) -> None:
        """Open the spool, and mend what a stop has left.

        Args:
            disk: where it lies.
            folder: its folder; made where absent.
            entropy: draws epochs.
            notice: returns the event that says how many events found no room.
            limits: what it may hold.

        Raises:
            DiskError: it cannot be read or written.
        """
        self._disk = disk
        self._state_path = folder / "state.json"
        self._log_path = folder / "events.log"
        self._entropy = entropy
        self._notice = notice
        self._limits = limits or SpoolLimits()
        self._events: list[SpooledEvent] = []
        self._base = 0
        disk.make_folder(folder, private=True)
        self._state = self._open()

    @property
    def epoch(self) -> str:
        """The random name of this state directory, 16 hex digits."""
        return self._state.epoch

    @property
    def last_e(self) -> int:
        """The number of the newest event; 0 before the first."""
        return self._events[-1].e if self._events else self._base

    @property
    def acknowledged_e(self) -> int:
        """Up to where the console has stored events."""
        marks = self._state.acknowledged
        return marks[-1].e if marks else 0

    def draw_number(self) -> int:
        """Return the number of the next check-in; it is durable, and is never drawn again.

        Raises:
            DiskError: it could not be made durable.
        """
        self._save(replace(self._state, n=self._state.n + 1))
        return self._state.n

    def record(self, content: bytes, share: float = 1.0) -> int | None:
        """Keep an event and return its number; None where the spool is full.

        Args:
            content: canonical JSON without line breaks.
            share: of the spool that may be in use before this event finds no room. Under 1, for
                what strangers can cause, such an event is the caller's to tell later, and is not
                counted as dropped.

        Raises:
            UsageError: too long, or with a line break (a mistake in the caller).
            DiskError: the disk is full or failing; the event is not kept.
        """
        if len(content) > self._limits.event_bytes or b"\n" in content:
            raise UsageError(f"an event of {len(content)} bytes does not fit one line of the spool")
        if share < 1 and not self._has_room(content, share):
            return None
        if not self._has_room(content):
            self._save(replace(self._state, dropped=self._state.dropped + 1))
            return None
        self._say_dropped()
        return self._append(content)

    def pending(self, max_bytes: int, max_events: int) -> tuple[SpooledEvent, ...]:
        """Return the oldest events that are not acknowledged, as many as fit.

        Args:
            max_bytes: of their contents together.
            max_events: how many at most.
        """
        chosen: list[SpooledEvent] = []
        for event in self._events[self._place_after(self.acknowledged_e) :]:
            max_bytes -= len(event.content)
            if max_bytes < 0 or len(chosen) == max_events:
                break
            chosen.append(event)
        return tuple(chosen)

    def acknowledge(self, epoch: str, e: int, now: datetime) -> None:
        """Take a verified acknowledgement, the newest of the console's.

        One that covers less than the last means that the console was restored from a backup:
        what it lacks is pending again. One that covers what this spool never had means that this
        folder was set back (a snapshot, a copy); then, and where the console lacks what is no
        longer here, a new epoch begins.

        Args:
            epoch: what it is about; one about another epoch changes nothing.
            e: none is missing up to this event.
            now: the wall clock.

        Raises:
            DiskError: it could not be made durable; the old one still holds.
        """
        if epoch != self.epoch:
            return
        if e > self.last_e or e < self._base:
            self._begin(self._events[self._place_after(self.acknowledged_e) :])
            return
        if e != self.acknowledged_e:
            marks = [mark for mark in self._state.acknowledged if mark.e < e]
            self._save(
                replace(self._state, acknowledged=(*_thin(marks), Acknowledged(e=e, at=now)))
            )
        self._forget(now)

    # -- inside --------------------------------------------------------------------------------

    def _open(self) -> _State:
        state, whole = self._read_state(), self._read_log()
        if state is None or whole != state.epoch or self._claims_more(state):
            return self._begin(self._events, state)
        return state

    def _claims_more(self, state: _State) -> bool:
        return bool(state.acknowledged) and state.acknowledged[-1].e > self.last_e

    def _read_state(self) -> _State | None:
        try:
            return decode_json(_STATE_SCHEMA, _State, self._disk.read(self._state_path))
        except (FileNotFoundError, DocumentError):
            return None

    def _read_log(self) -> str | None:
        """Read what the log holds; return its epoch, or None where it cannot be gone on with."""
        if self._disk.kind(self._log_path) is not Kind.FILE:
            return None
        *lines, tail = self._disk.read(self._log_path).split(b"\n")
        head = _parse_head(lines[0]) if lines else None
        self._base = head[1] if head else 0
        expected = self._base
        for line in lines[1:]:
            event = _parse_line(line)
            expected += 1
            if event is None or event.e != expected:
                head = None
            if event is not None:
                self._events.append(event)
        if head and tail:
            self._rewrite(head[0], self._base, self._events)
        return head[0] if head else None

    def _begin(self, events: list[SpooledEvent], old: _State | None = None) -> _State:
        """Begin a new epoch with `events` numbered anew."""
        dropped = old.dropped if old else 0
        epoch = self._entropy.token(8).hex()
        renumbered = [SpooledEvent(e, event.content) for e, event in enumerate(events, 1)]
        self._rewrite(epoch, 0, renumbered)  # first: a stop before the next line begins once more
        self._save(_State(epoch=epoch, dropped=dropped))
        return self._state

    def _save(self, state: _State) -> None:
        write_file(self._disk, self._state_path, encode_json(_STATE_SCHEMA, state), private=True)
        self._state = state

    def _rewrite(self, epoch: str, base: int, events: list[SpooledEvent]) -> None:
        lines = [_head(epoch, base), *(_line(event) for event in events)]
        write_file(self._disk, self._log_path, b"".join(lines), private=True)
        self._base, self._events = base, list(events)

    def _append(self, content: bytes) -> int:
        event = SpooledEvent(self.last_e + 1, content)
        try:
            with self._disk.append(self._log_path) as file:
                file.write(_line(event))
                file.sync()
        except BaseException:
            self._mend()
            raise
        self._events.append(event)
        return event.e

    def _mend(self) -> None:
        """Look again at the log after a failed append: half a line must not be written behind."""
        kept = list(self._events)
        self._rewrite(self.epoch, self._base, kept)

    def _has_room(self, content: bytes, share: float = 1.0) -> bool:
        used = sum(len(event.content) for event in self._events) + len(content)
        limits = self._limits
        fits_count = len(self._events) + 2 <= limits.events * share
        return fits_count and used <= limits.total_bytes * share

    def _say_dropped(self) -> None:
        notice = self._notice(self._state.dropped) if self._state.dropped else None
        if notice is not None:
            self._append(notice)
            self._save(replace(self._state, dropped=0))

    def _forget(self, now: datetime) -> None:
        """Remove what was acknowledged more than a week ago."""
        old = [m.e for m in self._state.acknowledged if now - m.at > self._limits.kept]
        if old and self._events and self._events[0].e <= max(old):
            base = max(old)
            self._rewrite(self.epoch, base, self._events[self._place_after(base) :])

    def _place_after(self, e: int) -> int:
        return max(0, min(len(self._events), e - self._base))


_MAX_MARKS: Final = 64


def _thin(marks: list[Acknowledged]) -> list[Acknowledged]:
    """Keep few marks: of the older half every second one goes, which only keeps events longer."""
    if len(marks) < _MAX_MARKS:
        return marks
    half = len(marks) // 2
    return [*marks[1:half:2], *marks[half:]]


def _head(epoch: str, base: int) -> bytes:
    return f"{_LOG_HEAD} {epoch} {base}\n".encode()


def _parse_head(line: bytes) -> tuple[str, int] | None:
    schema, _, rest = line.decode(errors="replace").partition(" ")
    epoch, _, base = rest.partition(" ")
    if schema != _LOG_HEAD or not (base.isascii() and base.isdigit()):
        return None
    return epoch, int(base)


def _line(event: SpooledEvent) -> bytes:
    body = b"%d %s" % (event.e, event.content)
    return _sum(body) + b" " + body + b"\n"


def _parse_line(line: bytes) -> SpooledEvent | None:
    digest, _, body = line.partition(b" ")
    e, _, content = body.partition(b" ")
    if digest != _sum(body) or not e.isdigit():
        return None
    return SpooledEvent(int(e), content)


def _sum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:_DIGEST_DIGITS].encode()
