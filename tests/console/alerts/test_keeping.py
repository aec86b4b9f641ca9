"""Alerts as rows: opened, told, taken on, resolved; who may see and do what."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from console.cast import SetClock, add_person, add_site, bearing, signed_in, token_of
from fleetward.config.console import AlertSettings, ConsoleFileSettings
from fleetward.console.alerts.deciding import Fact
from fleetward.console.alerts.keeping import evaluate
from fleetward.console.alerts.kinds import Kind
from fleetward.console.alerts.models import Alert, Step
from fleetward.console.alerts.part import PART
from fleetward.console.audit.models import Entry
from fleetward.console.notices.models import Notice
from fleetward.console.organisation.models import Site
from fleetward.console.permissions import Role, Scope
from fleetward.console.wiring import rewired

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(autouse=True)
def _wired(clock: SetClock) -> Iterator[None]:
    with rewired(clock=clock):
        yield


def fact(kind: Kind = Kind.SILENT, site: Site | None = None, hosts: int = 3) -> Fact:
    return Fact(
        kind=kind,
        subject=f"site:{site.name if site else 'none'}",
        title=f"{hosts} hosts {kind.value}",
        detail="pc-1, pc-2, pc-3",
        site=site.pk if site else None,
        hosts=hosts,
    )


def look(clock: SetClock, pause: timedelta, *facts: Fact) -> int:
    clock.moment += pause
    return evaluate(clock.now(), facts)


def steps(alert: Alert) -> list[str]:
    return list(Step.objects.filter(alert=alert).values_list("what", flat=True))


def test_the_settings_say_how_long_a_fact_must_be_away(clock: SetClock) -> None:
    seconds = timedelta(seconds=5)
    look(clock, HOUR, fact())
    with rewired(settings=ConsoleFileSettings(alerts=AlertSettings(settle=seconds))):
        look(clock, seconds)
        assert Alert.objects.get().is_open, "it was seen to be away only now"
        look(clock, seconds)
        assert not Alert.objects.get().is_open


def test_the_life_of_an_alert(clock: SetClock) -> None:
    """It opens, grows, is resolved, comes back, and each step and telling is written once."""
    look(clock, HOUR, fact())
    look(clock, HOUR, fact(hosts=9))
    look(clock, HOUR)
    look(clock, HOUR)
    look(clock, HOUR, fact())
    alert = Alert.objects.get()
    assert steps(alert) == ["opened", "grew", "resolved", "reopened"]
    assert (alert.is_open, alert.returns, alert.most_hosts) == (True, 1, 9)
    titles = list(Notice.objects.order_by("id").values_list("title", flat=True))
    assert titles == [
        "3 hosts silent",
        "Growing: 9 hosts silent",
        "Resolved: 9 hosts silent",
        "Back: 3 hosts silent",
    ]
    first = Notice.objects.order_by("id").first()
    assert first is not None
    assert first.link == f"/alerts/{alert.pk}/"
    assert "See whether they share a site" in first.body


def test_a_round_in_which_nothing_changed_writes_no_step(clock: SetClock) -> None:
    for _ in range(5):
        look(clock, timedelta(seconds=20), fact())
    assert Step.objects.count() == Notice.objects.count() == 1


def test_an_alert_that_stays_is_told_again_and_the_life_says_so(clock: SetClock) -> None:
    look(clock, HOUR, fact())
    look(clock, 13 * HOUR, fact())
    assert steps(Alert.objects.get()) == ["opened", "told again"]


def test_old_resolved_alerts_are_removed(clock: SetClock) -> None:
    look(clock, HOUR, fact(), fact(Kind.DRIFT))
    look(clock, HOUR, fact(Kind.DRIFT))
    look(clock, HOUR, fact(Kind.DRIFT))
    look(clock, timedelta(days=400) + HOUR, fact(Kind.DRIFT))
    assert [alert.kind for alert in Alert.objects.all()] == ["drift"]


# -- people ------------------------------------------------------------------------------------------


def test_an_operator_takes_an_alert_on_and_hands_it_back(clock: SetClock) -> None:
    look(clock, HOUR, fact())
    alert = Alert.objects.get()
    browser = signed_in(add_person("otto", Role.OPERATOR))
    answer = browser.post(
        "/alerts/acknowledge/", {"alert": [alert.pk], "note": "on it", "next": "/alerts/"}
    )
    assert answer["Location"] == "/alerts/"
    alert.refresh_from_db()
    assert (alert.acknowledged_by, alert.note) == ("otto", "on it")
    page = browser.get(f"/alerts/{alert.pk}/").content.decode()
    assert "Acknowledged</strong> by otto" in page
    assert "Hand back" in page
    browser.post(f"/alerts/{alert.pk}/hand-back/")
    assert steps(alert) == ["opened", "acknowledged", "handed back"]
    entries = Entry.objects.filter(action="alerts.work").order_by("seq")
    assert [json.loads(entry.after)["acknowledged"] for entry in entries] == [True, False]
    assert all("silent site:none" in entry.subject for entry in entries)


def test_two_operators_who_press_at_once_are_one(clock: SetClock) -> None:
    look(clock, HOUR, fact())
    alert = Alert.objects.get()
    for name in ("otto", "olga"):
        browser = signed_in(add_person(name, Role.OPERATOR))
        browser.post("/alerts/acknowledge/", {"alert": [alert.pk]})
    alert.refresh_from_db()
    assert alert.acknowledged_by == "otto"
    assert Entry.objects.filter(action="alerts.work").count() == 1


def test_a_resolved_alert_is_not_taken_on(clock: SetClock) -> None:
    look(clock, HOUR, fact())
    look(clock, HOUR)
    look(clock, HOUR)
    browser = signed_in(add_person("otto", Role.OPERATOR))
    answer = browser.post(
        "/alerts/acknowledge/", {"alert": [Alert.objects.get().pk, "x", "9" * 30]}, follow=True
    )
    assert b"Nothing to acknowledge" in answer.content
    assert not Entry.objects.filter(action="alerts.work").exists()


def test_the_way_back_leads_nowhere_else(clock: SetClock) -> None:
    browser = signed_in(add_person("otto", Role.OPERATOR))
    answer = browser.post("/alerts/acknowledge/", {"next": "https://evil.example/"})
    assert answer["Location"] == "/alerts/"


def test_somebody_of_one_site_sees_and_does_nothing_elsewhere(clock: SetClock) -> None:
    """An operator of Berlin asks for Porto's alert by every path, and for the organisation's."""
    berlin, porto = add_site("berlin"), add_site("porto")
    look(clock, HOUR, fact(site=berlin), fact(site=porto), fact(Kind.REPOSITORY_TRUST))
    user = add_person("otto", Role.OPERATOR, sites=(berlin,))
    browser = signed_in(user)
    program = bearing(token_of(user, *Scope))
    page = browser.get("/alerts/").content.decode()
    own = Alert.objects.get(site=berlin)
    assert f"/alerts/{own.pk}/" in page
    for other in Alert.objects.exclude(site=berlin):
        assert f"/alerts/{other.pk}/" not in page
        assert browser.get(f"/alerts/{other.pk}/").status_code == 404
        assert browser.post(f"/alerts/{other.pk}/hand-back/").status_code == 404
        browser.post("/alerts/acknowledge/", {"alert": [other.pk]})
        path = f"/api/v1/alerts/{other.pk}"
        assert program.get(path).status_code == 404
        assert acknowledge(program, other.pk).status_code == 404
        other.refresh_from_db()
        assert other.acknowledged is None
    assert [row["id"] for row in program.get("/api/v1/alerts").json()["items"]] == [own.pk]


def acknowledge(program: Client, pk: int, **said: object) -> Any:  # noqa: ANN401 (Django's answer)
    path = f"/api/v1/alerts/{pk}/acknowledgement"
    return program.post(path, json.dumps(said), content_type="application/json")


def test_a_program_works_with_alerts(clock: SetClock) -> None:
    berlin = add_site("berlin")
    look(clock, HOUR, fact(site=berlin), fact(Kind.REPOSITORY_TRUST, hosts=0))
    program = bearing(token_of(add_person("otto", Role.OPERATOR), *Scope))
    listed = program.get("/api/v1/alerts?least=critical").json()["items"]
    assert [row["kind"] for row in listed] == ["repository-trust"]
    pk = Alert.objects.get(site=berlin).pk
    answer = acknowledge(program, pk, note="looking")
    assert answer.json()["acknowledged_by"].startswith("otto/")
    assert [step["what"] for step in answer.json()["steps"]] == ["opened", "acknowledged"]
    assert program.get("/api/v1/alerts?state=unacknowledged&site=berlin").json()["items"] == []
    assert acknowledge(program, pk, acknowledged=False).json()["acknowledged"] is None
    assert program.get("/api/v1/alerts?kind=nothing").status_code == 422


# -- pages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ("", {"silent", "drift", "repository-trust"}),
        ("?severity=3", {"repository-trust"}),
        ("?kind=drift", {"drift"}),
        ("?site=berlin", {"silent"}),
        ("?q=REPOSITORY", {"repository-trust"}),
        ("?q=%00nothing", set()),
        ("?state=resolved", {"unprotected"}),
        (
            "?state=unacknowledged&severity=x&page=99999999999",
            {"silent", "drift", "repository-trust"},
        ),
        ("?state=all&kind=unprotected", {"unprotected"}),
    ],
)
def test_filters_live_in_the_url(clock: SetClock, query: str, kinds: set[str]) -> None:
    there = (
        fact(site=add_site("berlin")),
        fact(Kind.DRIFT),
        fact(Kind.REPOSITORY_TRUST, hosts=0),
    )
    look(clock, HOUR, *there, fact(Kind.UNPROTECTED))
    look(clock, HOUR, *there)
    look(clock, HOUR, *there)
    browser = signed_in(add_person("vera", Role.VIEWER))
    page = browser.get(f"/alerts/{query}").content.decode()
    shown = {row.kind for row in Alert.objects.all() if f'href="/alerts/{row.pk}/"' in page}
    assert shown == kinds
    assert "Acknowledge" not in page


def test_a_part_of_the_page_refreshes_itself_and_keeps_its_filter(clock: SetClock) -> None:
    look(clock, HOUR, fact())
    browser = signed_in(add_person("vera", Role.VIEWER))
    page = browser.get("/alerts/?severity=2").content.decode()
    assert 'hx-get="/alerts/?severity=2"' in page
    part = browser.get("/alerts/?severity=2", headers={"HX-Request": "true"}).content.decode()
    assert part.startswith("<section")
    assert "<html" not in part


def test_many_alerts_come_in_pages(clock: SetClock) -> None:
    facts = [
        Fact(kind=Kind.HOST_CLONED, subject=f"host:{n}", title=f"host {n} looks like two")
        for n in range(130)
    ]
    look(clock, HOUR, *facts)
    browser = signed_in(add_person("vera", Role.VIEWER))
    first, second = (browser.get(f"/alerts/?page={n}").content.decode() for n in (0, 1))
    assert first.count("looks like two</a>") == 100
    assert second.count("looks like two</a>") == 30
    assert "?page=1" in first
    assert "?page=0" in second


def test_what_hosts_call_themselves_cannot_write_into_the_page(clock: SetClock) -> None:
    """A host named as a script is shown as text."""
    nasty = Fact(kind=Kind.HOST_CLONED, subject="host:1", title="<script>x</script> looks like two")
    look(clock, HOUR, nasty)
    browser = signed_in(add_person("vera", Role.VIEWER))
    assert b"<script>x" not in browser.get("/alerts/").content
    assert b"<script>x" not in browser.get(f"/alerts/{Alert.objects.get().pk}/").content


def test_open_alerts_are_counted_for_prometheus(clock: SetClock) -> None:
    look(clock, HOUR, fact(), fact(Kind.REPOSITORY_TRUST))
    assert PART.metrics is not None
    lines = PART.metrics()
    assert 'alerts_open{severity="critical"} 1\n' in lines
    assert 'alerts_open{severity="info"} 0\n' in lines
