"""A clock and an entropy source that tests steer."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

START = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


class FakeClock:
    """A clock that moves when it is told to, and when somebody sleeps."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._monotonic = timedelta()
        self.slept: list[timedelta] = []
        self.on_sleep: Callable[[], None] | None = None

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> timedelta:
        return self._monotonic

    def sleep(self, pause: timedelta) -> None:
        self.slept.append(pause)
        self.advance(max(pause, timedelta()))
        if self.on_sleep:
            self.on_sleep()

    def advance(self, by: timedelta) -> None:
        self._now += by
        self._monotonic += by

    def set_wall(self, now: datetime) -> None:
        """Set the wall clock alone, as a wrong battery or an attacker on NTP does."""
        self._now = now


class SeededEntropy:
    """Repeatable bytes."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def token(self, length: int) -> bytes:
        return self._random.randbytes(length)

    def share(self) -> float:
        return self._random.random()
