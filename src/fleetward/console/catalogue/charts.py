"""Charts as SVG elements: pygal's geometry, the stylesheet's colours.

The content security policy allows no style and no script inside a page, so pygal's own are taken
out; `.chart` in console.css colours what is left, in both themes.
"""

from collections.abc import Sequence
from typing import Any, Final
from xml.etree import ElementTree as ET

from django.utils.safestring import SafeString, mark_safe

_SVG: Final = "{http://www.w3.org/2000/svg}"
_UNWANTED: Final = {"style", "script", "defs", "title", "desc"}


def size_chart(
    labels: Sequence[str], packs: Sequence[int], deltas: Sequence[int | None]
) -> SafeString:
    """Return a chart of the sizes of packs and smallest deltas, in bytes, on a logarithmic scale.

    Args:
        labels: the releases, the oldest first.
        packs: their packs' lengths.
        deltas: their smallest deltas' lengths; None where there is none.
    """
    import pygal  # noqa: PLC0415 (only pages with a chart need it)

    chart = pygal.Line(
        width=880,
        height=260,
        margin=8,
        margin_right=64,
        logarithmic=True,
        show_legend=False,
        show_x_guides=False,
        x_label_rotation=0,
        truncate_label=-1,
        x_labels_major_count=6 if len(labels) > 6 else None,
        show_minor_x_labels=len(labels) <= 6,
        value_formatter=_bytes,
        dots_size=4,
        js=[],
        disable_xml_declaration=True,
        explicit_size=False,
    )
    chart.x_labels = list(labels)
    sizes = [max(length, 1) for length in packs]
    smallest = [None if length is None else max(length, 1) for length in deltas]
    powers = _powers([*sizes, *(length for length in smallest if length is not None)])
    chart.range, chart.y_labels = (powers[0], powers[-1]), powers
    chart.add("Pack", sizes)
    chart.add("Smallest delta", smallest)
    return _bare(chart.render())


def _powers(sizes: Sequence[int]) -> list[int]:
    """Return the powers of ten from below the smallest size to above the greatest; two at least."""
    low = len(str(min(sizes))) - 1
    high = len(str(max(sizes) - 1)) if max(sizes) > 1 else 0
    return [10**power for power in range(low, max(high, low + 1) + 1)]


def _bare(drawn: str | bytes) -> SafeString:
    """Return a drawing without styles, scripts and names of its own."""
    root = ET.fromstring(drawn)  # noqa: S314 (pygal drew it just now, of numbers and names of releases)
    _strip(root)
    ET.register_namespace("", _SVG.strip("{}"))
    for attribute in ("id", "class"):
        root.attrib.pop(attribute, None)
    root.set("class", "chart")
    root.set("aria-hidden", "true")
    # ElementTree has escaped every text and attribute.
    return mark_safe(ET.tostring(root, encoding="unicode"))  # noqa: S308 (see above)


def _strip(element: Any) -> None:  # noqa: ANN401 (ElementTree's element)
    for attribute in [a for a in element.attrib if a == "style" or a.startswith("on")]:
        del element.attrib[attribute]
    for child in list(element):
        if str(child.tag).removeprefix(_SVG) in _UNWANTED or not isinstance(child.tag, str):
            element.remove(child)
        else:
            _strip(child)


_UNITS: Final = ((1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB"))


def _bytes(length: float) -> str:
    return in_bytes(round(length))


def in_bytes(length: int) -> str:
    """Return a length in bytes for people: `6.21 MB`."""
    for size, unit in _UNITS:
        if abs(length) >= size:
            return f"{length / size:.3g} {unit}"
    return f"{length} B"
