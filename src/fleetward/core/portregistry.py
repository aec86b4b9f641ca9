"""What is known of port numbers: registry entries and de facto uses, kept with their dates.

A name in a registry says who may have had a reason to use a port, once; it never says who does.
So these facts are shown beside a verdict and never decide one.

Sources: IANA, Service Name and Transport Protocol Port Number Registry; for the de facto uses,
Symantec's and LANDesk's own documentation of the products that used them.

Deliberately not here: the whole registry; `/etc/services` has the usual ports, and none of these.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final

from fleetward.core.listeners import Transport

REGISTRY_READ: Final = date(2026, 11, 1)
"""When the registry was read."""

OLD_WINDOWS_EPHEMERAL: Final = (1025, 5000)
"""Ports that Windows up to XP and 2003 gave to clients: 2967 among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortFact:
    """What is known of a port.

    Attributes:
        port: the port.
        protocols: for which the fact holds.
        name: of the service in the registry; empty where the port is unassigned.
        use: who has used it in fact; empty where that is what the registry says.
    """

    port: int
    protocols: tuple[Transport, ...]
    name: str = ""
    use: str = ""

    def sentence(self) -> str:
        """Return the fact for people, with its date."""
        told = f"IANA assigns it to {self.name}" if self.name else "IANA assigns it to nobody"
        used = f"; in fact used by {self.use}" if self.use else ""
        return f"{told} (registry of {REGISTRY_READ:%Y-%m}){used}"


_BOTH: Final = (Transport.TCP, Transport.UDP)

FACTS: Final = (
    PortFact(
        port=2967,
        protocols=_BOTH,
        name="ssc-agent",
        use="Symantec AntiVirus Corporate Edition, Endpoint Protection's Group Update Provider, "
        "and Fleetward's relay",
    ),
    PortFact(port=2968, protocols=_BOTH, name="enpp", use="Symantec AntiVirus on NetWare"),
    PortFact(
        port=38037,
        protocols=_BOTH,
        use="Symantec's and LANDesk's Common Base Agent (message system)",
    ),
    PortFact(port=38292, protocols=_BOTH, use="LANDesk's Common Base Agent"),
    PortFact(port=38293, protocols=_BOTH, use="Symantec AntiVirus's discovery service"),
)


def fact_of(protocol: Transport, port: int) -> PortFact | None:
    """Return what is known of a port; None where that is nothing."""
    return next((f for f in FACTS if f.port == port and protocol in f.protocols), None)
