"""Counting a fleet: what the small rows say is what the hosts say."""

import random
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db.models import Sum

from console.cast import SetClock
from console.overview.generated import VERSION, Plan, generate
from fleetward.console.catalogue.models import Channel, Release
from fleetward.console.fleet.models import Host, Presence, ProductState, Transition
from fleetward.console.overview.counting import LONGEST, count, count_when_due
from fleetward.console.overview.deciding import PROTECTED, Freshness
from fleetward.console.overview.models import Arrival, Counted, Health, Tally
from fleetward.console.wiring import rewired
from support.fakes import START

pytestmark = pytest.mark.django_db

NOW = START


@pytest.fixture(autouse=True)
def _wired() -> Iterator[None]:
    with rewired(clock=SetClock(NOW)):
        yield


def counted(plan: Plan, seed: int = 1) -> None:
    generate(NOW, plan, seed)
    count(NOW, SetClock(NOW))


def total(freshness: Freshness, product: str = "yara") -> int:
    rows = Tally.objects.filter(product=product, freshness=freshness.value)
    return rows.aggregate(n=Sum("hosts"))["n"] or 0


READ = 100
"""The greatest sequence number that `generate` writes."""


def test_every_host_with_a_product_is_counted_once() -> None:
    counted(Plan(hosts=160, minutes=()))
    sums = Tally.objects.values("product").annotate(n=Sum("hosts"))
    assert {row["product"]: row["n"] for row in sums} == dict.fromkeys(
        ("clamav", "suricata", "yara"), 160
    )
    assert Health.objects.aggregate(n=Sum("hosts"))["n"] == 160


@pytest.mark.parametrize("seed", range(2))
def test_hosts_at_risk_are_those_with_a_product_that_is_not_protected(seed: int) -> None:
    """Two ways of counting agree: by states in Python, and by hosts in the database.

    States are thrown about at random: every state, releases that no channel names, none at all.
    """
    generate(NOW, Plan(hosts=40, silent=0.2, frozen=0.3, unprotected=0.05, minutes=()), seed)
    dice = random.Random(seed)
    states = ("confirmed", "trial", "rolled-back", "rejected", "none", "staging", "unprotected")
    for row in ProductState.objects.all():
        if dice.random() < 0.4:
            row.state = dice.choice(states)
            row.release = dice.choice((row.release, "", "unheard-of"))
            row.channel = dice.choice(("stable", "nobody-s"))
            row.seq = dice.choice((row.seq, READ + 1))
            row.save()
    count(NOW, SetClock(NOW))
    protected = {word.value for word in PROTECTED}
    # The same rule, one host at a time: count a fleet of that host alone.
    records = list(Host.objects.values_list("pk", flat=True))
    at_risk = Health.objects.aggregate(n=Sum("at_risk"))["n"]
    alone = 0
    for pk in records:
        Host.objects.exclude(pk=pk).update(standing="retired")
        Host.objects.filter(pk=pk).update(standing="active")
        count(NOW, SetClock(NOW))
        has_bad = Tally.objects.exclude(freshness__in=protected).exists()
        alone += has_bad
        assert Health.objects.get().at_risk == has_bad
    assert alone == at_risk


def test_hosts_without_any_product_are_at_risk() -> None:
    counted(Plan(hosts=24, silent=0, frozen=0, behind=0, unprotected=0, minutes=()))
    host = Host.objects.first()
    assert host is not None
    ProductState.objects.filter(host=host).delete()
    count(NOW, SetClock(NOW))
    row = Health.objects.get(site=host.site)
    assert (row.bare, row.at_risk) == (1, 1)


def test_standings_come_from_channels_silence_and_the_timestamp() -> None:
    counted(Plan(hosts=80, silent=0, frozen=0, behind=0, unprotected=0, minutes=()))
    assert total(Freshness.CURRENT, "clamav") == 80
    current, waiting = total(Freshness.CURRENT), total(Freshness.WAITING)
    assert current + waiting + total(Freshness.INSTALLING) == 80
    assert waiting > 0
    Channel.objects.filter(product__name="yara").update(open=4, state="complete")
    count(NOW, SetClock(NOW))
    assert (total(Freshness.WAITING), total(Freshness.BEHIND)) == (0, waiting)
    Channel.objects.filter(product__name="yara").update(state="reverting")
    count(NOW, SetClock(NOW))
    assert (total(Freshness.CURRENT), total(Freshness.WAITING)) == (waiting, current)
    Presence.objects.update(tuf_timestamp=VERSION - 4)
    count(NOW, SetClock(NOW))
    assert total(Freshness.FROZEN) == 80
    Presence.objects.update(tuf_timestamp=VERSION - 7 * 144 - 1)
    count(NOW, SetClock(NOW))
    assert total(Freshness.EXPIRED) == 80
    Presence.objects.update(seen=NOW - timedelta(hours=1))
    count(NOW, SetClock(NOW))
    assert total(Freshness.SILENT) == 80
    assert Health.objects.aggregate(n=Sum("silent"))["n"] == 80


def test_who_hears_of_a_release_before_this_console_is_not_behind() -> None:
    """A host takes a release up within seconds; the console reads it with its next poll."""
    counted(Plan(hosts=24, silent=0, frozen=0, behind=0, unprotected=0, minutes=()))
    clamav = ProductState.objects.filter(product="clamav")
    clamav.update(release="2026.12.01-1", seq=READ + 1)
    count(NOW, SetClock(NOW))
    assert total(Freshness.CURRENT, "clamav") == 24
    assert Health.objects.aggregate(n=Sum("at_risk"))["n"] == 0
    clamav.update(release="nobody-made-it", seq=READ)
    count(NOW, SetClock(NOW))
    assert total(Freshness.BEHIND, "clamav") == 24
    assert Health.objects.aggregate(n=Sum("at_risk"))["n"] == 24


def test_without_a_repository_the_newest_confirmed_release_counts() -> None:
    """A console that follows no repository still tells the current from those behind."""
    counted(Plan(hosts=60, silent=0, frozen=0, behind=0.3, unprotected=0, minutes=()))
    before = total(Freshness.BEHIND, "clamav")
    Channel.objects.all().delete()
    Release.objects.all().delete()
    count(NOW, SetClock(NOW))
    assert total(Freshness.BEHIND, "clamav") == before > 0
    assert not Arrival.objects.exists()


def test_a_host_arrives_with_a_release_once_at_its_first_confirmation() -> None:
    counted(Plan(hosts=40, silent=0, frozen=0, behind=0, unprotected=0, minutes=()))
    release = Release.objects.filter(product__name="clamav").order_by("-seq")[0]
    rows = Arrival.objects.filter(product="clamav", release=release.name)
    assert rows.aggregate(n=Sum("hosts"))["n"] == 40
    host = Host.objects.first()
    assert host is not None
    Transition.objects.create(
        host=host, at=NOW, product="clamav", release=release.name, state="confirmed"
    )
    count(NOW, SetClock(NOW))
    assert rows.aggregate(n=Sum("hosts"))["n"] == 40
    assert not rows.filter(minutes__gte=7 * 60).exists()


def test_curves_are_counted_anew_only_where_hosts_moved() -> None:
    counted(Plan(hosts=16, minutes=()))
    old = dict(Arrival.objects.values_list("pk", "hosts"))
    count(NOW, SetClock(NOW))
    assert dict(Arrival.objects.values_list("pk", "hosts")) == old


def test_only_the_last_releases_have_curves() -> None:
    counted(Plan(hosts=16, silent=0, behind=0, unprotected=0, minutes=()))
    assert Arrival.objects.values("product", "release").distinct().count() == 12
    newest = Release.objects.filter(product__name="yara").order_by("-seq")[0]
    Release.objects.filter(pk=newest.pk).update(listed=False)
    count(NOW, SetClock(NOW))
    assert not Arrival.objects.filter(release=newest.name, product="yara").exists()


def test_counting_pauses_twenty_times_as_long_as_it_takes_and_a_minute_at_most() -> None:
    generate(NOW, Plan(hosts=8, minutes=()))
    assert count_when_due(NOW)
    Counted.objects.update(seconds=1.5)
    assert not count_when_due(NOW + timedelta(seconds=29))
    assert count_when_due(NOW + timedelta(seconds=31))
    Counted.objects.update(seconds=900, at=NOW)
    assert count_when_due(NOW + LONGEST)


def test_a_clock_that_was_set_back_does_not_stop_the_count() -> None:
    generate(NOW, Plan(hosts=8, minutes=()))
    assert count_when_due(NOW + timedelta(days=400))
    assert count_when_due(NOW)
