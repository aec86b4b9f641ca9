"""The report of a capture as one HTML file: to be mailed, archived and printed.

Invariants: no script, nothing fetched (a content security policy in the page says so), and every
word that came from the network is escaped. Tables are as long as the report's, which are bounded.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from html import escape
from typing import Final

from fleetward.portwatch.grouping import Row, rows_of
from fleetward.portwatch.report import CaptureReport, Finding, Source
from fleetward.portwatch.svg import timeline_picture

_STYLE: Final = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #555; padding-bottom: .4rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #ddd;
  overflow-wrap: anywhere; }
th { border-bottom: 2px solid #888; }
td.n, th.n { text-align: right; white-space: nowrap; }
code { font: 13px/1.4 ui-monospace, monospace; }
.verdict { font-weight: 600; padding: .05rem .5rem; border: 1px solid currentColor;
  border-radius: .2rem; white-space: nowrap; }
.suspicious { color: #a3122a; } .unknown { color: #7a5000; } .expected { color: #24604a; }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; }
dt { color: #555; } dd { margin: 0; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } tr { break-inside: avoid; }
  thead { display: table-header-group; } .wide { overflow: visible; } }
"""


def report_page(report: CaptureReport) -> str:
    """Return the report as an HTML page."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            (
                '<meta http-equiv="Content-Security-Policy" '
                "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
            ),
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Port watch: {escape(report.file)}</title><style>{_STYLE}</style></head>",
            f"<body><main><h1>Port watch: {escape(report.file)}</h1>",
            *_overview(report),
            "<h2>When</h2>",
            timeline_picture(report.timeline, report.bin_seconds),
            "<h2>Findings</h2>",
            *_findings(report.findings),
            "<h2>Who asked whom</h2>",
            *_conversations(report),
            "<h2>Sources</h2>",
            *_sources(report),
            "</main></body></html>",
            "",
        ]
    )


def _overview(report: CaptureReport) -> Iterator[str]:
    ports = ", ".join(map(str, report.ports))
    links = ", ".join(f"{name} ({count:,})" for name, count in report.links.items()) or "none"
    rows = [
        ("Verdict", _verdict(report.verdict.value)),
        ("Ports", escape(ports)),
        (
            "In the file",
            f"{counted(report.packets, 'packet')}, {report.octets:,} bytes; {escape(links)}",
        ),
        (
            "On the ports",
            f"{counted(report.packets_on_ports, 'packet')} in {counted(report.flows, 'flow')}",
        ),
        ("Time", f"{_time(report.first)} to {_time(report.last)}"),
        *(("Note", escape(note_text(note, count))) for note, count in report.notes.items()),
    ]
    yield "<dl>"
    for name, value in rows:
        yield f"<dt>{name}</dt><dd>{value}</dd>"
    yield "</dl>"


def counted(count: int, what: str) -> str:
    """Return a number with its noun: 1 flow, 2 flows."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def note_text(note: str, count: int) -> str:
    """Return a note with how often it held, where that was more than once."""
    return note if count == 1 else f"{note} ({count:,} times)"


def _findings(findings: Iterable[Finding]) -> Iterator[str]:
    rows = [
        [
            _verdict(one.verdict.value),
            (
                f"<strong>{escape(one.id)}</strong>: {escape(one.sentence)}"
                f"<br>Next: {escape(one.next_step)}<br><small>By: {escape(one.source)}</small>"
            ),
            f"{one.flows:,}",
            escape(", ".join(one.from_addresses))
            + (f" and {one.from_more:,} more" if one.from_more else ""),
        ]
        for one in findings
    ]
    yield from _table("", ["Verdict", "What", "#Flows", "From"], rows, "Nothing on these ports.")


def _conversations(report: CaptureReport) -> Iterator[str]:
    rows = [_conversation(one) for one in rows_of(report.conversations)]
    more = sum(report.more_flows.values())
    caption = f"And {more:,} more flows that found no place in this table." if more else ""
    header = [
        "Class", "From", "To", "#Flows", "#Answered", "#Packets", "#Bytes", "First", "Detail",
    ]  # fmt: skip
    yield from _table(caption, header, rows, "None.")


def _conversation(one: Row) -> list[str]:
    return [
        f'<span class="{one.verdict.value}">{escape(one.kind.value)}</span>',
        escape(one.client),
        escape(one.target),
        f"{one.flows:,}",
        f"{one.answered:,}",
        f"{one.packets:,}",
        f"{one.octets:,}",
        _time(one.first),
        f"<code>{escape(one.detail)}</code>",
    ]


def _sources(report: CaptureReport) -> Iterator[str]:
    rows = [_source(one) for one in report.sources]
    more = report.more_source_flows
    caption = f"And {more:,} more flows of further sources." if more else ""
    header = ["Source", "#Flows", "#Without data", "#Servers", "Scan", "Classes"]
    yield from _table(caption, header, rows, "None.")


def _source(one: Source) -> list[str]:
    classes = ", ".join(f"{kind} {count:,}" for kind, count in sorted(one.classes.items()))
    return [
        escape(one.address),
        f"{one.flows:,}",
        f"{one.silent:,}",
        f"{one.servers:,}" if one.servers_are_all else f"over {one.servers:,}",
        '<span class="suspicious">yes</span>' if one.fans_out else "",
        escape(classes),
    ]


def _table(caption: str, header: list[str], rows: list[list[str]], absent: str) -> Iterator[str]:
    """Give a table; a header that begins with # is of a column of numbers."""
    if not rows:
        yield f"<p>{absent}</p>"
        return
    marks = [' class="n"' if name.startswith("#") else "" for name in header]
    yield '<div class="wide"><table>'
    if caption:
        yield f"<caption>{caption}</caption>"
    heads = (
        f'<th scope="col"{m}>{name.removeprefix("#")}</th>'
        for m, name in zip(marks, header, strict=True)
    )
    yield f"<thead><tr>{''.join(heads)}</tr></thead><tbody>"
    for row in rows:
        cells = (f"<td{m}>{cell}</td>" for m, cell in zip(marks, row, strict=True))
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table></div>"


def _verdict(verdict: str) -> str:
    return f'<span class="verdict {verdict}">{verdict}</span>'


def _time(when: datetime | None) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S}" if when else "never"
