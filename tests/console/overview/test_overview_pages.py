"""The overview: what it says of a fleet, to whom."""

import re
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from console.cast import SetClock, add_person, add_site, bearing, signed_in, token_of
from console.overview.generated import Plan, generate
from fleetward.console.alerts.keeping import acknowledge, evaluate
from fleetward.console.alerts.models import Alert
from fleetward.console.audit.chain import SYSTEM
from fleetward.console.fleet.models import ProductState
from fleetward.console.organisation.models import Site
from fleetward.console.overview.counting import count
from fleetward.console.overview.models import Counted, Health, Tally
from fleetward.console.permissions import Role, Scope
from fleetward.console.wiring import rewired
from support.fakes import START

pytestmark = pytest.mark.django_db

WELL = Plan(hosts=80, silent=0, frozen=0, behind=0, unprotected=0, minutes=())
SICK = Plan(hosts=240, silent=0.1, frozen=1.0, behind=0.1, unprotected=0.02, minutes=())


@pytest.fixture(autouse=True)
def clock() -> Iterator[SetClock]:
    clock = SetClock(START)
    with rewired(clock=clock):
        yield clock


@pytest.fixture
def browser() -> Client:
    return signed_in(add_person("vera", Role.VIEWER))


def see(browser: Client, path: str = "/", **headers: str) -> str:
    answer = browser.get(path, headers=headers)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_without_hosts_the_page_says_how_to_begin(browser: Client) -> None:
    assert "No hosts have enrolled yet" in see(browser)


def test_who_may_enrol_is_led_there_and_sees_what_is_done_already() -> None:
    browser = signed_in(add_person("ada", Role.ADMINISTRATOR))
    page = see(browser)
    assert 'href="/settings/enrolment/"' in page
    assert "there</span>" not in page, "no site, and nobody else"
    add_person("grace", Role.VIEWER)
    add_site("berlin")
    page = see(browser)
    assert "1 there</span>" in page
    assert "2 there</span>" in page
    operator = signed_in(add_person("olaf", Role.OPERATOR))
    assert "Name your sites" not in see(operator)
    assert 'href="/settings/enrolment/"' in see(operator)


def test_how_to_begin_becomes_the_fleet_with_the_first_host(browser: Client) -> None:
    """The page asks again by itself, and gets a part each time."""
    waiting = see(browser, HX_REQUEST="true")
    assert "Begin here" in waiting
    assert "<html" not in waiting
    generate(START, WELL)
    count(START, SetClock(START))
    came = see(browser, HX_REQUEST="true")
    assert "The fleet is protected" in came
    assert "<html" not in came


def test_panels_of_other_parts_are_asked_for_again_and_again(browser: Client) -> None:
    """Somebody keeps the page open all day."""
    generate(START, WELL)
    page = see(browser)
    panels = re.findall(r'hx-get="/panels/[a-z]+/" hx-trigger="([^"]*)"', page)
    assert len(panels) >= 2
    assert set(panels) == {"load, every 30s"}


def test_a_fleet_that_is_well(browser: Client) -> None:
    generate(START, WELL)
    page = see(browser)
    assert "The fleet is protected" in page
    assert "100.0<small> %</small>" in page
    assert "Nothing is wrong" in page
    assert "80 of 80 hosts protected, 100.0 %" in page


def test_one_host_in_many_is_never_rounded_away(browser: Client) -> None:
    """One unprotected host of 50,000 must not be shown as 100 %."""
    generate(START, Plan(hosts=1, minutes=()))
    Counted.objects.create(pk=1, at=START, seconds=1.0)
    Health.objects.create(hosts=50_000, at_risk=1, bare=0, silent=0)
    for product, bad in (("clamav", 1), ("suricata", 0)):
        for freshness, hosts in (("current", 50_000 - bad), ("unprotected", bad)):
            Tally.objects.create(
                product=product,
                channel="stable",
                release="r1" if freshness == "current" else "",
                seq=1,
                freshness=freshness,
                hosts=hosts,
            )
    page = see(browser)
    assert "49,999 of 50,000 hosts are protected" in page
    assert "99.9<small> %</small>" in page
    assert "49,999 of 50,000 hosts protected, 99.9 %" in page
    assert page.index("clamav</h2>") < page.index("suricata</h2>")


def test_what_is_wrong_comes_worst_first_each_kind_once_with_its_next_step(
    browser: Client,
) -> None:
    generate(START, SICK)
    evaluate(START)
    page = see(browser)
    wrong = page[page.index("Wrong now") : page.index('id="product-1"')]
    assert wrong.index("critical") < wrong.index("warning")
    assert wrong.count("Silent hosts") == 1
    assert "alerts at Austin, Berlin, Leeds and 5 more sites" in wrong
    assert "See whether they share a site or a relay" in wrong
    assert 'href="/alerts/?kind=silent"' in wrong
    for alert in Alert.objects.filter(kind="relay-frozen"):
        acknowledge(SYSTEM, alert)
    assert "taken on" in see(browser)


def test_time_to_protect_is_told_for_the_last_releases(browser: Client) -> None:
    generate(START, WELL)
    page = see(browser)
    assert page.count('<svg class="plot"') == 3
    assert page.count('class="curve first"') == 3
    assert "not yet" in page


def test_the_part_that_refreshes_itself_is_a_part(browser: Client) -> None:
    generate(START, WELL)
    assert 'hx-get="/overview/"' in see(browser)
    part = see(browser, "/overview/", **{"HX-Request": "true"})
    assert part.startswith('<div id="fleet"')
    assert "<html" in see(browser, "/overview/")


def test_a_new_count_is_what_the_next_look_shows(browser: Client, clock: SetClock) -> None:
    generate(START, WELL)
    see(browser)
    ProductState.objects.filter(product="yara").update(state="unprotected", release="")
    count(START, clock)
    assert "0 of 80 hosts protected, 0.0 %" in see(browser, "/overview/")


def test_somebody_of_one_site_sees_that_site(clock: SetClock) -> None:
    generate(START, SICK)
    evaluate(START)
    pune = Site.objects.get(name="pune")
    user = add_person("olga", Role.VIEWER, sites=(pune,))
    page = see(signed_in(user))
    assert "of 30 hosts" in page
    for other in ("Osaka", "Berlin", "osaka"):
        assert other not in page
    assert "1 of 1 relays" in page
    document = bearing(token_of(user, *Scope)).get("/api/v1/overview").json()
    assert document["hosts"] == 30
    assert {row["hosts"] for row in document["products"]} == {30}


def test_a_program_reads_the_overview() -> None:
    program = bearing(token_of(add_person("vera", Role.VIEWER), Scope.READ))
    assert program.get("/api/v1/overview").json()["counted"] is None
    generate(START, SICK)
    count(START, SetClock(START))
    document = program.get("/api/v1/overview").json()
    assert document["hosts"] == 240
    for product in document["products"]:
        assert sum(row["hosts"] for row in product["freshness"]) == 240
        assert sum(row["hosts"] for row in product["releases"]) == 240
    assert document["protected"] < 240


def test_the_page_asks_few_questions_of_the_database(browser: Client) -> None:
    """The rows that a page reads are counted per site, never per host."""
    generate(START, Plan(hosts=400, minutes=()))
    evaluate(START)
    see(browser)
    with CaptureQueriesContext(connection) as queries:
        see(browser)
    assert len(queries) < 25
    assert not any("fleet_productstate" in query["sql"] for query in queries)
