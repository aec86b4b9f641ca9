"""`fleetward ports sense`: hear what is said to a port on which nothing should listen."""

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from fleetward.adapters.clock import SystemClock
from fleetward.cli.listening import parse_listen, print_listening
from fleetward.cli.output import people, print_json, remarks
from fleetward.core.portrules import Verdict
from fleetward.errors import ConfigurationError, UsageError
from fleetward.listeners.sensor.hearing import Closing, Manners, Sensor
from fleetward.listeners.sensor.limits import SENSOR
from fleetward.listeners.sensor.sightings import (
    SENSOR_SCHEMA,
    SIGHTING_SCHEMA,
    SensorReport,
    Sighting,
    Sightings,
)

_COLOURS = {Verdict.SUSPICIOUS: "red", Verdict.UNKNOWN: "yellow", Verdict.EXPECTED: "green"}
_ROWS = 40
"""On a terminal; the document has all."""


def sense(
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where; by TCP and UDP.")
    ] = "0.0.0.0:2967",
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0, help="End after so long; else by Ctrl-C.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print a JSON document per line, the sum at the end.")
    ] = False,
    close: Annotated[
        str,
        typer.Option(
            "--close",
            metavar="rst|fin|FILE",
            help="How connections end; a FILE of at most 1 KiB is sent first. Otherwise nothing is.",
        ),
    ] = "fin",
) -> None:
    """Hear what is said to port 2967 where nothing should listen; never answer.

    Not on a host that serves as a relay: the port is taken there. It reads at most 4 KiB of each
    connection, keeps at most 1,024 of them, and stays under 64 MiB whatever comes. Exits 1 when
    something suspicious came.

    Example: fleetward ports sense --listen 10.1.0.9:2967 --seconds 86400 --json
    """
    host, port = parse_listen(listen)
    clock = SystemClock()
    sightings = Sightings(_print_line if json else _remark, clock)
    sensor = Sensor(sightings, clock, _manners(close))
    try:
        bound = sensor.listen(host, port)
        at = f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"
        print_listening(f"tcp+udp://{at}")
        began = clock.now()
        with _stopped_by_signals(sensor):
            sensor.run(None if seconds is None else timedelta(seconds=seconds))
        report = sightings.report(at, began, clock.now())
        _show(report, json=json)
    except BrokenPipeError:
        # Who read the lines has gone; what is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    finally:
        sensor.close()
    if report.verdict is Verdict.SUSPICIOUS:
        raise typer.Exit(1)


@contextmanager
def _stopped_by_signals(sensor: Sensor) -> Generator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: sensor.stop()) for number in numbers]
    try:
        yield
    finally:
        for number, former in zip(numbers, before, strict=True):
            signal.signal(number, former)


def _manners(close: str) -> Manners:
    if close in (Closing.FIN, Closing.RST):
        return Manners(Closing(close))
    try:
        with Path(close).open("rb") as file:
            banner = file.read(SENSOR.banner_bytes + 1)
    except OSError as error:
        raise ConfigurationError(
            f"--close takes rst, fin, or a file to send; cannot read {close}: {error.strerror}"
        ) from error
    if len(banner) > SENSOR.banner_bytes:
        raise UsageError(f"{close} is longer than {SENSOR.banner_bytes} bytes: send less")
    return Manners(Closing.FIN, banner)


def _print_line(sighting: Sighting) -> None:
    print_json(SIGHTING_SCHEMA, sighting)


def _remark(sighting: Sighting) -> None:
    source = f"[{sighting.source}]" if ":" in sighting.source else sighting.source
    remarks.print(
        f"{sighting.when:%H:%M:%S} [{_COLOURS[sighting.verdict]}]{sighting.kind.value}[/] "
        f"{escape(f'{source}:{sighting.source_port}/{sighting.transport}')} "
        f"{escape(sighting.detail)}",
        soft_wrap=True,
    )


def _show(report: SensorReport, *, json: bool) -> None:
    if json:
        print_json(SENSOR_SCHEMA, report)
        return
    colour = _COLOURS[report.verdict]
    people.print(
        f"[bold {colour}]{report.verdict.value}[/]: {report.seen:,} connections and datagrams on "
        f"{escape(report.listening)}"
    )
    if report.rows:
        people.print(_table(report))
    sys.stdout.flush()


def _table(report: SensorReport) -> Table:
    rest = sum(row.count for row in report.rows[_ROWS:]) + sum(report.more.values())
    caption = f"and {rest:,} more sightings" if rest else None
    table = Table(box=None, pad_edge=False, header_style="bold", caption=caption)
    for name in ("class", "from", "count", "first", "last", "detail"):
        table.add_column(name, overflow="fold")
    for row in report.rows[:_ROWS]:
        table.add_row(
            f"[{_COLOURS[row.verdict]}]{row.kind.value}[/]",
            f"{row.source} ({row.transport.value})",
            f"{row.count:,}",
            f"{row.first:%Y-%m-%d %H:%M:%S}",
            f"{row.last:%Y-%m-%d %H:%M:%S}",
            escape(row.detail),
        )
    return table
