"""docs/port-watch.md says of each reason what the code says."""

import re
from pathlib import Path

from fleetward.core import ports
from fleetward.core.ports import REASON_IDS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "port-watch.md"


def rows(text: str, pattern: str) -> dict[str, str]:
    return dict(re.findall(pattern, text, re.MULTILINE))


def test_every_reason_has_its_row_with_the_weight_of_the_table() -> None:
    shown = rows(PAGE.read_text(), r"^\| `([a-z-]+)` \| ([a-z ]+) \|")
    table = rows(ports.__doc__ or "", r"^    ([a-z-]+) {2,}(as it says|[a-z]+) {2,}\S")
    assert shown.keys() == REASON_IDS
    assert shown == {name: table[name] for name in shown}
