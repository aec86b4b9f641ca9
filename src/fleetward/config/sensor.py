"""`[sensor]` of HOME/agent.toml: whether the agent hears what is said to ports where nothing listens.

    [sensor]
    on = true
    ports = [2967]
    close = "rst"

Deliberately not here: the sensor (listeners.sensor), what of it is told (core.portsensing).
"""

from dataclasses import dataclass

from fleetward.config.addresses import require_address
from fleetward.core.listeners import Transport
from fleetward.errors import ConfigurationError

MAX_PLACES = 64
"""Addresses times ports, each with two sockets: an agent keeps few."""

CLOSINGS = ("fin", "rst")

MAX_CONNECTIONS = 1_024
"""Of `connections`: what the sensor was measured with."""

MAX_PER_SECOND = 20_000
"""Of `per_second`: see above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorSettings:
    """How an agent hears where nothing should listen. Read when the agent starts.

    An exception to "a host listens on nothing", so off unless asked for. Nothing is ever answered.

    Attributes:
        on: whether it does.
        addresses: to listen on; of `0.0.0.0` and `::` one that this machine lacks is left out.
        ports: by TCP and UDP.
        udp: whether by UDP too.
        close: how connections end: `fin`, or `rst`, which tells a scanner less.
        connections: open at a time; each takes up to 6 KiB, and a descriptor.
        per_second: connections and datagrams that are looked at, as a share of the processor.
    """

    on: bool = False
    addresses: tuple[str, ...] = ("0.0.0.0", "::")  # noqa: S104 (only where `on` asks)
    ports: tuple[int, ...] = (2967,)
    udp: bool = True
    close: str = "fin"
    connections: int = 256
    per_second: int = 2_000

    def __post_init__(self) -> None:
        for address in self.addresses:
            require_address(address)
        if not all(0 < port < 65536 for port in self.ports):
            raise ConfigurationError("sensor.ports are 1 to 65535")
        if self.close not in CLOSINGS:
            raise ConfigurationError(f"sensor.close is {' or '.join(CLOSINGS)}")
        if not 0 < len(self.addresses) * len(self.ports) <= MAX_PLACES:
            raise ConfigurationError(
                f"sensor.addresses and sensor.ports make 1 to {MAX_PLACES} places"
            )
        if not 0 < self.connections <= MAX_CONNECTIONS:
            raise ConfigurationError(f"sensor.connections is 1 to {MAX_CONNECTIONS}")
        if not 0 < self.per_second <= MAX_PER_SECOND:
            raise ConfigurationError(f"sensor.per_second is 1 to {MAX_PER_SECOND}")

    @property
    def transports(self) -> tuple[Transport, ...]:
        """By which protocols it hears."""
        return (Transport.TCP, Transport.UDP) if self.udp else (Transport.TCP,)

    @property
    def places(self) -> frozenset[tuple[Transport, int]]:
        """Where it hears."""
        return frozenset((one, port) for one in self.transports for port in self.ports)
