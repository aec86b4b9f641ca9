"""How fast sources answer, noted on the way."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from fleetward.agent import measuring
from fleetward.agent.measuring import LONG_BODY, MeasuredSession, Sample, measured
from fleetward.errors import NetworkError, NotFoundError
from support.fakes import FakeClock
from support.sourceserver import Exchange, SourceServer, source_server

SECOND = timedelta(seconds=1)


@pytest.fixture
def source() -> Iterator[SourceServer]:
    with source_server({"metadata/a": b"x", "blobs/b": bytes(3 * LONG_BODY)}) as server:
        yield server


def test_first_byte_and_throughput(source: SourceServer) -> None:
    clock = FakeClock()
    session = MeasuredSession(clock)

    def slow(exchange: Exchange) -> None:
        clock.advance(2 * SECOND)
        exchange.usual()

    source.scripts["metadata/a"] = slow
    with session.get(f"{source.url}/metadata/a", max_bytes=1) as answer:
        assert answer.read() == b"x"
    with session.get(f"{source.url}/blobs/b", max_bytes=3 * LONG_BODY) as answer:
        clock.advance(3 * SECOND)
        assert sum(map(len, answer.pieces())) == 3 * LONG_BODY
    found = measured(session.samples, source.url)
    assert found.first_byte == 2.0
    assert found.rate == pytest.approx(LONG_BODY, rel=0.1)
    session.close()


def test_what_is_absent_was_answered_too_and_what_failed_was_not(source: SourceServer) -> None:
    session = MeasuredSession(FakeClock())
    for path in ("absent", "broken"):
        source.scripts[path] = lambda exchange: exchange.answer(500)
        if path == "absent":
            del source.scripts[path]
        with (
            pytest.raises(NotFoundError if path == "absent" else NetworkError),
            session.get(f"{source.url}/{path}", max_bytes=9),
        ):
            raise AssertionError
    assert [sample.url for sample in session.samples] == [f"{source.url}/absent"]
    session.close()


def test_a_source_counts_by_its_whole_url_and_long_polls_do_not() -> None:
    samples = [
        Sample("http://a.example/metadata/x", SECOND),
        Sample("http://a/v1/watch", 60 * SECOND),
        Sample("http://a/metadata/x", 3 * SECOND, 100, SECOND),
        Sample("http://a/blobs/y", SECOND, LONG_BODY, timedelta()),
    ]
    assert measured(samples, "http://a").first_byte == 3.0
    assert measured(samples, "http://a").rate is None
    assert measured(samples, "http://b") == measured([], "http://a")


def test_only_so_many_requests_are_noted(
    source: SourceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "MAX_SAMPLES", 2)
    session = MeasuredSession(FakeClock())
    for _ in range(4):
        with session.get(f"{source.url}/metadata/a", max_bytes=1) as answer:
            answer.read()
    assert len(session.samples) == 2
    session.close()
