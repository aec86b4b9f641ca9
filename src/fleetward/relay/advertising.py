"""A part: the relay says by mDNS that it is here, so that hosts find it without being told.

Advertised are the addresses that it listens on; where it listens on all, those that the machine's
routes show, looked at again each minute. A relay with TLS is not advertised (a certificate names a
host, and mDNS gives addresses), nor one on loopback or on a port that is not known beforehand.

Deliberately not here: trust. Whoever finds the relay this way verifies what it gets.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from typing import Final

from fleetward.core.fleet import Address
from fleetward.discovery.addresses import may_be_relay, own_addresses
from fleetward.errors import NetworkError
from fleetward.relay.part import Metric, Route
from fleetward.relay.settings import RelaySettings

LOOK_EVERY: Final = timedelta(minutes=1)
"""How often the addresses are looked at, and how long after a failure it is tried again."""


@dataclass(slots=True)
class Advertising:
    """Answers mDNS queries while the relay runs.

    Attributes:
        settings: of the relay.
        addresses: gives the machine's own addresses.
        name: the instance's name while it is advertised, else None.
        problem: why it is not, for `GET /v1/relay`; empty where it is.
    """

    settings: RelaySettings
    addresses: Callable[[], tuple[Address, ...]] = own_addresses
    name: str | None = None
    problem: str = field(default="not yet")

    def routes(self) -> Iterable[Route]:
        """Return nothing: it answers no HTTP."""
        return ()

    async def run(self) -> None:
        """Advertise until cancelled, anew where the addresses change."""
        if self._is_hopeless():
            return
        while True:
            try:
                listened = self._listened()
                if listened:
                    await self._advertise(listened)
                    continue
                self.problem = "no address of this machine can be advertised"
            except (NetworkError, OSError) as error:  # an interface that goes away, above all
                self.problem = str(error)
            await asyncio.sleep(LOOK_EVERY.total_seconds())

    def _is_hopeless(self) -> bool:
        if self.settings.tls is not None:
            self.problem = "a relay with TLS is not advertised: name it by DNS SRV, or in a list"
        elif self.settings.port == 0:
            self.problem = "the port is drawn at each start: give --listen a port"
        else:
            return False
        return True

    def _listened(self) -> tuple[Address, ...]:
        try:
            listened = ip_address(self.settings.host)
        except ValueError:
            listened = None
        every = self.addresses() if listened is None or listened.is_unspecified else (listened,)
        return tuple(address for address in every if may_be_relay(address))

    async def _advertise(self, listened: tuple[Address, ...]) -> None:
        """Advertise these addresses for as long as they are the machine's."""
        from fleetward.discovery.mdns import Advertisement, advertised  # noqa: PLC0415 (zeroconf)

        name = self.settings.discovery.name or socket.gethostname()
        try:
            async with advertised(Advertisement(name, listened, self.settings.port)) as given:
                self.name, self.problem = given, ""
                while True:
                    await asyncio.sleep(LOOK_EVERY.total_seconds())
                    if self._listened() != listened:
                        return
        finally:
            self.name = None

    def status(self) -> Mapping[str, object]:
        """Return its name on the network, or why it has none."""
        return {"mdns": {"name": self.name, "problem": self.problem}}

    def metrics(self) -> Iterable[Metric]:
        """Return nothing."""
        return ()
