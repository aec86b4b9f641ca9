"""The list of relays: what makes one, and which site a host is at."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fleetward.core.fleet import LISTING, Near, Relays, Site, parse_source_url, parse_subnet
from fleetward.errors import DocumentError

RELAY = "http://relay.lyon.example:2967"
LYON = Site(name="lyon", subnets=("10.2.0.0/16", "2001:db8:2::/48"), relays=(RELAY,))
LAB = Site(name="lyon.lab", subnets=("10.2.7.0/24",), relays=("http://10.2.7.2:2967",))
FLEET = Relays(origins=("https://o.example",), sites=(LYON, LAB), default=("http://d.example",))


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://relay", "http://relay"),
        ("http://relay:2967/", "http://relay:2967"),
        ("https://10.1.2.3:1/a/b.c", "https://10.1.2.3:1/a/b.c"),
        ("http://[2001:db8::1]:2967", "http://[2001:db8::1]:2967"),
        ("http://relay.example.:2967", "http://relay.example.:2967"),
    ],
)
def test_urls(url: str, kept: str) -> None:
    assert parse_source_url(url) == kept


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relay:2967",
        "ftp://relay",
        "file:///etc/passwd",
        "HTTP://relay",
        "http://",
        "http://user:word@relay",
        "http://relay?x",
        "http://relay#x",
        "http://relay:0",
        "http://relay:65536",
        "http://relay/a/../b",
        "http://relay/./b",
        "http://re lay",
        "http://relay\n",
        "http://relay/%2e",
        "http://-relay",
        "http://[::g]:1",
        "http://[1:2]",
        "http://[::1",
        "http://é.example",
        "http://" + "a" * 63 + "." + "b" * 63 + "." + "c" * 63 + "." + "d" * 63,
    ],
)
def test_what_is_no_url_of_a_relay(url: str) -> None:
    with pytest.raises(DocumentError):
        parse_source_url(url)


@pytest.mark.parametrize(
    "text", ["10.0.0.1/8", "x", "10.0.0.0/33", "", "::/129", "fe80::1%eth0/64"]
)
def test_what_is_no_subnet(text: str) -> None:
    with pytest.raises(DocumentError, match="no subnet"):
        parse_subnet(text)


def _sites(count: int) -> tuple[Site, ...]:
    return tuple(
        Site(name=f"s{n}", subnets=(f"10.{n // 256}.{n % 256}.0/24",), relays=(RELAY,))
        for n in range(count)
    )


BAD: dict[str, Callable[[], object]] = {
    "a name": lambda: Site(name="Lyon!", subnets=("10.0.0.0/8",), relays=(RELAY,)),
    "no subnet": lambda: Site(name="x", subnets=(), relays=(RELAY,)),
    "no relay": lambda: Site(name="x", subnets=("10.0.0.0/8",), relays=()),
    "a subnet that is not canonical": lambda: Site(
        name="x", subnets=("2001:DB8::/32",), relays=(RELAY,)
    ),
    "host bits": lambda: Site(name="x", subnets=("10.0.0.1/8",), relays=(RELAY,)),
    "a slash": lambda: Site(name="x", subnets=("10.0.0.0/8",), relays=(RELAY + "/",)),
    "a relay twice": lambda: Site(name="x", subnets=("10.0.0.0/8",), relays=(RELAY, RELAY)),
    "too many subnets": lambda: Site(
        name="x",
        subnets=tuple(f"10.0.{n}.0/24" for n in range(LISTING.subnets + 1)),
        relays=(RELAY,),
    ),
    "too many relays": lambda: Relays(
        default=tuple(f"http://r{n}" for n in range(LISTING.relays + 1))
    ),
    "an origin that is none": lambda: Relays(origins=("gopher://o",)),
    "a site twice": lambda: Relays(
        sites=(LYON, Site(name="lyon", subnets=("10.9.0.0/16",), relays=(RELAY,)))
    ),
    "a subnet twice": lambda: Relays(
        sites=(LYON, Site(name="x", subnets=("10.2.0.0/16",), relays=(RELAY,)))
    ),
    "too many sites": lambda: Relays(sites=_sites(LISTING.sites + 1)),
}


@pytest.mark.parametrize("what", BAD)
def test_a_list_of_bad_parts_does_not_exist(what: str) -> None:
    with pytest.raises(DocumentError):
        BAD[what]()


@pytest.mark.parametrize(
    ("addresses", "site"),
    [
        (["10.2.1.1"], "lyon"),
        (["10.2.7.9"], "lyon.lab"),
        (["10.2.1.1", "10.2.7.9"], "lyon.lab"),
        (["192.0.2.1", "2001:db8:2:1::5"], "lyon"),
        (["::ffff:10.2.7.9"], "lyon.lab"),
        (["192.0.2.1"], None),
        ([], None),
    ],
)
def test_the_most_specific_subnet_wins(addresses: list[str], site: str | None) -> None:
    near = FLEET.near(ip_address(address) for address in addresses)
    assert near.site == site
    relays = {"lyon": LYON.relays, "lyon.lab": LAB.relays, None: FLEET.default}
    assert near == Near(site, relays[site])


@given(
    st.lists(
        st.tuples(st.ip_addresses(v=4), st.integers(0, 32)).map(
            lambda pair: ip_network((int(pair[0]), pair[1]), strict=False)
        ),
        unique=True,
        max_size=8,
    ),
    st.ip_addresses(v=4) | st.ip_addresses(v=6),
)
def test_no_other_subnet_of_the_list_is_more_specific(
    networks: list[object], address: IPv4Address | IPv6Address
) -> None:
    sites = tuple(
        Site(name=f"s{n}", subnets=(str(network),), relays=(f"http://r{n}",))
        for n, network in enumerate(networks)
    )
    near = Relays(sites=sites).near([address])
    assume(not (isinstance(address, IPv6Address) and address.ipv4_mapped))
    fitting = [site for site in sites if address in site.networks()[0]]
    widths = [site.networks()[0].prefixlen for site in fitting]
    if near.site is None:
        assert not fitting
    else:
        chosen = next(site for site in fitting if site.name == near.site)
        assert chosen.networks()[0].prefixlen == max(widths)
