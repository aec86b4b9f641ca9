"""How inboxes are numbered; no database."""

from datetime import UTC, datetime, timedelta
from typing import Final

_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


def next_inbox(seq: int, now: datetime) -> int:
    """Return the number of the next inbox: the time in milliseconds, or one more than the last.

    So it rises even where the console was restored from a backup.
    """
    return max(seq + 1, (now - _START) // timedelta(milliseconds=1))
