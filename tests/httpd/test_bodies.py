"""Bodies of requests in memory: bounded for all clients together, and for one."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fleetward.httpd.server as server_module
from fleetward.httpd.background import ServerThread
from fleetward.httpd.bodies import Bodies
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.server import Sockets
from httpd.handlers import Echo
from httpd.rawhttp import Raw
from httpd.waiting import wait_until

HEAD = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n"
TIGHT = ServerLimits(max_bodies_bytes=2500, max_bodies_bytes_per_peer=2000)


@pytest.fixture(scope="module", params=Sockets, autouse=True)
def sockets(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything here holds for both ways of reading and writing sockets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "SOCKETS", request.param)
        yield


def begin(opened: ExitStack, url: str, source: str, length: int) -> Raw:
    """Send a head and the first byte of its body, and no more."""
    client = opened.enter_context(Raw(url, source=source))
    client.send(HEAD % length + b"\r\nx")
    return client


def test_bodies_that_trickle_in_cannot_fill_memory() -> None:
    """Clients promise bodies and send one byte of each; beyond the bound they get 503 at once.

    The first client takes its own share; a second one what is left; both are served once they go
    on, and what they held is free again however they end.
    """
    with ServerThread(Echo(), limits=TIGHT) as server, ExitStack() as opened:
        greedy = [begin(opened, server.url, "127.0.0.1", 1000) for _ in range(2)]
        wait_until(lambda: server.counters.bodies_bytes == 2000)
        over = begin(opened, server.url, "127.0.0.1", 1000)
        assert over.answer().status == 503
        other = begin(opened, server.url, "127.0.0.2", 500)
        wait_until(lambda: server.counters.bodies_bytes == 2500)
        assert begin(opened, server.url, "127.0.0.3", 1).answer().status == 503
        assert server.counters.overloaded == 2
        other.send(b"y" * 499)
        assert other.answer().status == 200
        wait_until(lambda: server.counters.bodies_bytes == 2000)
        greedy[0].socket.close()
        wait_until(lambda: server.counters.bodies_bytes == 1000)
        greedy[1].send(b"y" * 999)
        assert greedy[1].answer().status == 200
        wait_until(lambda: server.counters.bodies_bytes == 0)
        assert begin(opened, server.url, "127.0.0.1", 1).answer().status == 200


def test_who_waits_to_go_on_is_refused_before_the_body_is_sent() -> None:
    with ServerThread(Echo(), limits=TIGHT) as server, ExitStack() as opened:
        for _ in range(2):
            begin(opened, server.url, "127.0.0.1", 1000)
        wait_until(lambda: server.counters.bodies_bytes == 2000)
        polite = opened.enter_context(Raw(server.url))
        polite.send(HEAD % 1000 + b"Expect: 100-continue\r\n\r\n")
        assert polite.answer().status == 503
        assert polite.rest() == b""


def test_requests_without_a_body_are_answered_all_the_same() -> None:
    with ServerThread(Echo(), limits=TIGHT) as server, ExitStack() as opened:
        for _ in range(2):
            begin(opened, server.url, "127.0.0.1", 1000)
        wait_until(lambda: server.counters.bodies_bytes == 2000)
        with Raw(server.url) as client:
            assert client.get("/a").status == 200


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30), st.booleans())))
def test_what_is_held_is_never_too_much_and_never_forgotten(
    steps: list[tuple[str, int, bool]],
) -> None:
    bodies = Bodies(ServerLimits(max_bodies_bytes=50, max_bodies_bytes_per_peer=30))
    held: list[tuple[str, int]] = []
    for peer, count, is_end in steps:
        if is_end and held:
            bodies.give_back(*held.pop(0))
        elif bodies.take(peer, count):
            held.append((peer, count))
        assert bodies.held_bytes == sum(count for _, count in held) <= 50
        for one in "abc":
            assert sum(count for name, count in held if name == one) <= 30
        assert set(bodies._peers) == {name for name, _ in held}
