"""`ports show` for people: a table, then the reasons and what to do about them.

Everything that a program chooses (its name, its path, its arguments) is stripped of what is not
printable first: a listener must not be able to write on the operator's terminal.
"""

from collections import Counter
from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from fleetward.cli.output import people
from fleetward.core.listeners import FileState, Owner
from fleetward.core.portrules import Verdict
from fleetward.core.ports import Weight
from fleetward.wire.ports import ListenerRow, PortsDocument

_STYLES = {Verdict.EXPECTED: "green", Verdict.UNKNOWN: "yellow", Verdict.SUSPICIOUS: "bold red"}
_BRIEF_ROWS = 12
"""Tables up to this length explain every verdict; longer ones the suspicious alone."""


def show_people(document: PortsDocument) -> None:
    """Print a document of `ports show` for people."""
    asked = ", ".join(map(str, document.ports)) or "any port"
    if not document.listeners:
        _say(f"nothing listens on {asked}")
    else:
        people.print(_table(document.listeners))
        for row in _explained(document.listeners):
            _explain(row)
    for line in document.registry:
        _say(f"port {line}")
    for unseen in document.unseen:
        advice = f"; to see it: {unseen.command}" if unseen.command else ""
        _say(f"not seen: {unseen.what}{advice}")


def _say(line: str, style: str = "") -> None:
    people.print(Text(printable(line), style=style), soft_wrap=True)


def printable(text: str) -> str:
    """Return a text without control characters and terminal escapes."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _table(rows: Iterable[ListenerRow]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("verdict", "listener", "program", "user", "unit"):
        table.add_column(name, overflow="fold")
    counted = Counter(_cells(row) for row in rows)
    for (verdict, *cells), count in counted.items():
        cells[0] += f" x{count}" if count > 1 else ""
        style = _STYLES[Verdict(verdict)]
        table.add_row(Text(verdict, style=style), *(Text(printable(cell)) for cell in cells))
    return table


def _cells(row: ListenerRow) -> tuple[str, ...]:
    owner = _serving(row)
    return (
        row.verdict.value,
        place_of(row),
        _program(row, owner),
        row.user,
        row.unit or _unit(owner),
    )


def _unit(owner: Owner | None) -> str:
    return owner.unit if owner else ""


def _serving(row: ListenerRow) -> Owner | None:
    others = [owner for owner in row.owners if owner.pid != 1]
    return next(iter(others or row.owners), None)


def place_of(row: ListenerRow) -> str:
    """Return where a row listens, as people write it."""
    address = f"[{row.address}]" if ":" in row.address else row.address
    where = "" if row.in_own_namespace else f" ({row.container or f'namespace {row.namespace}'})"
    return f"{row.protocol} {address}:{row.port}{where}"


def _program(row: ListenerRow, owner: Owner | None) -> str:
    if owner is None:
        return "?"
    more = f" and {len(row.owners) - 1} more" if len(row.owners) > 1 else ""
    script = f" {owner.script.name}" if owner.script and owner.script.name else ""
    return f"{owner.name}{script} ({owner.pid}{more})"


def _explained(rows: tuple[ListenerRow, ...]) -> list[ListenerRow]:
    if len(rows) <= _BRIEF_ROWS:
        return list(rows)
    return [row for row in rows if row.verdict is Verdict.SUSPICIOUS]


def _explain(row: ListenerRow) -> None:
    people.print()
    _say(f"{place_of(row)}: {row.verdict.value}", _STYLES[row.verdict])
    for owner in row.owners[:3]:
        _describe(owner)
    for reason in row.reasons:
        mark = "  " if reason.weight is Weight.NOTE else "! " if _is_bad(reason.weight) else "+ "
        _say(f"  {mark}{reason.sentence} [{reason.id}]")
        if reason.next_step and reason.weight is not Weight.NOTE:
            _say(f"      {reason.next_step}")


def _is_bad(weight: Weight) -> bool:
    return weight in {Weight.UNKNOWN, Weight.SUSPICIOUS}


def _describe(owner: Owner) -> None:
    started = f", since {owner.started:%Y-%m-%d %H:%M:%S} UTC" if owner.started else ""
    parent = f", started by {owner.parent.name} ({owner.parent.pid})" if owner.parent else ""
    _say(f"    {owner.name} ({owner.pid}), user {owner.user or '?'}{parent}{started}")
    if owner.command:
        _say(f"      runs {' '.join(owner.command)}")
    file = owner.executable
    if file is None:
        return
    state = "" if file.state is FileState.PRESENT else f" ({file.state.value})"
    _say(f"      from {file.path}{state}, sha256 {file.sha256 or 'unknown'}")
    if file.package:
        intact = {True: "intact", False: "ALTERED", None: "no digest kept"}[file.package.intact]
        _say(f"      of the package {file.package.name}, {intact}")
