"""Where things lie in a repository, as URL paths without a leading slash (DESIGN, "Trust")."""

import re
from dataclasses import dataclass
from enum import Enum

from fleetward.core.digest import Sha256, parse_sha256
from fleetward.core.names import ChannelName, ProductName, ReleaseName

TIMESTAMP_PATH = "metadata/timestamp.json"
RELAYS_TARGET = "fleet/relays.json"
CONSOLE_TARGET = "fleet/console.json"


def blob_path(digest: Sha256) -> str:
    """Return where the blob of that digest lies."""
    return f"blobs/sha256/{digest[:2]}/{digest}"


def metadata_path(role: str, version: int) -> str:
    """Return where one version of a role's metadata lies (not of timestamp)."""
    return f"metadata/{version}.{role}.json"


def releases_role(product: ProductName) -> str:
    """Return the name of the role that signs a product's releases."""
    return f"releases-{product}"


def manifest_target(product: ProductName, release: ReleaseName) -> str:
    """Return the target name of a release's manifest."""
    return f"releases/{product}/{release}.json"


def floor_target(product: ProductName) -> str:
    """Return the target name of a product's floor document."""
    return f"releases/{product}/floor.json"


def policy_target(product: ProductName) -> str:
    """Return the target name of a product's policy document."""
    return f"releases/{product}/policy.json"


def channel_target(product: ProductName, channel: ChannelName) -> str:
    """Return the target name of a channel's document."""
    return f"channels/{product}/{channel}.json"


def target_path(target: str, digest: Sha256) -> str:
    """Return where a target lies: its name, with the digest before the last part."""
    folder, _, name = target.rpartition("/")
    return f"targets/{folder}/{digest}.{name}"


class Freshness(Enum):
    """How long an answer to a path may be kept by a cache."""

    NEVER = "no-store"
    FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class RepositoryPath:
    """A path that the repository layout has.

    Attributes:
        path: the path, without a leading slash.
        freshness: how long its content may be kept.
        digest: the digest of its content, where its name says it.
    """

    path: str
    freshness: Freshness
    digest: Sha256 | None = None


_NAME = r"[a-z0-9][a-z0-9._-]*"
_LAYOUT = (
    re.compile(r"metadata/timestamp\.json"),
    re.compile(rf"metadata/[1-9][0-9]{{0,9}}\.{_NAME}\.json"),
    re.compile(rf"targets/(?:{_NAME}/){{1,2}}(?P<digest>[0-9a-f]{{64}})\.{_NAME}\.json"),
    re.compile(r"blobs/sha256/(?P<fold>[0-9a-f]{2})/(?P<digest>(?P=fold)[0-9a-f]{62})"),
)


def parse_repository_path(path: str) -> RepositoryPath | None:
    """Return `path` as a path of the layout, or None where it is not one.

    Args:
        path: decoded and normalised, without a leading slash.
    """
    for pattern in _LAYOUT:
        if match := pattern.fullmatch(path):
            digest = match.groupdict().get("digest")
            return RepositoryPath(
                path,
                Freshness.NEVER if path == TIMESTAMP_PATH else Freshness.FOR_EVER,
                parse_sha256(digest) if digest else None,
            )
    return None
