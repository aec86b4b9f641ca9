"""A token bucket, and a bounded table of them by client: pure, with the time passed in.

    tokens(now) = min(burst, tokens + rate * elapsed)

Spending may go into debt by one spend; nothing more is granted until the debt is paid, so over any
span the bucket grants at most `burst + rate * span` and one spend. Rate 0 is no limit.

Deliberately not here: who waits, and in which order (relay.bandwidth, relay.budget).
"""

import ipaddress
import math
from collections import OrderedDict
from functools import lru_cache
from typing import Final

_IPV6_SITE_BITS: Final = 64
"""An IPv6 host may take any address of its /64, so that is what is counted as one client."""

_PRECISION: Final = 1e-6
"""Seconds; a shorter wait would end before the clock moves, and be asked for again for ever."""


class Bucket:
    """Tokens (bytes, requests) that come at a rate and are spent.

    Attributes:
        rate: tokens per second; 0 is no limit.
        burst: tokens that a pause saves up, at most.
    """

    __slots__ = ("_seen", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._seen = now

    def wait(self, now: float) -> float:
        """Return in how many seconds there is no debt; 0 where something may be spent now."""
        self._refill(now)
        if self.rate <= 0 or self._tokens >= 0:
            return 0.0
        wait = -self._tokens / self.rate
        return wait if wait > _PRECISION else 0.0

    def spend(self, count: float, now: float) -> None:
        """Spend `count` tokens, into debt where there are fewer; nothing without a limit."""
        self._refill(now)
        if self.rate > 0:
            self._tokens -= count

    def take(self, count: float, now: float) -> float:
        """Spend `count` whole tokens, where there are so many, and return 0.

        Returns:
            Else, with nothing spent, the seconds until there are so many.
        """
        self._refill(now)
        if self.rate <= 0:
            return 0.0
        if self._tokens >= count:
            self._tokens -= count
            return 0.0
        return (count - self._tokens) / self.rate

    def set_rate(self, rate: float, burst: float, now: float) -> None:
        """Go on at another rate; a debt is paid at the new one, what was saved fits the burst."""
        self._refill(now)
        if self.rate <= 0 < rate:
            self._tokens = burst
        self.rate = rate
        self.burst = burst
        self._tokens = min(self._tokens, burst)

    def _refill(self, now: float) -> None:
        elapsed = now - self._seen
        if elapsed > 0:
            self._tokens = min(self.burst, self._tokens + self.rate * elapsed)
            self._seen = now


class Buckets:
    """A bucket for each client, the most recent `max_clients` of them.

    Whoever is pushed out begins again with a full bucket: an attacker with so many addresses gains
    that much, and the table never grows.
    """

    def __init__(self, rate: float, burst: float, max_clients: int) -> None:
        self._rate = rate
        self._burst = burst
        self._max = max_clients
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        """Return how many clients are known."""
        return len(self._buckets)

    def of(self, address: str, now: float) -> Bucket:
        """Return the bucket of the client at `address`."""
        key = client_of(address)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._rate, self._burst, now)
            if len(self._buckets) > self._max:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket


@lru_cache(maxsize=4096)
def client_of(address: str) -> str:
    """Return what is counted as one client: an IPv4 address, or the /64 of an IPv6 one.

    Args:
        address: without port; anything that is no address stands for itself.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), _IPV6_SITE_BITS), strict=False))


def retry_after(seconds: float) -> tuple[str, str]:
    """Return the Retry-After header for a wait: whole seconds, at least 1."""
    return ("Retry-After", str(max(1, math.ceil(seconds))))
