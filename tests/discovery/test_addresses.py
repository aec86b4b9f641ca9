"""The host's own addresses, and which announced ones may be asked."""

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from fleetward.core.fleet import Address, Relays, Site
from fleetward.discovery import addresses
from fleetward.discovery.addresses import may_be_relay, own_addresses, url_of
from support.namespaces import ip, two_machines

FIB_TRIE = """Main:
  +-- 10.2.0.0/16 2 0 2
     |-- 10.2.0.0
        /16 link UNICAST
     |-- 10.2.3.4
        /32 host LOCAL
     |-- 10.2.255.255
        /32 link BROADCAST
     |-- 127.0.0.1
        /32 host LOCAL
Local:
     |-- 10.2.3.4
        /32 host LOCAL
"""
IF_INET6 = """00000000000000000000000000000001 01 80 10 80       lo
20010db8000200000000000000000007 02 40 00 00     eth0
fe800000000000000000000000000001 02 40 20 80     eth0
"""


def test_linux_tells_all_addresses(tmp_path: Path) -> None:
    (tmp_path / "fib_trie").write_text(FIB_TRIE)
    (tmp_path / "if_inet6").write_text(IF_INET6)
    found = [str(address) for address in dict.fromkeys(addresses._told_by_linux(tmp_path))]
    assert found == ["10.2.3.4", "127.0.0.1", "::1", "2001:db8:2::7", "fe80::1"]


def test_what_linux_does_not_tell_is_no_error(tmp_path: Path) -> None:
    assert list(addresses._told_by_linux(tmp_path)) == []
    (tmp_path / "fib_trie").write_text("  |-- x\n /32 host LOCAL\n")
    (tmp_path / "if_inet6").write_text("\n")
    assert list(addresses._told_by_linux(tmp_path)) == []


def test_own_addresses_are_those_that_a_relay_could_have() -> None:
    found = own_addresses()
    assert all(may_be_relay(address) for address in found)
    assert len(set(found)) == len(found)


def test_elsewhere_the_routes_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_told_by_linux", lambda: iter(()))
    asked: list[str] = []

    def sources(ends: list[str]) -> list[Address]:
        asked.extend(ends)
        return [ip_address("10.2.3.4"), ip_address("127.0.0.1"), ip_address("10.2.3.4")]

    monkeypatch.setattr(addresses, "_sources", sources)
    networks = [ip_network("10.2.0.0/16"), ip_network("10.9.9.9/32"), ip_network("fd00::/8")]
    assert own_addresses(networks) == (ip_address("10.2.3.4"),)
    assert asked == ["192.0.2.1", "2001:db8::1", "10.2.0.1", "fd00::1"]
    asked.clear()
    own_addresses([ip_network(f"127.{n // 256}.{n % 256}.0/24") for n in range(5_000)])
    assert len(asked) == 514


def test_a_socket_tells_from_where_it_would_send() -> None:
    assert list(addresses._sources(["127.0.0.1", "no address", "127.0.0.2"])) == [
        ip_address("127.0.0.1"),
        ip_address("127.0.0.1"),
    ]


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("10.1.2.3", True),
        ("203.0.113.9", True),
        ("2001:db8::1", True),
        ("fd00::1", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("169.254.169.254", False),
        ("fe80::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("::ffff:10.1.2.3", False),
        ("::127.0.0.1", False),
        ("224.0.0.251", False),
        ("ff02::fb", False),
        ("0.0.0.0", False),  # noqa: S104 (nothing listens)
        ("::", False),
        ("255.255.255.255", False),
    ],
)
def test_what_may_be_a_relay(address: str, may: bool) -> None:  # noqa: FBT001 (a table)
    assert may_be_relay(ip_address(address)) is may


def test_urls_of_addresses() -> None:
    assert url_of(ip_address("10.1.2.3"), 2967) == "http://10.1.2.3:2967"
    assert url_of(ip_address("fd00::1"), 1) == "http://[fd00::1]:1"


@pytest.mark.namespaces
def test_a_host_with_two_networks_is_found_at_the_site_of_the_second() -> None:
    """The default route goes over the first interface; the relay stands in the second's subnet."""
    code = (
        "from fleetward.discovery.addresses import own_addresses\nprint(*sorted(own_addresses()))"
    )
    with two_machines() as (one, _):
        ip("-n", one.name, "link", "add", "second", "type", "veth", "peer", "name", "third")
        ip("-n", one.name, "link", "set", "third", "up")
        ip("-n", one.name, "addr", "add", "10.99.3.4/24", "dev", "second")
        ip("-n", one.name, "link", "set", "second", "up")
        found = [ip_address(text) for text in one.run(code).split()]
    assert found == [ip_address("10.77.0.1"), ip_address("10.99.3.4")]
    lab = Site(name="lab", subnets=("10.99.0.0/16",), relays=("http://10.99.0.1:2967",))
    assert Relays(sites=(lab,)).near(found).site == "lab"
