"""The ASGI side of ingest: /v1/checkins, /v1/inbox/HOST, /v1/enroll.

    POST /v1/checkins   one envelope    204 stored · 403 not enrolled, pending or revoked · 400 malformed
                        a relay's batch 200 {"stored": N, "unknown": N, …}, whatever is in it
    GET  /v1/inbox/HOST?after=N         200 a signed inbox · 204 nothing new · 404 not enrolled
    POST /v1/enroll                     200 a signed answer · 400 malformed, 403 without the token
    all of them                         413 too long · 415 of another type · 503 too busy, try later

Invariants: an answer under 300 to a check-in comes only when all that was taken is durable; nothing
here goes through Django's middleware, has a session, or sets a cookie; who speaks is proven by
signatures alone; an error says nothing about other hosts.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Final, TypeVar

import msgspec
from django.db import Error as DatabaseError
from django.db import connection

from fleetward.adapters.clock import Clock
from fleetward.adapters.compression import decompress
from fleetward.console.fleet.inboxes import inbox_for, inbox_numbers
from fleetward.console.ingest.asking import Asking, Numbers
from fleetward.console.ingest.batching import Batcher, BatchLimits, Opener
from fleetward.console.ingest.enrolling import AT_ONCE, Answer, Believed, Believer, answer_batch
from fleetward.console.ingest.opening import Opened
from fleetward.console.ingest.rows import Delivery, Verdict
from fleetward.console.ingest.storing import store
from fleetward.core.limits import STATUS
from fleetward.core.status import HostId
from fleetward.errors import BusyError, DocumentError, ExpiredError
from fleetward.identity.consoles import ConsoleKeys
from fleetward.wire.checkins import (
    BATCH_MEDIA_TYPE,
    CHECKINS_PATH,
    ENVELOPE_MEDIA_TYPE,
    decode_batch,
)
from fleetward.wire.enrolment import ENROL_PATH
from fleetward.wire.inbox import INBOX_PATH, parse_inbox_path

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

READERS: Final = 4
"""Threads that answer inboxes."""

RETRY_AFTER: Final = b"5"
"""Seconds after which a relay or host that was told 503 may come again."""

_JSON: Final = b"application/json"
_STATUS: Final = {
    Verdict.STORED: 204,
    Verdict.MALFORMED: 400,
    Verdict.UNKNOWN: 403,
    Verdict.PENDING: 403,
    Verdict.REVOKED: 403,
}


class _Answer(Exception):  # noqa: N818 (an answer, not a fault)
    """An answer that ends a request early."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Ingest:
    """The application; one for each console process."""

    def __init__(
        self,
        consoles: tuple[ConsoleKeys, ...],
        opener: Opener[Opened | None],
        clock: Clock,
        limits: BatchLimits | None = None,
        executors: tuple[Executor, Executor] | None = None,
    ) -> None:
        """Prepare.

        Args:
            consoles: the console's keys, the present ones first.
            opener: opens envelopes.
            clock: the console's.
            limits: how much goes at once.
            executors: the one writer's, and the readers'; threads unless given.
        """
        self._consoles = consoles
        self._clock = clock
        self._writer, self._readers = executors or (
            ThreadPoolExecutor(1, thread_name_prefix="ingest-writer"),
            ThreadPoolExecutor(READERS, thread_name_prefix="ingest-reader"),
        )
        self._batcher = Batcher(opener, self._store, self._writer, limits)
        believer = Believer(self._readers, consoles, clock)
        self._enrolments = Batcher(believer, self._answer_batch, self._writer, AT_ONCE)
        self._asking = Asking(self._readers, _numbers)
        self.counts = dict.fromkeys(Verdict, 0)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            status, kind, body = await self._answer(scope, receive)
        except _Answer as early:
            status, kind, body = early.status, b"text/plain", f"{early}\n".encode()
        except BusyError as error:
            status, kind, body = 503, b"text/plain", f"{error}\n".encode()
        except DatabaseError:
            _log.exception("the database did not take it")
            status, kind, body = 503, b"text/plain", b"the database did not take it\n"
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        headers.append((b"cache-control", b"no-store"))
        if status == 503:
            headers.append((b"retry-after", RETRY_AFTER))
        if status == 204:
            headers = headers[2:]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if status == 204 else body})

    def metrics(self) -> str:
        """Return lines of Prometheus' text format."""
        lines = ["# TYPE fleetward_console_check_ins_total counter"]
        lines += [
            f'fleetward_console_check_ins_total{{verdict="{verdict.value}"}} {count}'
            for verdict, count in self.counts.items()
        ]
        lines += [
            "# TYPE fleetward_console_check_ins_waiting gauge",
            f"fleetward_console_check_ins_waiting {self._batcher.waiting}",
        ]
        return "\n".join(lines) + "\n"

    # -- inside --------------------------------------------------------------------------------

    async def _answer(self, scope: Message, receive: Receive) -> tuple[int, bytes, bytes]:
        path, method = scope["path"], scope["method"]
        if path == CHECKINS_PATH:
            _require_method(method, "POST")
            return await self._check_ins(scope, receive)
        if path == ENROL_PATH:
            _require_method(method, "POST")
            return await self._enrol(scope, receive)
        if path.startswith(INBOX_PATH):
            _require_method(method, "GET")
            return await self._inbox(scope)
        raise _Answer(404, "there is nothing here")

    async def _check_ins(self, scope: Message, receive: Receive) -> tuple[int, bytes, bytes]:
        kind = _content_type(scope)
        now = self._clock.now()
        if kind == ENVELOPE_MEDIA_TYPE:
            body = await _body(scope, receive, STATUS.envelope_bytes)
            verdict = (await self._take([Delivery(body, now, _peer(scope))]))[0]
            return _STATUS[verdict], b"text/plain", f"{verdict.value}\n".encode()
        if kind != BATCH_MEDIA_TYPE:
            raise _Answer(415, f"send {ENVELOPE_MEDIA_TYPE} or {BATCH_MEDIA_TYPE}")
        body = await _body(scope, receive, STATUS.batch_bytes)
        try:
            carried = decode_batch(decompress(body, STATUS.batch_bytes))
        except DocumentError as error:
            raise _Answer(400, str(error)) from error
        deliveries = [Delivery(c.envelope, min(now, c.received_at), c.peer) for c in carried]
        verdicts = await self._take(deliveries)
        counted = {v.value: verdicts.count(v) for v in Verdict}
        return 200, _JSON, msgspec.json.encode(counted)

    async def _take(self, deliveries: list[Delivery]) -> list[Verdict]:
        verdicts = await self._batcher.take(deliveries)
        for verdict in verdicts:
            self.counts[verdict] += 1
        return verdicts

    def _store(self, batch: list[tuple[Delivery, Opened | None]]) -> list[Verdict]:
        _mend_connection()
        return store(batch, self._clock.now())

    async def _inbox(self, scope: Message) -> tuple[int, bytes, bytes]:
        try:
            host, after = parse_inbox_path(scope["path"], scope["query_string"].decode("ascii"))
        except (DocumentError, UnicodeDecodeError) as error:
            raise _Answer(404, "there is no such inbox") from error
        keys, now = self._consoles[0], self._clock.now()
        try:
            number = await self._asking.number(host)
            if number is None or number == after:
                return 204, b"", b""
            found = await _aside(self._readers, lambda: inbox_for(host, after, keys, now))
        except LookupError as error:
            raise _Answer(404, "there is no such inbox") from error
        return (204, b"", b"") if found is None else (200, _JSON, found)

    async def _enrol(self, scope: Message, receive: Receive) -> tuple[int, bytes, bytes]:
        if _content_type(scope) != ENVELOPE_MEDIA_TYPE:
            raise _Answer(415, f"send {ENVELOPE_MEDIA_TYPE}")
        body = await _body(scope, receive, STATUS.enrolment_bytes)
        delivery = Delivery(body, self._clock.now(), _peer(scope))
        answer = (await self._enrolments.take([delivery]))[0]
        if isinstance(answer, DocumentError):
            raise _Answer(400, "not a request for enrolment") from answer
        if isinstance(answer, ExpiredError):
            raise _Answer(403, str(answer)) from answer
        if not isinstance(answer, bytes):
            raise _Answer(403, "the request does not prove that it has a token") from answer
        return 200, _JSON, answer

    def _answer_batch(self, batch: list[tuple[Delivery, Believed]]) -> list[Answer]:
        _mend_connection()
        return answer_batch(batch, self._consoles[0], self._clock.now())


def _numbers(hosts: Sequence[HostId]) -> Numbers:
    _mend_connection()
    return inbox_numbers(hosts)


async def _aside(executor: Executor, act: Callable[[], _Result]) -> _Result:
    def with_connection() -> _Result:
        _mend_connection()
        return act()

    return await asyncio.get_running_loop().run_in_executor(executor, with_connection)


def _mend_connection() -> None:
    """Drop this thread's connection after an error, so that a restarted database is found again.

    Django does so between its own requests; these threads have none, and keep theirs otherwise.
    """
    if connection.errors_occurred and not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()


def _require_method(method: str, wanted: str) -> None:
    if method != wanted:
        raise _Answer(405, f"this is answered to {wanted}")


def _content_type(scope: Message) -> str:
    for name, value in scope["headers"]:
        if name == b"content-type":
            return str(value.decode("latin-1").partition(";")[0].strip().lower())
    return ""


def _peer(scope: Message) -> str:
    client = scope.get("client")
    return str(client[0])[:45] if client else ""


async def _body(scope: Message, receive: Receive, max_bytes: int) -> bytes:
    """Return the request's body.

    Raises:
        _Answer: longer than `max_bytes`, or broken off.
    """
    pieces: list[bytes] = []
    left = max_bytes
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Answer(400, "broken off")
        piece: bytes = message.get("body", b"")
        left -= len(piece)
        if left < 0:
            raise _Answer(413, f"at most {max_bytes} bytes")
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)
