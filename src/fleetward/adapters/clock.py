"""Time, passed in: the only home of the wall clock, the monotonic clock and of waiting."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What programs know of time."""

    def now(self) -> datetime:
        """Return the wall clock: an aware UTC instant, which may be wrong."""
        ...

    def monotonic(self) -> timedelta:
        """Return time since an arbitrary start, which never goes back."""
        ...

    def sleep(self, pause: timedelta) -> None:
        """Wait for `pause`."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Return the wall clock in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> timedelta:
        """Return the monotonic clock."""
        return timedelta(seconds=time.monotonic())

    def sleep(self, pause: timedelta) -> None:
        """Wait for `pause`; nothing where it is negative."""
        time.sleep(max(0.0, pause.total_seconds()))
