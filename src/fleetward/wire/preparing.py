"""Types made ready for decoding, one at a time.

msgspec (0.22) looks at a dataclass when the first document of it is decoded, and keeps what it found
on the class before it is whole; a second thread that decodes the same class at that moment reads what
is not there and the process ends with SIGSEGV. An agent decodes its settings in several threads as
soon as it starts. So whoever decodes says `prepared(kind)`, which waits for the first look.
"""

import threading
from typing import TypeVar

import msgspec

_Kind = TypeVar("_Kind")

_LOCK = threading.RLock()
_READY: set[object] = set()


def prepared(kind: type[_Kind]) -> type[_Kind]:
    """Return `kind` once everything that decoding it needs is known; from any thread."""
    if kind not in _READY:
        with _LOCK:
            msgspec.json.Decoder(kind)
            _READY.add(kind)
    return kind
