"""`GET /v1/watch?after=N`: the long poll by which news of a timestamp travel at once.

    200   the signed timestamp, whose claimed version is above N
    204   nothing new within the time of one poll: ask again
    400   N is missing or no version
    503   too many wait already: poll instead
    404, 405, 501   a server that has no long polls: poll instead

A 200 is a hint. Whoever gets it asks for the timestamp as ever, and believes what is verified.
"""

import enum
import re
from datetime import timedelta
from typing import Final

from fleetward.errors import DocumentError
from fleetward.wire.announcement import MAX_VERSION

WATCH_PATH: Final = "/v1/watch"

WATCH_TIME: Final = timedelta(seconds=60)
"""The longest that a server keeps a long poll without news."""

WATCH_DEADLINE: Final = timedelta(seconds=75)
"""How long whoever asks waits for the answer: the above, and a slow network."""

LEAST_QUIET: Final = timedelta(seconds=5)
"""An answer without news that comes sooner was no long poll; asking again at once would spin."""

_AFTER = re.compile(r"after=(0|[1-9][0-9]{0,18})")


class Heard(enum.Enum):
    """What came of one long poll, to whoever asked."""

    NEWS = "news"
    QUIET = "quiet"
    UNABLE = "unable"
    FAILED = "failed"


def watch_target(after: int) -> str:
    """Return the request target that waits for a timestamp above version `after`."""
    return f"{WATCH_PATH}?after={after}"


def parse_after(query: str) -> int:
    """Return N of `after=N`.

    Args:
        query: of the request, not decoded.

    Raises:
        DocumentError: anything else, or N of more than 63 bits.
    """
    match = _AFTER.fullmatch(query)
    if match is None or (after := int(match[1])) > MAX_VERSION:
        raise DocumentError(f"{query[:60]!r} is not after=N")
    return after
