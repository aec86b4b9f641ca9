"""What a connection needs of its server, and a server of its connections."""

import asyncio
from typing import Any, Protocol

from fleetward.httpd.counters import ServerCounters
from fleetward.httpd.head import HeadReader
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.message import Handler
from fleetward.httpd.repeats import Repeats


class Kept(Protocol):
    """What a server does with its connections."""

    @property
    def task(self) -> asyncio.Future[Any] | None:
        """Return what stands for the answer now, if any."""
        ...

    def sweep(self, now: float) -> None:
        """Look at the deadlines; `now` is the loop's time."""
        ...

    def stop(self) -> None:
        """Close now where nothing is being answered."""
        ...

    def abort(self) -> None:
        """Cut the connection."""
        ...


class Host(Protocol):
    """What a connection needs of its server."""

    @property
    def handler(self) -> Handler:
        """Return what answers."""
        ...

    @property
    def limits(self) -> ServerLimits:
        """Return the limits for clients."""
        ...

    @property
    def counters(self) -> ServerCounters:
        """Return where to count."""
        ...

    @property
    def repeats(self) -> Repeats:
        """Return the answers that may be given again."""
        ...

    @property
    def reader(self) -> HeadReader:
        """Return what reads heads, for one connection at a time within a call."""
        ...

    @property
    def is_stopping(self) -> bool:
        """Return whether each answer is its connection's last."""
        ...

    def admit(self, connection: Kept, peer: str) -> bool:
        """Remember the connection; False where there are too many."""
        ...

    def forget(self, connection: Kept, peer: str) -> None:
        """Forget it."""
        ...

    def hold(self, peer: str, count: int) -> bool:
        """Hold memory for a client's body; False where there is no more."""
        ...

    def let_go(self, peer: str, count: int) -> None:
        """Hold it no more."""
        ...

    def date_line(self) -> bytes:
        """Return the Date header, with its line end."""
        ...
