"""What is wrong now, as it stands in the rows."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from console.cast import SetClock, add_site
from console.overview.generated import Plan, generate
from fleetward.console.alerts.deciding import Fact
from fleetward.console.alerts.gathering import gather
from fleetward.console.alerts.keeping import evaluate
from fleetward.console.alerts.kinds import Kind
from fleetward.console.alerts.models import Alert
from fleetward.console.catalogue.models import Channel, Repository, Role
from fleetward.console.fleet.models import Event, Host, HostKey, Presence, ProductState
from fleetward.console.organisation.models import Site
from fleetward.console.relays.models import Listed, Relay
from fleetward.console.wiring import rewired
from support.fakes import START

pytestmark = pytest.mark.django_db

NOW = START
DAY = timedelta(days=1)
VERSION = 5_000


@pytest.fixture(autouse=True)
def _wired() -> Iterator[None]:
    with rewired(clock=SetClock(NOW)):
        yield


def add_host(number: int, site: Site | None = None, **presence: object) -> Host:
    host = Host.objects.create(
        record=f"{number:016x}",
        name=f"pc-{number}",
        standing="active",
        site=site,
        created=NOW,
        standing_since=NOW,
    )
    host.key = HostKey.objects.create(
        key=f"{number:064x}", public=b"k", host=host, standing="active", enrolled=NOW
    )
    host.save()
    values: dict[str, object] = {
        "epoch": "0" * 16,
        "greatest_n": 1,
        "first_sent": NOW,
        "newest_sent": NOW,
        "seen": NOW,
        "received": NOW,
        "offset_ms": 0,
        "measured": NOW,
        "tuf_timestamp": VERSION,
        **presence,
    }
    Presence.objects.create(key=host.key, **values)
    return host


def add_repository(**more: object) -> Repository:
    values: dict[str, object] = {"url": "https://o", "timestamp": VERSION, "interval": 600, **more}
    return Repository.objects.create(pk=1, **values)


def found(*kinds: Kind) -> list[Fact]:
    facts = gather(NOW)
    assert {fact.kind for fact in facts} == set(kinds), facts
    return facts


def test_a_fleet_that_is_well_has_no_facts() -> None:
    add_repository()
    add_host(1)
    found()


def test_silent_hosts_are_one_fact_per_site() -> None:
    berlin = add_site("berlin")
    for number in range(5):
        add_host(number, berlin, seen=NOW - timedelta(hours=1))
    add_host(9, None, seen=NOW - timedelta(hours=1))
    facts = found(Kind.SILENT)
    here = next(fact for fact in facts if fact.site == berlin.pk)
    assert (here.hosts, here.subject) == (5, "site:berlin")
    assert here.title == "5 hosts silent at berlin"
    assert here.detail == "pc-0, pc-1, pc-2 and 2 more"
    assert {fact.subject for fact in facts} == {"site:berlin", "no site"}


def test_a_host_that_was_never_heard_of_is_silent() -> None:
    host = add_host(1)
    Presence.objects.filter(key=host.key).delete()
    found(Kind.SILENT)


def test_hosts_that_report_and_know_an_old_timestamp_are_frozen() -> None:
    """A relay holds back what is new: its hosts check in as ever, and stand still."""
    add_repository()
    add_host(1, tuf_timestamp=VERSION - 4)
    add_host(2, tuf_timestamp=VERSION - 3)
    add_host(3, tuf_timestamp=0)
    (fact,) = found(Kind.HOST_FROZEN)
    assert fact.hosts == 1


def test_a_silent_host_is_not_called_frozen_as_well() -> None:
    add_repository()
    add_host(1, tuf_timestamp=1, seen=NOW - DAY)
    found(Kind.SILENT)


def test_hosts_without_anything_that_may_run() -> None:
    host = add_host(1, add_site("porto"))
    ProductState.objects.create(
        host=host, product="yara", channel="stable", state="unprotected", since=NOW
    )
    (fact,) = found(Kind.UNPROTECTED)
    assert (fact.title, fact.subject) == ("1 host without yara at porto", "yara:site:porto")


def test_cloned_hosts_and_unexpected_listeners() -> None:
    add_host(1, unexpected=2)
    cloned = add_host(2)
    Host.objects.filter(pk=cloned.pk).update(cloned=NOW, clone_sign="two epochs at once")
    facts = found(Kind.HOST_CLONED, Kind.LISTENER)
    assert next(f for f in facts if f.kind is Kind.HOST_CLONED).detail == "two epochs at once"


def test_a_retired_host_is_nobody_s_concern() -> None:
    add_host(1, seen=NOW - DAY, unexpected=4)
    Host.objects.update(standing="retired", cloned=NOW)
    found()


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("rolled-back", Kind.ROLLED_BACK),
        ("rejected", Kind.REJECTED),
        ("drift", Kind.DRIFT),
        ("refused-source", Kind.REFUSED_SOURCE),
        ("events-dropped", Kind.EVENTS_DROPPED),
    ],
)
def test_what_happened_on_hosts_is_news_for_a_day(event: str, kind: Kind) -> None:
    for number in range(3):
        host = add_host(number)
        for e in range(2):
            add_event(host, event, e)
    (fact,) = found(kind)
    assert fact.hosts == 3
    assert fact.detail == "pc-2: the engine restarted 3 times"
    assert fact.link == "/hosts/?product=yara"
    Event.objects.update(received=NOW - 2 * DAY)
    found()


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("rolled-back", Kind.ROLLED_BACK),
        ("rejected", Kind.REJECTED),
        ("drift", Kind.DRIFT),
    ],
)
def test_a_confirmation_of_the_product_ends_what_went_wrong_with_it(event: str, kind: Kind) -> None:
    broken, other = add_host(1), add_host(2)
    add_event(broken, "confirmed", 1)
    add_event(broken, event, 2)
    (fact,) = found(kind)
    assert fact.link == f"/hosts/{broken.record}/"
    add_event(other, "confirmed", 1)
    add_event(broken, "confirmed", 3, product="clamav")
    found(kind)
    add_event(broken, "confirmed", 4)
    found()
    add_event(broken, event, 5)
    found(kind)


def test_a_source_that_freezes_is_named_and_one_that_is_nobody_is_not_made_up() -> None:
    """The host heard newer metadata elsewhere; where nobody had any, it is the host that is frozen."""
    host = add_host(1)
    add_event(host, "frozen-source", 1)
    found()
    add_event(host, "frozen-source", 2, subject="relay.lyon:2967")
    (fact,) = found(Kind.RELAY_FROZEN)
    assert (fact.hosts, fact.detail) == (1, "pc-1: relay.lyon:2967: the engine restarted 3 times")


@pytest.mark.parametrize("event", ["refused-source", "events-dropped"])
def test_a_confirmation_says_nothing_of_sources_and_of_lost_events(event: str) -> None:
    host = add_host(1)
    add_event(host, event, 1)
    add_event(host, "confirmed", 2)
    assert len(gather(NOW)) == 1


def add_event(host: Host, kind: str, e: int, product: str = "yara", subject: str = "") -> None:
    assert host.key is not None
    Event.objects.create(
        key=host.key,
        host=host,
        epoch="0" * 16,
        e=e,
        digest=f"{kind} {e}",
        at=NOW,
        received=NOW - timedelta(hours=1),
        kind=kind,
        product=product,
        release="r2",
        subject=subject,
        detail="the engine restarted 3 times",
    )


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"answered": NOW - timedelta(hours=1)}, Kind.RELAY_LOST),
        ({"version": VERSION - 9}, Kind.RELAY_FROZEN),
        ({"version": VERSION - 2}, Kind.RELAY_BEHIND),
        ({"said": {"spool_bytes": 9, "spool_max": 10, "spool_check_ins": 4}}, Kind.SPOOL_FILLING),
    ],
)
def test_relays_that_stand_out(change: dict[str, object], kind: Kind) -> None:
    add_repository()
    row = Relay.objects.create(
        url="http://r:2967",
        name="r:2967",
        listed=Listed.SIGNED,
        added=NOW - DAY,
        answered=NOW,
        version=VERSION,
    )
    found()
    Relay.objects.filter(pk=row.pk).update(**change)
    (fact,) = found(kind)
    assert fact.link == f"/relays/{row.pk}/"
    Relay.objects.update(listed=Listed.NOBODY)
    found()


def test_a_repository_that_is_refused_is_the_first_thing_to_know() -> None:
    add_repository(problem_kind="trust", problem="timestamp 4 where 5 is verified")
    (fact,) = found(Kind.REPOSITORY_TRUST)
    assert fact.detail == "timestamp 4 where 5 is verified"
    Repository.objects.update(problem_kind="network", problem_since=NOW - timedelta(minutes=2))
    found()
    Repository.objects.update(problem_since=NOW - timedelta(hours=2))
    found(Kind.REPOSITORY_PROBLEM)
    Repository.objects.update(problem_kind="", frozen=True, issued=NOW - DAY)
    found(Kind.REPOSITORY_FROZEN)


@pytest.mark.parametrize(
    ("role", "days", "kind"),
    [
        ("root", 29, Kind.ROLE_EXPIRING),
        ("releases-yara", 6, Kind.ROLE_EXPIRING),
        ("timestamp", 1, Kind.ROLE_EXPIRING),
        ("snapshot", -1, Kind.ROLE_EXPIRED),
        ("root", 31, None),
        ("releases-yara", 8, None),
        ("timestamp", 3, None),
    ],
)
def test_roles_are_told_of_as_early_as_renewing_takes(
    role: str, days: int, kind: Kind | None
) -> None:
    Role.objects.create(
        role=role, version=1, expires=NOW + days * DAY, threshold=2, place=0, changed=NOW
    )
    Role.objects.create(role="other", version=1, expires=None, threshold=2, place=1, changed=NOW)
    found(*([kind] if kind else []))


def test_a_rollout_that_halted() -> None:
    generate(NOW, Plan(hosts=0, minutes=()))
    Relay.objects.all().delete()
    Role.objects.all().delete()
    Channel.objects.filter(product__name="yara").update(state="halted")
    (fact,) = found(Kind.ROLLOUT_HALTED)
    assert "3 of 4 waves of stable are open" in fact.detail


def test_a_whole_site_that_falls_silent_is_a_handful_of_queries_and_one_alert_each() -> None:
    """Power goes out in a fleet of 400: eight alerts, one per site, and no query per host."""
    generate(NOW, Plan(hosts=400, silent=1.0, unprotected=0, minutes=()))
    with CaptureQueriesContext(connection) as queries:
        facts = gather(NOW)
    assert sum(fact.kind is Kind.SILENT for fact in facts) == 8
    assert len(queries) < 60
    evaluate(NOW, facts)
    assert Alert.objects.filter(kind="silent").count() == 8
