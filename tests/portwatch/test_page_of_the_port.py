"""docs/port-2967.md says what the code does: classes, verdicts, limits, fields of documents."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from fleetward.core.portclass import FACTS, PREFIX_BYTES, SYMANTEC_PORTS, TrafficClass
from fleetward.listeners.sensor.limits import SENSOR
from fleetward.listeners.sensor.sightings import SensorReport, Sighting
from fleetward.portwatch.flows import Opened
from fleetward.portwatch.limits import CAPTURES, FAN_OUT_HOSTS
from fleetward.portwatch.report import CaptureReport, Finding

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "port-2967.md").read_text()
ONE_LINE = " ".join(PAGE.split())


def verdicts_of_page() -> dict[str, str]:
    found = {}
    for line in PAGE.splitlines():
        if match := re.match(r"\| (`[a-z`, -]+`) \| (suspicious|unknown|expected) \|", line):
            found.update(dict.fromkeys(re.findall(r"`([a-z-]+)`", match[1]), match[2]))
    return found


def test_the_table_has_every_class_with_its_verdict() -> None:
    told = verdicts_of_page()
    assert {kind.value: FACTS[kind].verdict.value for kind in TrafficClass}.items() <= told.items()
    assert set(told) - {kind.value for kind in TrafficClass} == {"fan-out", "contradiction"}


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ("fleetward.capture/1", CaptureReport),
        ("fleetward.sighting/1", Sighting),
        ("fleetward.sensor/1", SensorReport),
    ],
)
def test_the_fields_of_each_document_are_listed(schema: str, kind: type) -> None:
    start = PAGE.index(f"`{schema}`") + len(schema) + 2
    text = re.sub(r"\([^)]*\)", "", PAGE[start : PAGE.index("## Sources")])
    listed = re.findall(r"`([a-z_]+)`", text)
    wanted = [field.name for field in fields(kind)]
    assert [name for name in listed if name in wanted][: len(wanted)] == wanted


def test_findings_and_ways_of_opening_are_listed() -> None:
    for name in [field.name for field in fields(Finding)] + [way.value for way in Opened]:
        assert f"`{name}`" in PAGE


def test_the_limits_are_the_ones_in_force() -> None:
    for told in (
        f"{SENSOR.connections:,} connections at most",
        f"{SENSOR.per_second:,} events a second",
        f"at most {SENSOR.lines_per_second} a second",
        f"{SENSOR.patience.seconds} seconds of patience",
        f"{CAPTURES.flows:,} open flows",
        f"{CAPTURES.conversations} conversations of each class",
        f"{CAPTURES.sources:,} sources",
        f"at most {PREFIX_BYTES // 1024} KiB",
    ):
        assert told in ONE_LINE
    assert FAN_OUT_HOSTS == 10
    assert "asked ten hosts or more" in ONE_LINE
    assert all(str(port) in PAGE for port in SYMANTEC_PORTS)
