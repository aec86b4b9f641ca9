"""Counts over time in a bounded number of bins, whatever span of time comes.

Bins begin at one second; when there would be too many, neighbours become one and the width
doubles. So a capture of a minute and one of a year give a picture of the same size.

Deliberately not here: drawing (portwatch.svg).
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_NARROWEST = 1.0
_EARLIEST, _LATEST = 0.0, 2.0**34
"""Instants outside (1970 to 2514) are damage: they count at the edge."""


@dataclass(frozen=True, slots=True)
class Bin:
    """What began within a span of time.

    Attributes:
        start: seconds since 1970.
        counts: by name.
    """

    start: float
    counts: dict[str, int]


class Timeline:
    """Counts what began when.

    Args:
        max_bins: at least 2.

    Attributes:
        width: of a bin, in seconds; a power of two.
    """

    def __init__(self, max_bins: int) -> None:
        self.width = _NARROWEST
        self._max_bins = max_bins
        self._bins: dict[int, Counter[str]] = {}
        self._low = self._high = 0

    def add(self, when: float, name: str) -> None:
        """Count one thing that began at `when`, seconds since 1970."""
        when = min(max(when, _EARLIEST), _LATEST) if math.isfinite(when) else _EARLIEST
        place = int(when // self.width)
        if not self._bins:
            self._low = self._high = place
        self._low, self._high = min(self._low, place), max(self._high, place)
        while self._high - self._low >= self._max_bins:
            self._widen()
            place //= 2
        self._bins.setdefault(place, Counter())[name] += 1

    def bins(self) -> Iterator[Bin]:
        """Give all bins from the first to the last, empty ones too."""
        if self._bins:
            for place in range(self._low, self._high + 1):
                yield Bin(place * self.width, dict(self._bins.get(place, {})))

    def _widen(self) -> None:
        self.width *= 2
        wider: dict[int, Counter[str]] = {}
        for place, counts in self._bins.items():
            wider.setdefault(place // 2, Counter()).update(counts)
        self._bins = wider
        self._low, self._high = self._low // 2, self._high // 2
