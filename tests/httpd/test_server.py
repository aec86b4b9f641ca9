"""The server over real sockets: framing, order, limits, deadlines and the graceful stop."""

import contextlib
import json
import logging
import socket
import struct
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import fleetward.httpd.server as server_module
from fleetward.errors import ConfigurationError
from fleetward.httpd.background import ServerThread
from fleetward.httpd.connection import Connection
from fleetward.httpd.files import RepositoryHandler
from fleetward.httpd.limits import KIB, ServerLimits
from fleetward.httpd.server import Sockets, neighbourhood
from httpd.handlers import Echo, Gate, OneFile
from httpd.rawhttp import DEADLINE, CutError, Raw, get, send_all
from httpd.sample_repository import (
    LARGE,
    SMALL,
    TIMESTAMP,
    blob_url,
    make_repository,
    write,
)
from httpd.waiting import open_descriptors, wait_until

SHORT = timedelta(milliseconds=50)
QUICK = ServerLimits(
    head_timeout=SHORT,
    body_timeout=SHORT,
    idle_timeout=SHORT,
    stall_timeout=timedelta(milliseconds=100),
    linger=SHORT,
    stop_timeout=timedelta(milliseconds=300),
    sweep_interval=timedelta(milliseconds=10),
)


@pytest.fixture(scope="module", params=Sockets, autouse=True)
def sockets(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything here holds for both ways of reading and writing sockets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "SOCKETS", request.param)
        yield


@pytest.fixture(scope="module")
def echo(sockets: None) -> Iterator[str]:
    with ServerThread(Echo()) as server:
        yield server.url


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[str]:
    with ServerThread(RepositoryHandler(make_repository(tmp_path))) as server:
        yield server.url


def test_requests_on_one_connection_are_answered_one_after_another(echo: str) -> None:
    with Raw(echo) as connection:
        for number in range(3):
            answer = connection.get(f"/{number}?q")
            assert json.loads(answer.body) == ["GET", f"/{number}", "q", ""]
            assert "connection" not in answer.headers


def test_head_is_told_what_get_would_send(echo: str) -> None:
    with Raw(echo) as connection:
        told = connection.get("/a", method="HEAD")
        sent = connection.get("/a", method="GET")
    assert int(told.headers["content-length"]) == len(sent.body) + 1
    assert told.body == b""


def test_an_http_1_0_client_is_told_whether_the_connection_stays(echo: str) -> None:
    kept = b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    last = b"GET /b HTTP/1.0\r\n\r\n"
    raw = send_all(echo, kept + last)
    assert raw.count(b"HTTP/1.1 200 OK") == 2
    assert raw.count(b"Connection: keep-alive") == 1
    assert raw.count(b"Connection: close") == 1


def test_the_client_or_the_handler_ends_the_connection(echo: str) -> None:
    by_client = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    by_handler = b"GET /close HTTP/1.1\r\nHost: a\r\n\r\n"
    never_read = b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n"
    for raw in (by_client, by_handler):
        answer = send_all(echo, raw + never_read)
        assert answer.count(b"HTTP/1.1") == 1
        assert b"Connection: close" in answer


def test_two_thousand_pipelined_requests_are_answered_in_order(echo: str) -> None:
    requests = b"".join(
        b"GET /%s?%d HTTP/1.1\r\nHost: a\r\n\r\n" % (b"later" if n % 7 == 0 else b"now", n)
        for n in range(2000)
    )
    with Raw(echo) as connection:
        sender = threading.Thread(target=connection.send, args=(requests,))
        sender.start()
        queries = [json.loads(connection.answer().body)[2] for _ in range(2000)]
        sender.join()
    assert queries == [str(n) for n in range(2000)]


def test_a_flood_that_is_never_read_stays_with_its_sender(tmp_path: Path) -> None:
    with (
        ServerThread(RepositoryHandler(make_repository(tmp_path))) as server,
        Raw(server.url, receive_buffer=4096) as connection,
    ):
        connection.socket.settimeout(0.3)
        request = f"GET {blob_url(SMALL)} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 1 << 30:
                sent += connection.socket.send(request * 500)
        assert server.counters.delivered_bytes < 16 << 20
        assert get(server.url, "/metadata/timestamp.json").body == TIMESTAMP


def test_a_body_is_taken_only_where_the_handler_asks(echo: str) -> None:
    with Raw(echo) as connection:
        connection.send(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
        connection.send(b"llo")
        assert json.loads(connection.answer().body) == ["POST", "/upload", "", "hello"]
        connection.send(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n")
        assert connection.answer().status == 413
        assert connection.rest() == b""
    raw = send_all(echo, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
    assert raw.startswith(b"HTTP/1.1 413 ")


def test_a_client_that_expects_is_told_to_go_on(echo: str) -> None:
    head = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: %s\r\n\r\n"
    with Raw(echo) as connection:
        connection.send(head % b"100-Continue")
        assert connection.answer().status == 100
        connection.send(b"hello")
        assert json.loads(connection.answer().body)[3] == "hello"
        connection.send(head % b"100-continue" + b"hello")
        assert json.loads(connection.answer().body)[3] == "hello"
        connection.send(head % b"magic")
        assert connection.answer().status == 417
    old = (head % b"100-continue").replace(b"HTTP/1.1", b"HTTP/1.0") + b"hello"
    assert send_all(echo, old).startswith(b"HTTP/1.1 200 ")


def test_a_bug_in_a_handler_ends_one_answer_and_not_the_server(
    echo: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        for path in ("/bug", "/late-bug"):
            raw = send_all(echo, f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert raw.startswith(b"HTTP/1.1 500 ")
    assert "a bug in the handler, later" in caplog.text
    assert get(echo, "/a").status == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\n", 400),
        (b"GET /" + b"a" * 9000, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 3000, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
    ],
)
def test_a_refused_client_is_told_why_and_closed(echo: str, raw: bytes, status: int) -> None:
    answer = send_all(echo, raw)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.endswith(b"Connection: close\r\n\r\n")


# -- deadlines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (b"", b""),
        (b"GET / HT", b"HTTP/1.1 408 "),
        (b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe", b"HTTP/1.1 408 "),
    ],
)
def test_a_client_that_does_not_go_on_is_closed(raw: bytes, answer: bytes) -> None:
    with ServerThread(Echo(), limits=QUICK) as server:
        assert send_all(server.url, raw).startswith(answer)


def test_a_client_that_trickles_its_head_is_cut_off_all_the_same() -> None:
    """Slowloris: a byte now and then does not buy more time."""
    with ServerThread(Echo(), limits=QUICK) as server, Raw(server.url) as connection:
        connection.socket.settimeout(0.005)
        trickled = 0
        answer = b""
        while not answer:
            connection.send(b"GET / HTTP/1.1\r\nX-Endless: "[trickled : trickled + 1] or b"x")
            trickled += 1
            try:
                answer = connection.socket.recv(100)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert server.counters.refused == 1


@pytest.mark.parametrize("content", [SMALL * 30, LARGE * 8])
def test_a_client_that_stops_reading_is_cut_off(tmp_path: Path, content: bytes) -> None:
    root = make_repository(tmp_path)
    file = root / blob_url(content)[1:]
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    request = f"GET {blob_url(content)} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    with (
        ServerThread(RepositoryHandler(root), limits=QUICK) as server,
        Raw(server.url, receive_buffer=4096) as connection,
    ):
        connection.send(request * 40)
        wait_until(lambda: server.counters.accepted == 1)
        wait_until(lambda: server.counters.connections == 0)
        assert server.counters.cut == 1


def test_a_client_that_reads_slowly_but_reads_gets_all(tmp_path: Path) -> None:
    root = make_repository(tmp_path)
    limits = ServerLimits(
        stall_timeout=timedelta(milliseconds=150),
        min_stall_bytes=1,
        sweep_interval=timedelta(milliseconds=5),
    )
    with (
        ServerThread(RepositoryHandler(root), limits=limits) as server,
        Raw(server.url, receive_buffer=32 * KIB) as connection,
    ):
        connection.send(f"GET {blob_url(LARGE)} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        pause = threading.Event()
        got = 0
        while got < len(LARGE):
            got += len(connection.socket.recv(64 * KIB))
            pause.wait(0.002)
        assert server.counters.cut == 0


def test_more_clients_than_allowed_are_told_to_come_back() -> None:
    with ServerThread(Echo(), limits=ServerLimits(max_connections=2)) as server:
        with Raw(server.url) as one, Raw(server.url) as two:
            assert one.get("/").status == two.get("/").status == 200
            with Raw(server.url) as three:
                answer = three.answer()
                assert answer.status == 503
                assert three.rest() == b""
            assert one.get("/").status == 200
        assert server.counters.overloaded == 1


# -- the end -----------------------------------------------------------------------------------


def test_a_graceful_stop_lets_a_running_answer_finish() -> None:
    gate = Gate()
    server = ServerThread(gate)
    with server, Raw(server.url) as busy, Raw(server.url) as idle:
        busy.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert gate.entered.wait(DEADLINE)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        assert idle.rest() == b""
        gate.open()
        answer = busy.answer()
        assert answer.body == b"through the gate"
        assert answer.headers["connection"] == "close"
        assert busy.rest() == b""
        stopper.join()
        with pytest.raises(ConnectionError), Raw(server.url):
            pass


def test_a_stop_does_not_wait_for_ever() -> None:
    gate = Gate()
    with ServerThread(gate, limits=QUICK) as server:
        connection = Raw(server.url)
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert gate.entered.wait(DEADLINE)
        server.stop()
        assert gate.cancelled.is_set()
        with connection:
            assert connection.rest() == b""


def test_a_client_that_leaves_ends_what_waits_for_it() -> None:
    gate = Gate()
    with ServerThread(gate) as server:
        with Raw(server.url) as connection:
            connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert gate.entered.wait(DEADLINE)
        assert gate.cancelled.wait(DEADLINE)


def test_a_client_that_only_stops_sending_still_gets_its_answers(repository: str) -> None:
    request = f"GET {blob_url(LARGE)} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    with Raw(repository) as connection:
        connection.send(request * 2)
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.answer().body == LARGE
        assert connection.answer().body == LARGE
        assert connection.rest() == b""


def test_a_file_that_is_cut_while_it_is_sent_cuts_the_answer(tmp_path: Path) -> None:
    file = tmp_path / "short"
    file.write_bytes(LARGE)
    with ServerThread(OneFile(str(file), len(LARGE) + 1)) as server, Raw(server.url) as connection:
        with pytest.raises(CutError):
            connection.get("/")
        assert server.counters.cut == 1


def test_the_address_is_taken_or_is_none(echo: str) -> None:
    port = int(echo.rsplit(":", 1)[1])
    with pytest.raises(ConfigurationError, match="cannot listen"), ServerThread(Echo(), port=port):
        pass
    with ServerThread(Echo(), host="::1") as server:
        assert server.url.startswith("http://[::1]:")
        assert get(server.url, "/").status == 200


def test_no_descriptor_is_left_by_clients_of_every_kind(tmp_path: Path) -> None:
    root = make_repository(tmp_path)
    with ServerThread(RepositoryHandler(root), limits=ServerLimits(linger=SHORT)) as server:
        url = server.url
        get(url, blob_url(LARGE))
        before = 0
        for _ in range(3):
            for _ in range(10):
                get(url, blob_url(LARGE))
                get(url, blob_url(LARGE), method="HEAD")
                get(url, blob_url(LARGE), "Range: bytes=99999999-")
                get(url, blob_url(LARGE), f'If-None-Match: "{blob_url(LARGE)[16:32]}"')
                get(url, blob_url(b"absent"))
                send_all(url, b"nonsense\n")
                with Raw(url, receive_buffer=4096) as leaver:
                    leaver.send(f"GET {blob_url(LARGE)} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                    leaver.socket.recv(10)
            wait_until(lambda: server.counters.connections == 0)
            if not before:
                before = open_descriptors()
        wait_until(lambda: open_descriptors() <= before)


def _wait_until_still(server: ServerThread) -> None:
    """Return once the server has nothing more to do before the client reads."""
    pause = threading.Event()
    seen, still = -1, 0
    while still < 20:
        pause.wait(0.002)
        now = server.counters.delivered_bytes
        still = still + 1 if now == seen and now else 0
        seen = now


def test_answers_of_all_sizes_reach_a_client_that_reads_late(tmp_path: Path) -> None:
    """Small ones fill the transport, then the kernel sends a long file, then small ones again."""
    root = make_repository(tmp_path)
    long = LARGE * 16
    write(root, blob_url(long), long)
    padding = "x" * 1000
    small = f"GET {blob_url(SMALL)} HTTP/1.1\r\nHost: a\r\nX: {padding}\r\n\r\n".encode()
    with (
        ServerThread(RepositoryHandler(root)) as server,
        Raw(server.url, receive_buffer=4096) as connection,
    ):
        requests = small * 900 + f"GET {blob_url(long)} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        sender = threading.Thread(target=connection.send, args=(requests + small,))
        sender.start()
        _wait_until_still(server)
        for _ in range(900):
            assert connection.answer().body == SMALL
        assert connection.answer().body == long
        assert connection.answer().body == SMALL
        sender.join()


def test_a_client_that_resets_in_the_middle_of_a_file(tmp_path: Path) -> None:
    root = make_repository(tmp_path)
    long = LARGE * 16
    write(root, blob_url(long), long)
    with ServerThread(RepositoryHandler(root)) as server:
        for _ in range(5):
            with Raw(server.url, receive_buffer=4096) as connection:
                connection.send(f"GET {blob_url(long)} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                connection.socket.recv(100)
                reset = struct.pack("ii", 1, 0)
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        wait_until(lambda: server.counters.connections == 0)
        assert get(server.url, "/metadata/timestamp.json").body == TIMESTAMP


# -- one client that takes all ---------------------------------------------------------------------


def test_one_address_cannot_take_every_connection() -> None:
    """A host opens connection after connection; it is told 503, and a neighbour is served."""
    limits = ServerLimits(max_connections=50, max_connections_per_peer=5)
    with ServerThread(Echo(), limits=limits) as server, contextlib.ExitStack() as opened:
        kept = [opened.enter_context(Raw(server.url)) for _ in range(5)]
        for connection in kept:
            assert connection.get("/").status == 200
        for _ in range(3):
            with Raw(server.url) as sixth:
                assert sixth.answer().status == 503
                assert sixth.rest() == b""
        with Raw(server.url, source="127.0.0.2") as neighbour:
            assert neighbour.get("/").status == 200
        assert kept[0].get("/").status == 200
        assert server.counters.overloaded == 3
        for connection in kept:
            connection.socket.close()
        wait_until(lambda: server.counters.connections == 0)
        assert get(server.url, "/").status == 200


def test_an_ipv6_client_cannot_choose_a_new_address_for_each_connection() -> None:
    """A /64 has more addresses than there are limits; it counts as one client."""
    assert neighbourhood("2001:db8::1") == neighbourhood("2001:db8::ffff:0:1")
    assert neighbourhood("2001:db8::1") != neighbourhood("2001:db8:0:1::1")
    assert neighbourhood("fe80::1%eth0") == "fe80::/64"
    assert neighbourhood("192.0.2.1") != neighbourhood("192.0.2.2")


def test_a_flood_of_connections_is_dropped_and_others_go_on() -> None:
    """The attacker never reads his 503s; past a few more he is not even told."""
    limits = ServerLimits(max_connections_per_peer=3, linger=timedelta(seconds=60))
    with ServerThread(Echo(), limits=limits) as server, contextlib.ExitStack() as opened:
        for _ in range(100):
            opened.enter_context(Raw(server.url))
        wait_until(lambda: server.counters.overloaded == 97)
        with Raw(server.url, source="127.0.0.3") as neighbour:
            for _ in range(3):
                assert neighbour.get("/").status == 200
        opened.close()
        wait_until(lambda: server.counters.connections == 0)
        assert get(server.url, "/").status == 200


# -- hostile clients, whole stories ----------------------------------------------------------------

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\tchunked\r\n",
        b"Transfer-Encoding: chunked;extension=1\r\n",
        b"Content-Length: 0\r\nContent-Length: 36\r\n",
        b"Content-Length: +0\r\n",
        b"Content-Length: 0\n",
        b"Content-Length:\r\n 0\r\n",
        b" Content-Length: 36\r\n",
        b"X: y\0\r\n",
    ],
)
def test_no_shape_smuggles_a_second_request_past_the_first(echo: str, head: bytes) -> None:
    """A proxy before us reads one request where we might read two: we read none."""
    raw = b"POST /upload HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n0\r\n\r\n" + SMUGGLED
    answer = send_all(echo, raw)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 411 "))
    assert answer.count(b"HTTP/1.1") == 1
    assert b"smuggled" not in answer


def test_a_chunked_body_with_extensions_is_not_read_at_all(echo: str) -> None:
    chunks = b"5;" + b"x" * 4000 + b"\r\nhello\r\n0\r\n\r\n"
    raw = b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    assert send_all(echo, raw).startswith(b"HTTP/1.1 411 ")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/0.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(5000)), 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b":\r\n" * 200 + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000, 431),
        (b"GET http://user:secret@a/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"\r\n" * 100_000 + b"nonsense\r\n\r\n", 400),
    ],
)
def test_absurd_bytes_cost_their_sender_the_connection(echo: str, raw: bytes, status: int) -> None:
    answer = send_all(echo, raw)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1") == 1


def test_a_flood_of_repeated_requests_that_is_never_read_stays_with_its_sender(
    tmp_path: Path,
) -> None:
    """Each request is on the short path; the server holds no more than it would on the long one."""
    with (
        ServerThread(RepositoryHandler(make_repository(tmp_path))) as server,
        Raw(server.url, receive_buffer=4096) as flooder,
    ):
        request = f"GET {blob_url(SMALL)} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        flooder.send(request)
        flooder.answer()
        flooder.socket.settimeout(0.3)
        flooder.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with pytest.raises(TimeoutError):
            for _ in range(1_000_000):
                flooder.socket.send(request)
        assert server.counters.delivered_bytes < 16 << 20
        assert get(server.url, "/metadata/timestamp.json").body == TIMESTAMP


def test_many_slow_clients_do_not_hold_up_a_quick_one() -> None:
    """Slowloris with a hundred connections: each is told 408 in its time."""
    with ServerThread(Echo(), limits=QUICK) as server, contextlib.ExitStack() as opened:
        slow = [opened.enter_context(Raw(server.url)) for _ in range(100)]
        for one in slow:
            one.send(b"GET / HTTP/1.1\r\nHos")
        assert get(server.url, "/").status == 200
        for one in slow:
            assert one.answer().status == 408
        assert server.counters.refused == 100


def test_a_bug_in_one_deadline_leaves_the_others_theirs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server whose watch ends would keep every slow client for ever."""
    sweep = Connection.sweep
    swept: list[Connection] = []

    def fails_once(connection: Connection, now: float) -> None:
        swept.append(connection)
        if len(swept) == 1:
            raise RuntimeError("a bug")
        sweep(connection, now)

    monkeypatch.setattr(Connection, "sweep", fails_once)
    with ServerThread(Echo(), limits=QUICK) as server:
        for _ in range(2):
            with Raw(server.url) as client, contextlib.suppress(OSError):
                assert client.rest() == b""
    assert "could not be looked at" in caplog.text
