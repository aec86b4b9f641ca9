"""Request bodies of bounded length and pace."""

import asyncio
from collections.abc import Iterable

import pytest

from fleetward.console import bodies
from fleetward.console.bodies import LimitedBodies, Message, Receive, Send

MAX = 100


class Reader:
    """An application that reads the whole body, as Django does before anything else."""

    def __init__(self) -> None:
        self.body = b""
        self.cut_off = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.cut_off = True
                return
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})


def exchange(
    pieces: Iterable[bytes], *, declared: bytes | None = None, hang: bool = False
) -> tuple[Reader, list[Message]]:
    """Send a body in pieces; return who read it, and what was answered."""
    reader, sent = Reader(), []
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if not hang:
        messages.append({"type": "http.request", "body": b"", "more_body": False})
    queue = iter(messages)

    async def receive() -> Message:
        for message in queue:
            return message
        await asyncio.Event().wait()
        raise AssertionError("nothing comes any more")

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [] if declared is None else [(b"content-length", declared)]
    limited = LimitedBodies(reader, MAX)
    asyncio.run(limited({"type": "http", "headers": headers}, receive, send))
    return reader, sent


def test_a_body_within_the_limit_comes_through() -> None:
    reader, sent = exchange([b"a" * 50, b"b" * 50], declared=b"100")
    assert reader.body == b"a" * 50 + b"b" * 50
    assert sent[0]["status"] == 200


def test_a_body_that_is_declared_too_long_is_refused_unread() -> None:
    reader, sent = exchange([b"a" * 101], declared=b"101")
    assert not reader.body
    assert sent[0]["status"] == 413


@pytest.mark.parametrize("declared", [None, b"1", b"nonsense", b"-5"])
def test_a_body_that_grows_past_the_limit_is_cut_off(declared: bytes | None) -> None:
    """The attacker declares nothing, or little, and sends for ever."""
    reader, _ = exchange([b"a" * 60] * 1000, declared=declared)
    assert reader.cut_off
    assert len(reader.body) <= MAX


def test_a_body_that_stops_coming_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_PAUSE", 0.01)
    reader, _ = exchange([b"a"], hang=True)
    assert reader.cut_off
