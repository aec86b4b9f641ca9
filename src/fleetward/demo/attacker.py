"""A relay in hostile hands: it has the repository's files, and serves what it likes of them.

It cannot sign, so it alters blobs, or replays a timestamp that was true once.
"""

from enum import Enum
from pathlib import Path

from fleetward.httpd.files import path_of
from fleetward.httpd.message import NOT_FOUND, Answer, Request, Response
from fleetward.wire.layout import TIMESTAMP_PATH


class Attack(Enum):
    """What the attacker does."""

    ALTERS_BLOBS = "serves an altered blob"
    REPLAYS_TIMESTAMP = "serves an old timestamp"


class Attacker:
    """An `httpd` handler that serves a repository's files dishonestly."""

    def __init__(self, repository: Path, attack: Attack, timestamp: bytes) -> None:
        self._repository = repository
        self._attack = attack
        self._timestamp = timestamp

    def max_body(self, method: str, path: str) -> int:
        """Take no bodies."""
        return 0

    def answer(self, request: Request) -> Answer:
        """Return a file, altered or old."""
        path = path_of(request.path)
        if path is None:
            return NOT_FOUND
        if path.path == TIMESTAMP_PATH and self._attack is Attack.REPLAYS_TIMESTAMP:
            return Response(200, body=self._timestamp)
        try:
            content = (self._repository / path.path).read_bytes()
        except FileNotFoundError:
            return NOT_FOUND
        if path.path.startswith("blobs/") and self._attack is Attack.ALTERS_BLOBS:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
        return Response(200, body=content)
