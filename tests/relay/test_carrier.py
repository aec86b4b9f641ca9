"""Who is asked, in which order, and what an answer may be."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fleetward.errors import NetworkError, SlowTransferError
from fleetward.httpd.client import UpstreamClient
from fleetward.httpd.endpoint import Endpoint
from fleetward.relay.carrier import Carrier, Reply, _seconds_of
from fleetward.relay.counters import RelayCounters
from fleetward.relay.settings import RelaySettings
from fleetward.relay.sources import Source, Sources
from httpd.upstreams import Asked, Out, Script, Upstream, head
from relay.carriers import CARRY, NOWHERE, carrying_settings

VIA = (("Via", "1.1 fleetward-0011223344556677"),)


def answering(status: str, body: bytes = b"", *headers: str) -> Script:
    async def script(asked: Asked, out: Out) -> bool:
        await out.send(head(len(body), *headers, status=status), body)
        return True

    return script


def carrier_of(settings: RelaySettings) -> Carrier:
    clients = (UpstreamClient(Endpoint.upstream(url)) for url in settings.upstreams)
    sources = tuple(Source(client, settings.limits, VIA) for client in clients)
    return Carrier(settings, Sources(sources, settings.limits, RelayCounters()))


def asked(
    settings: RelaySettings, act: Callable[[Carrier], Awaitable[Reply]] | None = None
) -> Reply:
    """Ask for something, and close all connections."""

    async def usual(carrier: Carrier) -> Reply:
        return await carrier.ask("GET", "/v1/inbox/x?after=1", max_bytes=100)

    async def main() -> Reply:
        carrier = carrier_of(settings)
        try:
            return await (act or usual)(carrier)
        finally:
            carrier.close()
            for source in carrier._sources:
                source.client.close()
            await asyncio.sleep(0)

    return asyncio.run(main())


def upstreams(cache: Path, *urls: str) -> RelaySettings:
    return replace(carrying_settings(cache), upstreams=urls)


def test_the_console_is_asked_where_there_is_one(tmp_path: Path) -> None:
    with Upstream(answering("200 OK", b"yes")) as console, Upstream(answering("200 OK")) as other:
        settings = replace(upstreams(tmp_path, other.url), console=console.url)
        assert asked(settings) == Reply(200, b"yes", 0.0)
        assert console.paths() == ["/v1/inbox/x?after=1"]
        assert other.asked == []
        assert console.asked[0].headers["via"] == VIA[0][1]


def test_a_console_under_a_path_is_asked_under_it(tmp_path: Path) -> None:
    with Upstream(answering("204 No Content")) as console:
        settings = carrying_settings(tmp_path, f"{console.url}/fleetward/")
        assert asked(settings).status == 204
        assert console.paths() == ["/fleetward/v1/inbox/x?after=1"]


def test_without_a_console_the_upstreams_are_asked_in_their_order(tmp_path: Path) -> None:
    with Upstream(answering("202 Accepted")) as one, Upstream(answering("202 Accepted")) as two:
        assert asked(upstreams(tmp_path, one.url, two.url)).status == 202
        assert (len(one.asked), len(two.asked)) == (1, 0)


@pytest.mark.parametrize("status", ["404 Not Found", "405 No", "503 Busy", "500 No", "403 No"])
def test_the_next_is_asked_where_one_does_not_carry(tmp_path: Path, status: str) -> None:
    with Upstream(answering(status)) as one, Upstream(answering("202 Accepted")) as two:
        assert asked(upstreams(tmp_path, NOWHERE, one.url, two.url)).status == 202


@pytest.mark.parametrize("status", [400, 409, 410, 413, 415, 422])
def test_what_all_would_refuse_is_not_asked_again(tmp_path: Path, status: int) -> None:
    with Upstream(answering(f"{status} No")) as one, Upstream(answering("202 Accepted")) as two:
        assert asked(upstreams(tmp_path, one.url, two.url)).status == status
        assert two.asked == []


def test_the_last_refusal_is_told_where_nobody_takes_it(tmp_path: Path) -> None:
    with Upstream(answering("404 No")) as one, Upstream(answering("503 No")) as two:
        assert asked(upstreams(tmp_path, one.url, two.url, NOWHERE)).status == 503


def test_nobody_there_is_a_failure_of_the_network(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="cannot connect"):
        asked(upstreams(tmp_path, NOWHERE))


def test_an_endless_answer_is_cut(tmp_path: Path) -> None:
    with (
        Upstream(answering("200 OK", b"x" * 101)) as one,
        pytest.raises(NetworkError, match="more than 100"),
    ):
        asked(upstreams(tmp_path, one.url))


def test_a_silent_console_is_given_up(tmp_path: Path) -> None:
    async def silent(asked: Asked, out: Out) -> bool:
        await upstream.event("never").wait()
        return False

    upstream = Upstream(silent)
    with upstream:
        carry = replace(CARRY, answer_seconds=0.05)
        settings = replace(upstreams(tmp_path, upstream.url), carry_limits=carry)
        with pytest.raises(SlowTransferError):
            asked(settings)


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    """A console's answer must not send a relay to any address of the site's network."""
    with Upstream(answering("200 OK")) as inner:
        to = f"Location: {inner.url}/"
        with Upstream(answering("302 Found", b"", to)) as one:
            assert asked(upstreams(tmp_path, one.url)).status == 302
        assert inner.asked == []


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"30", 30.0),
        (b"0", 0.0),
        (b"", 0.0),
        (b"-1", 0.0),
        (b"1.5", 0.0),
        (b"Wed, 21 Oct 2026 07:28:00 GMT", 0.0),
        (b"999999999", 86_400.0),
        (b"9" * 5000, 0.0),
    ],
)
def test_what_retry_after_says(value: bytes, seconds: float) -> None:
    assert _seconds_of(value) == seconds


def test_the_pause_that_is_asked_for_is_handed_on(tmp_path: Path) -> None:
    with Upstream(answering("503 Busy", b"", "Retry-After: 7")) as one:
        assert asked(upstreams(tmp_path, one.url)).retry_after == 7.0


def test_a_post_brings_body_and_headers(tmp_path: Path) -> None:
    async def act(carrier: Carrier) -> Reply:
        return await carrier.ask(
            "POST", "/v1/checkins", max_bytes=10, headers=(("Content-Type", "x/y"),), body=b"words"
        )

    async def script(asked: Asked, out: Out) -> bool:
        await out.send(head(0, status="202 Accepted"))
        return False

    with Upstream(script) as one:
        assert asked(upstreams(tmp_path, one.url), act).status == 202
        assert one.asked[0].method == "POST"
        assert one.asked[0].headers["content-type"] == "x/y"
        assert one.asked[0].headers["content-length"] == "5"


def test_what_an_upstream_relay_says_of_its_place_is_remembered(tmp_path: Path) -> None:
    """Two relays without a console that carry for each other find it out, also by status alone."""
    via = "1.1 fleetward-8899aabbccddeeff"

    async def act(carrier: Carrier) -> Reply:
        reply = await carrier.ask("GET", "/v1/inbox/x?after=1", max_bytes=100)
        assert [source.via for source in carrier._sources] == [via.encode()]
        return reply

    with Upstream(answering("204 No Content", b"", f"Via: {via}")) as one:
        assert asked(upstreams(tmp_path, one.url), act).status == 204
