"""The HTTP adapter against a source that misbehaves in every way that it promises to survive."""

import socket
import threading
from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from fleetward.adapters.http import HttpSession, HttpSettings
from fleetward.core.limits import TransferLimits
from fleetward.errors import (
    ConfigurationError,
    DigestError,
    NetworkError,
    NotFoundError,
    SlowTransferError,
)
from support.fakes import FakeClock
from support.sourceserver import Exchange, Script, SourceServer, gives, source_server

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def source() -> Generator[SourceServer]:
    with source_server({"file": CONTENT, "empty": b""}) as server:
        yield server


@pytest.fixture
def session() -> Iterator[HttpSession]:
    made = HttpSession(FakeClock())
    yield made
    made.close()


def read(session: HttpSession, url: str, max_bytes: int = len(CONTENT), offset: int = 0) -> bytes:
    with session.get(url, max_bytes=max_bytes, offset=offset) as answer:
        return answer.read()


def raw(*parts: bytes) -> Script:
    def script(exchange: Exchange) -> None:
        for part in parts:
            exchange.send(part)

    return script


class TestAnswers:
    def test_a_whole_file(self, source: SourceServer, session: HttpSession) -> None:
        with session.get(f"{source.url}/file", max_bytes=len(CONTENT)) as answer:
            assert (answer.status, answer.length) == (200, len(CONTENT))
            assert answer.etag
            assert b"".join(answer.pieces()) == CONTENT

    def test_an_empty_file(self, source: SourceServer, session: HttpSession) -> None:
        assert read(session, f"{source.url}/empty") == b""

    def test_a_file_that_has_not_changed(self, source: SourceServer, session: HttpSession) -> None:
        with session.get(f"{source.url}/file", max_bytes=len(CONTENT)) as answer:
            answer.read()
        with session.get(f"{source.url}/file", max_bytes=0, etag=answer.etag) as again:
            assert (again.status, again.read()) == (304, b"")
        assert source.connections == 1

    def test_the_rest_of_a_file(self, source: SourceServer, session: HttpSession) -> None:
        with session.get(f"{source.url}/file", max_bytes=240, offset=10_000) as answer:
            assert answer.status == 206
            assert answer.read() == CONTENT[10_000:]

    def test_a_source_without_ranges_says_so_by_its_status(
        self, source: SourceServer, session: HttpSession
    ) -> None:
        source.scripts["file"] = gives(CONTENT)
        with session.get(f"{source.url}/file", max_bytes=len(CONTENT), offset=9) as answer:
            assert answer.status == 200
            assert answer.read() == CONTENT

    @pytest.mark.parametrize(
        "place", ["bytes 8-99/100", "bytes */100", "", "bytes 9-", "bytes 9-99/100/1"]
    )
    def test_another_range_is_refused(
        self, source: SourceServer, session: HttpSession, place: str
    ) -> None:
        source.scripts["file"] = lambda exchange: exchange.answer(
            206, {"Content-Range": place}, b"x"
        )
        with pytest.raises(NetworkError, match="range that was not asked for"):
            read(session, f"{source.url}/file", offset=9)

    def test_a_range_that_nobody_asked_for_is_refused(
        self, source: SourceServer, session: HttpSession
    ) -> None:
        source.scripts["file"] = lambda exchange: exchange.answer(
            206, {"Content-Range": "bytes 0-0/100"}, b"x"
        )
        with pytest.raises(NetworkError, match="range that was not asked for"):
            read(session, f"{source.url}/file")

    def test_nothing_to_say(self, source: SourceServer, session: HttpSession) -> None:
        source.scripts["watch"] = raw(b"HTTP/1.1 204 No Content\r\n\r\n")
        with session.get(f"{source.url}/watch", max_bytes=9) as answer:
            assert (answer.status, answer.read()) == (204, b"")

    def test_a_body_in_chunks(self, source: SourceServer, session: HttpSession) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        source.scripts["file"] = raw(head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")
        assert read(session, f"{source.url}/file") == b"abcde"

    def test_the_request_says_little(self, source: SourceServer, session: HttpSession) -> None:
        seen: list[dict[str, str]] = []

        def script(exchange: Exchange) -> None:
            seen.append(exchange.headers)
            exchange.usual()

        source.scripts["file"] = script
        with session.get(f"{source.url}/file", max_bytes=len(CONTENT), fresh=True) as answer:
            answer.read()
        assert set(seen[0]) == {"host", "user-agent", "accept-encoding", "cache-control"}
        assert seen[0]["accept-encoding"] == "identity"
        assert session.traffic.sent == source.received
        assert session.traffic.received == source.sent
        assert session.traffic.requests == 1


class TestRefusals:
    @pytest.mark.parametrize("status", [403, 404, 410])
    def test_absent_files(self, source: SourceServer, session: HttpSession, status: int) -> None:
        def script(exchange: Exchange) -> None:
            exchange.stays = True
            exchange.answer(status, {}, b"not here")

        source.scripts["file"] = script
        for _ in range(2):
            with pytest.raises(NotFoundError) as caught:
                read(session, f"{source.url}/file")
            assert caught.value.status == status
        assert source.connections == 1

    def test_a_long_error_page_is_not_read(
        self, source: SourceServer, session: HttpSession
    ) -> None:
        source.scripts["file"] = lambda exchange: exchange.answer(404, {}, bytes(100_000))
        with pytest.raises(NotFoundError):
            read(session, f"{source.url}/file")
        assert session.traffic.received < 50_000

    def test_an_error_page_that_breaks_off(
        self, source: SourceServer, session: HttpSession
    ) -> None:
        source.scripts["file"] = raw(b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nx")
        with pytest.raises(NotFoundError):
            read(session, f"{source.url}/file")

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirect_is_refused_and_not_followed(
        self, source: SourceServer, session: HttpSession, status: int
    ) -> None:
        source.scripts["file"] = lambda exchange: exchange.answer(
            status, {"Location": f"{source.url}/elsewhere"}
        )
        with pytest.raises(NetworkError, match=r"redirects to .*elsewhere"):
            read(session, f"{source.url}/file")
        assert source.asked == ["file"]

    def test_a_304_that_nobody_asked_for(self, source: SourceServer, session: HttpSession) -> None:
        source.scripts["file"] = raw(b"HTTP/1.1 304 Not Modified\r\n\r\n")
        with pytest.raises(NetworkError):
            read(session, f"{source.url}/file")

    @pytest.mark.parametrize("status", [400, 416, 429, 500, 503])
    def test_other_statuses(self, source: SourceServer, session: HttpSession, status: int) -> None:
        source.scripts["file"] = gives(b"", status)
        with pytest.raises(NetworkError, match=f"status {status}") as caught:
            read(session, f"{source.url}/file")
        assert not isinstance(caught.value, NotFoundError)

    def test_a_compressed_answer_is_refused(
        self, source: SourceServer, session: HttpSession
    ) -> None:
        source.scripts["file"] = lambda exchange: exchange.answer(
            200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"
        )
        with pytest.raises(NetworkError, match="encoded as 'gzip'"):
            read(session, f"{source.url}/file")

    def test_endless_data_with_a_length(self, source: SourceServer, session: HttpSession) -> None:
        source.scripts["file"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
        with pytest.raises(DigestError, match="endless data"):
            read(session, f"{source.url}/file")

    def test_endless_data_without_a_length(
        self, source: SourceServer, session: HttpSession
    ) -> None:
        def script(exchange: Exchange) -> None:
            exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                exchange.send(b"3e8\r\n" + bytes(1000) + b"\r\n")

        source.scripts["file"] = script
        with pytest.raises(DigestError, match="endless data"):
            read(session, f"{source.url}/file", max_bytes=5000)

    @pytest.mark.parametrize(
        "parts",
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabcd",),
            (b"SSH-2.0-OpenSSH\r\n",),
            (),
        ],
    )
    def test_an_answer_that_breaks_off(
        self, source: SourceServer, session: HttpSession, parts: tuple[bytes, ...]
    ) -> None:
        source.scripts["file"] = raw(*parts)
        with pytest.raises(NetworkError, match="connection failed or broke off"):
            read(session, f"{source.url}/file")

    @pytest.mark.parametrize("head", [b"", b"Content-Le", b"Content-Length: -1\r\n\r\n"])
    def test_an_answer_without_its_length(
        self, source: SourceServer, session: HttpSession, head: bytes
    ) -> None:
        source.scripts["file"] = raw(b"HTTP/1.1 200 OK\r\n", head)
        with pytest.raises(NetworkError, match="without its length"):
            read(session, f"{source.url}/file")

    @pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "http://[/", "x", "http:"])
    def test_what_is_no_source(self, session: HttpSession, url: str) -> None:
        with pytest.raises(ConfigurationError, match="no URL of a source"):
            read(session, url)

    def test_a_host_that_is_no_host(self, session: HttpSession) -> None:
        with pytest.raises(NetworkError, match="no URL"):
            read(session, "http://127.0.0.1:99999999/")


class TestConnections:
    def test_a_port_where_nobody_listens(self, session: HttpSession) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
            with pytest.raises(NetworkError, match="look whether the source runs"):
                read(session, url)

    def test_a_name_that_does_not_resolve(
        self, session: HttpSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        with pytest.raises(NetworkError, match="does not resolve"):
            read(session, "http://nowhere.invalid/x")

    def test_a_kept_connection_that_was_closed_meanwhile_is_replaced_once(
        self, source: SourceServer, session: HttpSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def close_unseen(exchange: Exchange) -> None:
            exchange.answer(200, {}, b"first")

        source.scripts["first"] = close_unseen
        assert read(session, f"{source.url}/first") == b"first"
        monkeypatch.setattr("urllib3.connection.wait_for_read", lambda *_, **__: False)
        assert read(session, f"{source.url}/file") == CONTENT
        assert source.connections == 2

    def test_a_body_that_is_not_read_closes_its_connection(
        self, source: SourceServer, session: HttpSession
    ) -> None:
        for _ in range(2):
            with session.get(f"{source.url}/file", max_bytes=len(CONTENT)):
                pass
        assert source.connections == 2


class Gate:
    """Lets a source send one byte each time somebody looks at the clock, which moves on."""

    def __init__(self, step: timedelta) -> None:
        self._step = step
        self._elapsed = timedelta()
        self._turns = threading.Semaphore(0)

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + self._elapsed

    def monotonic(self) -> timedelta:
        self._elapsed += self._step
        self._turns.release()
        return self._elapsed

    def sleep(self, pause: timedelta) -> None:
        raise AssertionError

    def trickle(self, head: bytes, tail: bytes) -> Script:
        def script(exchange: Exchange) -> None:
            exchange.send(head)
            for byte in tail:
                assert self._turns.acquire(timeout=10)
                exchange.send(bytes([byte]))

        return script


class TestSlowRetrieval:
    def test_a_body_under_the_minimum_rate_is_cut(self, source: SourceServer) -> None:
        gate = Gate(timedelta(seconds=0.5))
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n"
        source.scripts["file"] = gate.trickle(head, bytes(10_000))
        session = HttpSession(gate)
        with pytest.raises(SlowTransferError, match="under 512 bytes/s"):
            read(session, f"{source.url}/file")
        assert session.traffic.received < 500
        session.close()

    def test_a_fast_beginning_hides_nothing(self, source: SourceServer) -> None:
        gate = Gate(timedelta(seconds=0.5))
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + bytes(9000)
        source.scripts["file"] = gate.trickle(head, bytes(1000))
        session = HttpSession(gate)
        with pytest.raises(SlowTransferError):
            read(session, f"{source.url}/file")
        session.close()

    def test_a_header_that_trickles_is_cut(self, source: SourceServer) -> None:
        gate = Gate(timedelta(seconds=0.5))
        source.scripts["file"] = gate.trickle(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 10_000)
        session = HttpSession(gate)
        with pytest.raises(SlowTransferError):
            read(session, f"{source.url}/file")
        session.close()

    def test_a_transfer_past_its_deadline_is_cut(self, source: SourceServer) -> None:
        gate = Gate(timedelta(seconds=0.5))
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n"
        source.scripts["file"] = gate.trickle(head, bytes(10_000))
        session = HttpSession(gate)
        with (
            pytest.raises(SlowTransferError, match="within 3 s"),
            session.get(
                f"{source.url}/file", max_bytes=10_000, deadline=timedelta(seconds=3)
            ) as answer,
        ):
            answer.read()
        session.close()

    def test_a_slow_caller_is_not_held_against_the_source(self, source: SourceServer) -> None:
        clock = FakeClock()
        session = HttpSession(clock)
        with session.get(f"{source.url}/file", max_bytes=len(CONTENT)) as answer:
            clock.advance(timedelta(hours=1))
            assert answer.read() == CONTENT
        session.close()

    def test_a_steady_transfer_goes_on_for_as_long_as_it_takes(self, source: SourceServer) -> None:
        gate = Gate(timedelta(seconds=4))
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        source.scripts["file"] = gate.trickle(head, bytes(1000))
        limits = TransferLimits(min_bytes_per_second=0)
        session = HttpSession(gate, HttpSettings(limits=limits))
        assert read(session, f"{source.url}/file") == bytes(1000)
        session.close()

    def test_a_source_that_stops(self, source: SourceServer, session: HttpSession) -> None:
        done = threading.Event()
        source.scripts["file"] = lambda _: [done.wait(10)].clear()
        limits = TransferLimits(read_timeout=timedelta(milliseconds=30))
        with (
            pytest.raises(NetworkError, match="no answer in time"),
            session.get(f"{source.url}/file", max_bytes=1, limits=limits),
        ):
            pass
        done.set()

    def test_a_source_that_stops_until_the_deadline(self, source: SourceServer) -> None:
        done = threading.Event()
        clock = FakeClock()
        source.scripts["file"] = lambda _: [done.wait(10)].clear()
        session = HttpSession(clock)
        timer = threading.Timer(0.02, clock.advance, [timedelta(seconds=1)])
        timer.start()
        with (
            pytest.raises(SlowTransferError),
            session.get(f"{source.url}/file", max_bytes=1, deadline=timedelta(milliseconds=60)),
        ):
            pass
        timer.join()
        done.set()
        session.close()


class TestTokens:
    def test_a_token_goes_with_every_request_and_never_into_words(
        self, source: SourceServer
    ) -> None:
        seen: list[str | None] = []

        def look(exchange: Exchange) -> None:
            seen.append(exchange.headers.get("authorization"))
            exchange.answer(200, {}, b"x")

        source.scripts["look"] = look
        settings = HttpSettings(bearer="fw_secret")
        session = HttpSession(FakeClock(), settings)
        for _ in range(2):
            assert read(session, f"{source.url}/look") == b"x"
        session.close()
        assert seen == ["Bearer fw_secret"] * 2
        assert "fw_secret" not in repr(settings)

    def test_without_one_no_header_goes(self, source: SourceServer, session: HttpSession) -> None:
        seen: list[str | None] = []

        def look(exchange: Exchange) -> None:
            seen.append(exchange.headers.get("authorization"))
            exchange.usual()

        source.scripts["file"] = look
        read(session, f"{source.url}/file")
        assert seen == [None]

    def test_a_redirect_does_not_get_it(self, source: SourceServer) -> None:
        asked: list[str] = []
        with source_server({}) as thief:
            thief.scripts["take"] = lambda exchange: asked.append(exchange.path)
            target = {"Location": f"{thief.url}/take"}
            source.scripts["file"] = lambda exchange: exchange.answer(302, target)
            session = HttpSession(FakeClock(), HttpSettings(bearer="fw_secret"))
            with pytest.raises(NetworkError, match="redirects"):
                read(session, f"{source.url}/file")
            session.close()
        assert asked == []


class TestErrorsThatAreRead:
    @pytest.mark.parametrize("status", [401, 403, 404, 410, 422, 503])
    def test_who_asks_for_them_gets_their_words(
        self, source: SourceServer, session: HttpSession, status: int
    ) -> None:
        source.scripts["file"] = gives(b"why", status)
        errors = frozenset({status})
        with session.get(f"{source.url}/file", max_bytes=9, errors=errors) as answer:
            assert (answer.status, answer.read()) == (status, b"why")
        with pytest.raises(NetworkError), session.get(f"{source.url}/file", max_bytes=9):
            pass

    def test_they_are_bounded_like_any_body(
        self, source: SourceServer, session: HttpSession
    ) -> None:
        source.scripts["file"] = gives(b"x" * 100, 404)
        url, errors = f"{source.url}/file", frozenset({404})
        with pytest.raises(DigestError), session.get(url, max_bytes=9, errors=errors):
            pass

    def test_a_redirect_is_none_of_them(self, source: SourceServer, session: HttpSession) -> None:
        source.scripts["file"] = gives(b"", 301)
        url, errors = f"{source.url}/file", frozenset({301, 404})
        with pytest.raises(NetworkError, match="redirects"):
            session.get(url, max_bytes=9, errors=errors).__enter__()
