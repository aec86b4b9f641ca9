"""DNS SRV, against a DNS server on loopback."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward.discovery.finds import Service, Services
from fleetward.discovery.srv import MAX_RECORDS, NOTHING_FOUND_FOR, SERVICES, look_up
from fleetward.errors import NetworkError

Zone = dict[str, list[str]]
PLAIN, SECURE = (f"{service}.fleet.test." for service, _ in SERVICES)


class NameServer:
    """Answers from a zone: records by name; an unknown name does not exist."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.asked: list[str] = []
        self.instead: Callable[[bytes], bytes | None] | None = None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def resolver(self) -> dns.resolver.Resolver:
        asks = dns.resolver.Resolver(configure=False)
        asks.nameservers = ["127.0.0.1"]
        asks.port = self._socket.getsockname()[1]
        return asks

    def _serve(self) -> None:
        while True:
            content, peer = self._socket.recvfrom(4_096)
            if not content:
                return
            answer = self.instead(content) if self.instead else self._answer(content)
            if answer is not None:
                self._socket.sendto(answer, peer)

    def _answer(self, content: bytes) -> bytes:
        query = dns.message.from_wire(content)
        response = dns.message.make_response(query)
        name = query.question[0].name.to_text()
        self.asked.append(name)
        if name not in self.zone:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif self.zone[name]:
            response.answer.append(
                dns.rrset.from_text_list(name, 300, "IN", "SRV", self.zone[name])
            )
        return response.to_wire(max_size=65_000)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


@contextmanager
def name_server(zone: Zone) -> Iterator[NameServer]:
    server = NameServer(zone)
    try:
        yield server
    finally:
        server.close()


def looked_up(records: list[str]) -> Services:
    with name_server({PLAIN: records}) as server:
        return look_up("fleet.test", server.resolver)


def test_both_services_are_asked_and_sorted_by_priority_and_weight() -> None:
    zone = {
        PLAIN: [
            "20 0 2967 far.fleet.test.",
            "10 1 2967 small.fleet.test.",
            "10 9 8080 big.fleet.test.",
        ],
        SECURE: ["5 0 443 tls.fleet.test."],
    }
    with name_server(zone) as server:
        assert look_up("fleet.test", server.resolver) == Services(
            (
                Service("https://tls.fleet.test:443", 5, 0),
                Service("http://big.fleet.test:8080", 10, 9),
                Service("http://small.fleet.test:2967", 10, 1),
                Service("http://far.fleet.test:2967", 20, 0),
            ),
            timedelta(seconds=300),
        )
        assert server.asked == [PLAIN, SECURE]


@pytest.mark.parametrize("zone", [{}, {PLAIN: [], SECURE: []}])
def test_a_domain_without_relays_is_an_answer(zone: Zone) -> None:
    with name_server(zone) as server:
        assert look_up("fleet.test", server.resolver) == Services((), NOTHING_FOUND_FOR)


@pytest.mark.parametrize(
    "target",
    [
        ".",
        "localhost.",
        "a.LOCALHOST.",
        "127.0.0.1.",
        "169.254.169.254.",
        "2130706433.",
        "0x7f000001.",
        "10.0x7f.",
        r"a\032b.fleet.test.",
        r"a\047b.fleet.test.",
        "under_score.fleet.test.",
    ],
)
def test_targets_that_are_no_relay_s_name_are_passed_over(target: str) -> None:
    """Whoever answers for the domain names the host's own machine, or a cloud's metadata."""
    found = looked_up([f"1 0 2967 {target}", "2 0 2967 relay.fleet.test."]).found
    assert found == (Service("http://relay.fleet.test:2967", 2, 0),)


def test_a_port_of_none_is_passed_over() -> None:
    assert looked_up(["1 0 0 relay.fleet.test."]).found == ()


def test_a_flood_of_records_is_cut() -> None:
    found = looked_up([f"1 0 2967 r{n}.fleet.test." for n in range(500)]).found
    assert len(found) == MAX_RECORDS


def test_a_server_that_says_it_fails_is_an_error() -> None:
    with name_server({}) as server:

        def fails(content: bytes) -> bytes:
            response = dns.message.make_response(dns.message.from_wire(content))
            response.set_rcode(dns.rcode.SERVFAIL)
            return response.to_wire()

        server.instead = fails
        with pytest.raises(NetworkError, match=r"look at the resolver.*discovery\.srv"):
            look_up("fleet.test", server.resolver)


def test_a_server_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetward.discovery.srv.TIMEOUT", timedelta(milliseconds=200))
    with name_server({}) as server:
        server.instead = lambda _: None
        with pytest.raises(NetworkError):
            look_up("fleet.test", server.resolver)


@pytest.mark.parametrize("domain", ["a..b", "x" * 300, "x." * 200])
def test_what_is_no_domain_is_an_error(domain: str) -> None:
    with pytest.raises(NetworkError):
        look_up(domain, dns.resolver.Resolver(configure=False))


@settings(max_examples=20)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_an_error(noise: bytes) -> None:
    """Whoever sits between host and DNS server answers with anything, under the right id."""
    with pytest.MonkeyPatch.context() as patch, name_server({}) as server:
        patch.setattr("fleetward.discovery.srv.TIMEOUT", timedelta(milliseconds=50))
        server.instead = lambda content: content[:2] + noise
        with suppress(NetworkError):
            assert look_up("fleet.test", server.resolver).found == ()
