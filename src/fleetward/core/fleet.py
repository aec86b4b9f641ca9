"""The signed list of relays, as a value: which relays serve which subnet.

A host takes it as a hint for where to ask, and for nothing else: what it gets there is verified
like anything else, so whoever could forge this list could only make hosts ask in vain.

Invariant: a list that exists has URLs that can be asked, subnets in their canonical form, no
subnet twice, and is no longer than `LISTING` says.

Deliberately not here: its JSON (wire.documents), who signed it (trust), the order in which a host
asks (core.sourcechoice).
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

from fleetward.core.names import parse_product
from fleetward.errors import DocumentError, UsageError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class ListingLimits:
    """What a list of relays may hold; all of it must fit a signed document of 64 KiB.

    Attributes:
        sites: sites in all; more belong into wider subnets.
        subnets: of one site.
        relays: of one site, of `default` and of `origins`: a host remembers each of them.
        url_chars: characters of one URL.
    """

    sites: int = 1_024
    subnets: int = 64
    relays: int = 16
    url_chars: int = 200


LISTING: Final = ListingLimits()

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_URL = re.compile(
    rf"https?://(?:{_LABEL}(?:\.{_LABEL})*\.?|\[(?P<v6>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{{1,5}}))?"
    r"(?P<path>(?:/[A-Za-z0-9._~-]+)*)"
)


def parse_source_url(text: str) -> str:
    """Return `text` as the base URL of a relay or origin, without a slash at its end.

    Raises:
        DocumentError: it is no plain http or https URL (a user, a query, a fragment, another
            scheme, characters that need an escape), or too long.
    """
    url = text.rstrip("/")
    match = _URL.fullmatch(url) if len(url) <= LISTING.url_chars else None
    if match is None or not _is_port(match["port"]) or not _is_v6(match["v6"]):
        raise DocumentError(
            f"{text[:80]!r} is no URL of a relay: write http://HOST[:PORT][/PATH] or https://…"
        )
    if {".", ".."} & set(match["path"].split("/")):
        raise DocumentError(f"{text[:80]!r} has a path that leads elsewhere")
    return url


def _is_port(text: str | None) -> bool:
    return text is None or 0 < int(text) <= 65_535


def _is_v6(text: str | None) -> bool:
    try:
        return text is None or IPv6Address(text) is not None
    except ValueError:
        return False


def parse_subnet(text: str) -> Network:
    """Return `text` as a subnet.

    Raises:
        DocumentError: it is none, or has bits set beyond its prefix.
    """
    try:
        return ip_network(text)
    except ValueError as error:
        raise DocumentError(f"{text[:60]!r} is no subnet: {error}; write 10.1.0.0/16") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place with its own network.

    Attributes:
        name: for people; a name as products have.
        subnets: CIDR, IPv4 and IPv6, canonical; a host with an address in one of them is there.
        relays: base URLs; the hosts of the site are spread over them.
    """

    name: str
    subnets: tuple[str, ...]
    relays: tuple[str, ...]

    def __post_init__(self) -> None:
        try:
            parse_product(self.name)
        except UsageError as error:
            raise DocumentError(
                f"{self.name[:80]!r} is no name of a site: use a-z, 0-9, '.', '_' and '-'"
            ) from error
        _bound(self.name, "subnets", len(self.subnets), LISTING.subnets, least=1)
        for text in self.subnets:
            if str(parse_subnet(text)) != text:
                raise DocumentError(f"the subnet {text!r} is to be written {parse_subnet(text)}")
        _urls(self.relays, f"the relays of {self.name}", least=1)

    def networks(self) -> list[Network]:
        """Return its subnets as values."""
        return [ip_network(text) for text in self.subnets]


@dataclass(frozen=True, slots=True)
class Near:
    """What the list says to one host.

    Attributes:
        site: the name of the host's site; None where no subnet has one of its addresses.
        relays: base URLs of the relays that serve it.
    """

    site: str | None
    relays: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Relays:
    """`fleet/relays.json`.

    Attributes:
        origins: base URLs of the origin, asked where no relay serves, and by a share of polls.
        sites: the sites.
        default: relays of hosts that are at no site.
    """

    origins: tuple[str, ...] = ()
    sites: tuple[Site, ...] = ()
    default: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _urls(self.origins, "origins")
        _urls(self.default, "default")
        _bound("the list", "sites", len(self.sites), LISTING.sites)
        _once("site", [site.name for site in self.sites])
        _once("subnet", [subnet for site in self.sites for subnet in site.subnets])

    def near(self, addresses: Iterable[Address]) -> Near:
        """Return the relays of the site with the most specific subnet that has an address.

        Args:
            addresses: the host's own. An IPv4 address inside an IPv6 one counts as itself.
        """
        plain = [_plain(address) for address in addresses]
        found = [
            (_rank(network), site)
            for site in self.sites
            for network in site.networks()
            if any(address in network for address in plain)
        ]
        if not found:
            return Near(None, self.default)
        _, site = max(found, key=lambda pair: pair[0])
        return Near(site.name, site.relays)


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _rank(network: Network) -> tuple[float, str]:
    """Return how specific a subnet is; the same for /24 of IPv4 and its like of IPv6."""
    return network.prefixlen / network.max_prefixlen, str(network)


def _urls(urls: tuple[str, ...], what: str, least: int = 0) -> None:
    _bound(what, "URLs", len(urls), LISTING.relays, least)
    for url in urls:
        if parse_source_url(url) != url:
            raise DocumentError(f"the URL {url[:80]!r} ends with a slash")
    _once("URL", list(urls))


def _bound(whose: str, what: str, count: int, most: int, least: int = 0) -> None:
    if not least <= count <= most:
        raise DocumentError(f"{whose} has {count} {what}: {least} to {most} are allowed")


def _once(what: str, names: list[str]) -> None:
    name, count = next(iter(Counter(names).most_common(1)), ("", 0))
    if count > 1:
        raise DocumentError(f"the {what} {name} is there twice")
