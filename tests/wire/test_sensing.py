"""The words of a sensor's events."""

from dataclasses import replace

import pytest

from fleetward.core.listeners import Transport
from fleetward.core.portclass import FACTS, TrafficClass
from fleetward.core.portsensing import Heard, Rest, Subject
from fleetward.core.status import EventKind, HostEvent
from fleetward.wire.sensing import sensor_event_of
from support.fakes import START


def heard(kind: TrafficClass = TrafficClass.NMAP_PROBE, detail: str = "by TCP") -> Heard:
    subject = Subject(transport=Transport.TCP, port=2967, kind=kind, network="10.1.2.0/24")
    return Heard(
        subject=subject, source="10.1.2.7", count=12, first=START, last=START, detail=detail
    )


def test_what_a_sensor_heard_as_an_event() -> None:
    kind, subject, detail = sensor_event_of(heard())
    assert kind is EventKind.SENSOR_HEARD
    assert subject == "tcp/2967 nmap-probe from 10.1.2.0/24"
    assert detail == "suspicious count=12 source=10.1.2.7 since=2026-11-24T02:00:00Z by TCP"


def test_without_a_detail_the_class_is_told_in_words() -> None:
    _, _, detail = sensor_event_of(heard(TrafficClass.NO_DATA, ""))
    assert detail.startswith("unknown count=12 ")
    assert detail.endswith("somebody knocked and sent nothing")


@pytest.mark.parametrize("kind", TrafficClass)
def test_every_class_makes_an_event_that_a_check_in_takes(kind: TrafficClass) -> None:
    """The sender chooses the longest detail; the words before it are ours, and stay whole."""
    subject = replace(heard(kind).subject, network="2001:0db8:ffff::/48", port=65_535)
    event_kind, about, detail = sensor_event_of(
        replace(heard(kind, "x y=z " * 30), subject=subject, count=10**12)
    )
    made = HostEvent(e=1, at=START, kind=event_kind, subject=about, detail=detail)
    assert made.detail.startswith(
        f"{FACTS[kind].verdict} count=1000000000000 source=10.1.2.7 since="
    )


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        (Rest(count=7), "7 more were not told one by one"),
        (Rest(count=7, suspicious=2), "7 more were not told one by one, 2 of them suspicious"),
    ],
)
def test_the_rest_is_one_line(rest: Rest, words: str) -> None:
    assert sensor_event_of(rest) == (EventKind.SENSOR_HEARD, "", words)
