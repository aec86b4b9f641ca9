"""Old rows go in small pieces: each is a short transaction, so that ingest never waits long.

Deliberately not here: what is old (`[history]` in the settings), pauses between pieces (the caller).
"""

from typing import Any, Final

from django.db import transaction
from django.db.models import QuerySet

PIECE: Final = 500
"""Rows deleted in one transaction."""


def prune(old: QuerySet[Any, Any]) -> int:
    """Delete one piece of rows, the first of `old` in its order; return how many went.

    Args:
        old: rows that may go; ordered by a column with an index.
    """
    pks = list(old.values_list("pk", flat=True)[:PIECE])
    if not pks:
        return 0
    with transaction.atomic():
        old.model._default_manager.filter(pk__in=pks).delete()  # noqa: SLF001 (Django's name for it)
    return len(pks)


def is_piece(count: int) -> bool:
    """Return whether `prune` took a whole piece, so that there may be more."""
    return count >= PIECE


def prune_all(old: QuerySet[Any, Any]) -> int:
    """Delete all of `old`, piece by piece without a pause; return how many rows went."""
    total = count = prune(old)
    while is_piece(count):
        count = prune(old)
        total += count
    return total
