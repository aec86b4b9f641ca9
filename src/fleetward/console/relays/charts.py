"""Charts as SVG of our own: no script, no inline style (the policy forbids both), themed by classes.

Every chart has a sentence for who cannot see it. Words beside a chart are HTML, so that they keep
their size on a narrow screen; the drawing alone is stretched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

_WIDTH: Final = 100.0
_HEIGHT: Final = 24.0
_PLOT: Final = 100.0
_HIDDEN: Final = mark_safe('aria-hidden="true" focusable="false"')


def sparkline(values: Sequence[float | None], label: str, *, tone: str = "") -> SafeString:
    """Return a small curve of values, the newest at the right; gaps where a value is None.

    Args:
        values: in their order.
        label: what it shows, for who cannot see it.
        tone: a class: `good`, `warn`, `bad`; empty for the accent.
    """
    known = [value for value in values if value is not None]
    greatest = max(known, default=0.0) or 1.0
    step = _WIDTH / max(1, len(values) - 1)
    line = " ".join(_pieces(values, step, greatest))
    return format_html(
        '<svg class="spark {}" viewBox="0 0 100 26" preserveAspectRatio="none" role="img" '
        'aria-label="{}"><path class="spark-ground" d="M0 25H100"/>'
        '<path class="spark-line" d="{}"/></svg>',
        tone,
        label,
        line,
    )


def _pieces(values: Sequence[float | None], step: float, greatest: float) -> list[str]:
    pieces, begins = [], True
    for place, value in enumerate(values):
        if value is None:
            begins = True
            continue
        y = 1.0 + _HEIGHT * (1.0 - value / greatest)
        pieces.append(f"{'M' if begins else 'L'}{place * step:.2f} {y:.2f}")
        # A point between two gaps is drawn as a dot.
        is_alone = begins and (place + 1 == len(values) or values[place + 1] is None)
        if is_alone:
            pieces.append(f"L{place * step + 0.6:.2f} {y:.2f}")
        begins = False
    return pieces


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a bar.

    Attributes:
        count: how much.
        word: what.
        tone: a class, as `current`.
    """

    count: int
    word: str
    tone: str


def bar(pieces: Sequence[Piece], label: str) -> SafeString:
    """Return a bar of parts, as wide as the page gives it; a part that is there is seen.

    Args:
        pieces: in their order.
        label: what it shows, for who cannot see it; empty where the words beside it say so.
    """
    seen = [piece for piece in pieces if piece.count > 0]
    widths = _widths([piece.count for piece in seen])
    places = [sum(widths[:index]) for index in range(len(widths))]
    parts = format_html_join(
        "",
        '<rect class="tone-{}" x="{}" y="0" width="{}" height="10"><title>{}: {}</title></rect>',
        (
            (piece.tone, f"{x:.3f}", f"{width:.3f}", piece.word, f"{piece.count:,}")
            for piece, x, width in zip(seen, places, widths, strict=True)
        ),
    )
    described = format_html('role="img" aria-label="{}"', label) if label else _HIDDEN
    return format_html(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" {}>{}</svg>',
        described,
        parts,
    )


def _widths(counts: Sequence[int]) -> list[float]:
    """Return shares of 100; a small one is at least 0.6, so that one host in 50,000 is seen."""
    total = sum(counts) or 1
    raised = [max(0.6, 100 * count / total) for count in counts]
    scale = 100 / (sum(raised) or 1)
    return [width * scale for width in raised]


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve of shares over time.

    Attributes:
        points: (0 to 1 from left to right, 0 to 1 from the bottom up), in their order.
        tone: a class, as `first`.
    """

    points: tuple[tuple[float, float], ...]
    tone: str


def curves(rows: Sequence[Curve], label: str, marks: Sequence[float] = ()) -> SafeString:
    """Return curves over a common ground; `marks` are heights of lines across, from 0 to 1."""
    lines = format_html_join(
        "", '<path class="curve-mark" d="M0 {}H100"/>', ((f"{_y(mark):.2f}",) for mark in marks)
    )
    drawn = format_html_join(
        "", '<path class="curve {}" d="{}"/>', ((row.tone, _steps(row)) for row in rows)
    )
    return format_html(
        '<svg class="plot" viewBox="0 0 100 100" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}{}</svg>',
        label,
        lines,
        drawn,
    )


def _y(height: float) -> float:
    return _PLOT * (1.0 - height)


def _steps(row: Curve) -> str:
    return " ".join(
        f"{'L' if index else 'M'}{_PLOT * x:.2f} {_y(y):.2f}"
        for index, (x, y) in enumerate(row.points)
    )
