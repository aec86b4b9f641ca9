"""A whole relay with a mirror and passthroughs: its status, its metrics, and what stays its own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleetward.config.relay import BandwidthSettings
from fleetward.relay.passthrough_part import PassthroughPart
from httpd.rawhttp import Raw, get
from httpd.upstreams import Upstream, serving
from relay.agenthomes import AgentHome
from relay.passthroughs import settings_of
from relay.relays import TestRelay, settings_for

TIMESTAMP = b'{"signed":{"_type":"timestamp","version":3}}'


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[TestRelay]:
    agent = AgentHome(tmp_path)
    agent.put("r1", {"a": b"mirrored"})
    with (
        Upstream(serving({"/metadata/timestamp.json": TIMESTAMP})) as origin,
        Upstream(serving({"/a": b"passed", "/metadata/timestamp.json": b"forged"})) as web,
    ):
        settings = settings_for(tmp_path / "cache", origin.url)
        passed = settings_of(web.url, proxy_requests=True)
        settings = replace(settings, mirrors=(agent.settings(),), passthroughs=(passed,))
        with TestRelay(settings) as running:
            running.web = web.url  # type: ignore[attr-defined]
            yield running


def test_all_of_them_are_told_of(relay: TestRelay) -> None:
    assert get(relay.url, "/mirror/clamav/a").body == b"mirrored"
    assert get(relay.url, "/passthrough/up/a").body == b"passed"
    status = relay.status()
    assert status["mirrors"][0]["release"] == "r1"
    assert status["passthroughs"][0]["unverified_bytes"] == 6
    metrics = get(relay.url, "/metrics").body.decode()
    assert 'fleetward_relay_unverified_bytes_total{passthrough="up"} 6' in metrics
    assert 'fleetward_relay_mirror_bytes_total{product="clamav"} 8' in metrics


def test_an_unsigned_upstream_has_no_say_in_the_repository(relay: TestRelay) -> None:
    """The passthrough's upstream has files by the names of the repository's.

    Who asks the relay for metadata gets the origin's; who asks for the upstream's, in absolute
    form, gets the upstream's, and the header that says what they are.
    """
    web: str = relay.web  # type: ignore[attr-defined]
    with Raw(relay.url) as client:
        assert client.get("/metadata/timestamp.json").body == TIMESTAMP
        passed = client.get(f"{web}/metadata/timestamp.json")
        assert (passed.body, passed.headers["x-fleetward-verified"]) == (b"forged", "no")
        assert client.get("/metadata/timestamp.json").body == TIMESTAMP


def test_what_a_passthrough_brings_counts_towards_the_bandwidth(tmp_path: Path) -> None:
    """The WAN is one: its rate holds for unsigned upstreams too, and their kernel buffers."""
    with Upstream(serving({})) as origin, Upstream(serving({"/a": bytes(5_000)})) as web:
        settings = settings_for(tmp_path, origin.url)
        settings = replace(
            settings,
            passthroughs=(settings_of(web.url),),
            bandwidth=BandwidthSettings(rate=1_000_000),
        )
        with TestRelay(settings) as running:
            assert get(running.url, "/passthrough/up/a").body == bytes(5_000)
            assert running.status()["bandwidth"]["received"] == 5_000
            (part,) = (one for one in running.relay.parts if isinstance(one, PassthroughPart))
            client = part._passthroughs[0].ground.client
            assert client.pace is running.relay.economy.bandwidth
            assert client.receive_buffer == 500_000


def test_a_relay_has_none_of_this_unless_told(tmp_path: Path) -> None:
    with Upstream(serving({})) as origin, TestRelay(settings_for(tmp_path, origin.url)) as plain:
        assert get(plain.url, "/mirror/clamav/a").status == 404
        assert get(plain.url, "/passthrough/up/a").status == 404
        assert not {"mirrors", "passthroughs"} & set(plain.status())
