"""UDP on the relay's port: announcements and check-ins, one datagram each.

Read by `add_reader` and a bounded loop, since asyncio's datagram protocol takes fourteen times as
long for one. Who sent a datagram is not known (addresses can be forged), so:

- nothing is ever answered, and a relay cannot be made to send to anybody;
- an announcement is a hint (`relay.hints`), a check-in is signed and has its own limits;
- everything else changes a counter.

The first bytes tell which it is; both are JSON. At most `datagrams_per_turn` are read before
others have their turn, so a flood fills the kernel's buffer and is lost there.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from fleetward.adapters.datagram import (
    WILDCARDS,
    family_of,
    interfaces_for,
    join,
    open_receiver,
    receive,
    require_interfaces,
)
from fleetward.config.relay import PushSettings
from fleetward.core.limits import TIMESTAMP_DATAGRAM_BYTES
from fleetward.errors import ConfigurationError
from fleetward.relay.hints import Hints
from fleetward.relay.lifetime import Lifetime
from fleetward.relay.part import Metric, Route
from fleetward.relay.settings import PushLimits
from fleetward.wire.announcement import is_announcement

MAX_DATAGRAM_BYTES: Final = TIMESTAMP_DATAGRAM_BYTES
"""A longer datagram would be split on some paths, and is none of ours."""

AcceptCheckIn = Callable[[bytes, str], None]
"""Takes a datagram and its sender's address; must neither block nor raise."""

_CHECK_IN_BEGINS: Final = b'{"payload'


@dataclass(slots=True)
class DatagramCounters:
    """Only ever counted up.

    Attributes:
        announcements: that began like one; what came of them is in `HintCounters`.
        checkins: handed on as check-ins.
        oversize: longer than 1,200 bytes.
        unknown: neither.
    """

    announcements: int = 0
    checkins: int = 0
    oversize: int = 0
    unknown: int = 0


class DatagramPart:
    """The UDP sockets; a `Part`.

    Attributes:
        counters: what came so far.
    """

    def __init__(
        self,
        address: tuple[str, int],
        push: PushSettings,
        limits: PushLimits,
        lifetime: Lifetime,
        *,
        hints: Hints,
        accept_checkin: AcceptCheckIn | None = None,
    ) -> None:
        """Take what to listen on; nothing is opened yet.

        Args:
            address: host and port as TCP has them; port 0 takes the one that TCP took.
            push: the groups to join.
            limits: how much is read at once.
            lifetime: tells TCP's port.
            hints: takes announcements.
            accept_checkin: takes check-ins; without it they are unknown.
        """
        self.counters = DatagramCounters()
        self._host, self._wanted_port = address
        self._push = push
        self._limits = limits
        self._lifetime = lifetime
        self._hints = hints
        self._accept_checkin = accept_checkin
        self._port = 0
        self._joined = 0

    def routes(self) -> Iterable[Route]:
        """Return none."""
        return ()

    async def run(self) -> None:
        """Receive until cancelled.

        Raises:
            ConfigurationError: the port is taken, or an interface does not exist.
        """
        loop = asyncio.get_running_loop()
        port = await self._lifetime.port()
        require_interfaces(self._push.interfaces)
        receivers: list[socket.socket] = []
        try:
            for host in await self._hosts():
                receivers += self._open(host, port)
            self._port = receivers[0].getsockname()[1]
            for one in receivers:
                loop.add_reader(one, self._read, one)
            while True:
                self._join(receivers)
                await asyncio.sleep(self._limits.join_interval.total_seconds())
        finally:
            for one in receivers:
                loop.remove_reader(one)
                one.close()
            await self._hints.stop()

    async def _hosts(self) -> list[str]:
        """Return the addresses to listen on; a wildcard's other family comes second."""
        if self._host in WILDCARDS:
            first = "::" if self._host == "::" else "0.0.0.0"  # noqa: S104 (as TCP does)
            return [first, "0.0.0.0" if first == "::" else "::"]  # noqa: S104 (as TCP does)
        found = await asyncio.get_running_loop().getaddrinfo(
            self._host, None, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def _open(self, host: str, port: int) -> list[socket.socket]:
        is_second = host in WILDCARDS and host != (self._host or "0.0.0.0")  # noqa: S104 (compared)
        try:
            return [open_receiver(host, port)]
        except ConfigurationError:
            if is_second:
                return []  # a machine without that family
            if self._wanted_port:
                raise
        return [open_receiver(host, 0)]

    def _join(self, receivers: list[socket.socket]) -> None:
        interfaces = interfaces_for(self._host, self._push.interfaces)
        self._joined = sum(
            join(one, group, interfaces)
            for one in receivers
            for group in self._push.group
            if family_of(group) == one.family
        )

    def _read(self, receiver: socket.socket) -> None:
        """Take what has come, as far as this turn goes."""
        for _ in range(self._limits.datagrams_per_turn):
            received = receive(receiver, MAX_DATAGRAM_BYTES)
            if received is None:
                return
            self._take(*received)

    def _take(self, datagram: bytes, peer: str) -> None:
        if len(datagram) > MAX_DATAGRAM_BYTES:
            self.counters.oversize += 1
        elif is_announcement(datagram):
            self.counters.announcements += 1
            self._hints.take(datagram)
        elif self._accept_checkin is not None and datagram.startswith(_CHECK_IN_BEGINS):
            self.counters.checkins += 1
            self._accept_checkin(datagram, peer)
        else:
            self.counters.unknown += 1

    def status(self) -> Mapping[str, object]:
        """Return where it listens and what came."""
        counted = {**asdict(self.counters), **asdict(self._hints.counters)}
        return {"datagrams": {"port": self._port, "joined": self._joined, **counted}}

    def metrics(self) -> Iterable[Metric]:
        """Return what came, by what became of it."""
        counted = {**asdict(self.counters), **asdict(self._hints.counters)}
        for outcome, count in counted.items():
            labels = (("outcome", outcome),)
            yield Metric("datagrams_total", count, "UDP datagrams by outcome.", labels=labels)
