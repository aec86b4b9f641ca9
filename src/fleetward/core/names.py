"""Names of products, releases and channels: values that are safe as file names and URL parts.

Every name matches `[a-z0-9][a-z0-9._-]*`, so that a repository works from any dumb server, any
bucket and any file system (DESIGN, "Trust").
"""

import re
from typing import NewType

from fleetward.errors import UsageError

ProductName = NewType("ProductName", str)
ReleaseName = NewType("ReleaseName", str)
ChannelName = NewType("ChannelName", str)

MAX_NAME_LENGTH = 64
"""Characters; keeps role names and file names far below every limit."""

RESERVED_RELEASES = frozenset({"floor", "policy"})
"""Documents that lie beside the manifests under `releases/PRODUCT/`."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def parse_product(text: str) -> ProductName:
    """Return `text` as a product's name.

    Raises:
        UsageError: it is empty, too long, or has characters outside `[a-z0-9._-]`.
    """
    return ProductName(_parse("product", text))


def parse_release(text: str) -> ReleaseName:
    """Return `text` as a release's name.

    Raises:
        UsageError: as for a product, or the name is reserved (`floor`, `policy`).
    """
    name = _parse("release", text)
    if name in RESERVED_RELEASES:
        raise UsageError(f"the release name {name!r} is reserved; choose another")
    return ReleaseName(name)


def parse_channel(text: str) -> ChannelName:
    """Return `text` as a channel's name.

    Raises:
        UsageError: as for a product.
    """
    return ChannelName(_parse("channel", text))


def _parse(kind: str, text: str) -> str:
    if len(text) > MAX_NAME_LENGTH or not _NAME.fullmatch(text):
        raise UsageError(
            f"{text[:80]!r} is no {kind} name: use 1 to {MAX_NAME_LENGTH} of a-z, 0-9, '.', '_' "
            "and '-', beginning with a letter or digit"
        )
    return text
