"""Relays by multicast DNS (RFC 6762, RFC 6763): one query, or an advertisement while a relay runs.

A query goes out from short-lived sockets on ports that the system gives, as section 5.1 of RFC
6762 has it for one-shot queries, so a host does not listen on 5353. Whoever is on the network may
answer, in any number: an answer is an address to try, what is got there is verified, and only a
bounded number of answers is looked at, for a bounded time.

Imported only where mDNS is configured: zeroconf costs megabytes.

Deliberately not here: https. Its certificate names a host, and mDNS gives addresses.
"""

import contextlib
import hashlib
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from typing import Final

from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf
from zeroconf.asyncio import AsyncZeroconf

from fleetward.core.fleet import Address
from fleetward.discovery.addresses import may_be_relay, url_of
from fleetward.errors import NetworkError

SERVICE: Final = "_fleetward._tcp.local."
WINDOW: Final = timedelta(seconds=2)
"""How long answers are collected."""

MAX_NAMES: Final = 32
"""Names after which no more are waited for: a flood ends the query early."""

MAX_LABEL: Final = 60
"""Bytes of an instance's name: 63 is the most (RFC 1035), and one that is taken gets a number."""


class _Names(ServiceListener):
    """The names that answered, the first `MAX_NAMES` of them."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.is_full = threading.Event()

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        if len(self.found) < MAX_NAMES:
            self.found.append(name)
        else:
            self.is_full.set()

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Ignore it: names are enough."""

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Ignore it: a relay that has gone does not answer."""


def find_relays(window: timedelta = WINDOW) -> tuple[str, ...]:
    """Return the base URLs of the relays that answer within `window`, in the order of answers.

    Raises:
        NetworkError: no interface could be asked on.
    """
    names = _Names()
    try:
        with contextlib.closing(Zeroconf(unicast=True, ip_version=IPVersion.All)) as network:
            browser = ServiceBrowser(network, SERVICE, names)
            names.is_full.wait(window.total_seconds())
            browser.cancel()
            known = [_known(network, name) for name in names.found]
    except (OSError, ZeroconfError) as error:
        raise NetworkError(f"mDNS cannot be asked: {str(error) or type(error).__name__}") from error
    return tuple(dict.fromkeys(url for url in known if url))


def _known(network: Zeroconf, name: str) -> str | None:
    """Return the URL of a name, from what came with its answer."""
    info = ServiceInfo(SERVICE, name)
    if not info.load_from_cache(network) or not info.port:
        return None
    addresses = [ip_address(packed) for packed in info.addresses_by_version(IPVersion.All)]
    able = sorted((a for a in addresses if may_be_relay(a)), key=lambda a: a.version)
    return url_of(able[0], info.port) if able else None


@dataclass(frozen=True, slots=True)
class Advertisement:
    """What a relay says of itself.

    Attributes:
        name: of the instance; one that is taken gets a number.
        addresses: where it listens.
        port: at which port.
    """

    name: str
    addresses: Sequence[Address]
    port: int

    def place(self) -> str:
        """Return what no other place has: two machines of one name must not share addresses."""
        place = b"".join(address.packed for address in self.addresses)
        return hashlib.sha256(place + self.port.to_bytes(2, "big")).hexdigest()[:12]


@asynccontextmanager
async def advertised(what: Advertisement) -> AsyncGenerator[str]:
    """Answer queries for a relay until the block ends; gives the name that it got.

    Raises:
        NetworkError: no interface could be listened on, or the name cannot be used.
    """
    try:
        info = _service(what)
        responder = AsyncZeroconf(ip_version=IPVersion.All)
    except (OSError, ZeroconfError) as error:
        raise NetworkError(f"mDNS cannot say that {what.name!r} is here: {error}") from error
    try:
        await _register(responder, info)
        yield info.name
    finally:
        await responder.async_close()


def _service(what: Advertisement) -> ServiceInfo:
    name = what.name.replace(".", "-").encode()[:MAX_LABEL].decode(errors="ignore")
    return ServiceInfo(
        SERVICE,
        f"{name}.{SERVICE}",
        port=what.port,
        addresses=[address.packed for address in what.addresses],
        properties={"v": "1"},
        server=f"fleetward-{what.place()}.local.",
    )


async def _register(responder: AsyncZeroconf, info: ServiceInfo) -> None:
    try:
        await (await responder.async_register_service(info, allow_name_change=True))
    except (OSError, ZeroconfError) as error:
        raise NetworkError(
            f"mDNS does not take {info.name!r}: {str(error) or type(error).__name__}"
        ) from error
