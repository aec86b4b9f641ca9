"""SHA-256 digests as values: lower-case hex, exactly 64 digits."""

import hashlib
import re
from typing import NewType

from fleetward.errors import DocumentError

Sha256 = NewType("Sha256", str)
"""A digest that was parsed or computed; never a string that somebody sent."""

_HEX = re.compile(r"[0-9a-f]{64}")


def parse_sha256(text: str) -> Sha256:
    """Return `text` as a digest.

    Raises:
        DocumentError: `text` is not 64 lower-case hex digits.
    """
    if not _HEX.fullmatch(text):
        raise DocumentError(f"not a sha256 digest: {text[:80]!r}")
    return Sha256(text)


def sha256_of(content: bytes | memoryview) -> Sha256:
    """Return the digest of `content`."""
    return Sha256(hashlib.sha256(content).hexdigest())
