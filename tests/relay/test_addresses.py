"""Where names may lead: attackers who control DNS, and addresses in disguise."""

import asyncio

import pytest

from fleetward.errors import NetworkError
from fleetward.relay.addresses import (
    ALSO_PRIVATE,
    PUBLIC_ONLY,
    CheckedResolver,
    Reach,
    look_up,
    reach_of,
)

PUBLIC, PRIVATE, NEVER = Reach.PUBLIC, Reach.PRIVATE, Reach.NEVER


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        ("1.1.1.1", PUBLIC),
        ("151.101.2.132", PUBLIC),
        ("2606:4700::1111", PUBLIC),
        ("127.0.0.1", PRIVATE),
        ("127.255.255.254", PRIVATE),
        ("::1", PRIVATE),
        ("10.1.2.3", PRIVATE),
        ("172.16.0.1", PRIVATE),
        ("172.32.0.1", PUBLIC),
        ("192.168.1.1", PRIVATE),
        ("169.254.1.1", PRIVATE),
        ("100.64.0.1", PRIVATE),
        ("100.128.0.1", PUBLIC),
        ("198.18.0.1", PRIVATE),
        ("192.0.0.9", PRIVATE),
        ("192.0.2.1", PRIVATE),
        ("fe80::1", PRIVATE),
        ("fe80::1%eth0", PRIVATE),
        ("fec0::1", PRIVATE),
        ("fc00::1", PRIVATE),
        ("fd12:3456::1", PRIVATE),
        ("2001:db8::1", PRIVATE),
        ("0.0.0.1", NEVER),
        ("0.1.2.3", NEVER),
        ("::", NEVER),
        ("224.0.0.1", NEVER),
        ("239.255.29.67", NEVER),
        ("255.255.255.255", NEVER),
        ("240.0.0.1", NEVER),
        ("ff02::1", NEVER),
        ("192.88.99.1", NEVER),
        ("169.254.169.254", NEVER),
        ("169.254.170.2", NEVER),
        ("100.100.100.200", NEVER),
        ("fd00:ec2::254", NEVER),
        ("fd00:ec2::254%eth0", NEVER),
    ],
)
def test_an_address(address: str, reach: Reach) -> None:
    assert reach_of(address) is reach


@pytest.mark.parametrize(
    ("form", "address", "reach"),
    [
        ("mapped", "::ffff:127.0.0.1", PRIVATE),
        ("mapped, in hex", "::ffff:7f00:1", PRIVATE),
        ("mapped", "::ffff:169.254.169.254", NEVER),
        ("mapped, public", "::ffff:1.1.1.1", PUBLIC),
        ("compatible", "::127.0.0.1", PRIVATE),
        ("compatible", "::a9fe:a9fe", NEVER),
        ("6to4", "2002:7f00:1::", PRIVATE),
        ("6to4", "2002:a9fe:a9fe::1", NEVER),
        ("6to4", "2002:c0a8:101::1", PRIVATE),
        ("NAT64", "64:ff9b::127.0.0.1", PRIVATE),
        ("NAT64", "64:ff9b::a9fe:a9fe", NEVER),
        ("NAT64, public (a network of IPv6 alone)", "64:ff9b::1.1.1.1", PUBLIC),
        ("local NAT64", "64:ff9b:1::1.1.1.1", PRIVATE),
        ("local NAT64", "64:ff9b:1::169.254.169.254", NEVER),
        ("Teredo, whose client is 127.0.0.1", "2001:0:4136:e378:8000:63bf:80ff:fffe", PRIVATE),
        ("ISATAP", "2606:4700::5efe:127.0.0.1", PRIVATE),
        ("ISATAP", "2606:4700::200:5efe:a9fe:a9fe", NEVER),
        ("loopback in a zone", "::1%lo", PRIVATE),
    ],
)
def test_an_address_in_disguise(form: str, address: str, reach: Reach) -> None:
    """The attacker writes a forbidden IPv4 address in one of IPv6's ways of carrying it."""
    assert reach_of(address) is reach, form


class Names:
    """A DNS that gives each time the next answer."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self.answers.pop(0)


def resolve(resolver: CheckedResolver, host: str = "mirror.example") -> list[str]:
    return asyncio.run(resolver.addresses(host, 80))


def test_a_public_name_leads_to_its_addresses() -> None:
    names = Names(["1.1.1.1", "2606:4700::1111"])
    assert resolve(CheckedResolver(PUBLIC_ONLY, names)) == ["1.1.1.1", "2606:4700::1111"]
    assert names.asked == 1


def test_one_bad_address_among_good_ones_refuses_the_name() -> None:
    """The attacker's name has a public address, to pass a check of the first one, and 127.0.0.1."""
    resolver = CheckedResolver(PUBLIC_ONLY, Names(["1.1.1.1", "127.0.0.1"]))
    with pytest.raises(NetworkError, match="allow_private"):
        resolve(resolver)
    assert resolver.refused == 1


def test_a_name_that_rebinds_is_refused_the_second_time() -> None:
    """First a public address, to get in; then, for the next connection, the metadata service."""
    resolver = CheckedResolver(PUBLIC_ONLY, Names(["1.1.1.1"], ["169.254.169.254"]))
    assert resolve(resolver) == ["1.1.1.1"]
    with pytest.raises(NetworkError):
        resolve(resolver)


def test_private_addresses_where_the_operator_says_so() -> None:
    assert resolve(CheckedResolver(ALSO_PRIVATE, Names(["10.0.0.5"]))) == ["10.0.0.5"]


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "0.1.2.3"])
def test_the_metadata_service_is_refused_even_then(address: str) -> None:
    """A private upstream is allowed; its DNS is taken over and points at the cloud's keys."""
    with pytest.raises(NetworkError):
        resolve(CheckedResolver(ALSO_PRIVATE, Names([address])))


def test_a_name_without_addresses() -> None:
    with pytest.raises(NetworkError, match="no address"):
        resolve(CheckedResolver(PUBLIC_ONLY, Names([])))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "::1"])
def test_spellings_of_this_machine_are_refused(host: str) -> None:
    """What the system makes of `127.1` or `2130706433` is judged, not the text."""
    with pytest.raises(NetworkError):
        resolve(CheckedResolver(PUBLIC_ONLY), host)


def test_a_name_that_does_not_resolve() -> None:
    async def nothing(host: str, port: int) -> list[str]:
        raise OSError(f"{host}:{port}: Name or service not known")

    with pytest.raises(NetworkError, match="cannot be resolved"):
        resolve(CheckedResolver(PUBLIC_ONLY, nothing))
    with pytest.raises(NetworkError, match="cannot be resolved"):
        resolve(CheckedResolver(PUBLIC_ONLY), "x" * 300)


def test_the_systems_names() -> None:
    assert asyncio.run(look_up("127.0.0.1", 80)) == ["127.0.0.1"]
