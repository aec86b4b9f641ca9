"""Answers that a handler promises with a future: the long poll, of which thousands wait."""

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest

import fleetward.httpd.server as server_module
from fleetward.httpd.background import ServerThread
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.message import Answer, FileBody, Request, Response
from fleetward.httpd.server import Sockets
from httpd.handlers import OneFile
from httpd.rawhttp import DEADLINE, CutError, Raw
from httpd.waiting import wait_until


class Bell:
    """Promises each request an answer, and gives it when the test rings."""

    def __init__(self, file: str = "") -> None:
        self.waiting: list[asyncio.Future[Response]] = []
        self.left = 0
        self._file = file

    def max_body(self, method: str, path: str) -> int:
        return 0

    def answer(self, request: Request) -> Answer:
        if request.path == "/now":
            return Response(200, (), b"now")
        promise: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.waiting.append(promise)
        promise.add_done_callback(self._done)
        if request.path == "/done":
            promise.set_result(Response(200, (), b"done"))
        return promise

    def _done(self, promise: asyncio.Future[Response]) -> None:
        self.waiting.remove(promise)
        self.left += promise.cancelled()

    def ring(self, response: Response | Exception) -> None:
        """Answer all who wait; called from the test's thread."""
        for promise in tuple(self.waiting):
            if isinstance(response, Response):
                promise.get_loop().call_soon_threadsafe(promise.set_result, response)
            else:
                promise.get_loop().call_soon_threadsafe(promise.set_exception, response)

    def wait_for(self, number: int) -> None:
        wait_until(lambda: len(self.waiting) == number)


@pytest.fixture(params=Sockets, autouse=True)
def sockets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here holds for both ways of reading and writing sockets."""
    monkeypatch.setattr(server_module, "SOCKETS", request.param)


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def url(bell: Bell) -> Iterator[str]:
    with ServerThread(bell) as server:
        yield server.url


POLL = b"GET /v1/watch HTTP/1.1\r\nHost: a\r\n\r\n"


def test_a_promised_answer_comes_when_the_promise_is_kept(bell: Bell, url: str) -> None:
    with Raw(url) as connection:
        for number in range(3):
            connection.send(POLL)
            bell.wait_for(1)
            bell.ring(Response(200, (), b"%d" % number))
            assert connection.answer().body == b"%d" % number
        assert connection.get("/done").body == b"done"
        assert connection.get("/now").body == b"now"


def test_requests_behind_a_promise_wait_for_it(bell: Bell, url: str) -> None:
    with Raw(url) as connection:
        connection.send(POLL + b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n")
        bell.wait_for(1)
        bell.ring(Response(204))
        assert connection.answer().status == 204
        assert connection.answer().body == b"now"


def test_a_head_request_gets_no_body_and_a_file_body_is_sent(bell: Bell, url: str) -> None:
    with Raw(url) as connection:
        connection.send(POLL.replace(b"GET", b"HEAD"))
        bell.wait_for(1)
        bell.ring(Response(200, (), FileBody(-1, 0, 5)))
        assert connection.answer(has_body=False).headers["content-length"] == "5"
        connection.send(POLL)
        bell.wait_for(1)
        whole = OneFile(__file__, 100).answer(Request("GET", "/", "", {}))
        assert isinstance(whole, Response)
        bell.ring(whole)
        assert connection.answer().body.startswith(b'"""Answers that')


def test_a_client_that_leaves_takes_back_its_promise(bell: Bell, url: str) -> None:
    with Raw(url) as connection:
        connection.send(POLL)
        bell.wait_for(1)
    wait_until(lambda: bell.left == 1)
    bell.wait_for(0)


def test_a_promise_that_is_withdrawn_cuts_the_connection(bell: Bell, url: str) -> None:
    with Raw(url) as connection:
        connection.send(POLL)
        bell.wait_for(1)
        promise = bell.waiting[0]
        promise.get_loop().call_soon_threadsafe(promise.cancel)
        with pytest.raises((CutError, ConnectionResetError)):
            connection.answer()


def test_a_promise_that_fails_is_a_bug_of_the_handler(
    bell: Bell, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Raw(url) as connection, caplog.at_level(logging.ERROR):
        connection.send(POLL)
        bell.wait_for(1)
        bell.ring(RuntimeError("no bell"))
        assert connection.answer().status == 500
        assert connection.rest() == b""
    assert "no bell" in caplog.text


def test_a_stop_answers_who_waits_and_may(bell: Bell) -> None:
    server = ServerThread(bell)
    with server, Raw(server.url) as connection:
        connection.send(POLL)
        bell.wait_for(1)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        bell.ring(Response(200, (), b"last"))
        answer = connection.answer()
        assert answer.body == b"last"
        stopper.join(DEADLINE)
        assert connection.rest() == b""


def test_hundreds_wait_at_once_and_all_are_answered(bell: Bell) -> None:
    limits = ServerLimits(max_connections_per_peer=200)
    with ServerThread(bell, limits=limits) as server:
        clients = [Raw(server.url) for _ in range(200)]
        for client in clients:
            client.send(POLL)
        bell.wait_for(200)
        bell.ring(Response(200, (), b"new"))
        for client in clients:
            assert client.answer().body == b"new"
            client.socket.close()
