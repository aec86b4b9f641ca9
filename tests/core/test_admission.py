"""Which release a host takes up, refusal by refusal."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.admission import Choice, Refusal, Signed, choose
from fleetward.core.digest import Sha256
from fleetward.core.documents import Channel, Floor, Policy, RampStep, Revoked, Wave
from fleetward.core.names import ProductName
from fleetward.core.rollout import HostPlace, is_open_to
from support.samples import CHANNEL, CREATED, MANIFEST, PRODUCT, manifest, ref

HOST = HostPlace("h1")
OLD, NEW = manifest(1), MANIFEST
BOTH = {ref(OLD).manifest: OLD, ref(NEW).manifest: NEW}
NOBODY_YET = Policy(product=PRODUCT, ramp=(RampStep(age=3600, percent=100),))


def decide(
    channel: Channel = CHANNEL,
    signed: Signed | None = None,
    installed: Sha256 | None = None,
    age: timedelta = timedelta(),
) -> Choice:
    signed = signed or Signed(BOTH, Floor(product=PRODUCT, seq=0), Policy(product=PRODUCT))
    return choose(channel, signed, HOST, CREATED + age, installed)


def test_the_channels_release_is_taken() -> None:
    assert decide() == Choice(NEW)


def test_what_releases_does_not_sign_is_an_alarm_and_nothing_is_followed() -> None:
    floor, policy = Floor(product=PRODUCT, seq=0), Policy(product=PRODUCT)
    choice = decide(signed=Signed({ref(OLD).manifest: OLD}, floor, policy))
    assert choice.manifest is None
    assert choice.alarm is Refusal.NOT_SIGNED


@pytest.mark.parametrize(
    "other",
    [
        replace(NEW, seq=9),
        replace(NEW, release=OLD.release),
        replace(NEW, product=ProductName("other")),
    ],
)
def test_a_manifest_that_is_not_what_the_channel_names_is_an_alarm(other: object) -> None:
    floor, policy = Floor(product=PRODUCT, seq=0), Policy(product=PRODUCT)
    signed = Signed({ref(NEW).manifest: other}, floor, policy)  # type: ignore[dict-item]
    assert decide(signed=signed).alarm is Refusal.NOT_SIGNED


def test_under_the_floor_is_an_alarm() -> None:
    signed = Signed(BOTH, Floor(product=PRODUCT, seq=3), Policy(product=PRODUCT))
    assert decide(signed=signed).alarm is Refusal.UNDER_FLOOR


def test_a_revoked_release_gives_way_to_the_previous_one_without_alarm() -> None:
    revoked = Revoked(release=NEW.release, tree=NEW.tree.sha256)
    signed = Signed(
        BOTH, Floor(product=PRODUCT, seq=0, revoked=(revoked,)), Policy(product=PRODUCT)
    )
    choice = decide(signed=signed, installed=NEW.tree.sha256)
    assert choice == Choice(OLD, ((NEW.release, Refusal.REVOKED),))


def test_the_ramp_holds_back_until_the_release_is_old_enough() -> None:
    signed = Signed({ref(NEW).manifest: NEW}, Floor(product=PRODUCT, seq=0), NOBODY_YET)
    channel = replace(CHANNEL, previous=None)
    assert decide(channel, signed) == Choice(None, ((NEW.release, Refusal.RAMP),))
    assert decide(channel, signed, age=timedelta(hours=1)).manifest == NEW


def test_an_urgent_release_passes_the_ramp() -> None:
    urgent = replace(NEW, urgent=True)
    signed = Signed({ref(NEW).manifest: urgent}, Floor(product=PRODUCT, seq=0), NOBODY_YET)
    assert decide(signed=signed).manifest == urgent


def test_what_is_installed_already_stays_admitted() -> None:
    signed = Signed(BOTH, Floor(product=PRODUCT, seq=0), NOBODY_YET)
    assert decide(signed=signed, installed=NEW.tree.sha256).manifest == NEW


def test_outside_the_open_waves_the_previous_release_is_chosen() -> None:
    channel = replace(CHANNEL, plan="waves", waves=(Wave(percent=100),), open=0)
    assert decide(channel) == Choice(OLD, ((NEW.release, Refusal.WAVE),))
    assert decide(replace(channel, open=1)).manifest == NEW


def test_rings_open_by_name() -> None:
    channel = replace(CHANNEL, plan="waves", waves=(Wave(rings=("canary",)),), open=1)
    assert is_open_to(channel, HostPlace("h", {"canary"}))
    assert not is_open_to(channel, HostPlace("h", {"late"}))


@given(st.integers(min_value=0, max_value=10**6))
def test_places_are_spread_evenly_and_waves_only_widen(number: int) -> None:
    host = HostPlace(f"host {number}")
    assert 0 <= host.fraction("salt") < 1
    assert not host.is_within(0, "salt")
    assert host.is_within(100, "salt")
    if host.is_within(30, "salt"):
        assert host.is_within(60, "salt")


def test_about_a_tenth_of_hosts_is_in_the_first_ten_percent() -> None:
    inside = sum(HostPlace(f"h{n}").is_within(10, "salt") for n in range(5000))
    assert 400 < inside < 600
