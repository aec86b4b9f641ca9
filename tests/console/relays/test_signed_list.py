"""The fleet's signed list of relays, from a real origin to the rows that the console polls."""

from datetime import timedelta
from pathlib import Path

import pytest

from console.cast import add_site
from console.catalogue.repositories import Origin, following
from fleetward.console.relays.models import Listed, Relay
from fleetward.core.fleet import Relays, Site
from fleetward.origin.fleet import set_relays

pytestmark = pytest.mark.django_db

BERLIN = Site(name="berlin", subnets=("10.1.0.0/16",), relays=("http://a.example:2967",))


def listed() -> dict[str, str]:
    return dict(Relay.objects.values_list("name", "listed"))


def test_relays_that_the_fleet_s_keys_name_are_watched(tmp_path: Path) -> None:
    """Offline keys sign a relay in, and later out: it is asked no longer; its history stays."""
    berlin = add_site("berlin")
    with Origin(tmp_path / "origin") as origin, following(origin, tmp_path / "console") as console:
        origin.publish()
        console.round()
        assert listed() == {}
        set_relays(origin.again(), Relays(sites=(BERLIN,), default=("http://b.example:2967",)))
        console.round()
        assert listed() == dict.fromkeys(("a.example:2967", "b.example:2967"), Listed.SIGNED)
        assert Relay.objects.get(name="a.example:2967").site == berlin
        origin.clock.advance(timedelta(minutes=10))
        set_relays(origin.again(), Relays(sites=(BERLIN,)))
        console.round()
        assert listed() == {"a.example:2967": Listed.SIGNED, "b.example:2967": Listed.NOBODY}


def test_a_source_that_is_refused_takes_no_relay_out(tmp_path: Path) -> None:
    """Somebody serves an older copy of the repository, from before the relay was named."""
    with Origin(tmp_path / "origin") as origin, following(origin, tmp_path / "console") as console:
        origin.publish()
        before = origin.copied()
        set_relays(origin.again(), Relays(default=("http://b.example:2967",)))
        console.round()
        origin.serve(before)
        assert console.round().problem_kind == "trust"
        assert listed() == {"b.example:2967": Listed.SIGNED}
