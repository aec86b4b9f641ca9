"""A relay as a program sees it: settings, status, and what it is not."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.errors import BusyError, ConfigurationError, DiskError
from fleetward.httpd.background import LoopThread, Ready, ServerThread
from fleetward.httpd.files import RepositoryHandler
from fleetward.relay.server import Relay, RelayThread
from fleetward.relay.settings import RelayLimits
from fleetward.relay.sources import Source
from httpd.certificates import client_context, make_certificate, server_context
from httpd.handlers import Echo
from httpd.rawhttp import Raw, get
from httpd.sample_repository import LARGE, TIMESTAMP, blob_url, make_repository
from httpd.upstreams import Upstream, serving
from relay.relays import settings_for, start


def test_a_relay_in_a_thread_serves_a_repository(tmp_path: Path) -> None:
    handler = RepositoryHandler(make_repository(tmp_path / "repository"))
    with (
        ServerThread(handler) as origin,
        RelayThread(settings_for(tmp_path / "cache", origin.url)) as relay,
    ):
        assert get(relay.url, "/metadata/timestamp.json").body == TIMESTAMP
        assert get(relay.url, blob_url(LARGE)).body == LARGE


def test_the_status_says_what_crossed_the_wan_and_what_was_delivered(tmp_path: Path) -> None:
    files = {blob_url(LARGE): LARGE}
    with Upstream(serving(files)) as upstream, start(tmp_path, upstream.url) as relay:
        for _ in range(3):
            get(relay.url, blob_url(LARGE))
        answer = get(relay.url, "/v1/relay")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        status = json.loads(answer.body)
        assert next(iter(status.items())) == ("schema", "fleetward.relay/1")
        assert status["upstreams"] == [{"url": upstream.url, "state": "ready"}]
        assert len(LARGE) < status["upstream_bytes"] < len(LARGE) + 500
        assert status["delivered_bytes"] == 3 * len(LARGE)
        assert status["upstream_requests"] == 1
        assert status["hits"] + status["misses"] == 3
        assert get(relay.url, "/v1/relay", method="HEAD").status == 200


def test_a_relay_is_not_a_proxy(tmp_path: Path) -> None:
    with ServerThread(Echo()) as inside, start(tmp_path, inside.url) as relay:
        target = inside.url.removeprefix("http://")
        for request in (f"GET {inside.url}/secret", "GET /anything", "GET /v1/unknown"):
            with Raw(relay.url) as connection:
                connection.send(f"{request} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
                assert connection.answer().status == 404
        with Raw(relay.url) as connection:
            connection.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            assert connection.answer().status == 400
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert get(relay.url, "/metadata/timestamp.json", method=method).status == 405
        assert get(relay.url, "/v1/relay", "Content-Length: 5", method="POST").status == 413
        assert inside.counters.requests == 0


def test_a_relay_over_tls(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with Upstream(serving({blob_url(LARGE): LARGE})) as upstream:
        settings = replace(settings_for(tmp_path, upstream.url), tls=server_context(certificate))
        with (
            RelayThread(settings) as relay,
            Raw(relay.url, tls=client_context(certificate)) as connection,
        ):
            assert connection.get(blob_url(LARGE)).body == LARGE


@pytest.mark.parametrize(
    ("upstreams", "proxy"),
    [((), ""), (("ftp://origin",), ""), (("http://origin",), "https://proxy")],
)
def test_settings_that_cannot_be_meant(
    tmp_path: Path, upstreams: tuple[str, ...], proxy: str
) -> None:
    settings = replace(settings_for(tmp_path, *upstreams), proxy=proxy)
    with pytest.raises(ConfigurationError), RelayThread(settings):
        pass


def test_a_lifetime_that_would_hide_what_is_new_from_a_site() -> None:
    too_long = timedelta(seconds=31)
    with pytest.raises(ConfigurationError, match="at most 30 s"):
        RelayLimits(timestamp_lifetime=too_long)
    with pytest.raises(ConfigurationError, match="at most 30 s"):
        RelayLimits(absent_lifetime=too_long)


def test_the_cache_folder_or_the_address_is_not_to_be_had(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_bytes(b"a file")
    with pytest.raises(DiskError), start(tmp_path, "http://127.0.0.1:9"):
        pass
    with start(tmp_path / "one", "http://127.0.0.1:9") as first:
        port = int(first.url.rsplit(":", 1)[1])
        taken = replace(settings_for(tmp_path / "two", "http://127.0.0.1:9"), port=port)
        with pytest.raises(ConfigurationError), RelayThread(taken):
            pass


def test_two_relays_do_not_share_a_cache_folder(tmp_path: Path) -> None:
    with (
        start(tmp_path, "http://127.0.0.1:9"),
        pytest.raises(BusyError),
        start(tmp_path, "http://127.0.0.1:9"),
    ):
        pass
    with start(tmp_path, "http://127.0.0.1:9"):
        pass


def test_a_thread_tells_of_a_failure_after_it_has_begun() -> None:
    async def run(ready: Ready, stop: asyncio.Event) -> None:
        ready("http://nowhere")
        await stop.wait()
        raise DiskError("later")

    with pytest.raises(DiskError, match="later"), LoopThread(run) as thread:
        assert thread.url == "http://nowhere"
    with pytest.raises(ZeroDivisionError), LoopThread(run):
        raise ZeroDivisionError


def test_the_pause_of_a_failing_source_doubles_up_to_its_limit(tmp_path: Path) -> None:
    async def main() -> list[float]:
        settings = settings_for(tmp_path, "http://127.0.0.1:9")
        limits = RelayLimits()
        (source,) = Relay(settings).sources
        source = Source(source.client, limits)
        pauses = []
        for _ in range(8):
            source.note_failure(100.0)
            pauses.append(source._paused_until - 100.0)
        source.note_success()
        assert not source.is_paused(100.0)
        return pauses

    assert asyncio.run(main()) == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_source_that_falsifies_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    async def main() -> int:
        (source,) = Relay(settings_for(tmp_path, "http://127.0.0.1:9")).sources
        for number in range(3000):
            source.note_false(f"{number:064x}", 0.0)  # type: ignore[arg-type]
        assert source.falsified(f"{2999:064x}", 1.0)  # type: ignore[arg-type]
        assert source.is_false(1.0)
        assert not source.is_false(601.0)
        return len(source._false_digests)

    assert asyncio.run(main()) <= 1024
