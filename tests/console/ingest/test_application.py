"""What hosts and relays are answered: the ASGI application, called as a server calls it."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from console.hosts import add_host, check_in
from fleetward.adapters.compression import compress
from fleetward.adapters.entropy import SystemEntropy
from fleetward.console.audit.chain import Actor
from fleetward.console.fleet.models import CheckIn, Host, Presence
from fleetward.console.fleet.tokens import TokenWish, make_token, secret_of
from fleetward.console.ingest import application as module
from fleetward.console.ingest.application import Ingest
from fleetward.console.ingest.batching import BatchLimits
from fleetward.console.ingest.executors import ThreadOpener
from fleetward.console.wiring import rewired
from fleetward.core.enrolment import Standing
from fleetward.core.limits import STATUS
from fleetward.identity.checkins import verify_inbox
from fleetward.identity.enrolment import EnrolmentToken, request_enrolment, verify_answer
from fleetward.wire.checkins import (
    BATCH_MEDIA_TYPE,
    ENVELOPE_MEDIA_TYPE,
    Carried,
    encode_batch,
    milliseconds_of,
)
from fleetward.wire.inbox import inbox_target
from support.fakes import START, FakeClock
from support.status import CONSOLE, FACTS, event, host_key

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@dataclass
class Reply:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@pytest.fixture(autouse=True)
def clock() -> Iterator[FakeClock]:
    made = FakeClock()
    with rewired(clock=made):
        yield made


@pytest.fixture
def thread(db: None) -> Iterator[Executor]:
    """A thread that sees the test's transaction, as the ingest's own threads see what is stored."""
    connection = connections["default"]
    connection.inc_thread_sharing()
    with ThreadPoolExecutor(1, initializer=_share, initargs=(connection,)) as executor:
        yield executor
    connection.dec_thread_sharing()


def _share(connection: BaseDatabaseWrapper) -> None:
    connections["default"] = connection


@pytest.fixture
def ingest(clock: FakeClock, thread: Executor) -> Ingest:
    return made(clock, thread)


def made(clock: FakeClock, thread: Executor, limits: BatchLimits | None = None) -> Ingest:
    opener = ThreadOpener(thread, (CONSOLE,))
    return Ingest((CONSOLE,), opener, clock, limits, (thread, thread))


def ask(
    ingest: Ingest,
    method: str,
    target: str,
    body: bytes = b"",
    kind: str = ENVELOPE_MEDIA_TYPE,
    pieces: int = 1,
    *,
    breaks: bool = False,
) -> Reply:
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode("latin-1"),
        "headers": [(b"content-type", kind.encode())] if kind else [],
        "client": ("10.0.0.7", 1234),
    }
    size = max(1, -(-len(body) // pieces))
    parts = [body[at : at + size] for at in range(0, max(1, len(body)), size)]
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": place < len(parts) - 1}
        for place, part in enumerate(parts)
    ]
    if breaks:
        messages[-1] = {"type": "http.disconnect"}
    reply = Reply()

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:  # noqa: ANN401 (ASGI's messages)
        if message["type"] == "http.response.start":
            reply.status = message["status"]
            reply.headers = {n.decode(): v.decode() for n, v in message["headers"]}
        else:
            reply.body += message["body"]

    asyncio.run(ingest(scope, receive, send))
    return reply


def batch(*envelopes: bytes, received: int | None = None) -> bytes:
    at = milliseconds_of(START) if received is None else received
    return compress(encode_batch(Carried(at, "10.9.8.7", envelope) for envelope in envelopes))


# -- check-ins -----------------------------------------------------------------------------------------


def test_a_host_brings_its_check_in_itself(ingest: Ingest) -> None:
    add_host()
    reply = ask(ingest, "POST", "/v1/checkins", check_in(), pieces=7)
    assert (reply.status, reply.body) == (204, b"")
    assert "content-length" not in reply.headers
    assert Presence.objects.get().peer == "10.0.0.7"


def test_a_relay_brings_a_batch_and_is_told_the_numbers(ingest: Ingest) -> None:
    add_host()
    reply = ask(
        ingest,
        "POST",
        "/v1/checkins",
        batch(check_in(0), check_in(1), b"rubbish"),
        BATCH_MEDIA_TYPE,
    )
    assert reply.status == 200
    assert json.loads(reply.body) == {
        "stored": 1, "malformed": 1, "unknown": 1, "pending": 0, "revoked": 0,
    }  # fmt: skip
    assert Presence.objects.get().peer == "10.9.8.7"
    assert 'check_ins_total{verdict="stored"} 1' in ingest.metrics()


def test_the_time_of_receipt_is_the_relays(ingest: Ingest, clock: FakeClock) -> None:
    add_host()
    clock.advance(HOUR)
    ask(ingest, "POST", "/v1/checkins", batch(check_in(n=0 + 1)), BATCH_MEDIA_TYPE)
    assert Presence.objects.get().received == START


def test_a_relay_from_the_future_is_not_believed(ingest: Ingest) -> None:
    add_host()
    future = milliseconds_of(START + 1000 * HOUR)
    ask(ingest, "POST", "/v1/checkins", batch(check_in(), received=future), BATCH_MEDIA_TYPE)
    assert Presence.objects.get().received == START


@pytest.mark.parametrize(("number", "status"), [(0, 400), (1, 403)])
def test_a_single_one_is_told_why(ingest: Ingest, number: int, status: int) -> None:
    body = check_in(number) if number else b"{}"
    reply = ask(ingest, "POST", "/v1/checkins", body)
    assert reply.status == status
    assert reply.body in {b"malformed\n", b"unknown\n"}


@pytest.mark.parametrize("body", [b"", b"FWCHECK1", compress(b"FWCHECK1\0"), compress(b"no")])
def test_what_is_no_batch(ingest: Ingest, body: bytes) -> None:
    assert ask(ingest, "POST", "/v1/checkins", body, BATCH_MEDIA_TYPE).status == 400


def test_a_bomb_is_no_batch(ingest: Ingest) -> None:
    bomb = compress(b"FWCHECK1" + bytes(64 * 1024 * 1024))
    assert len(bomb) < STATUS.batch_bytes
    assert ask(ingest, "POST", "/v1/checkins", bomb, BATCH_MEDIA_TYPE).status == 400


def test_an_empty_batch_is_taken(ingest: Ingest) -> None:
    assert ask(ingest, "POST", "/v1/checkins", batch(), BATCH_MEDIA_TYPE).status == 200


@pytest.mark.parametrize("kind", ["", "text/html", "application/jsonx"])
def test_another_type(ingest: Ingest, kind: str) -> None:
    assert ask(ingest, "POST", "/v1/checkins", b"x", kind).status == 415
    assert ask(ingest, "POST", "/v1/enroll", b"x", kind).status == 415


@pytest.mark.parametrize(
    ("path", "kind", "longest"),
    [
        ("/v1/checkins", ENVELOPE_MEDIA_TYPE, STATUS.envelope_bytes),
        ("/v1/checkins", BATCH_MEDIA_TYPE, STATUS.batch_bytes),
        ("/v1/enroll", ENVELOPE_MEDIA_TYPE, STATUS.enrolment_bytes),
    ],
)
def test_endless_bodies_end(ingest: Ingest, path: str, kind: str, longest: int) -> None:
    assert ask(ingest, "POST", path, bytes(longest + 1), kind, pieces=9).status == 413


def test_a_body_that_breaks_off(ingest: Ingest) -> None:
    assert ask(ingest, "POST", "/v1/checkins", check_in(), pieces=3, breaks=True).status == 400
    assert not CheckIn.objects.exists()


def test_too_much_at_once_is_for_later(clock: FakeClock, thread: Executor) -> None:
    busy = made(clock, thread, BatchLimits(waiting=0))
    reply = ask(busy, "POST", "/v1/checkins", check_in())
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")


def test_a_database_that_fails_is_for_later_and_nothing_is_promised(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("database or disk is full")

    monkeypatch.setattr(module, "store", fail)
    add_host()
    reply = ask(ingest, "POST", "/v1/checkins", check_in())
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/checkins", 405),
        ("GET", "/v1/enroll", 405),
        ("POST", "/v1/inbox/" + "0" * 64, 405),
        ("GET", "/v1/checkins/more", 404),
        ("GET", "/v1/inbox", 404),
        ("GET", "/v1/inbox/short", 404),
        ("GET", "/v1/inbox/" + "0" * 64 + "?before=1", 404),
        ("GET", "/v1/inbox/" + "0" * 64 + "?after=\xff", 404),
        ("GET", "/v1/inbox/" + "0" * 64, 404),
    ],
)
def test_other_questions(ingest: Ingest, method: str, path: str, status: int) -> None:
    reply = ask(ingest, method, path)
    assert reply.status == status
    assert "set-cookie" not in reply.headers


# -- inbox and enrolment -------------------------------------------------------------------------------


def test_an_inbox_is_signed_for_its_host(ingest: Ingest) -> None:
    add_host()
    host = host_key().id
    assert ask(ingest, "GET", inbox_target(host, 0)).status == 204
    ask(ingest, "POST", "/v1/checkins", check_in(events=(event(1),)))
    reply = ask(ingest, "GET", inbox_target(host, 0))
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    inbox = verify_inbox(reply.body, host, [CONSOLE.public.signing], seen=0, now=START)
    assert inbox.acks[0].e == 1
    assert ask(ingest, "GET", inbox_target(host, inbox.seq)).status == 204


def enrolling(secret: EnrolmentToken, number: int = 0) -> Any:  # noqa: ANN401 (a request)
    return request_enrolment(
        host_key(number), CONSOLE.public, secret, FACTS, entropy=SystemEntropy(), now=START
    )


def test_a_host_enrols(ingest: Ingest) -> None:
    token = make_token(Actor("user", "ada"), TokenWish())
    asked = enrolling(secret_of(token.token))
    reply = ask(ingest, "POST", "/v1/enroll", asked.envelope)
    answer = verify_answer(reply.body, asked.request, [CONSOLE.public.signing])
    assert answer.standing is Standing.APPROVED
    assert Host.objects.get().record == answer.record
    assert ask(ingest, "POST", "/v1/checkins", check_in()).status == 204


def test_whoever_has_no_token_gets_no_answer(ingest: Ingest, clock: FakeClock) -> None:
    token = make_token(Actor("user", "ada"), TokenWish())
    forged = enrolling(EnrolmentToken(token.token, b"\x09" * 32))
    assert ask(ingest, "POST", "/v1/enroll", forged.envelope).status == 403
    assert ask(ingest, "POST", "/v1/enroll", b"{}").status == 400
    late = enrolling(secret_of(token.token))
    clock.advance(HOUR)
    assert ask(ingest, "POST", "/v1/enroll", late.envelope).status == 403
    assert not Host.objects.exists()
