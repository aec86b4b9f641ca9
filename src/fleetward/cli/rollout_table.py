"""`fleetward rollout …` for people: tables and sentences.

Whatever a host or a console says is stripped of what is not printable first.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from fleetward.cli.output import people

_STATES: Final = {"complete": "green", "halted": "bold red", "paused": "yellow"}
_STANDINGS: Final = ("confirmed", "trying", "failed", "silent", "vanished", "behind", "away")
_WRONG: Final = frozenset({"failed", "silent", "vanished"})
_MARKS: Final = {True: ("yes", "green"), False: ("no", "yellow"), None: ("-", "dim")}

Row = Mapping[str, Any]


def show_rollouts(found: Sequence[Row]) -> None:
    """Print rollouts, one a line."""
    if not found:
        _say("there are no rollouts")
        return
    table = _table("rollout", "release", "state", "open", "took it", "failed", "silent", "behind")
    for each in found:
        evidence = each["evidence"]
        table.add_row(
            _text(f"{each['product']}@{each['channel']}"),
            _text(each["release"]),
            Text(_printable(each["state"]), style=_STATES.get(each["state"], "")),
            _text(_open(each)),
            _text(f"{evidence['took']:,} of {evidence['hosts']:,}"),
            _count(evidence["failed"], is_wrong=True),
            _count(evidence["silent"] + evidence["vanished"], is_wrong=True),
            _count(evidence["behind"]),
        )
    people.print(table)


def show_rollout(found: Row, hosts: Sequence[Row]) -> None:
    """Print one rollout: sentences, its waves, the hosts that need a look."""
    head = f"{found['product']}@{found['channel']}: {found['release']}, {found['state']}"
    before = f", before it {found['previous']}" if found["previous"] else ""
    _say(f"{head}{before}", style="bold")
    for sentence in found["sentences"]:
        _say(sentence)
    people.print(_waves(found["waves"], is_now=found["plan"] == "now"))
    if hosts:
        people.print(_hosts(hosts))
    counted = found["counted"]
    _say(f"counted {_instant(counted)}" if counted else "not counted yet", style="dim")


def _waves(waves: Iterable[Row], *, is_now: bool) -> Table:
    table = _table("wave", "who", "open", "hosts", "took it", *_STANDINGS)
    for wave in waves:
        evidence = wave["evidence"]
        number = "all" if is_now else str(wave["number"] or "none")
        opened = f"since {_instant(wave['opened'])}" if wave["opened"] else "no"
        table.add_row(
            number,
            _text(_who(wave)),
            opened,
            f"{evidence['hosts']:,}",
            f"{evidence['took']:,}",
            *(_count(evidence[word], is_wrong=word in _WRONG) for word in _STANDINGS),
        )
    return table


def _hosts(hosts: Iterable[Row]) -> Table:
    table = _table("host", "record", "site", "wave", "stands", "seen", "its words")
    for host in hosts:
        table.add_row(
            _text(host["name"]),
            _text(host["record"]),
            _text(host["site"] or "-"),
            str(host["wave"] or "-"),
            Text(_printable(host["standing"]), style="red"),
            _instant(host["seen"]) if host["seen"] else "never",
            _text(host["reason"]),
        )
    return table


def show_explanation(found: Row) -> None:
    """Print why a host has a release, or does not."""
    _say(found["conclusion"], style="bold")
    table = _table("question", "holds", "answer")
    for step in found["steps"]:
        word, style = _MARKS[step["holds"]]
        table.add_row(_text(step["id"]), Text(word, style=style), _text(step["words"]))
    people.print(table)


def _open(rollout: Row) -> str:
    if rollout["plan"] == "now":
        return "to all"
    planned = sum(wave["number"] is not None for wave in rollout["waves"])
    return f"{rollout['open']} of {planned}"


def _who(wave: Row) -> str:
    if wave["number"] is None:
        return "hosts that no wave holds"
    rings = " ".join(f"ring {ring}" for ring in wave["rings"])
    share = f"{wave['percent']:g} %" if wave["percent"] else ""
    return ", ".join(part for part in (rings, share) if part) or "nobody"


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _count(number: int, *, is_wrong: bool = False) -> Text:
    style = "dim" if not number else "red" if is_wrong else ""
    return Text(f"{number:,}", style=style)


def _instant(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"


def _text(value: object) -> Text:
    return Text(_printable(str(value)))


def _say(line: str, style: str = "") -> None:
    people.print(Text(_printable(line), style=style), soft_wrap=True)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
