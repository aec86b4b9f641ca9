"""What this host tells its console, and what it hears back: `Reporter.report`, once a minute.

    notice      what happened since the last report becomes events in the spool, fsync'd
    build       what each product runs, what was seen, the oldest events not acknowledged
    send        one datagram where nothing changed, else TCP; by a relay, else to the console itself
    hear        the inbox: acknowledgements let events go, directives are done and answered

    HOME/reports/noted.json    what the last report knew, and who carried it

Invariants: whatever fails, nothing is lost (events stay in the spool) and nothing here stops the
agent; what cannot be sent is told in the outcome, and tried again with the next report.

Deliberately not here: when to report (the agent's loop), what a directive does (`inbox.Acts`).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.clock import Clock
from fleetward.adapters.entropy import Entropy
from fleetward.adapters.http import HttpSession
from fleetward.agent import carrying
from fleetward.agent.consoles import signed_consoles
from fleetward.agent.enrolling import Enrolled, ask_again, host_key, load_enrolled
from fleetward.agent.events import EventSpool, SpooledEvent
from fleetward.agent.home import Home
from fleetward.agent.inbox import Acts, Orders
from fleetward.agent.noticing import (
    Happening,
    Noted,
    happening,
    name_of,
    notice,
    notice_enrolled,
    notice_source,
    parse_line,
)
from fleetward.agent.records import Record
from fleetward.agent.updating import LastCheck, SourceTrouble, Trouble
from fleetward.core.digest import sha256_of
from fleetward.core.enrolment import HostFacts, Standing
from fleetward.core.limits import STATUS
from fleetward.core.status import (
    CheckIn,
    Epoch,
    EventKind,
    HostEvent,
    PortsSummary,
    ProductStatus,
    SeenVersions,
)
from fleetward.errors import (
    BusyError,
    DocumentError,
    NetworkError,
    SignatureError,
    TrustError,
)
from fleetward.identity.checkins import seal_check_in
from fleetward.identity.hosts import HostKey
from fleetward.wire.checkins import CHECKINS_PATH, ENVELOPE_MEDIA_TYPE
from fleetward.wire.documents import decode_json, encode_json
from fleetward.wire.inbox import inbox_target

REPORTS: Final = "reports"
_NOTED_SCHEMA: Final = "fleetward.noted/1"

DATAGRAMS_BETWEEN: Final = 9
"""Check-ins by datagram before one goes by TCP, which shows whether anybody still carries them."""

INBOX_INTERVAL: Final = timedelta(seconds=45)
"""How often the inbox is asked for where nothing waits for an answer."""

ENROL_INTERVAL: Final = timedelta(minutes=5)
"""How often a host that waits for approval asks again."""

RECORD_WAIT: Final = timedelta(minutes=5)
"""How long an event waits for a report that is under way (a slow relay)."""

UNHEARD_REPORTS: Final = 5
"""Reports with events that nobody acknowledges, after which the console is asked before any relay: one
that takes all and carries nothing must not keep a host's events from it."""

_LOOK_AGAIN: Final = timedelta(milliseconds=200)

ROUNDS: Final = 4
"""Check-ins of one report: more events than fit one, then the answers to directives."""

EVENT_BYTES: Final = 40_000
"""Of events in one check-in: sealed, signed and in base64 it stays under STATUS.envelope_bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What this host saw, for its check-in.

    Attributes:
        records: its products.
        check: what the last run found.
        tuf: the versions of metadata that it trusts.
        clock: seconds by which its clock stands ahead of the newest signed time, or None.
        ports: the port watch, or None where it is off.
    """

    records: tuple[Record, ...] = ()
    check: LastCheck | None = None
    tuf: SeenVersions = field(default_factory=SeenVersions)
    clock: int | None = None
    ports: PortsSummary | None = None


class Way(Enum):
    """What became of a report."""

    NOT_ENROLLED = "this host is not enrolled"
    WAITING = "the console has not decided about this host"
    REFUSED = "the console refuses this host"
    DATAGRAM = "sent by datagram"
    CARRIED = "a relay carries it"
    STORED = "the console has it"
    FAILED = "nobody took it"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a report.

    Attributes:
        way: how it went.
        error: why nobody took it, or why the inbox could not be had; None where all went well.
        answered: directives that were done or refused now.
        pending: events that the console has not acknowledged.
    """

    way: Way
    error: str | None = None
    answered: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    noted: Noted = field(default_factory=Noted)
    status: str = ""
    carrier: str | None = None
    console: str = ""
    datagrams: int = 0
    inbox_at: datetime | None = None
    enrol_at: datetime | None = None
    unheard: int = 0


@dataclass(slots=True)
class Reporter:
    """Reports for one host, from any process, one at a time.

    Attributes:
        home: the agent's folder.
        sources: base URLs of relays, the preferred first.
        facts: what the host says of itself while it waits for approval.
        session: connects out.
        clock: time.
        entropy: epochs and nonces.
        acts: does directives.
        inbox_every: how often the inbox is asked for where nothing waits for an answer.
    """

    home: Home
    sources: Sequence[str]
    facts: HostFacts
    session: HttpSession
    clock: Clock
    entropy: Entropy
    acts: Acts
    inbox_every: timedelta = INBOX_INTERVAL

    def report(self, seen: Seen) -> Outcome:
        """Tell the console what this host is like now, and hear what it has to say.

        Raises:
            BusyError: another process reports at this moment.
            ConfigurationError: the host's key or `console.json` is damaged.
            DiskError: HOME cannot be written.
        """
        enrolled = load_enrolled(self.home)
        if enrolled is None:
            return Outcome(Way.NOT_ENROLLED)
        with self._lock():
            return self._report(enrolled, seen)

    def record(self, found: Happening, share: float = 1.0) -> int | None:
        """Keep an event of another part of the agent (the port watch); it goes with the next report.

        A report that is under way is waited for, since nothing else would keep the event.

        Args:
            found: the event.
            share: as `EventSpool.record`.

        Raises:
            BusyError: it took longer than `RECORD_WAIT`.
            DiskError: it could not be made durable.
        """
        end = self.clock.monotonic() + RECORD_WAIT
        while True:
            try:
                with self._lock():
                    return self._spool().record(found.line(), share)
            except BusyError:
                if self.clock.monotonic() >= end:
                    raise
                self.clock.sleep(_LOOK_AGAIN)

    # -- inside --------------------------------------------------------------------------------

    def _report(self, enrolled: Enrolled, seen: Seen) -> Outcome:
        spool, memory = self._spool(), self._load()
        memory = self._notice_enrolled(enrolled, spool, memory)
        memory = self._notice(seen, spool, memory)
        if enrolled.standing is Standing.PENDING:
            enrolled, memory = self._ask_again(enrolled, memory)
            memory = self._notice_enrolled(enrolled, spool, memory)
        if enrolled.standing is not Standing.APPROVED:
            self._save(memory)
            refused = enrolled.standing is Standing.REFUSED
            return Outcome(Way.REFUSED if refused else Way.WAITING, enrolled.reason or None)
        if memory.console != enrolled.pins.console:  # who carried to another one is not preferred
            memory = replace(memory, console=enrolled.pins.console, carrier=None, unheard=0)
        exchange = _Exchange(self, enrolled, host_key(self.home), spool, seen, memory)
        outcome = exchange.run()
        self._save(exchange.memory)
        return outcome

    def _lock(self) -> AbstractContextManager[None]:
        """Hold what one process at a time may: the spool (an update holds another lock)."""
        return self.home.disk.lock(self.home.path / "reports.lock")

    def _spool(self) -> EventSpool:
        folder = self.home.path / REPORTS
        return EventSpool(self.home.disk, folder, self.entropy, self._dropped)

    def _dropped(self, count: int) -> bytes:
        return happening(self.clock.now(), EventKind.EVENTS_DROPPED, detail=str(count)).line()

    def _notice_enrolled(self, enrolled: Enrolled, spool: EventSpool, memory: _Memory) -> _Memory:
        if enrolled.standing is not Standing.APPROVED:
            return memory
        noted, happened = notice_enrolled(memory.noted, enrolled.record, self.clock.now())
        return self._keep(noted, happened, spool, memory)

    def _notice(self, seen: Seen, spool: EventSpool, memory: _Memory) -> _Memory:
        noted, happened = notice(memory.noted, seen.records, seen.check, self.clock.now())
        return self._keep(noted, happened, spool, memory)

    def _keep(
        self, noted: Noted, happened: Sequence[Happening], spool: EventSpool, memory: _Memory
    ) -> _Memory:
        """Put what happened into the spool, then note it."""
        for one in happened:
            spool.record(one.line())
        if noted == memory.noted:
            return memory
        memory = replace(memory, noted=noted)
        self._save(memory)
        return memory

    def _ask_again(self, enrolled: Enrolled, memory: _Memory) -> tuple[Enrolled, _Memory]:
        now = self.clock.now()
        if not _is_due(memory.enrol_at, now, ENROL_INTERVAL):
            return enrolled, memory
        memory = replace(memory, enrol_at=now)
        try:
            answer = ask_again(
                self.home,
                self.sources,
                self.facts,
                session=self.session,
                clock=self.clock,
                entropy=self.entropy,
            )
        except (NetworkError, TrustError) as error:
            return replace(enrolled, reason=str(error)), memory
        return answer or enrolled, memory

    def _load(self) -> _Memory:
        path = self.home.path / REPORTS / "noted.json"
        try:
            return decode_json(_NOTED_SCHEMA, _Memory, self.home.disk.read(path))
        except (FileNotFoundError, DocumentError):
            return _Memory()

    def _save(self, memory: _Memory) -> None:
        path = self.home.path / REPORTS / "noted.json"
        write_file(self.home.disk, path, encode_json(_NOTED_SCHEMA, memory), private=True)


@dataclass(slots=True)
class _Exchange:
    """One report of an approved host."""

    reporter: Reporter
    enrolled: Enrolled
    key: HostKey
    spool: EventSpool
    seen: Seen
    memory: _Memory
    error: str | None = None
    answered: int = 0

    def run(self) -> Outcome:
        begun = self._place()
        way = self._send()
        for _ in range(ROUNDS - 1):
            before = self._place()
            if way is not Way.FAILED:
                self._hear()
            if self._place() == before or not self._pending():
                break
            way = self._send()
        pending = self.spool.last_e - self.spool.acknowledged_e
        is_heard = not pending or self._place()[:2] != begun[:2]
        self.memory = replace(self.memory, unheard=0 if is_heard else self.memory.unheard + 1)
        return Outcome(way, self.error, self.answered, pending)

    def _place(self) -> tuple[str, int, int]:
        return self.spool.epoch, self.spool.acknowledged_e, self.spool.last_e

    # -- send ----------------------------------------------------------------------------------

    def _send(self) -> Way:
        now = self.reporter.clock.now()
        events = self._pending()
        check_in = self._check_in(events, now)
        envelope = seal_check_in(check_in, self.key, self.enrolled.public())
        status = _digest(check_in)
        if not events and self._is_quiet(status, envelope) and self._by_datagram(envelope):
            self.memory = replace(self.memory, datagrams=self.memory.datagrams + 1)
            return Way.DATAGRAM
        return self._by_tcp(envelope, status)

    def _is_quiet(self, status: str, envelope: bytes) -> bool:
        memory = self.memory
        return (
            status == memory.status
            and memory.datagrams < DATAGRAMS_BETWEEN
            and len(envelope) <= STATUS.datagram_bytes
        )

    def _by_datagram(self, envelope: bytes) -> bool:
        carrier = self.memory.carrier
        if carrier is None or carrier == self.enrolled.pins.console:
            return False
        return carrying.send_datagram(carrier, envelope)

    def _by_tcp(self, envelope: bytes, status: str) -> Way:
        try:
            taken = carrying.bring(
                self.reporter.session,
                self._carriers(),
                CHECKINS_PATH,
                envelope,
                ENVELOPE_MEDIA_TYPE,
            )
        except (NetworkError, TrustError) as error:
            self.error = str(error)
            self.memory = replace(self.memory, status="", carrier=None)
            return Way.FAILED
        self.memory = replace(self.memory, status=status, carrier=taken.carrier, datagrams=0)
        return Way.STORED if taken.carrier == self.enrolled.pins.console else Way.CARRIED

    def _carriers(self) -> list[str]:
        source = self.seen.check.source if self.seen.check else None
        preferred = [self.memory.carrier, source]
        if self.memory.carrier == self.enrolled.pins.console:
            preferred = [source]  # a relay that is back takes over from the direct way
        console = self.enrolled.pins.console
        found = carrying.carriers(preferred, self.reporter.sources, console)
        if self.memory.unheard < UNHEARD_REPORTS:
            return found
        return [console, *(one for one in found if one != console)]

    def _pending(self) -> tuple[HostEvent, ...]:
        spooled = self.spool.pending(EVENT_BYTES, STATUS.events)
        return tuple(_event_of(event) for event in spooled)

    def _check_in(self, events: tuple[HostEvent, ...], now: datetime) -> CheckIn:
        n = self.spool.draw_number()
        seen = self.seen
        return CheckIn(
            host=self.key.id,
            epoch=Epoch(self.spool.epoch),
            n=n,
            sent=now,
            products=tuple(_row(record) for record in seen.records[: STATUS.products]),
            tuf=seen.tuf,
            relay=name_of(seen.check.source if seen.check else None),
            clock=seen.clock,
            ports=seen.ports,
            events=events,
        )

    # -- hear ----------------------------------------------------------------------------------

    def _hear(self) -> None:
        now = self.reporter.clock.now()
        waits = self.spool.last_e > self.spool.acknowledged_e
        if not waits and not _is_due(self.memory.inbox_at, now, self.reporter.inbox_every):
            return
        orders = Orders(self.reporter.home.disk, self.reporter.home.path / REPORTS)
        if signed_consoles(self.reporter.home) is not None:
            orders.hand_over(self.enrolled.public().id)
        try:
            carrying.first(self._carriers(), lambda url: self._take(url, orders, now))
        except (NetworkError, TrustError) as error:
            self.error = str(error)
        else:
            self.memory = replace(self.memory, inbox_at=now)

    def _take(self, url: str, orders: Orders, now: datetime) -> None:
        target = inbox_target(self.key.id, orders.seq(self.enrolled.public().id))
        content = carrying.fetch(self.reporter.session, url, target)
        if content is None:
            return
        console, keys = self.enrolled.public(), self.enrolled.pins.signing_keys()
        try:
            inbox = orders.accept(content, self.key.id, console, keys, now)
        except SignatureError as error:
            self._tell_refused(url, error, now)
            raise
        acknowledged = {ack.epoch: ack.e for ack in inbox.acks}
        epoch = self.spool.epoch  # the newest that the console knows of is always there
        self.spool.acknowledge(epoch, acknowledged.get(Epoch(epoch), 0), now)
        self.answered += orders.carry_out(
            inbox, self.reporter.acts, now, lambda found: self.spool.record(found.line())
        )

    def _tell_refused(self, url: str, error: SignatureError, now: datetime) -> None:
        """Tell who brought an inbox that no key signed which this host believes."""
        trouble = SourceTrouble(url, Trouble.REFUSED, f"an inbox: {error}")
        noted = self.memory.noted
        told, happened = notice_source(noted.told, trouble, now)
        noted = replace(noted, told=told)
        self.memory = self.reporter._keep(noted, happened, self.spool, self.memory)  # noqa: SLF001


def _is_due(last: datetime | None, now: datetime, interval: timedelta) -> bool:
    """Return whether `interval` has passed, or the clock was set back."""
    return last is None or not timedelta() <= now - last < interval


def _digest(check_in: CheckIn) -> str:
    """Return what tells whether anything changed that people would want to see at once."""
    about = (check_in.products, check_in.tuf.root, check_in.relay, check_in.ports)
    return sha256_of(repr((about, check_in.clock is None)).encode())


def _row(record: Record) -> ProductStatus:
    current = record.current
    return ProductStatus(
        product=record.product,
        channel=record.channel,
        release=current.release if current else "",
        seq=current.seq if current else 0,
        state=record.state,
        tree=current.tree[:32] if current else "",
        wave=record.wave,
    )


def _event_of(event: SpooledEvent) -> HostEvent:
    """Return a spooled event; one that this version cannot read is still a number, with its words."""
    try:
        return parse_line(event.content).numbered(event.e)
    except DocumentError as error:
        lost = happening(_UNKNOWN_TIME, EventKind.EVENTS_DROPPED, detail=str(error))
        return lost.numbered(event.e)


_UNKNOWN_TIME: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
