"""The words of a sensor's events: for people, in the form of the port watch's.

    subject    `tcp/2967 nmap-probe from 10.1.2.0/24`
    detail     `suspicious count=12 source=10.1.2.7 since=2026-11-24T02:00:00Z by TCP`

What the sender chose comes last, and what does not fit is cut at its end.

Deliberately not here: what is an event (core.portsensing); the port watch's (wire.ports), which an
agent without a sensor has alone.
"""

from fleetward.core.limits import STATUS
from fleetward.core.portclass import FACTS
from fleetward.core.portsensing import Rest, Telling
from fleetward.core.status import EventKind


def sensor_event_of(telling: Telling) -> tuple[EventKind, str, str]:
    """Return kind, subject and detail of the event that tells what a sensor heard."""
    if isinstance(telling, Rest):
        bad = f", {telling.suspicious} of them suspicious" if telling.suspicious else ""
        return EventKind.SENSOR_HEARD, "", f"{telling.count} more were not told one by one{bad}"
    subject, fact = telling.subject, FACTS[telling.subject.kind]
    about = f"{subject.transport}/{subject.port} {subject.kind} from {subject.network}"
    words = (
        f"{fact.verdict} count={telling.count} source={telling.source} "
        f"since={telling.first:%Y-%m-%dT%H:%M:%SZ} {telling.detail or fact.sentence}"
    )
    return EventKind.SENSOR_HEARD, about, words[: STATUS.text_chars]
