"""UDP on loopback: what arrives, what is too long, and that loopback stays by itself."""

import socket
import struct
from collections.abc import Iterator
from datetime import timedelta

import pytest

from fleetward.adapters import datagram
from fleetward.adapters.datagram import (
    WILDCARDS,
    Destination,
    Interface,
    interfaces_for,
    join,
    open_receiver,
    receive,
    require_interfaces,
    send,
)
from fleetward.errors import ConfigurationError

SOON = timedelta(seconds=10)
LOOPBACK = Interface(socket.if_nametoindex("lo"))


@pytest.fixture(params=["127.0.0.1", "::1"])
def receiver(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    with open_receiver(request.param, 0) as one:
        yield one


def address_of(one: socket.socket) -> Destination:
    host, port = one.getsockname()[:2]
    return Destination(host, port)


def test_a_datagram_arrives_with_its_senders_address(receiver: socket.socket) -> None:
    there = address_of(receiver)
    assert send(b"news", (there,)) == 1
    assert receive(receiver, 1200, SOON) == (b"news", there.address)
    assert receive(receiver, 1200) is None
    assert receive(receiver, 1200, timedelta(microseconds=1)) is None


def test_waiting_for_ever_ends_with_a_datagram(receiver: socket.socket) -> None:
    send(b"news", (address_of(receiver),))
    found = receive(receiver, 1200, None)
    assert found is not None


def test_one_that_is_too_long_is_seen_to_be(receiver: socket.socket) -> None:
    there = address_of(receiver)
    send(b"x" * 1200, (there,))
    send(b"x" * 1201, (there,))
    send(b"x" * 60_000, (there,))
    lengths = [len(found[0]) for _ in range(3) if (found := receive(receiver, 1200, SOON))]
    assert lengths == [1200, 1201, 1201]


def test_an_empty_datagram_is_one(receiver: socket.socket) -> None:
    send(b"", (address_of(receiver),))
    found = receive(receiver, 1200, SOON)
    assert found is not None
    assert found[0] == b""


def test_both_families_at_once_and_one_that_cannot_be_reached() -> None:
    with open_receiver("127.0.0.1", 0) as four, open_receiver("::1", 0) as six:
        nowhere = Destination("127.0.0.1", 0)
        there = (address_of(four), nowhere, address_of(six))
        assert send(b"news", there) == 2
        for one in (four, six):
            assert receive(one, 1200, SOON) is not None
        assert send(b"x" * 70_000, there) == 0


def test_a_port_that_is_taken_says_what_to_do(receiver: socket.socket) -> None:
    there = address_of(receiver)
    with pytest.raises(ConfigurationError, match=f"{there.port}/udp.*turn UDP off"):
        open_receiver(there.address, there.port)


def test_an_address_of_another_machine_says_so() -> None:
    with pytest.raises(ConfigurationError, match="cannot listen on 192"):
        open_receiver("192.0.2.1", 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "some.name"])
def test_what_listens_on_loopback_reaches_no_group(host: str) -> None:
    assert interfaces_for(host) == ()
    assert interfaces_for(host, ("lo",)) == ()


def test_a_wildcard_means_every_interface_but_loopback() -> None:
    names = {name for _, name in socket.if_nameindex()}
    for host in WILDCARDS:
        found = interfaces_for(host)
        assert LOOPBACK not in found
        assert len(found) == len(names) - 1
        assert interfaces_for(host, ("lo",)) == (LOOPBACK,)


def test_an_address_means_its_interface() -> None:
    assert interfaces_for("192.0.2.1") == (Interface(address="192.0.2.1"),)
    assert interfaces_for("2001:db8::1") == (Interface(),)


def test_an_interface_that_is_not_there_says_so() -> None:
    with pytest.raises(ConfigurationError, match="'nowhere0': `ip link`"):
        require_interfaces(("lo", "nowhere0"))
    require_interfaces(("lo",))


def test_an_interface_that_went_away_is_left_out() -> None:
    """A cable is pulled while a relay runs: it tells the others."""
    assert interfaces_for("::", ("nowhere0", "lo")) == (LOOPBACK,)


@pytest.mark.parametrize(("host", "group"), [("127.0.0.1", "239.255.29.67"), ("::1", "ff01::2967")])
def test_a_group_may_be_joined_again(host: str, group: str) -> None:
    with open_receiver(host, 0) as receiver:
        assert join(receiver, group, (LOOPBACK,)) == 1
        assert join(receiver, group, (LOOPBACK,)) == 1
        assert join(receiver, group, (Interface(index=99_999),)) == 0
        assert join(receiver, group, ()) == 0


def test_groups_are_known_from_addresses() -> None:
    assert Destination("239.255.29.67", 1).is_group
    assert Destination("ff08::2967", 1).is_group
    assert Destination("ff02::1%lo", 1).is_group
    assert not Destination("127.0.0.1", 1).is_group
    assert not Destination("fe80::1%lo", 1).is_group


def test_without_interfaces_a_group_gets_nothing() -> None:
    groups = (Destination("239.255.29.67", 2967), Destination("ff08::2967", 2967))
    assert send(b"news", groups) == 0
    assert send(b"news", groups, interfaces=(Interface(index=99_999),)) == 0


def test_the_request_to_join_is_that_of_the_kernel() -> None:
    raw = datagram._ip_mreqn("239.255.29.67", Interface(7, "192.0.2.1"))
    assert raw == socket.inet_aton("239.255.29.67") + socket.inet_aton("192.0.2.1") + struct.pack(
        "@i", 7
    )
