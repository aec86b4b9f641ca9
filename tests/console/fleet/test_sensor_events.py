"""What people see of a host's sensor: a line in its history, safe to read whatever was sent."""

from datetime import timedelta

import pytest

from console.cast import add_person, signed_in
from console.hosts import add_host, bring, check_in
from fleetward.agent.noticing import Happening, happening
from fleetward.console.permissions import Role
from fleetward.core.listeners import Transport
from fleetward.core.portclass import TrafficClass
from fleetward.core.portsensing import Heard, Rest, Subject, Telling
from fleetward.wire.sensing import sensor_event_of
from support.fakes import START

pytestmark = pytest.mark.django_db


def told(telling: Telling) -> Happening:
    kind, subject, detail = sensor_event_of(telling)
    return happening(START, kind, subject=subject, detail=detail)


def test_a_sensors_event_is_a_line_of_the_hosts_history() -> None:
    subject = Subject(
        transport=Transport.TCP, port=2967, kind=TrafficClass.HTTP, network="10.1.2.0/24"
    )
    heard = Heard(
        subject=subject, source="10.1.2.7", count=12, first=START, last=START,
        detail="GET /<script>alert(1)</script> HTTP/1.1",
    )  # fmt: skip
    add_host()
    events = (told(heard).numbered(1), told(Rest(count=7, suspicious=2)).numbered(2))
    bring(check_in(n=1, events=events), at=START + timedelta(minutes=2))
    browser = signed_in(add_person("olga", Role.OPERATOR))
    text = browser.get(f"/hosts/{0:016x}/").content.decode()
    for words in (
        "sensor-heard",
        "tcp/2967 http from 10.1.2.0/24",
        "unknown count=12 source=10.1.2.7",
        "7 more were not told one by one, 2 of them suspicious",
        "&lt;script&gt;alert(1)",
    ):
        assert words in text
    assert "<script>alert" not in text
