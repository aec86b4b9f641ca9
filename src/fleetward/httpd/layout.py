"""Which paths a repository has (DESIGN, "Trust"), and what each may be cached for (pure).

Names are `[a-z0-9._-]` and begin with a letter or digit, so hidden and half-written files, and
everything that a path could escape by, are no paths of a repository.
"""

import enum
import re
from dataclasses import dataclass
from functools import lru_cache

from fleetward.core.digest import Sha256

_NAME = r"[a-z0-9][a-z0-9._-]*"
_TIMESTAMP = "/metadata/timestamp.json"
_METADATA = re.compile(rf"/metadata/[1-9][0-9]{{0,15}}\.{_NAME}\.json")
_TARGET = re.compile(rf"/targets/(?:{_NAME}/){{1,4}}([0-9a-f]{{64}})\.{_NAME}")
_BLOB = re.compile(r"/blobs/sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})")


class Kind(enum.Enum):
    """What a path of a repository names."""

    TIMESTAMP = "timestamp"
    METADATA = "metadata"
    TARGET = "target"
    BLOB = "blob"

    @property
    def cache_control(self) -> str:
        """Return how long HTTP caches may keep it."""
        if self is Kind.TIMESTAMP:
            return "no-store"
        return "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class RepositoryPath:
    """A path that a repository may have.

    Attributes:
        kind: what it names.
        path: absolute, as in the URL; safe as a relative file name.
        digest: of its content, where the name says it.
    """

    kind: Kind
    path: str
    digest: Sha256 | None = None


@lru_cache(maxsize=4096)
def parse_path(path: str) -> RepositoryPath | None:
    """Return what `path` (decoded, normalised) names, or None where no repository has it."""
    if path == _TIMESTAMP:
        return RepositoryPath(Kind.TIMESTAMP, path)
    blob = _BLOB.fullmatch(path)
    if blob:
        return RepositoryPath(Kind.BLOB, path, Sha256(blob[2]))
    target = _TARGET.fullmatch(path)
    if target:
        return RepositoryPath(Kind.TARGET, path, Sha256(target[1]))
    if _METADATA.fullmatch(path):
        return RepositoryPath(Kind.METADATA, path)
    return None


def blob_path(digest: Sha256) -> str:
    """Return the path of a blob, absolute."""
    return f"/blobs/sha256/{digest[:2]}/{digest}"
