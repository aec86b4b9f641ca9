"""Inboxes and enrolment on the wire: a closed list, strict, unchanged since they were fixed."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.enrolment import EnrolmentAnswer, EnrolmentRequest, Standing
from fleetward.core.inbox import Acknowledgement, Directive, DirectiveKind, Inbox
from fleetward.core.status import ConsoleId, Epoch, HostId
from fleetward.errors import DocumentError
from fleetward.wire.enrolment import (
    ANSWER_TYPE,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
    require_answer_to,
)
from fleetward.wire.inbox import (
    INBOX_TYPE,
    decode_inbox,
    encode_inbox,
    inbox_target,
    parse_inbox_path,
    peek_inbox,
)
from support.fakes import START
from support.status import CONSOLE, EPOCH, FACTS

GOLDEN = Path(__file__).parent / "golden"
HOST = HostId("ab" * 32)
INBOX = Inbox(
    host=HOST,
    seq=9,
    issued=START,
    expires=START + timedelta(hours=6),
    acks=(Acknowledgement(epoch=EPOCH, e=17), Acknowledgement(epoch=Epoch("f" * 16), e=1)),
    directives=(
        Directive(id="0a1b2c3d", kind=DirectiveKind.ROLL_BACK, product="yara"),
        Directive(id="0a1b2c3e", kind=DirectiveKind.PAUSE, until=START + timedelta(hours=24)),
    ),
)
REQUEST = EnrolmentRequest(
    host=HOST,
    token="0123456789abcdef",
    nonce="cd" * 16,
    console=ConsoleId("ef" * 32),
    expires=START,
    mac="12" * 32,
    facts=FACTS,
)
ANSWER = EnrolmentAnswer(
    host=HOST, nonce="cd" * 16, standing=Standing.APPROVED, record="host-17", issued=START
)


@pytest.mark.parametrize(
    ("name", "encoded", "decode", "value"),
    [
        ("inbox", encode_inbox(INBOX), decode_inbox, INBOX),
        ("enrolment", encode_request(REQUEST), decode_request, REQUEST),
        ("enrolment-answer", encode_answer(ANSWER), decode_answer, ANSWER),
    ],
)
def test_golden_documents_have_not_changed(
    name: str,
    encoded: bytes,
    decode: Any,  # noqa: ANN401
    value: object,
) -> None:
    content = (GOLDEN / f"{name}.json").read_bytes()
    assert encoded == content
    assert decode(content) == value
    assert content.startswith(b'{"schema":"fleetward.%b/1",' % name.encode())


INBOX_CHANGES: list[tuple[str, Any]] = [
    ("host", "x"),
    ("seq", 0),
    ("expires", "2026-11-24T02:00:00Z"),
    ("issued", "2026-11-24T02:00:00+02:00"),
    ("acks", [{"epoch": "x", "e": 1}]),
    ("acks", [{"epoch": EPOCH, "e": 0}]),
    ("acks", [{"epoch": EPOCH, "e": 1}] * 9),
    ("directives", [{"id": "0a1b2c3d", "kind": "run", "command": "rm -rf /"}]),
    ("directives", [{"id": "../../x", "kind": "update-now"}]),
    ("directives", [{"id": "0a1b2c3d", "kind": "update-now", "product": "../x"}]),
    ("directives", [{"id": "0a1b2c3d", "kind": "roll-back"}]),
    ("directives", [{"id": "0a1b2c3d", "kind": "pause"}]),
    ("directives", [{"id": "0a1b2c3d", "kind": "pause", "until": "2026-11-25T02:00:01Z"}]),
    ("directives", [{"id": "0a1b2c3d", "kind": "pause", "until": "2026-11-24T03:00:00+01:00"}]),
    ("directives", [{"id": "0a1b2c3d", "kind": "update-now", "until": "2026-11-24T03:00:00Z"}]),
    ("directives", [{"id": "0a1b2c3d", "kind": "update-now"}] * 33),
]


@pytest.mark.parametrize(("name", "value"), INBOX_CHANGES)
def test_what_a_console_may_not_say_is_refused(name: str, value: object) -> None:
    """Whoever has the console's key still cannot send a command line or a pause without end."""
    content = json.loads(encode_inbox(INBOX))
    content[name] = value
    with pytest.raises(DocumentError):
        decode_inbox(json.dumps(content).encode())


REQUEST_CHANGES: list[tuple[str, Any]] = [
    ("host", "x"),
    ("token", "x"),
    ("nonce", "x"),
    ("console", "x"),
    ("mac", "x"),
    ("expires", "2026-11-24T02:00:00+02:00"),
    ("facts", {"name": "a\nb"}),
    ("facts", {"name": "x" * 201}),
    ("facts", {}),
]


@pytest.mark.parametrize(("name", "value"), REQUEST_CHANGES)
def test_what_is_no_request_is_refused(name: str, value: object) -> None:
    content = json.loads(encode_request(REQUEST))
    content[name] = value
    with pytest.raises(DocumentError):
        decode_request(json.dumps(content).encode())


ANSWER_CHANGES: list[dict[str, Any]] = [
    {"host": "x"},
    {"nonce": "x"},
    {"standing": "perhaps"},
    {"record": ""},
    {"record": "a b"},
    {"standing": "refused"},
    {"reason": "\x1b"},
    {"issued": "2026-11-24T02:00:00+02:00"},
]


@pytest.mark.parametrize("change", ANSWER_CHANGES)
def test_what_is_no_answer_is_refused(change: dict[str, Any]) -> None:
    content = json.loads(encode_answer(ANSWER)) | change
    with pytest.raises(DocumentError):
        decode_answer(json.dumps(content).encode())


@pytest.mark.parametrize("standing", [Standing.PENDING, Standing.REFUSED])
def test_other_answers_have_no_record(standing: Standing) -> None:
    answer = replace(ANSWER, standing=standing, record="", reason="ask the helpdesk")
    assert decode_answer(encode_answer(answer)) == answer


@pytest.mark.parametrize("decode", [decode_inbox, decode_request, decode_answer])
def test_endless_documents_are_refused_unread(decode: Any) -> None:  # noqa: ANN401
    with pytest.raises(DocumentError, match="bytes"):
        decode(b" " * 16385)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_one_error(content: bytes) -> None:
    for decode in (decode_inbox, decode_request, decode_answer):
        with pytest.raises(DocumentError):
            decode(content)


IDS = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
SECONDS = st.integers(0, 2**32)
DIRECTIVES = st.builds(
    Directive,
    id=st.from_regex(r"[0-9a-f]{8,32}", fullmatch=True),
    kind=st.sampled_from([kind for kind in DirectiveKind if kind is not DirectiveKind.PAUSE]),
    product=st.sampled_from(["yara", "clamav"]),
)
INBOXES = st.builds(
    lambda host, seq, issued, acks, directives: Inbox(
        host=host,
        seq=seq,
        issued=START + timedelta(seconds=issued),
        expires=START + timedelta(seconds=issued + 1),
        acks=tuple(acks),
        directives=tuple(directives),
    ),
    IDS,
    st.integers(1, 2**53 - 1),
    SECONDS,
    st.lists(
        st.builds(
            Acknowledgement,
            epoch=st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
            e=st.integers(1, 2**53 - 1),
        ),
        max_size=8,
    ),
    st.lists(DIRECTIVES, max_size=32),
)


@given(INBOXES)
def test_every_inbox_comes_back(inbox: Inbox) -> None:
    assert decode_inbox(encode_inbox(inbox)) == inbox


@given(INBOXES)
def test_the_largest_inbox_fits_what_a_relay_carries(inbox: Inbox) -> None:
    envelope = CONSOLE.sign(INBOX_TYPE, encode_inbox(inbox))
    assert peek_inbox(envelope, inbox.host) == inbox.seq


@given(IDS, st.text(st.characters(exclude_categories=["C", "Z"]), max_size=60), SECONDS)
def test_every_request_and_answer_comes_back(host: str, text: str, second: int) -> None:
    at = START + timedelta(seconds=second)
    request = replace(
        REQUEST, host=HostId(host), expires=at, facts=replace(FACTS, name=text, site=text)
    )
    assert decode_request(encode_request(request)) == request
    answer = replace(ANSWER, host=HostId(host), reason=text, issued=at)
    assert decode_answer(encode_answer(answer)) == answer


# -- what a relay reads ------------------------------------------------------------------------


def test_a_relay_reads_for_whom_and_which_number() -> None:
    assert peek_inbox(CONSOLE.sign(INBOX_TYPE, encode_inbox(INBOX)), HOST) == 9
    require_answer_to(HOST, CONSOLE.sign(ANSWER_TYPE, encode_answer(ANSWER)))


def test_a_relay_carries_nothing_else() -> None:
    other = HostId("cd" * 32)
    inbox = CONSOLE.sign(INBOX_TYPE, encode_inbox(INBOX))
    answer = CONSOLE.sign(ANSWER_TYPE, encode_answer(ANSWER))
    for content, host in ((inbox, other), (answer, HOST), (b"<html>", HOST), (b"x" * 17000, HOST)):
        with pytest.raises(DocumentError):
            peek_inbox(content, host)
    for content, host in ((answer, other), (inbox, HOST), (b"<html>", HOST), (b"x" * 9000, HOST)):
        with pytest.raises(DocumentError):
            require_answer_to(host, content)


def test_a_request_for_an_inbox_is_read_back() -> None:
    path, _, query = inbox_target(HOST, 12).partition("?")
    assert parse_inbox_path(path, query) == (HOST, 12)
    assert parse_inbox_path(path, "") == (HOST, 0)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/other/" + HOST, ""),
        ("/v1/inbox/", ""),
        ("/v1/inbox/" + HOST + "/x", ""),
        ("/v1/inbox/" + HOST.upper(), ""),
        ("/v1/inbox/" + HOST, "after="),
        ("/v1/inbox/" + HOST, "after=-1"),
        ("/v1/inbox/" + HOST, "after=1&x=2"),
        ("/v1/inbox/" + HOST, "before=1"),
        ("/v1/inbox/" + HOST, "after=²"),
        ("/v1/inbox/" + HOST, "after=" + "9" * 17),
    ],
)
def test_another_request_is_refused(path: str, query: str) -> None:
    with pytest.raises(DocumentError):
        parse_inbox_path(path, query)
