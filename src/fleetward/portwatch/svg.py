"""The timeline of a capture as one SVG picture: flows over time, by verdict.

Colours differ in lightness too, and each bar tells its numbers as text (`title`), so that the
picture can be read without colours, printed in grey, and read aloud.

Invariant: a picture of fixed size, of at most as many bars as the timeline has bins; no script, no
reference to anything outside of it.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape
from typing import Final

from fleetward.core.portclass import FACTS, TrafficClass
from fleetward.core.portrules import Verdict
from fleetward.portwatch.report import instant
from fleetward.portwatch.timeline import Bin

WIDTH: Final = 960
HEIGHT: Final = 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 34, 30
COLOURS: Final = {
    Verdict.SUSPICIOUS: "#a3122a",
    Verdict.UNKNOWN: "#d98e04",
    Verdict.EXPECTED: "#8fb8a8",
}
_TEXT: Final = 'font-family="system-ui,sans-serif" font-size="12" fill="#333"'


def timeline_picture(bins: Sequence[Bin], bin_seconds: float) -> str:
    """Return the picture as an `svg` element.

    Args:
        bins: from the first to the last, without gaps.
        bin_seconds: width of a bin.
    """
    most = max((sum(one.counts.values()) for one in bins), default=0)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'width="{WIDTH}" height="{HEIGHT}" aria-label="{escape(_told(bins, bin_seconds))}">'
        ),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        *_legend(),
        *_axes(bins, bin_seconds, most),
        *_bars(bins, most),
        "</svg>",
    ]
    return "\n".join(parts)


def bin_width_text(seconds: float) -> str:
    """Return the width of a bin for people."""
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"


def _told(bins: Sequence[Bin], bin_seconds: float) -> str:
    total = sum(sum(one.counts.values()) for one in bins)
    if not bins:
        return "no flows"
    span = f"from {_time(bins[0].start)} to {_time(bins[-1].start + bin_seconds)}"
    return f"{total:,} flows {span}, in steps of {bin_width_text(bin_seconds)}"


def _legend() -> Iterator[str]:
    left = _LEFT
    for verdict in (Verdict.SUSPICIOUS, Verdict.UNKNOWN, Verdict.EXPECTED):
        yield f'<rect x="{left}" y="10" width="12" height="12" fill="{COLOURS[verdict]}"/>'
        yield f'<text x="{left + 17}" y="20" {_TEXT}>{verdict.value}</text>'
        left += 110


def _axes(bins: Sequence[Bin], bin_seconds: float, most: int) -> Iterator[str]:
    floor, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    yield f'<path d="M{_LEFT} {_TOP}V{floor}H{right}" fill="none" stroke="#888"/>'
    yield f'<text x="{_LEFT - 6}" y="{_TOP + 10}" text-anchor="end" {_TEXT}>{most:,}</text>'
    yield f'<text x="{_LEFT - 6}" y="{floor}" text-anchor="end" {_TEXT}>0</text>'
    if bins:
        end = bins[-1].start + bin_seconds
        yield f'<text x="{_LEFT}" y="{HEIGHT - 10}" {_TEXT}>{_time(bins[0].start)}</text>'
        yield f'<text x="{right}" y="{HEIGHT - 10}" text-anchor="end" {_TEXT}>{_time(end)}</text>'
        middle = (f"one bar: {bin_width_text(bin_seconds)}", (_LEFT + right) / 2)
        yield f'<text x="{middle[1]}" y="{HEIGHT - 10}" text-anchor="middle" {_TEXT}>{middle[0]}</text>'


def _bars(bins: Sequence[Bin], most: int) -> Iterator[str]:
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(bins))
    width = max(0.5, min(step * 0.9, 24))
    scale = (HEIGHT - _TOP - _BOTTOM) / max(1, most)
    for number, one in enumerate(bins):
        if not one.counts:
            continue
        x, y = _LEFT + number * step, float(HEIGHT - _BOTTOM)
        told = ", ".join(f"{kind} {count:,}" for kind, count in sorted(one.counts.items()))
        yield f"<g><title>{escape(_time(one.start))}: {escape(told)}</title>"
        for verdict, count in _by_verdict(one):
            height = max(1.0, count * scale)
            y -= height
            yield (
                f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" '
                f'fill="{COLOURS[verdict]}"/>'
            )
        yield "</g>"


def _by_verdict(one: Bin) -> Iterator[tuple[Verdict, int]]:
    """Give the counts from the bottom of a bar to its top."""
    for verdict in (Verdict.SUSPICIOUS, Verdict.UNKNOWN, Verdict.EXPECTED):
        count = sum(n for k, n in one.counts.items() if FACTS[TrafficClass(k)].verdict is verdict)
        if count:
            yield verdict, count


def _time(seconds: float) -> str:
    when: datetime = instant(seconds)
    return f"{when:%Y-%m-%d %H:%M:%S}"
