"""A stand-in for the console: real sockets, real signatures, a dict in place of a database.

It does what a console must with what comes: verify, open, de-duplicate, see gaps; and it fails, is
slow or refuses as a test says. It decides nothing about fleets.
"""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from fleetward.adapters.compression import decompress
from fleetward.core.enrolment import EnrolmentAnswer, Standing
from fleetward.core.inbox import Acknowledgement, Inbox
from fleetward.core.limits import STATUS
from fleetward.core.status import CheckIn, HostId
from fleetward.errors import DocumentError, ExpiredError, SignatureError
from fleetward.httpd.background import ServerThread
from fleetward.httpd.message import NOT_FOUND, Answer, Request, Response
from fleetward.identity.checkins import open_check_in, sign_inbox, verify_check_in
from fleetward.identity.consoles import ConsoleKeys
from fleetward.identity.enrolment import (
    EnrolmentToken,
    open_enrolment,
    sign_answer,
    verify_enrolment,
    verify_request,
)
from fleetward.wire.checkins import BATCH_MEDIA_TYPE, CHECKINS_PATH, Carried, decode_batch
from fleetward.wire.enrolment import ENROL_PATH
from fleetward.wire.inbox import INBOX_PATH, parse_inbox_path
from support.fakes import START
from support.status import CONSOLE

Key = tuple[str, str, int]


@dataclass
class Receiver:
    """A `Handler`; run it with `running`.

    Attributes:
        keys: the console's.
        stored: check-ins by host, epoch and n.
        order: their keys, as they came first.
        carried: how each first came.
        results: of envelopes: stored, repeated, forged, malformed.
        requests: how many came, by path's first two parts.
        answers: statuses to give in place of an answer, first to last.
        away: set: everything is answered 503.
        refuses: envelopes for which a request is answered 400.
        hold: where set, answers wait for it.
        inboxes: by host.
        tokens: by their id.
        raw_answers: bodies to give in place of answers to inboxes and enrolments, status first.
    """

    keys: ConsoleKeys = CONSOLE
    stored: dict[Key, CheckIn] = field(default_factory=dict)
    order: list[Key] = field(default_factory=list)
    carried: list[Carried] = field(default_factory=list)
    results: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    answers: deque[int] = field(default_factory=deque)
    away: threading.Event = field(default_factory=threading.Event)
    refuses: Callable[[bytes], bool] = lambda _: False
    hold: threading.Event | None = None
    inboxes: dict[str, Inbox] = field(default_factory=dict)
    tokens: dict[str, EnrolmentToken] = field(default_factory=dict)
    raw_answers: deque[tuple[int, bytes]] = field(default_factory=deque)
    last_headers: dict[bytes, bytes] = field(default_factory=dict)

    def running(self, port: int = 0) -> ServerThread:
        return ServerThread(self, port=port)

    def numbers(self, host: HostId) -> list[int]:
        """The check-in numbers of a host, as they came."""
        return [n for of, _, n in self.order if of == host]

    def gaps(self, host: HostId) -> list[int]:
        """The numbers that are missing up to the greatest that came."""
        came = self.numbers(host)
        return sorted(set(range(1, max(came, default=0))) - set(came))

    # -- Handler -------------------------------------------------------------------------------

    def max_body(self, method: str, path: str) -> int:
        return 2 * STATUS.batch_bytes if method == "POST" else 0

    def answer(self, request: Request) -> Answer:
        if self.hold is not None:
            return self._held(request, self.hold)
        return self._answer(request)

    async def _held(self, request: Request, hold: threading.Event) -> Response:

        await asyncio.to_thread(hold.wait, 10)
        return self._answer(request)

    def _answer(self, request: Request) -> Response:
        self.requests["/".join(request.path.split("/")[:3])] += 1
        self.last_headers = dict(request.headers)
        if self.answers:
            return Response(self.answers.popleft())
        if self.away.is_set():
            return Response(503)
        if request.path == CHECKINS_PATH:
            return self._take(request)
        if self.raw_answers:
            status, body = self.raw_answers.popleft()
            return Response(status, (), body)
        if request.path == ENROL_PATH:
            return self._enrol(request)
        return self._inbox(request) if request.path.startswith(INBOX_PATH) else NOT_FOUND

    def _take(self, request: Request) -> Response:
        if request.headers.get(b"content-type") == BATCH_MEDIA_TYPE.encode():
            batch = decode_batch(decompress(request.body, STATUS.batch_bytes))
        else:
            batch = (Carried(0, request.peer, request.body),)
        if any(self.refuses(one.envelope) for one in batch):
            return Response(400)
        for one in batch:
            self._store(one)
        return Response(202)

    def _store(self, carried: Carried) -> None:
        try:
            check_in = open_check_in(verify_check_in(carried.envelope), [self.keys])
        except SignatureError:
            self.results["forged"] += 1
            return
        except DocumentError:
            self.results["malformed"] += 1
            return
        key = (check_in.host, check_in.epoch, check_in.n)
        if key in self.stored:
            self.results["repeated"] += 1
            return
        self.stored[key] = check_in
        self.order.append(key)
        self.carried.append(carried)
        self.results["stored"] += 1

    def _inbox(self, request: Request) -> Response:
        host, after = parse_inbox_path(request.path, request.query)
        inbox = self.inboxes.get(host)
        if inbox is None:
            return NOT_FOUND
        if inbox.seq <= after:
            return Response(204)
        return Response(200, (), sign_inbox(inbox, self.keys))

    def acknowledge(self, host: HostId, seq: int, e: int) -> Inbox:
        """Put an acknowledgement into a host's inbox."""
        epoch = next(check_in.epoch for (of, _, _), check_in in self.stored.items() if of == host)
        inbox = Inbox(
            host=host,
            seq=seq,
            issued=START,
            expires=START + timedelta(days=1),
            acks=(Acknowledgement(epoch=epoch, e=e),),
        )
        self.inboxes[host] = inbox
        return inbox

    def _enrol(self, request: Request) -> Response:
        claimed = open_enrolment(verify_request(request.body), [self.keys])
        token = self.tokens.get(claimed.request.token)
        standing = Standing.REFUSED
        if token is not None:
            try:
                verify_enrolment(claimed, token, self.keys.public.id, START)
                standing = Standing.APPROVED
            except (SignatureError, ExpiredError):
                self.results["enrolment-refused"] += 1
        answer = EnrolmentAnswer(
            host=claimed.request.host,
            nonce=claimed.request.nonce,
            standing=standing,
            record="record-1" if standing is Standing.APPROVED else "",
            issued=START,
        )
        return Response(200, (), sign_answer(answer, self.keys))
