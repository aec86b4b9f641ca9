"""A host that says it leaves is decommissioned, however often and in whatever order it says so."""

from datetime import timedelta

import pytest

from console.hosts import MINUTE, add_host, bring, check_in, stored_events
from fleetward.console.fleet.models import Event, Host
from fleetward.console.fleet.standings import HostStanding
from fleetward.console.ingest.rows import Verdict
from fleetward.core.status import EventKind, HostEvent
from support.fakes import START

pytestmark = pytest.mark.django_db


def leaves(n: int, e: int = 1) -> bytes:
    """A check-in with which a host says that it leaves."""
    gone = HostEvent(e=e, at=START, kind=EventKind.LEFT)
    return check_in(n=n, events=(gone,))


def standing() -> tuple[str, timedelta]:
    """Where the one host stands, and since when after the start."""
    host = Host.objects.get()
    return host.standing, host.standing_since - START


def test_a_host_that_leaves_is_decommissioned_and_its_event_kept() -> None:
    add_host()
    bring(check_in(n=1), at=START + MINUTE)
    assert bring(leaves(2), at=START + 2 * MINUTE) == [Verdict.STORED]
    assert standing() == (HostStanding.RETIRED, 2 * MINUTE)
    assert [event.kind for event in Event.objects.all()] == [EventKind.LEFT]


def test_saying_it_again_while_the_acknowledgement_is_on_its_way_brings_it_not_back() -> None:
    """Each report that the host makes while it waits carries the event again."""
    add_host()
    for n in range(1, 5):
        bring(leaves(n), at=START + n * MINUTE)
    assert standing() == (HostStanding.RETIRED, MINUTE)
    assert len(stored_events()) == 1


def test_a_late_check_in_from_before_it_left_brings_it_not_back() -> None:
    """A relay carries an older datagram after the newer one."""
    add_host()
    bring(leaves(9), at=START + MINUTE)
    bring(check_in(n=8), at=START + 2 * MINUTE)
    assert standing()[0] == HostStanding.RETIRED


def test_a_host_that_changed_its_mind_is_back() -> None:
    add_host()
    bring(leaves(1), at=START + MINUTE)
    bring(check_in(n=2), at=START + 2 * MINUTE)
    assert standing() == (HostStanding.ACTIVE, 2 * MINUTE)


@pytest.mark.parametrize(
    ("said", "ends"),
    [
        ((check_in(n=1), leaves(2)), HostStanding.RETIRED),
        ((check_in(n=1), leaves(2), check_in(n=3)), HostStanding.ACTIVE),
        ((leaves(1), check_in(n=2), leaves(3, e=2)), HostStanding.RETIRED),
    ],
    ids=["left", "back", "left again"],
)
def test_several_in_one_batch_end_as_said_last(said: tuple[bytes, ...], ends: str) -> None:
    add_host()
    bring(*said, at=START + MINUTE)
    assert standing()[0] == ends


def test_a_revoked_host_stays_revoked() -> None:
    host = add_host()
    host.standing = HostStanding.REVOKED
    host.save()
    bring(leaves(1), at=START + MINUTE)
    assert standing()[0] == HostStanding.REVOKED
