"""`fleetward ports inspect FILE`: what a capture shows of a port."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import SystemDisk
from fleetward.cli.output import byte_bars, people, print_json, remarks
from fleetward.core.portclass import SYMANTEC_PORTS
from fleetward.core.portrules import Verdict
from fleetward.errors import ConfigurationError
from fleetward.portwatch.grouping import rows_of
from fleetward.portwatch.inspecting import CountingStream, inspect_capture
from fleetward.portwatch.page import counted, note_text, report_page
from fleetward.portwatch.report import SCHEMA, CaptureReport
from fleetward.portwatch.svg import timeline_picture

_COLOURS = {Verdict.SUSPICIOUS: "red", Verdict.UNKNOWN: "yellow", Verdict.EXPECTED: "green"}
_ROWS = 20
"""Of each table on a terminal; the documents have all."""


def inspect(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="pcap or pcapng; may be .gz or .zst.")
    ],
    port: Annotated[
        list[int] | None,
        typer.Option(
            "--port", min=1, max=65_535, help="Look for it; default 2967, 2968 and 38293."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="OUT", help="Write a report to be printed.")
    ] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="OUT", help="Write the timeline's picture.")
    ] = None,
) -> None:
    """Read a capture of any size: who opened what on a port, what it was, and what is suspicious.

    Exits 1 when something suspicious was seen, else 0. Nothing is sent anywhere.

    Example: fleetward ports inspect border.pcapng.zst --html border.html
    """
    report = _read(file, frozenset(port) if port else SYMANTEC_PORTS)
    if html is not None:
        write_file(SystemDisk(), html.absolute(), report_page(report).encode())
    if svg is not None:
        picture = timeline_picture(report.timeline, report.bin_seconds)
        write_file(SystemDisk(), svg.absolute(), picture.encode())
    if json:
        print_json(SCHEMA, report)
    else:
        _show(report)
    if report.verdict is Verdict.SUSPICIOUS:
        raise typer.Exit(1)


def _read(file: Path, ports: frozenset[int]) -> CaptureReport:
    try:
        with file.open("rb") as stream, byte_bars() as bars:
            total = file.stat().st_size
            counted = CountingStream(stream, lambda done: bars(file.name, done, total))
            return inspect_capture(counted, file.name, ports)
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error


def _show(report: CaptureReport) -> None:
    colour = _COLOURS[report.verdict]
    ports = ", ".join(map(str, report.ports))
    people.print(
        f"[bold {colour}]{report.verdict.value}[/]: {counted(report.flows, 'flow')} with "
        f"{counted(report.packets_on_ports, 'packet')} on {ports}, of {report.packets:,} in the file"
    )
    for note, count in report.notes.items():
        remarks.print(f"[yellow]note:[/] {escape(note_text(note, count))}", soft_wrap=True)
    for one in report.findings:
        sources = ", ".join(one.from_addresses)
        more = f" and {one.from_more:,} more" if one.from_more else ""
        people.print(
            f"\n[{_COLOURS[one.verdict]}]{one.verdict.value}[/] [bold]{one.id}[/] "
            f"({counted(one.flows, 'flow')}, from {sources}{more})\n  {escape(one.sentence)}\n"
            f"  [dim]next:[/] {escape(one.next_step)}",
            soft_wrap=True,
        )
    if report.conversations:
        people.print()
        people.print(_conversations(report))


def _conversations(report: CaptureReport) -> Table:
    rows = rows_of(report.conversations)
    rest = sum(one.flows for one in rows[_ROWS:]) + sum(report.more_flows.values())
    caption = f"and {rest:,} more flows; --json and --html show more" if rest else None
    table = Table(box=None, pad_edge=False, header_style="bold", caption=caption)
    for name in ("class", "from", "to", "flows", "packets", "first", "detail"):
        table.add_column(name, overflow="fold")
    for one in rows[:_ROWS]:
        table.add_row(
            f"[{_COLOURS[one.verdict]}]{one.kind.value}[/]",
            one.client,
            escape(one.target),
            f"{one.flows:,}",
            f"{one.packets:,}",
            f"{one.first:%Y-%m-%d %H:%M:%S}",
            escape(one.detail),
        )
    return table
