"""Bringing something by POST: the same care as for what is fetched."""

from collections.abc import Generator
from datetime import timedelta

import pytest

from fleetward.adapters.http import HttpSession
from fleetward.errors import DigestError, NetworkError, NotFoundError
from support.fakes import FakeClock
from support.sourceserver import Exchange, SourceServer, gives, source_server

DEADLINE = timedelta(seconds=20)


@pytest.fixture
def source() -> Generator[SourceServer]:
    with source_server({}) as server:
        yield server


@pytest.fixture
def session() -> Generator[HttpSession]:
    made = HttpSession(FakeClock())
    yield made
    made.close()


def post(session: HttpSession, url: str, content: bytes = b"words") -> tuple[int, bytes]:
    with session.post(
        url, content, media_type="text/plain", max_bytes=100, deadline=DEADLINE
    ) as answer:
        return answer.status, answer.read()


def test_what_is_brought_arrives_with_its_type(source: SourceServer, session: HttpSession) -> None:
    seen: list[Exchange] = []

    def script(exchange: Exchange) -> None:
        seen.append(exchange)
        exchange.answer(202, {}, b"carried")

    source.scripts["box"] = script
    assert post(session, f"{source.url}/box") == (202, b"carried")
    assert (seen[0].method, seen[0].body) == ("POST", b"words")
    assert seen[0].headers["content-type"] == "text/plain"


def test_nothing_is_content_too(source: SourceServer, session: HttpSession) -> None:
    source.scripts["box"] = lambda exchange: exchange.answer(200, {}, exchange.body)
    assert post(session, f"{source.url}/box", b"") == (200, b"")


def test_a_connection_is_kept_for_the_next(source: SourceServer, session: HttpSession) -> None:
    def script(exchange: Exchange) -> None:
        exchange.stays = True
        exchange.answer(202)

    source.scripts["box"] = script
    post(session, f"{source.url}/box")
    post(session, f"{source.url}/box")
    assert source.connections == 1


def test_a_kept_connection_that_was_closed_is_replaced_once(
    source: SourceServer, session: HttpSession
) -> None:
    def script(exchange: Exchange) -> None:  # says it stays, and goes
        exchange.answer(202)

    source.scripts["box"] = script
    post(session, f"{source.url}/box")
    assert post(session, f"{source.url}/box")[0] == 202


def test_a_source_without_such_a_place(source: SourceServer, session: HttpSession) -> None:
    with pytest.raises(NotFoundError) as refused:
        post(session, f"{source.url}/box")
    assert refused.value.status == 404


@pytest.mark.parametrize("status", [301, 307, 503, 413, 206])
def test_other_answers_are_errors(source: SourceServer, session: HttpSession, status: int) -> None:
    source.scripts["box"] = gives(b"", status)
    with pytest.raises(NetworkError):
        post(session, f"{source.url}/box")


def test_202_is_no_answer_to_get(source: SourceServer, session: HttpSession) -> None:
    source.scripts["box"] = gives(b"", 202)
    with (
        pytest.raises(NetworkError),
        session.get(f"{source.url}/box", max_bytes=100),
    ):
        pytest.fail("it was taken")


def test_endless_answers_are_cut(source: SourceServer, session: HttpSession) -> None:
    source.scripts["box"] = gives(b"x" * 101)
    with pytest.raises(DigestError):
        post(session, f"{source.url}/box")


def test_nobody_there(session: HttpSession) -> None:
    with pytest.raises(NetworkError):
        post(session, "http://127.0.0.1:1/box")
