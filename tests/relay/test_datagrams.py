"""Port 2967/udp of a relay: announcements heard and sent, and every kind of hostile datagram."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward.adapters.datagram import WILDCARDS, Destination, open_receiver, send
from fleetward.config.relay import PushSettings
from fleetward.errors import ConfigurationError
from fleetward.relay.datagrams import MAX_DATAGRAM_BYTES, AcceptCheckIn, DatagramPart
from fleetward.relay.hints import Hints
from fleetward.relay.lifetime import Lifetime
from fleetward.wire.announcement import MAX_VERSION
from httpd.rawhttp import get
from httpd.sample_repository import write
from httpd.upstreams import Upstream, serving
from httpd.waiting import open_descriptors, wait_until
from relay.relays import TestRelay
from relay.watching import (
    LIMITS,
    STAMP,
    WATCHING,
    TestOrigin,
    Waiter,
    listening,
    udp_port,
    watching,
)
from support.timestamps import timestamp

HEARING = replace(WATCHING, watch=False, poll=timedelta(), udp=True)
"""A relay that hears announcements and nothing else."""

CHECK_IN = b'{"payload":"e30=","payloadType":"x","signatures":[]}'


NO_NAME = "x" * 64
"""A name that fails without asking a name server: a label has 63 letters at most."""


def counted(relay: TestRelay) -> dict[str, int]:
    found: dict[str, int] = relay.status()["datagrams"]
    return found


def tell(relay: TestRelay, *datagrams: bytes) -> None:
    """Send datagrams, no faster than the relay's buffer is emptied."""
    there = (Destination("127.0.0.1", udp_port(relay)),)
    for datagram in datagrams:
        send(datagram, there)


def total(relay: TestRelay) -> int:
    """How many datagrams were read; without a request, which would take time from the relay."""
    (one,) = (part for part in relay.relay.parts if isinstance(part, DatagramPart))
    counters = one.counters
    return counters.announcements + counters.checkins + counters.oversize + counters.unknown


# -- hearing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_an_announcement_makes_a_relay_ask_its_upstream(tmp_path: Path, host: str) -> None:
    files = {STAMP: timestamp(1)}
    with Upstream(serving(files)) as upstream:
        settings = replace(watching(tmp_path, upstream.url, push=HEARING), host=host)
        with TestRelay(settings) as relay:
            get(relay.url, STAMP)
            with Waiter(relay.url, 1) as waiter:
                files[STAMP] = timestamp(2)
                address = "::1" if host == "::1" else "127.0.0.1"
                send(timestamp(2), (Destination(address, udp_port(relay)),))
                assert waiter.answer().body == timestamp(2)
            assert upstream.paths() == [STAMP, STAMP]


def test_the_bytes_of_an_announcement_go_nowhere(tmp_path: Path) -> None:
    """A forged announcement: the relay asks, and serves what its upstream says and not the forgery."""
    with (
        Upstream(serving({STAMP: timestamp(1)})) as upstream,
        TestRelay(watching(tmp_path, upstream.url, push=HEARING)) as relay,
    ):
        tell(relay, timestamp(MAX_VERSION, "forged"))
        wait_until(lambda: counted(relay)["false"] + upstream.paths().count(STAMP) >= 1)
        assert get(relay.url, STAMP).body == timestamp(1)
        assert not any(
            b"forged" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()
        )


def test_a_flood_of_twenty_thousand_forged_announcements(tmp_path: Path) -> None:
    """An attacker on the local network announces huge versions as fast as he can.

    What comes of it: a handful of conditional requests (here at intervals of 50 ms doubling to
    200 ms; a second and 30 s in production), counters, and long polls and files as ever.
    """
    files = {STAMP: timestamp(1)}
    with (
        Upstream(serving(files)) as upstream,
        TestRelay(watching(tmp_path, upstream.url, push=HEARING)) as relay,
        Waiter(relay.url, 1) as waiter,
    ):
        get(relay.url, STAMP)
        there = (Destination("127.0.0.1", udp_port(relay)),)
        loop_time = relay._loop.time if relay._loop else None
        assert loop_time is not None
        began = loop_time()
        forged = timestamp(MAX_VERSION)
        for n in range(20_000):
            send(forged, there)
            if n % 1000 == 0:
                assert get(relay.url, STAMP).body == timestamp(1)
        took = loop_time() - began
        asked = len(upstream.paths()) - 1
        assert asked <= 3 + took / 0.2
        assert waiter.is_waiting
        assert counted(relay)["throttled"] > 100
        files[STAMP] = timestamp(2)
        wait_until(lambda: send(timestamp(2), there) == 1 and not waiter.is_waiting)
        assert waiter.answer().body == timestamp(2)


HOSTILE = [
    b"",
    b"\x00",
    b"x" * MAX_DATAGRAM_BYTES,
    b"x" * (MAX_DATAGRAM_BYTES + 1),
    timestamp(9).ljust(60_000),
    timestamp(9)[:-1],
    b'{"signed":' + b"[" * 1100,
    b'{"signatures":' + b'{"a":' * 230,
    b'{"signed":{"_type":"timestamp","version":99999999999999999999}}',
    b"\x01\x10\x00\x00\x14" + b"\x00" * 11,
    b"\x00\x06\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07version\x04bind\x00\x00\x10\x00\x03",
    CHECK_IN,
]


def test_hostile_datagrams_change_nothing_but_counters(tmp_path: Path) -> None:
    """Any bytes, oversize, truncated, deeply nested, old probes of this port: and no answer."""
    with (
        Upstream(serving({STAMP: timestamp(1)})) as upstream,
        TestRelay(watching(tmp_path, upstream.url, push=HEARING)) as relay,
        listening() as sender,
    ):
        port = udp_port(relay)
        for count, datagram in enumerate(HOSTILE, 1):
            sender.sendto(datagram, ("127.0.0.1", port))
            wait_until(lambda count=count: total(relay) == count)  # type: ignore[misc]
        found = counted(relay)
        assert (found["oversize"], found["malformed"], found["unknown"]) == (2, 4, 5)
        assert found["checkins"] == 1
        assert upstream.paths() == []
        sender.settimeout(0)
        with pytest.raises(BlockingIOError):
            sender.recv(1)


@contextmanager
def taken_for_udp_alone() -> Iterator[int]:
    """Give a port whose TCP half is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        taken = open_receiver("127.0.0.1", port)
    with taken:
        yield port


def test_two_relays_cannot_share_a_port(tmp_path: Path) -> None:
    with Upstream(serving({})) as upstream, taken_for_udp_alone() as port:
        settings = replace(watching(tmp_path, upstream.url, push=HEARING), port=port)
        with pytest.raises(ConfigurationError, match="turn UDP off"), TestRelay(settings) as relay:
            wait_until(lambda: not relay._thread.is_alive())


@pytest.mark.parametrize("what", ["udp", "announce"])
def test_an_interface_of_the_settings_that_is_not_there_ends_the_start(
    tmp_path: Path, what: str
) -> None:
    push = replace(WATCHING, watch=False, poll=timedelta(), interfaces=("nowhere0",))
    push = replace(push, udp=what == "udp", announce=what == "announce")
    with Upstream(serving({})) as upstream:
        settings = watching(tmp_path, upstream.url, push=push)
        with pytest.raises(ConfigurationError, match="'nowhere0'"), TestRelay(settings) as relay:
            wait_until(lambda: not relay._thread.is_alive())


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    with Upstream(serving({})) as upstream:
        before = open_descriptors()
        for n in range(3):
            with TestRelay(watching(tmp_path / f"{n}", upstream.url, push=HEARING)) as relay:
                udp_port(relay)
        wait_until(lambda: open_descriptors() <= before)


def test_what_came_is_shown(tmp_path: Path) -> None:
    with (
        Upstream(serving({})) as upstream,
        TestRelay(watching(tmp_path, upstream.url, push=HEARING)) as relay,
    ):
        tell(relay, b"x", b"y")
        wait_until(lambda: counted(relay)["unknown"] == 2)
        shown = get(relay.url, "/metrics").body
        assert b'\nfleetward_relay_datagrams_total{outcome="unknown"} 2\n' in shown


# -- the part alone ------------------------------------------------------------------------------


class Never:
    """A timestamp's cache that must not be asked."""

    version = 5

    async def renew(self) -> None:
        raise AssertionError("nothing may be asked")


def part(accept: AcceptCheckIn | None = None, **push: Any) -> DatagramPart:  # noqa: ANN401
    loop = asyncio.get_running_loop()
    hints = Hints(Never(), LIMITS, loop.call_later, loop.time)
    chosen = PushSettings(**push)
    return DatagramPart(
        ("127.0.0.1", 0), chosen, LIMITS, Lifetime(), hints=hints, accept_checkin=accept
    )


def test_check_ins_are_handed_on_with_their_senders_address() -> None:
    async def main() -> None:
        got: list[tuple[bytes, str]] = []
        one = part(lambda datagram, peer: got.append((datagram, peer)))
        one._take(CHECK_IN, "192.0.2.7")
        one._take(timestamp(1), "192.0.2.7")
        one._take(CHECK_IN.ljust(MAX_DATAGRAM_BYTES + 1), "192.0.2.7")
        assert got == [(CHECK_IN, "192.0.2.7")]
        assert (one.counters.checkins, one.counters.announcements) == (1, 1)

    asyncio.run(main())


@settings(max_examples=200)
@given(st.one_of(st.binary(max_size=1300), st.binary().map(lambda b: b'{"signed":' + b)))
def test_any_bytes_change_nothing_but_one_counter(datagram: bytes) -> None:
    async def main() -> None:
        one = part()
        one._take(datagram, "192.0.2.7")
        counters = one.counters
        assert counters.announcements + counters.oversize + counters.unknown == 1
        await one._hints.stop()

    asyncio.run(main())


def test_a_turn_reads_so_many_and_no_more() -> None:
    """A flood must not keep the loop from those who wait for it."""

    async def main() -> None:
        one = part()
        with open_receiver("127.0.0.1", 0) as receiver:
            there = (Destination("127.0.0.1", receiver.getsockname()[1]),)
            for _ in range(LIMITS.datagrams_per_turn + 5):
                send(b"x", there)
            one._read(receiver)
            assert one.counters.unknown == LIMITS.datagrams_per_turn
            one._read(receiver)
            assert one.counters.unknown == LIMITS.datagrams_per_turn + 5

    asyncio.run(main())


def test_a_free_port_is_taken_where_none_was_asked_for() -> None:
    """TCP took a free port whose UDP half another program has: only tests listen on port 0."""

    async def main() -> None:
        one = part()
        with open_receiver("127.0.0.1", 0) as taken:
            port = taken.getsockname()[1]
            (opened,) = one._open("127.0.0.1", port)
            assert opened.getsockname()[1] != port
            opened.close()
            one._wanted_port = port
            with pytest.raises(ConfigurationError):
                one._open("127.0.0.1", port)

    asyncio.run(main())


def test_a_machine_without_the_other_family_has_one() -> None:
    async def main() -> None:
        one = part()
        one._host = WILDCARDS[0]
        with open_receiver("::", 0) as taken:
            assert one._open("::", taken.getsockname()[1]) == []

    asyncio.run(main())


def test_a_wildcard_means_both_families() -> None:
    async def main() -> None:
        for host in WILDCARDS:
            one = part()
            one._host = host
            hosts = await one._hosts()
            assert hosts[0] == (host or WILDCARDS[0])
            assert set(hosts) == set(WILDCARDS[:2])

    asyncio.run(main())


# -- announcing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_relay_tells_its_unicast_list(tmp_path: Path, family: socket.AddressFamily) -> None:
    with listening(family) as heard, Upstream(serving({STAMP: timestamp(1)})) as upstream:
        port = heard.getsockname()[1]
        host = "[::1]" if family == socket.AF_INET6 else "127.0.0.1"
        push = replace(
            WATCHING, watch=False, announce=True, unicast=(f"{NO_NAME}:9", f"{host}:{port}")
        )
        with TestRelay(watching(tmp_path, upstream.url, push=push)):
            assert heard.recv(2000) == timestamp(1)


def test_announcements_pass_from_relay_to_relay(tmp_path: Path) -> None:
    """The lower relay holds no long poll; it hears of news by the upper one's datagram alone."""
    write(tmp_path / "repository", STAMP, timestamp(1))
    with (
        TestOrigin(tmp_path / "repository") as origin,
        TestRelay(watching(tmp_path / "a", origin.url)) as upper,
        TestRelay(watching(tmp_path / "b", upper.url, push=HEARING)) as lower,
    ):
        target = f"127.0.0.1:{udp_port(lower)}"
        push = replace(WATCHING, announce=True, unicast=(target,))
        wait_until(lambda: get(upper.url, STAMP).body == timestamp(1))
        get(lower.url, STAMP)
        settings = watching(tmp_path / "c", upper.url, push=push)
        with TestRelay(settings), Waiter(lower.url, 1) as waiter:
            assert waiter.is_waiting
            origin.publish(2)
            assert waiter.answer().body == timestamp(2)


def test_the_origin_announces_what_is_new_and_not_what_it_began_with(tmp_path: Path) -> None:
    write(tmp_path, STAMP, timestamp(1))
    with listening() as heard:
        port = heard.getsockname()[1]
        with TestOrigin(tmp_path, announce=(("127.0.0.1", port),)) as origin:
            assert get(origin.url, "/v1/watch?after=0").body == timestamp(1)
            assert heard_next(origin, heard, 2) == timestamp(2)
            write(tmp_path, STAMP, timestamp(3).ljust(1201))
            wait_until(lambda: get(origin.url, "/v1/watch?after=2").status == 200)
            assert heard_next(origin, heard, 4) == timestamp(4)


def heard_next(origin: TestOrigin, heard: socket.socket, version: int) -> bytes:
    origin.publish(version)
    return heard.recv(2000)


def test_what_is_too_long_is_not_announced_and_changes_are_not_a_flood(tmp_path: Path) -> None:
    """An upstream changes its timestamp all the time: one announcement an interval, the newest."""
    files = {STAMP: timestamp(1).ljust(1201)}
    with listening() as heard, Upstream(serving(files)) as upstream:
        port = heard.getsockname()[1]
        push = replace(WATCHING, watch=False, announce=True, unicast=(f"127.0.0.1:{port}",))
        limits = replace(LIMITS, announce_interval=timedelta(hours=1))
        settings = watching(
            tmp_path, upstream.url, push=push, push_limits=limits, timestamp_lifetime=timedelta()
        )
        with TestRelay(settings) as relay:
            wait_until(lambda: relay.status()["announcements"]["too_long"] == 1)
            for version in range(2, 20):
                files[STAMP] = timestamp(version)
                wait_until(lambda wanted=files[STAMP]: get(relay.url, STAMP).body == wanted)  # type: ignore[misc]
            assert heard.recv(2000).startswith(b'{"signatures"')
            assert relay.status()["announcements"]["announced"] == 1
            shown = get(relay.url, "/metrics").body
            assert b"\nfleetward_relay_announcements_too_long_total 1\n" in shown
