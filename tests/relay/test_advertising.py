"""A relay that says by mDNS that it is here, and hosts that find it so."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from fleetward.agent.sources import Lookups
from fleetward.config.relay import DiscoverySettings
from fleetward.core.fleet import Address
from fleetward.discovery.mdns import find_relays
from fleetward.relay.advertising import Advertising
from fleetward.relay.settings import RelaySettings
from relay.relays import TestRelay, settings_for
from support.fleet import Fleet
from support.namespaces import OWN_ADDRESS, in_own_network
from support.sourceserver import source_server

PORT = 2967
HERE = f"http://{OWN_ADDRESS}:{PORT}"


def settings(
    folder: Path, upstream: str = "http://127.0.0.1:9", **changes: object
) -> RelaySettings:
    found = settings_for(folder, upstream)
    asked = DiscoverySettings(mdns=True, name="relay.lyon")
    every = {"host": OWN_ADDRESS, "port": PORT, "discovery": asked, **changes}
    return replace(found, **every)  # type: ignore[arg-type]


def nearby(wanted: Callable[[tuple[str, ...]], bool]) -> tuple[str, ...]:
    """Ask until the answer is as wanted; a name is probed for before it is answered."""
    for _ in range(8):
        if wanted(found := find_relays(timedelta(seconds=1))):
            return found
    return find_relays()


async def until(holds: Callable[[], bool]) -> None:
    """Give the loop turns until it holds."""
    async with asyncio.timeout(20):
        turn = asyncio.Event()
        while not holds():
            asyncio.get_running_loop().call_later(0.001, turn.set)
            await turn.wait()
            turn.clear()


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"tls": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, "TLS"),
        ({"port": 0}, "give --listen a port"),
    ],
)
def test_what_is_not_advertised_says_why(
    tmp_path: Path, changes: dict[str, Any], because: str
) -> None:
    part = Advertising(settings(tmp_path, **changes))
    asyncio.run(part.run())
    assert because in part.problem
    assert part.status() == {"mdns": {"name": None, "problem": part.problem}}
    assert list(part.routes()) == []
    assert list(part.metrics()) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "relay.example"])  # noqa: S104 (nothing listens)
def test_where_no_address_can_be_advertised_it_waits_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr("fleetward.relay.advertising.LOOK_EVERY", timedelta())
    looks: list[int] = []

    def none() -> tuple[Address, ...]:
        looks.append(1)
        return (ip_address("127.0.0.1"),)

    part = Advertising(settings(tmp_path, host=host), none)

    async def main() -> None:
        running = asyncio.create_task(part.run())
        await until(lambda: part.problem != "not yet" and (host == "127.0.0.1" or len(looks) > 2))
        running.cancel()

    asyncio.run(main())
    assert "no address" in part.problem


def test_a_network_that_cannot_be_looked_at_does_not_end_the_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What leaves a part's `run` ends the relay; to be found by mDNS is not worth that."""
    monkeypatch.setattr("fleetward.relay.advertising.LOOK_EVERY", timedelta())
    looks: list[int] = []

    def fails() -> tuple[Address, ...]:
        looks.append(1)
        raise OSError("No such device")

    part = Advertising(settings(tmp_path, host="::"), fails)

    async def main() -> None:
        running = asyncio.create_task(part.run())
        await until(lambda: len(looks) > 2)
        assert part.problem == "No such device"
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


@pytest.mark.namespaces
def test_a_host_finds_the_relay_of_its_network_and_updates_from_it(tmp_path: Path) -> None:
    """No list, no DNS, and the configured relay is gone: multicast alone leads to one."""

    def story() -> None:
        fleet = Fleet(tmp_path)
        fleet.publish()
        with source_server(fleet.files) as origin:
            host = fleet.host("http://127.0.0.1:9", mdns=True)
            with TestRelay(settings(tmp_path / "cache", origin.url)) as relay:
                assert nearby(bool) == (HERE,)
                name = {"name": "relay-lyon._fleetward._tcp.local.", "problem": ""}
                assert relay.status()["mdns"] == name
                host.lookups = Lookups()
                report = host.update()
                assert (report.check.source, report.check.found_by) == (HERE, "mdns")
                assert host.content == "rule r1 {}\n"
            assert nearby(lambda found: not found) == ()

    in_own_network(story)


@pytest.mark.namespaces
def test_new_addresses_are_advertised_and_the_old_ones_withdrawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine gets another lease while the relay runs."""
    monkeypatch.setattr("fleetward.relay.advertising.LOOK_EVERY", timedelta(milliseconds=50))
    own = [ip_address(OWN_ADDRESS)]
    part = Advertising(settings(tmp_path, host="::"), lambda: tuple(own))

    async def main() -> None:
        running = asyncio.create_task(part.run())
        assert await asyncio.to_thread(nearby, bool) == (HERE,)
        own[:] = [ip_address("10.77.1.9")]
        moved = (f"http://10.77.1.9:{PORT}",)
        assert await asyncio.to_thread(nearby, lambda found: found == moved) == moved
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert part.name is None

    in_own_network(lambda: asyncio.run(main()))


def test_a_name_that_cannot_be_is_said_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before a socket is opened, so this needs no network of its own."""
    monkeypatch.setattr("fleetward.relay.advertising.LOOK_EVERY", timedelta(milliseconds=10))
    part = Advertising(settings(tmp_path, discovery=DiscoverySettings(mdns=True, name="a\nb")))

    async def main() -> None:
        running = asyncio.create_task(part.run())
        await until(lambda: part.problem != "not yet")
        assert "mDNS cannot say" in part.problem
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
