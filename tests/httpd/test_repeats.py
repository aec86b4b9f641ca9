"""The short path gives what the long one would, and never an answer that is out of date."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fleetward.httpd.background import ServerThread
from fleetward.httpd.connection import Connection
from fleetward.httpd.files import RepositoryHandler
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.message import Answer, FileBody, Repeatable, Request, Response
from fleetward.httpd.repeats import Repeats
from fleetward.httpd.server import Server
from httpd.rawhttp import Raw
from httpd.recording import RecordingTransport
from httpd.sample_repository import SMALL, TIMESTAMP, blob_url, make_repository, write
from support.fakes import FakeClock

STAMP = "/metadata/timestamp.json"
ABSENT = "/metadata/2.root.json"


class Board:
    """Answers with what is written on it; counts how often it was asked and how often repeated."""

    def __init__(self) -> None:
        self.text = b"one"
        self.asked = 0
        self.repeated = 0
        self.looked = 0

    def max_body(self, method: str, path: str) -> int:
        return 10

    def answer(self, request: Request) -> Answer:
        self.asked += 1
        text = self.text
        response = Response(200, (), text, close=request.path == "/close")
        if request.path == "/plain":
            return response
        if request.path == "/later":
            return self._later(response)
        return Repeatable(response, lambda: self._holds(text), self._repeat)

    async def _later(self, response: Response) -> Response:
        await asyncio.sleep(0)
        return response

    def _holds(self, text: bytes) -> bool:
        self.looked += 1
        return self.text is text

    def _repeat(self) -> None:
        self.repeated += 1


class Talk:
    """A connection on a transport that records, with a server around it."""

    def __init__(self, board: Board, limits: ServerLimits | None = None) -> None:
        self.clock = FakeClock(datetime(2026, 11, 24, tzinfo=UTC))
        self.loop_time = 0.0
        self.server = Server(board, limits=limits, clock=self.clock)
        self.server._loop = asyncio.get_running_loop()
        self.transport = RecordingTransport()
        self.connection = Connection(self.server, self.server._loop)
        self.connection.connection_made(self.transport)

    async def say(self, raw: bytes) -> bytes:
        """Send bytes, let the loop turn, and return what came of them."""
        self.transport.written = b""
        self.connection.data_received(raw)
        for _ in range(5):
            await asyncio.sleep(0)
        return self.transport.written


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_the_same_bytes_are_answered_without_asking_the_handler() -> None:
    async def main() -> None:
        board = Board()
        talk = Talk(board)
        first = await talk.say(GET)
        assert await talk.say(GET) == await talk.say(GET) == first
        assert (board.asked, board.repeated) == (1, 2)
        assert talk.server.counters.requests == 3
        assert talk.server.counters.delivered_bytes == 3 * len(b"one")

    asyncio.run(main())


def test_what_the_handler_takes_back_is_not_repeated() -> None:
    async def main() -> None:
        board = Board()
        talk = Talk(board)
        await talk.say(GET)
        board.text = b"two"
        assert (await talk.say(GET)).endswith(b"\r\n\r\ntwo")
        assert (await talk.say(GET)).endswith(b"\r\n\r\ntwo")
        assert (board.asked, board.repeated) == (2, 1)

    asyncio.run(main())


def test_the_handler_is_asked_once_in_a_turn_of_the_loop() -> None:
    async def main() -> None:
        board = Board()
        talk = Talk(board)
        await talk.say(GET)
        for _ in range(5):
            talk.connection.data_received(GET)
        assert (board.looked, board.repeated) == (1, 5)
        await asyncio.sleep(0)
        await talk.say(GET)
        assert board.looked == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        GET + GET,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 1024 + b"\r\n\r\n",
    ],
)
def test_what_is_not_one_plain_request_takes_the_long_path(raw: bytes) -> None:
    async def main() -> None:
        board = Board()
        talk = Talk(board)
        assert await talk.say(raw) == await talk.say(raw) != b""
        assert board.repeated == 0
        assert raw not in talk.server.repeats.entries

    asyncio.run(main())


@pytest.mark.parametrize(
    "last", [b"GET /close HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"]
)
def test_an_answer_that_ends_its_connection_is_not_kept(last: bytes) -> None:
    async def main() -> None:
        talk = Talk(Board())
        assert b"Connection: close" in await talk.say(last)
        assert talk.server.repeats.entries == {}

    asyncio.run(main())


def test_the_date_of_a_repeated_answer_is_today() -> None:
    async def main() -> None:
        talk = Talk(Board())
        first = await talk.say(GET)
        assert b"Date: Tue, 24 Nov 2026 00:00:00 GMT" in first
        talk.clock.advance(timedelta(hours=1))
        talk.server._date = (-10.0, b"")
        assert await talk.say(GET) == first.replace(b"00:00:00", b"01:00:00")

    asyncio.run(main())


def test_a_server_that_stops_repeats_nothing() -> None:
    async def main() -> None:
        board = Board()
        talk = Talk(board)
        await talk.say(GET)
        talk.server.is_stopping = True
        talk.server.repeats.close()
        assert b"Connection: close" in await talk.say(GET)
        assert board.repeated == 0
        assert talk.server.repeats.entries == {}

    asyncio.run(main())


def test_a_client_that_does_not_read_is_not_answered_by_the_short_path_either() -> None:
    async def main() -> None:
        board = Board()
        talk = Talk(board)
        await talk.say(GET)
        talk.connection.pause_writing()
        assert await talk.say(GET) == b""
        talk.connection.resume_writing()
        assert (await talk.say(GET)).count(b"HTTP/1.1 200") == 2

    asyncio.run(main())


def test_made_up_heads_fill_neither_the_number_nor_the_bytes() -> None:
    limits = ServerLimits(max_repeats=10, max_repeat_bytes=2000)
    repeats = Repeats(limits, lambda: b"")

    def remember(raw: bytes, size: int) -> None:
        answer = Repeatable(Response(200, (), b"x" * size), lambda: True)
        repeats.remember(raw, "GET", answer)

    for number in range(100):
        remember(b"%d" % number, 1)
        assert 0 < len(repeats.entries) <= 10
    for number in range(100):
        remember(b"%d" % number, 900)
        assert sum(len(raw) + r.body_bytes for raw, r in repeats.entries.items()) <= 2000
        assert repeats._bytes == sum(len(raw) + r.body_bytes for raw, r in repeats.entries.items())
    remember(b"too long", 2000)
    assert b"too long" not in repeats.entries
    body = FileBody(-1, 0, 1)
    repeats.remember(b"file", "GET", Repeatable(Response(200, (), body), lambda: True))
    assert b"file" not in repeats.entries


# -- files -----------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_repository(tmp_path)


@pytest.fixture
def connection(root: Path) -> Iterator[Raw]:
    with ServerThread(RepositoryHandler(root)) as server, Raw(server.url) as connection:
        yield connection


def test_a_file_that_is_replaced_is_served_at_once(root: Path, connection: Raw) -> None:
    """A host polls; the origin publishes; the very next poll has the new timestamp."""
    for number in range(20):
        for _ in range(3):
            assert connection.get(STAMP).body == (b"%d" % number if number else TIMESTAMP)
        write(root, STAMP, b"%d" % (number + 1))
        assert connection.get(STAMP).body == b"%d" % (number + 1)


def test_a_root_that_appears_is_found_at_once(root: Path, connection: Raw) -> None:
    """Hosts ask for the next root again and again; the moment it is there they get it."""
    for _ in range(3):
        assert connection.get(ABSENT).status == 404
    write(root, ABSENT, b"new")
    assert connection.get(ABSENT).body == b"new"
    assert connection.get(ABSENT).body == b"new"
    (root / ABSENT[1:]).unlink()
    assert connection.get(ABSENT).status == 404


def test_a_link_that_takes_a_files_place_is_not_followed(root: Path, connection: Raw) -> None:
    for _ in range(3):
        assert connection.get(STAMP).body == TIMESTAMP
    secret = root / "secret"
    secret.write_bytes(TIMESTAMP)
    (root / STAMP[1:]).unlink()
    (root / STAMP[1:]).symlink_to(secret)
    assert connection.get(STAMP).status == 404


@pytest.mark.parametrize(
    ("headers", "method", "status", "body"),
    [
        ((), "GET", 200, SMALL),
        ((), "HEAD", 200, b""),
        (("If-None-Match: *",), "GET", 304, b""),
        (("Range: bytes=1-3",), "GET", 206, SMALL[1:4]),
        (("Range: bytes=999999-",), "GET", 416, b""),
    ],
)
def test_each_kind_of_request_is_repeated_as_itself(
    connection: Raw, headers: tuple[str, ...], method: str, status: int, body: bytes
) -> None:
    first = connection.get(blob_url(SMALL), *headers, method=method)
    again = connection.get(blob_url(SMALL), *headers, method=method)
    for answer in (first, again):
        assert (answer.status, answer.body) == (status, body)
    assert {**first.headers, "date": ""} == {**again.headers, "date": ""}


# -- the short path beside the long one ------------------------------------------------------------

REQUESTS = (
    GET,
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 28\r\n\r\n" + GET,
    b"\r\n" + GET,
    b"GET /close HTTP/1.1\r\nHost: a\r\n\r\n",
    b"nonsense\r\n\r\n",
)
STEPS = st.lists(
    st.one_of(
        st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3).map(b"".join),
        st.sampled_from(REQUESTS).flatmap(
            lambda raw: st.integers(1, len(raw)).map(lambda cut: (raw[:cut], raw[cut:]))
        ),
        st.just("write"),
        st.just("turn"),
    ),
    max_size=20,
)


async def _play(steps: Sequence[object], limits: ServerLimits) -> tuple[bytes, list[int], int]:
    """Return what the client got, what was counted, and how often the short path was taken."""
    board = Board()
    talk = Talk(board, limits)
    talk.server._date = (talk.server._loop.time() + 1e6, b"")
    for step in steps:
        if step == "write":
            await asyncio.sleep(0)
            board.text = board.text + b"+"
        elif step == "turn":
            for _ in range(5):
                await asyncio.sleep(0)
        else:
            for piece in step if isinstance(step, tuple) else (step,):
                if piece and not talk.transport.is_closed:
                    talk.connection.data_received(piece)
    for _ in range(100):
        await asyncio.sleep(0)
    talk.connection.connection_lost(None)
    counters = talk.server.counters
    return (
        talk.transport.written,
        [counters.requests, counters.refused, counters.delivered_bytes],
        board.repeated,
    )


@given(STEPS)
@example([GET, GET, "write", GET, GET])
@settings(max_examples=200)
def test_with_or_without_the_short_path_a_client_sees_the_same(steps: list[object]) -> None:
    written, counted, _ = asyncio.run(_play(steps, ServerLimits()))
    slowly, counted_slowly, repeated = asyncio.run(
        _play(steps, ServerLimits(max_repeat_head_bytes=0))
    )
    assert repeated == 0
    assert (written, counted) == (slowly, counted_slowly)


def test_the_short_path_is_what_the_property_walks() -> None:
    assert asyncio.run(_play([GET, GET, "turn", GET], ServerLimits()))[2] == 2


def test_many_clients_share_what_one_has_asked(root: Path) -> None:
    with ServerThread(RepositoryHandler(root)) as server:
        for _ in range(3):
            with Raw(server.url) as one, Raw(server.url) as two:
                assert one.get(STAMP).body == two.get(STAMP).body == TIMESTAMP
        assert server.counters.requests == 6
        assert server.counters.delivered_bytes == 6 * len(TIMESTAMP)
        os.utime(root / STAMP[1:], ns=(1, 1))
        with Raw(server.url) as one:
            assert one.get(STAMP).body == TIMESTAMP
