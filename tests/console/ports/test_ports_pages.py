"""The Ports pages and their API, over rows that check-ins made."""

import csv
import io
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from console.cast import SetClock, add_person, add_site, bearing, signed_in, token_of
from console.hosts import add_host, bring, check_in
from fleetward.console.alerts.gathering import gather
from fleetward.console.alerts.kinds import Kind, Severity
from fleetward.console.fleet.models import Host
from fleetward.console.organisation.models import Group as People
from fleetward.console.organisation.models import Site
from fleetward.console.permissions import Role, Scope
from fleetward.console.ports.counting import KEPT, count, count_when_due
from fleetward.console.ports.models import Counted, Group, Listener
from fleetward.console.ports.part import PART
from fleetward.console.ports.words import SENTENCES, words_of
from fleetward.console.wiring import rewired, wired
from fleetward.core.ports import REASON_IDS
from fleetward.core.status import EventKind, HostEvent, PortsSummary
from support.fakes import START

pytestmark = pytest.mark.django_db

NOW = START + timedelta(minutes=5)
DIGEST = "ab" * 16
GROUP = f"/ports/tcp/2967/{DIGEST}/suspicious/"


@pytest.fixture(autouse=True)
def _wired() -> Iterator[None]:
    with rewired(clock=SetClock(NOW)):
        yield


def opened(
    e: int,
    verdict: str = "suspicious",
    name: str = "rtvscan.exe",
    *,
    port: int = 2967,
    more: str = f"sha256={DIGEST} reasons=imitation path=/opt/rtv scan.exe",
    what: str = "opened",
    at: datetime = START,
) -> HostEvent:
    return HostEvent(
        e=e,
        at=at,
        kind=EventKind(f"listener-{what}"),
        subject=f"tcp/{port} {name}",
        detail=f"{verdict} every-address {more}",
    )


@pytest.fixture
def fleet() -> None:
    """Two sites: berlin's host 0 has a suspicious listener, both have an expected one."""
    for number, site in enumerate(("berlin", "porto")):
        add_host(number, site=add_site(site))
    summary = PortsSummary(listeners=2, unexpected=1, digest="00" * 16)
    bring(
        check_in(
            0, 1, events=(opened(1), opened(2, "expected", "sshd", port=22, more="")), ports=summary
        ),
        check_in(1, 1, events=(opened(1, "expected", "sshd", port=22, more=""),), ports=None),
        at=START,
    )
    count(NOW, wired().clock)


def viewer() -> Client:
    return signed_in(add_person("vera", Role.VIEWER))


def page_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, path
    return answer.content.decode()


def test_the_page_lists_groups_worst_first(fleet: None) -> None:
    text = page_of(viewer(), "/ports/")
    assert text.index("tcp/2967") < text.index("tcp/22")
    assert "rtvscan.exe" in text
    assert DIGEST[:12] in text
    assert 'class="badge warn">new' in text


@pytest.mark.parametrize(
    ("query", "ports"),
    [
        ("", {2967, 22}),
        ("port=22", {22}),
        ("verdict=suspicious", {2967}),
        ("verdict=nonsense", {2967, 22}),
        ("site=porto", {22}),
        ("search=RTVSCAN", {2967}),
        ("search=abab", {2967}),
        ("search=%00", {2967, 22}),
        ("new=1", {2967, 22}),
        ("port=99999", {2967, 22}),
        ("port=23", set()),
        ("after=50", set()),
    ],
)
def test_filters_narrow_in_the_url(fleet: None, query: str, ports: set[int]) -> None:
    text = page_of(viewer(), f"/ports/?{query}")
    assert {port for port in (22, 2967) if f"/ports/tcp/{port}/" in text} == ports


def test_what_is_older_than_a_week_is_not_new(fleet: None) -> None:
    with rewired(clock=SetClock(NOW + timedelta(days=8))):
        client = viewer()
        assert 'class="badge warn">new' not in page_of(client, "/ports/")
        assert "Nothing fits" in page_of(client, "/ports/?new=1")


def test_a_group_names_its_hosts_reasons_and_next_steps(fleet: None) -> None:
    text = page_of(viewer(), GROUP)
    assert "pc-000" in text
    assert "pc-001" not in text
    assert "/opt/rtv scan.exe" in text
    assert SENTENCES["imitation"].capitalize() in text
    assert "treat the host as compromised" in text


@pytest.mark.parametrize(
    "path",
    [
        "/ports/tcp/2967/ffff/suspicious/",
        "/ports/sctp/2967/unknown/expected/",
        "/ports/tcp/99999999999999999999/unknown/expected/",
        "/ports/tcp/22/unknown/nonsense/",
        "/ports/hosts/ffffffffffffffff/",
    ],
)
def test_what_nobody_told_of_is_not_there(fleet: None, path: str) -> None:
    assert viewer().get(path).status_code == 404


def test_a_host_shows_what_listens_and_what_happened(fleet: None) -> None:
    bring(check_in(0, 2, events=(opened(3, what="closed"),)), at=NOW)
    text = page_of(viewer(), f"/ports/hosts/{0:016x}/")
    now, history = text.split('id="history"')
    assert "tcp/2967" not in now
    assert "tcp/22" in now
    assert "closed" in history
    assert history.index("closed") < history.index("opened")
    assert f"/ports/hosts/{0:016x}/" in page_of(viewer_again(), f"/hosts/{0:016x}/")


def viewer_again() -> Client:
    return signed_in(add_person("vito", Role.VIEWER))


def test_a_change_says_what_was_there_before(fleet: None) -> None:
    more = f"sha256={'cd' * 16} was={DIGEST} reasons=package-altered"
    verdict = f"sha256={'cd' * 16} was=suspicious reasons=operator-rule"
    bring(
        check_in(
            0,
            2,
            events=(
                opened(3, more=more, what="changed"),
                opened(4, "expected", more=verdict, what="changed"),
                HostEvent(
                    e=5,
                    at=NOW,
                    kind=EventKind.LISTENER_CHANGED,
                    detail="9 more changes were not told one by one",
                ),
            ),
        ),
        at=NOW,
    )
    text = page_of(viewer(), f"/ports/hosts/{0:016x}/")
    assert f"another file (sha256 {DIGEST[:12]}…)" in text
    assert "before: suspicious" in text
    assert "9 more changes were not told one by one" in text


def test_a_name_that_a_program_chose_runs_nothing(fleet: None) -> None:
    bring(check_in(0, 2, events=(opened(3, name="<script>alert(1)</script>", port=80),)), at=NOW)
    count(NOW, wired().clock)
    client = viewer()
    for path in ("/ports/", f"/ports/hosts/{0:016x}/"):
        assert "<script>alert(1)" not in page_of(client, path)


def test_csv_has_all_and_no_formulas(fleet: None) -> None:
    bring(check_in(1, 2, events=(opened(2, name="=cmd()", port=80, more=""),)), at=NOW)
    count(NOW, wired().clock)
    rows = list(csv.DictReader(io.StringIO(page_of(viewer(), "/ports.csv?verdict=suspicious"))))
    assert [(row["port"], row["name"], row["hosts"]) for row in rows] == [
        ("80", "'=cmd()", "1"),
        ("2967", "rtvscan.exe", "1"),
    ]


def test_somebody_of_one_site_sees_that_site_alone(fleet: None) -> None:
    vera = add_person("vera")
    people = People.objects.create(name="porto", role=Role.VIEWER, every_site=False)
    people.sites.add(add_site_named("porto"))
    vera.groups.add(people)
    client = signed_in(vera)
    text = page_of(client, "/ports/")
    assert "tcp/22" in text
    assert "tcp/2967" not in text
    assert client.get(GROUP).status_code == 404
    assert client.get(f"/ports/hosts/{0:016x}/").status_code == 404
    assert page_of(client, "/ports.csv").count("\n") == 2
    api = bearing(token_of(vera, Scope.READ))
    assert [row["port"] for row in api.get("/api/v1/ports").json()["items"]] == [22]
    assert [row["port"] for row in api.get("/api/v1/ports/listeners").json()["items"]] == [22]
    for path in ("", "/history"):
        assert api.get(f"/api/v1/ports/hosts/{0:016x}{path}").status_code == 404


def add_site_named(name: str) -> Site:
    return Site.objects.get(name=name)


def test_the_guide_needs_no_internet() -> None:
    text = page_of(viewer(), "/ports/guide/")
    assert "fleetward ports inspect" in text
    assert "https://" not in text


def api() -> Client:
    return bearing(token_of(add_person("tom", Role.VIEWER), Scope.READ))


def test_the_api_pages_groups_and_answers_304(fleet: None) -> None:
    client = api()
    first = client.get("/api/v1/ports?limit=1")
    row = first.json()["items"][0]
    assert (row["port"], row["verdict"], row["hosts"], row["new"]) == (2967, "suspicious", 1, True)
    again = client.get("/api/v1/ports?limit=1", headers={"If-None-Match": first["ETag"]})
    assert again.status_code == 304
    rest = client.get(f"/api/v1/ports?limit=1&cursor={first.json()['next']}").json()
    assert [row["port"] for row in rest["items"]] == [22]
    assert rest["items"][0]["hosts"] == 2
    assert rest["items"][0]["sites"] == 2
    assert rest["items"][0]["sha256"] is None
    assert rest["next"] is None


def test_the_api_gives_listeners_and_their_history(fleet: None) -> None:
    client = api()
    found = client.get(f"/api/v1/ports/listeners?port=2967&sha256={DIGEST}").json()["items"]
    assert [(row["host"], row["site"]) for row in found] == [("pc-000", "berlin")]
    assert found[0]["reasons"][0]["next_step"].startswith("treat the host")
    rows = client.get(f"/api/v1/ports/hosts/{0:016x}").json()["items"]
    assert {row["port"] for row in rows} == {22, 2967}
    past = client.get(f"/api/v1/ports/hosts/{0:016x}/history").json()["items"]
    assert [(row["kind"], row["port"]) for row in past] == [
        ("listener-opened", 22),
        ("listener-opened", 2967),
    ]


def test_a_suspicious_listener_is_a_fact_until_it_is_gone(fleet: None) -> None:
    facts = [fact for fact in gather(NOW) if fact.kind is Kind.SUSPICIOUS_LISTENER]
    assert [(fact.subject, fact.hosts) for fact in facts] == [(f"tcp/2967 {DIGEST}:site:berlin", 1)]
    assert facts[0].severity is Severity.CRITICAL
    assert facts[0].link == f"{GROUP}?site=berlin"
    assert facts[0].detail == "pc-000"
    assert Kind.LISTENER not in {fact.kind for fact in gather(NOW)}
    bring(check_in(0, 2, events=(opened(3, what="closed"),)), at=NOW)
    assert Kind.SUSPICIOUS_LISTENER not in {fact.kind for fact in gather(NOW)}


def test_an_unknown_listener_beside_a_suspicious_one_is_a_warning(fleet: None) -> None:
    bring(
        check_in(
            0,
            2,
            events=(opened(3, "unknown", "nc", port=80, more=""),),
            ports=PortsSummary(listeners=3, unexpected=2, digest="01" * 16),
        ),
        at=NOW,
    )
    facts = {fact.kind: fact for fact in gather(NOW)}
    assert facts[Kind.LISTENER].hosts == 1
    assert facts[Kind.LISTENER].severity is Severity.WARNING
    bring(
        check_in(
            0,
            3,
            events=(opened(4, "expected", "nc", port=80, more="was=unknown", what="changed"),),
            ports=PortsSummary(listeners=3, unexpected=1, digest="02" * 16),
        ),
        at=NOW,
    )
    assert Kind.LISTENER not in {fact.kind for fact in gather(NOW)}


def test_a_count_follows_a_change_and_else_waits_a_minute(fleet: None) -> None:
    assert not count_when_due(NOW + timedelta(seconds=10))
    bring(check_in(1, 2, events=(opened(2),)), at=NOW)
    Counted.objects.update(seconds=0.1)
    assert not count_when_due(NOW + timedelta(milliseconds=500))
    assert count_when_due(NOW + timedelta(seconds=10))
    assert sum(Group.objects.filter(port=2967).values_list("hosts", flat=True)) == 2
    assert not count_when_due(NOW + timedelta(seconds=20))
    assert count_when_due(NOW + timedelta(seconds=70))


def test_a_group_that_nobody_has_keeps_its_first_time_for_a_while(fleet: None) -> None:
    bring(check_in(0, 2, events=(opened(3, what="closed"),)), at=NOW)
    count(NOW, wired().clock)
    assert Group.objects.get(port=2967).hosts == 0
    assert "It listens nowhere" in page_of(viewer(), GROUP)
    count(NOW + KEPT + timedelta(days=1), wired().clock)
    count(NOW + KEPT + timedelta(days=1), wired().clock)
    assert not Group.objects.filter(port=2967).exists()
    assert not Listener.objects.filter(port=2967).exists()


def test_a_host_that_moves_is_counted_at_its_new_site(fleet: None) -> None:
    Host.objects.filter(record=f"{0:016x}").update(site=None)
    count(NOW, wired().clock)
    rows = Group.objects.filter(port=2967, hosts__gt=0)
    assert [(row.site, row.hosts) for row in rows] == [(None, 1)]


def test_figures_count_by_verdict(fleet: None) -> None:
    assert PART.metrics is not None
    text = PART.metrics()
    assert 'fleetward_console_port_listeners{verdict="suspicious"} 1\n' in text
    assert 'fleetward_console_port_listeners{verdict="expected"} 2\n' in text
    assert 'fleetward_console_port_listeners{verdict="unknown"} 0\n' in text


def test_every_reason_has_a_sentence() -> None:
    assert set(SENTENCES) == set(REASON_IDS)
    assert words_of("of-a-later-version").sentence == ""


def test_a_page_costs_the_same_for_more_hosts(fleet: None) -> None:
    client = viewer()
    client.get("/ports/")

    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as made:
            client.get("/ports/")
        return len(made)

    before = queries()
    for number in range(2, 12):
        add_host(number)
        bring(check_in(number, 1, events=(opened(1),)), at=NOW)
    count(NOW, wired().clock)
    assert queries() == before
