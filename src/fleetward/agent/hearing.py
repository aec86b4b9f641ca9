"""Announcements that a host hears, where its settings ask for it: one of two things it may listen for.

A datagram can do one thing: ring the bell, where it claims a version above ours. What false ones
may cause is bounded by `agent.watching`. A flood is read at no more than 128 datagrams a second,
the rest is lost in the kernel. Nothing is answered, nothing is kept.
"""

import select
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import timedelta
from typing import Final

from fleetward.adapters.clock import Clock
from fleetward.adapters.datagram import (
    family_of,
    interfaces_for,
    join,
    open_receiver,
    receive,
    require_interfaces,
)
from fleetward.config.agent import PushSettings
from fleetward.core.limits import TIMESTAMP_DATAGRAM_BYTES
from fleetward.errors import ConfigurationError, DocumentError
from fleetward.wire.announcement import announced_version

READ_AT_ONCE: Final = 32
REST: Final = timedelta(milliseconds=250)
"""After so many datagrams at once, so long nothing is read (a flood must not cost a host's CPU)."""

JOIN_INTERVAL: Final = timedelta(minutes=1)
"""How often the groups are joined anew, for interfaces that came later."""


class Ears:
    """Sockets that hear announcements.

    Attributes:
        receivers: one for each address.
        is_closed: set by `close`.
    """

    def __init__(self, receivers: Iterable[socket.socket], push: PushSettings) -> None:
        self.receivers = tuple(receivers)
        self.is_closed = False
        self._push = push

    @classmethod
    def open(cls, push: PushSettings) -> "Ears":
        """Listen as the settings say; an address family that the machine lacks is left out.

        Raises:
            ConfigurationError: nothing can be listened on, or an interface does not exist.
        """
        require_interfaces(push.interfaces)
        with ExitStack() as opened:
            receivers: list[socket.socket] = []
            problem = ConfigurationError("push.listen is empty: give an address, such as 0.0.0.0")
            for address in push.listen:
                try:
                    receivers.append(opened.enter_context(open_receiver(address, push.port)))
                except ConfigurationError as error:
                    problem = error
            if not receivers:
                raise problem
            ears = cls(receivers, push)
            ears.join()
            opened.pop_all()
            return ears

    def join(self) -> None:
        """Join the groups, also on interfaces that came meanwhile."""
        for one in self.receivers:
            for group in self._push.group:
                if family_of(group) == one.family:
                    join(one, group, interfaces_for(one.getsockname()[0], self._push.interfaces))

    def hear(self, news: Callable[[], int], ring: Callable[[], None], clock: Clock) -> None:
        """Wait for datagrams once, and ring where one claims a version above `news()`.

        Args:
            news: returns the version that is known.
            ring: wakes the agent.
            clock: waits where too many came.
        """
        waiting = select.select(self.receivers, [], [], JOIN_INTERVAL.total_seconds())[0]
        for one in waiting:
            for _ in range(READ_AT_ONCE):
                received = receive(one, TIMESTAMP_DATAGRAM_BYTES)
                if received is None:
                    break
                if _claims_more(received[0], news()):
                    ring()
                    clock.sleep(REST)
            else:
                clock.sleep(REST)
        if not (waiting or self.is_closed):
            self.join()

    def close(self) -> None:
        """Hear no more."""
        self.is_closed = True
        for one in self.receivers:
            one.close()


def _claims_more(datagram: bytes, known: int) -> bool:
    try:
        return announced_version(datagram) > known
    except DocumentError:
        return False


def hear_in_thread(
    ears: Ears, news: Callable[[], int], ring: Callable[[], None], clock: Clock
) -> threading.Thread:
    """Hear until closed, in a daemon thread."""

    def hear() -> None:
        while not ears.is_closed:
            ears.hear(news, ring, clock)

    thread = threading.Thread(target=hear, name="announcements", daemon=True)
    thread.start()
    return thread
