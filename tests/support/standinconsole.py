"""A console in memory, on loopback, for tests of hosts: verifies, rules, stores, signs; no database.

It answers as `console.ingest` does, by the same `identity` and `core`; a test turns it off, lets it
forget, or takes what it would answer.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from fleetward.adapters.clock import Clock
from fleetward.core.checkins import Arrival, EventMark, Known, rule, wanted
from fleetward.core.checkins import Epoch as KnownEpoch
from fleetward.core.digest import Sha256, sha256_of
from fleetward.core.enrolment import EnrolmentAnswer, Standing
from fleetward.core.inbox import Acknowledgement, Directive, Inbox
from fleetward.core.status import CheckIn, Epoch, HostEvent, HostId
from fleetward.errors import FleetwardError
from fleetward.identity.checkins import open_check_in, sign_inbox, verify_check_in
from fleetward.identity.consoles import ConsoleKeys
from fleetward.identity.enrolment import (
    EnrolmentToken,
    open_enrolment,
    sign_answer,
    verify_enrolment,
    verify_request,
)
from fleetward.wire.inbox import INBOX_PATH, parse_inbox_path
from fleetward.wire.tokenfile import ConsolePins, TokenFile
from support.sourceserver import Exchange, Script, SourceServer, source_server
from support.status import CONSOLE

TOKEN = EnrolmentToken("0011223344556677", b"\x05" * 32)
RECORD = "ab" * 8


@dataclass
class StandInConsole:
    """What it knows.

    Attributes:
        standing: what it answers to enrolments.
        is_away: whether every request is answered 503.
        check_ins: what it was told, in order.
        events: stored, by epoch and number.
        directives: in the inbox.
        seq: the inbox's number.
        requests: how many it was asked.
        signs_inbox: whose keys sign inboxes, where they are not its own.
    """

    clock: Clock
    keys: ConsoleKeys = CONSOLE
    standing: Standing = Standing.APPROVED
    is_away: bool = False
    check_ins: list[CheckIn] = field(default_factory=list)
    events: dict[tuple[Epoch, int], list[HostEvent]] = field(default_factory=dict)
    directives: list[Directive] = field(default_factory=list)
    seq: int = 0
    url: str = ""
    requests: int = 0
    signs_inbox: ConsoleKeys | None = None
    _epochs: dict[str, KnownEpoch] = field(default_factory=dict)

    @property
    def pins(self) -> ConsolePins:
        return ConsolePins(
            console=self.url,
            signing=(self.keys.public.signing.hex(),),
            sealing=self.keys.public.sealing.hex(),
        )

    @property
    def token_file(self) -> TokenFile:
        return TokenFile(pins=self.pins, token=TOKEN.text())

    def direct(self, directive: Directive) -> None:
        self.directives.append(directive)
        self.seq += 1

    def forget(self) -> None:
        """Be restored from a backup in which there was nothing."""
        self.events.clear()
        self._epochs.clear()
        self.seq += 1

    def stored(self) -> list[HostEvent]:
        return [event for _, events in sorted(self.events.items()) for event in events]

    # -- what it answers ---------------------------------------------------------------------

    def answer(self, exchange: Exchange) -> None:
        exchange.stays = True
        self.requests += 1
        path, _, query = f"/{exchange.path}".partition("?")
        if self.is_away:
            exchange.answer(503)
            return
        try:
            if path == "/v1/checkins":
                self.take(exchange.body)
                exchange.answer(204)
            elif path == "/v1/enroll":
                exchange.answer(200, {}, self.enrol(exchange.body))
            elif path.startswith(INBOX_PATH):
                self._inbox(exchange, *parse_inbox_path(path, query))
            else:
                exchange.answer(404)
        except FleetwardError:
            exchange.answer(400)

    def take(self, envelope: bytes) -> None:
        said = open_check_in(verify_check_in(envelope), (self.keys,))
        self.check_ins.append(said)
        marks = tuple(EventMark(event.e, _digest(event)) for event in said.events)
        now = self.clock.now()
        arrival = Arrival(said.epoch, said.n, said.sent, now, sha256_of(envelope), marks)
        known = self._epochs.get(said.epoch)
        stored = {
            e: frozenset(_digest(event) for event in self.events[said.epoch, e])
            for e in wanted(known, arrival)
            if (said.epoch, e) in self.events
        }
        ruling = rule(Known(known), arrival, stored)
        self._epochs[said.epoch] = ruling.epoch
        by_number = {event.e: event for event in said.events}
        for mark in ruling.store:
            self.events.setdefault((said.epoch, mark.e), []).append(by_number[mark.e])
        self.seq += bool(said.events)

    def enrol(self, content: bytes) -> bytes:
        claimed = open_enrolment(verify_request(content), (self.keys,))
        now = self.clock.now()
        verified = verify_enrolment(claimed, TOKEN, self.keys.public.id, now)
        return sign_answer(
            EnrolmentAnswer(
                host=verified.request.host,
                nonce=verified.request.nonce,
                standing=self.standing,
                record=RECORD if self.standing is Standing.APPROVED else "",
                reason="" if self.standing is Standing.APPROVED else "so it was decided",
                issued=now,
            ),
            self.keys,
        )

    def inbox(self, host: HostId) -> bytes:
        now = self.clock.now()
        acks = [
            Acknowledgement(epoch=Epoch(name), e=epoch.contiguous_e)
            for name, epoch in self._epochs.items()
            if epoch.contiguous_e
        ]
        return sign_inbox(
            Inbox(
                host=host,
                seq=self.seq,
                issued=now,
                expires=now + timedelta(days=1),
                acks=tuple(acks[-8:]),
                directives=tuple(self.directives),
            ),
            self.signs_inbox or self.keys,
        )

    def _inbox(self, exchange: Exchange, host: HostId, after: int) -> None:
        if self.seq <= after:
            exchange.answer(204)
        else:
            exchange.answer(200, {}, self.inbox(host))


def _digest(event: HostEvent) -> Sha256:
    return sha256_of(
        repr((event.at, event.kind, event.product, event.subject, event.detail)).encode()
    )


class Every(dict[str, Script]):
    """One script for every path that has none of its own."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self._script = script

    def get(self, key: str, default: object = None) -> Script:
        return super().get(key) or self._script


@contextmanager
def stand_in_console(clock: Clock, **more: object) -> Generator[StandInConsole]:
    """Run one on a free port of loopback."""
    with source_server({}) as server:
        console = StandInConsole(clock, url=server.url, **more)  # type: ignore[arg-type]
        server.scripts = Every(console.answer)
        yield console


@contextmanager
def stand_in_relay(console: StandInConsole) -> Generator[SourceServer]:
    """Run what carries to `console`: 202 for check-ins, whose bytes lie in `carried`."""
    with source_server({}) as server:

        def carry(exchange: Exchange) -> None:
            if exchange.method == "POST" and exchange.path == "v1/checkins":
                console.take(exchange.body)
                exchange.stays = True
                exchange.answer(202)
            else:
                console.answer(exchange)

        server.scripts = Every(carry)
        yield server
