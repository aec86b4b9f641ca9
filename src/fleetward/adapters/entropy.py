"""Randomness, passed in: the only home of the operating system's generator."""

import secrets
from typing import Protocol


class Entropy(Protocol):
    """Unpredictable bytes and shares."""

    def token(self, length: int) -> bytes:
        """Return `length` unpredictable bytes."""
        ...

    def share(self) -> float:
        """Return an unpredictable number in [0, 1), for jitter."""
        ...


class SystemEntropy:
    """The operating system's generator."""

    def token(self, length: int) -> bytes:
        """Return `length` unpredictable bytes."""
        return secrets.token_bytes(length)

    def share(self) -> float:
        """Return an unpredictable number in [0, 1)."""
        return secrets.randbits(53) / (1 << 53)
