"""Connections whose answers are timed and counted at every receive.

A timeout for each receive, as sockets have it, lets a source send a byte every half second for
ever, in the header as well as in the body. So an answer is read through a reader that knows the
transfer's deadline and its minimum rate (slow retrieval), and that counts bytes.

Deliberately not here: what is asked for and what an answer means (adapters.http). The answer of a
proxy to CONNECT and a TLS handshake are bounded by the socket's timeouts alone.
"""

import io
import socket
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from urllib3.connection import HTTPConnection, HTTPSConnection

from fleetward.adapters.clock import Clock
from fleetward.core.limits import TransferLimits
from fleetward.errors import SlowTransferError


@dataclass(slots=True)
class Traffic:
    """Bytes that a session moved, headers included; of TLS, what is inside.

    Attributes:
        sent: bytes of requests.
        received: bytes of answers.
        requests: how many requests were made.
    """

    sent: int = 0
    received: int = 0
    requests: int = 0


class Pace:
    """One transfer's time: a deadline for the whole, and a minimum rate after the first byte.

    The rate is taken over windows of `limits.grace` of time spent *waiting for the source*, so
    neither a fast beginning nor a slow caller hides or causes a slow transfer.
    """

    def __init__(
        self, clock: Clock, url: str, limits: TransferLimits, deadline: timedelta | None
    ) -> None:
        self.url = url
        self.limits = limits
        self._clock = clock
        self._deadline = deadline
        self._end = None if deadline is None else clock.monotonic() + deadline
        self._began = timedelta()
        self._answering = False
        self._waited = timedelta()
        self._count = 0

    def begin_wait(self) -> float:
        """Return how many seconds the next receive may take.

        Raises:
            SlowTransferError: the deadline has passed.
        """
        self._began = self._clock.monotonic()
        allowed = self.limits.read_timeout
        if self._end is not None:
            allowed = min(allowed, self._end - self._began)
        if allowed <= timedelta():
            raise self.too_late()
        return allowed.total_seconds()

    def end_wait(self, count: int) -> None:
        """Record that the receive brought `count` bytes.

        Raises:
            SlowTransferError: a whole window brought less than the minimum rate.
        """
        if self._answering:
            self._waited += self._clock.monotonic() - self._began
        self._answering = True
        self._count += count
        if self._waited < self.limits.grace:
            return
        least = self.limits.min_bytes_per_second * self._waited.total_seconds()
        if self._count < least:
            raise SlowTransferError(
                f"{self.url} came at {self._count} bytes in {self._waited.total_seconds():.0f} s, "
                f"under {self.limits.min_bytes_per_second} bytes/s: it was cut; try another source"
            )
        self._waited, self._count = timedelta(), 0

    def is_over(self) -> bool:
        """Return whether the deadline has passed."""
        return self._end is not None and self._clock.monotonic() >= self._end

    def too_late(self) -> SlowTransferError:
        """Return the error of a transfer past its deadline."""
        seconds = self._deadline.total_seconds() if self._deadline else 0
        return SlowTransferError(
            f"{self.url} did not arrive within {seconds:.0f} s: it was cut; try another source"
        )


@dataclass(slots=True)
class Transfer:
    """What the next request on this thread is timed and counted by."""

    pace: Pace
    traffic: Traffic


CURRENT_TRANSFER: ContextVar[Transfer] = ContextVar("fleetward_transfer")
"""Set around a request: urllib3 makes and picks connections out of the caller's sight."""


class _PacedReader(io.RawIOBase):
    """What http.client reads an answer from: each receive is timed and counted."""

    def __init__(self, connection: socket.socket, transfer: Transfer) -> None:
        super().__init__()
        self._socket = connection
        self._raw = connection.makefile("rb", buffering=0)
        self._transfer = transfer
        self._timeout: float | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 (a writable buffer, as io says)
        timeout = self._transfer.pace.begin_wait()
        if timeout != self._timeout:
            self._socket.settimeout(timeout)
            self._timeout = timeout
        count = self._raw.readinto(buffer) or 0
        self._transfer.traffic.received += count
        self._transfer.pace.end_wait(count)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _PacedSocket:
    """A socket whose answers are read through `_PacedReader`; otherwise the socket itself."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the socket has)
        return getattr(self._socket, name)

    def sendall(self, content: bytes) -> None:
        CURRENT_TRANSFER.get().traffic.sent += len(content)
        self._socket.sendall(content)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_PacedReader(self._socket, CURRENT_TRANSFER.get()))


class PacedConnection(HTTPConnection):
    """A connection by plain TCP."""

    def connect(self) -> None:
        """Connect, and read from then on with time in view."""
        super().connect()
        self.sock = cast("socket.socket", _PacedSocket(self.sock))


class PacedSecureConnection(HTTPSConnection):
    """A connection by TLS."""

    def connect(self) -> None:
        """Connect, and read from then on with time in view."""
        super().connect()
        self.sock = cast("socket.socket", _PacedSocket(self.sock))
