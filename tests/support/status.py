"""Hosts, consoles and check-ins as tests use them: repeatable keys and usual content."""

from datetime import datetime, timedelta

from fleetward.core.enrolment import HostFacts
from fleetward.core.install import State
from fleetward.core.status import (
    CheckIn,
    Epoch,
    EventKind,
    HostEvent,
    PortsSummary,
    ProductStatus,
    SeenVersions,
)
from fleetward.identity.checkins import seal_check_in
from fleetward.identity.consoles import ConsoleKeys
from fleetward.identity.hosts import HostKey
from support.fakes import START

CONSOLE = ConsoleKeys(b"\x01" * 32, b"\x02" * 32)
OTHER_CONSOLE = ConsoleKeys(b"\x03" * 32, b"\x04" * 32)
FACTS = HostFacts(name="pc-17.example", os="Debian 12", site="north", agent="0.1.0")
EPOCH = Epoch("00112233aabbccdd")


def host_key(number: int = 0) -> HostKey:
    """The key of host `number`."""
    return HostKey(number.to_bytes(4, "big") * 8)


def product(name: str, release: str = "2026.11.24-1") -> ProductStatus:
    return ProductStatus(
        product=name,
        channel="stable",
        release=release,
        seq=1234,
        state=State.CONFIRMED,
        tree="5f" * 16,
        wave=2,
    )


def usual(key: HostKey, n: int = 123456, **more: object) -> CheckIn:
    """Three products, ports, a relay's name, no event; `more` replaces fields."""
    fields: dict[str, object] = {
        "host": key.id,
        "epoch": EPOCH,
        "n": n,
        "sent": START,
        "products": tuple(product(name) for name in ("clamav", "suricata", "yara")),
        "tuf": SeenVersions(root=3, timestamp=123456, snapshot=12345),
        "relay": "relay-17.site.example:2967",
        "clock": -12,
        "ports": PortsSummary(listeners=23, unexpected=1, digest="ab" * 8),
        **more,
    }
    return CheckIn(**fields)  # type: ignore[arg-type]


def event(e: int, kind: EventKind = EventKind.CONFIRMED, at: datetime = START) -> HostEvent:
    return HostEvent(e=e, at=at + timedelta(seconds=e), kind=kind, product="yara", release="r1")


def sealed(number: int = 0, n: int = 1, **more: object) -> bytes:
    """The envelope of a check-in of host `number` for `CONSOLE`."""
    key = host_key(number)
    return seal_check_in(usual(key, n, **more), key, CONSOLE.public)
