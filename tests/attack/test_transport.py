"""Stories of a source that keeps its client busy, sends it away, or feeds it too much."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from fleetward.errors import (
    DigestError,
    FleetwardError,
    NetworkError,
    SlowTransferError,
    TrustError,
)
from fleetward.trust.client import Outcome, Source
from support.sourceserver import Exchange, SourceServer, gives
from support.trusthost import Host
from support.tufsim import SimFleet

TIMESTAMP = "metadata/timestamp.json"
NEXT_ROOT = "metadata/2.root.json"


def endless(exchange: Exchange) -> None:
    """Send data for as long as the client listens."""
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        exchange.send(b"3e8\r\n" + b" " * 1000 + b"\r\n")


def redirect(exchange: Exchange) -> None:
    exchange.answer(302, {"Location": "http://169.254.169.254/latest"})


def compressed(exchange: Exchange) -> None:
    exchange.answer(200, {"Content-Encoding": "gzip"}, b"\x1f\x8b\x08")


def truncated(exchange: Exchange) -> None:
    content = exchange.content or b"?"
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n"
    exchange.send(head.encode() + content[:-1])


HOSTILE = {
    "endless data": (endless, DigestError),
    "a redirect": (redirect, NetworkError),
    "a compressed answer": (compressed, NetworkError),
    "a truncated body": (truncated, NetworkError),
}


@pytest.mark.parametrize("path", [NEXT_ROOT, TIMESTAMP, "metadata/4.snapshot.json"])
@pytest.mark.parametrize("story", HOSTILE)
def test_a_source_that_sends_what_nobody_asked_for(
    origin: SimFleet, source: SourceServer, client: Host, story: str, path: str
) -> None:
    # The host has seen the first release.
    client.refresh(source.url)
    kept = client.kept()

    # The origin publishes the second one, but the source answers in its own way.
    origin.release(2)
    behave, error = HOSTILE[story]
    source.scripts[path] = behave
    with pytest.raises(error):
        client.refresh(source.url)

    # The client takes up nothing that depends on it.
    if path != "metadata/4.snapshot.json":
        assert client.kept() == kept
    assert client.kept()["snapshot.json"] == kept["snapshot.json"]

    # Once the source behaves, the host goes on.
    source.scripts.clear()
    assert client.refresh(source.url).versions["releases-yara"] == 3


@pytest.mark.parametrize("story", HOSTILE)
def test_another_source_serves_what_the_first_one_spoils(
    source: SourceServer, relay: SourceServer, client: Host, story: str
) -> None:
    # The attacker's relay serves the right metadata, and spoils a document.
    behave, error = HOSTILE[story]
    view = client.refresh(relay.url)
    target = view.find("channels/yara/stable.json")
    assert target is not None
    relay.scripts[f"targets/channels/yara/{target.sha256}.stable.json"] = behave

    # With the relay alone the client gets nothing.
    with pytest.raises(error):
        view.fetch(target)

    # With another source it does, and reports what the relay did.
    view = client.refresh(relay.url, source.url)
    assert len(view.fetch(target)) == target.length
    assert view.reports[-1].source == Source(relay.url)
    assert isinstance(view.reports[-1].error, error)


class Metronome:
    """A clock that moves on by half a second, and lets a byte pass, each time it is looked at."""

    def __init__(self, client: Host) -> None:
        self._clock = client.clock
        self._turns = threading.Semaphore(0)
        client.session._clock = self

    def now(self) -> datetime:
        raise AssertionError

    def sleep(self, pause: timedelta) -> None:
        raise AssertionError

    def monotonic(self) -> timedelta:
        self._clock.advance(timedelta(seconds=0.5))
        self._turns.release()
        return self._clock.monotonic()

    def drip(self, head: bytes, tail: Callable[[Exchange], bytes]) -> Callable[[Exchange], None]:
        def script(exchange: Exchange) -> None:
            exchange.send(head)
            for byte in tail(exchange):
                assert self._turns.acquire(timeout=10)
                exchange.send(bytes([byte]))

        return script


@pytest.mark.parametrize("path", [NEXT_ROOT, TIMESTAMP])
def test_slow_retrieval(source: SourceServer, client: Host, path: str) -> None:
    # The attacker sends a byte every half second, so that the client never ends.
    metronome = Metronome(client)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n"
    source.scripts[path] = metronome.drip(head, lambda _: b" " * 3000)

    # The client cuts it within a minute, and nothing has changed.
    before = client.clock.monotonic()
    with pytest.raises(SlowTransferError):
        client.refresh(source.url)
    assert client.clock.monotonic() - before < timedelta(seconds=70)
    assert set(client.kept()) == {"root.json"}


def test_slow_retrieval_in_the_header(source: SourceServer, client: Host) -> None:
    metronome = Metronome(client)
    source.scripts[TIMESTAMP] = metronome.drip(b"HTTP/1.1 200 OK\r\nX: ", lambda _: b"y" * 3000)
    with pytest.raises(SlowTransferError):
        client.refresh(source.url)


def test_a_slow_source_is_left_for_a_fast_one(
    source: SourceServer, relay: SourceServer, client: Host
) -> None:
    # The nearest relay drips; the next source is the origin.
    metronome = Metronome(client)
    relay.scripts[TIMESTAMP] = metronome.drip(b"HTTP/1.1 200 OK\r\nX: ", lambda _: b"y" * 3000)

    # The client leaves the relay, takes the view from the origin, and reports both.
    view = client.refresh(relay.url, source.url)
    assert view.source == Source(source.url)
    assert [report.outcome for report in view.reports] == [Outcome.UNREACHABLE, Outcome.FRESH]
    assert isinstance(view.reports[0].error, SlowTransferError)


@pytest.mark.parametrize("extra", [1, 100_000])
def test_a_byte_past_the_signed_length(source: SourceServer, client: Host, extra: int) -> None:
    # The attacker adds to what was signed.
    def longer(exchange: Exchange) -> None:
        exchange.answer(200, {}, (exchange.content or b"") + b" " * extra)

    source.scripts["metadata/3.snapshot.json"] = longer
    with pytest.raises(DigestError):
        client.refresh(source.url)
    assert "snapshot.json" not in client.kept()


def test_other_bytes_of_the_signed_length(source: SourceServer, client: Host) -> None:
    view = client.refresh(source.url)
    target = view.find("channels/yara/stable.json")
    assert target is not None
    path = f"targets/channels/yara/{target.sha256}.stable.json"
    source.scripts[path] = gives(bytes(target.length))
    with pytest.raises(DigestError, match="broken or hostile"):
        view.fetch(target)
    source.scripts[path] = gives(b"short")
    with pytest.raises(DigestError):
        view.fetch(target)


def test_a_source_that_is_no_repository(source: SourceServer, client: Host) -> None:
    # A captive portal answers everything with its page.
    page = b"<html>log in</html>"
    for path in (NEXT_ROOT, TIMESTAMP):
        source.scripts[path] = gives(page)
    with pytest.raises(TrustError):
        client.refresh(source.url)
    assert set(client.kept()) == {"root.json"}


def test_nothing_is_raised_but_errors_of_ours(source: SourceServer, client: Host) -> None:
    # The attacker tries forms that break parsers.
    forms = [
        b"",
        b"[" * 100_000,
        b"\xff\xfe",
        b"null",
        b"{}",
        b'{"signed": 1, "signatures": 2}',
        b'{"signed": {"_type": "timestamp", "version": 1e999}, "signatures": []}',
        b'{"signed": {"_type": []}, "signatures": [{"keyid": null, "sig": 3}]}',
    ]
    for form in forms:
        for path in (NEXT_ROOT, TIMESTAMP):
            source.scripts.clear()
            source.scripts[path] = gives(form)
            with pytest.raises(FleetwardError):
                client.refresh(source.url)
    assert set(client.kept()) == {"root.json"}
