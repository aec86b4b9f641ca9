"""The pages and the API of relays."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from console.cast import SetClock, add_person, bearing, signed_in, token_of
from console.overview.generated import Plan, generate
from fleetward.console.organisation.models import Site
from fleetward.console.permissions import Role, Scope
from fleetward.console.relays.charts import Piece, bar, curves, sparkline
from fleetward.console.relays.models import Relay, Sample
from fleetward.console.relays.shown import Traffic, history
from fleetward.console.wiring import rewired
from support.fakes import START

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fleet() -> Iterator[None]:
    with rewired(clock=SetClock(START)):
        generate(START, Plan(hosts=0, minutes=("pune", "osaka")))
        yield


def relay(name: str) -> Relay:
    return Relay.objects.get(name=f"relay1.{name}.meridian.example:2967")


def test_the_worst_site_comes_first_and_a_freezing_relay_stands_out() -> None:
    browser = signed_in(add_person("vera", Role.VIEWER))
    page = browser.get("/relays/").content.decode()
    order = ["does not answer", "freezes", "spool filling", "has problems", ">well<"]
    places = [page.index(word) for word in order]
    assert places == sorted(places)
    assert '<span class="tone-text-bad">61</span>' in page
    assert "6 <small>of 11</small>" in page


def test_the_list_refreshes_itself() -> None:
    browser = signed_in(add_person("vera", Role.VIEWER))
    part = browser.get("/relays/", headers={"HX-Request": "true"}).content.decode()
    assert part.startswith('<div id="relays"')
    assert 'hx-get="/relays/"' in part


def test_a_relay_s_page_says_how_it_stands_and_what_to_do() -> None:
    browser = signed_in(add_person("vera", Role.VIEWER))
    page = browser.get(f"/relays/{relay('osaka').pk}/").content.decode()
    assert "it may freeze them on purpose" in page
    assert "bandwidth.rate" in page
    assert page.count("<figure>") == 6
    assert 'aria-label="Lag in versions; now 60, at most 60"' in page
    assert "connection refused" in browser.get(f"/relays/{relay('quito').pk}/").content.decode()
    assert "taken by another relay" in browser.get(f"/relays/{relay('leeds').pk}/").content.decode()
    long = browser.get(f"/relays/{relay('osaka').pk}/?span=90d").content.decode()
    assert 'href="?span=90d" aria-current="true"' in long


def test_before_there_are_relays_the_page_says_where_they_come_from() -> None:
    Relay.objects.all().delete()
    browser = signed_in(add_person("vera", Role.VIEWER))
    assert b"fleet/relays.json" in browser.get("/relays/").content


def test_somebody_of_one_site_sees_its_relays_alone() -> None:
    user = add_person("olga", Role.OPERATOR, sites=(Site.objects.get(name="pune"),))
    browser, program = signed_in(user), bearing(token_of(user, *Scope))
    page = browser.get("/relays/").content.decode()
    assert "relay1.pune" in page
    assert "relay1.berlin" not in page
    assert browser.get(f"/relays/{relay('berlin').pk}/").status_code == 404
    assert program.get(f"/api/v1/relays/{relay('berlin').pk}").status_code == 404
    assert program.get(f"/api/v1/relays/{relay('berlin').pk}/history").status_code == 404
    assert len(program.get("/api/v1/relays").json()["items"]) == 1


def test_a_program_reads_relays_and_their_history() -> None:
    program = bearing(token_of(add_person("vera", Role.VIEWER), Scope.READ))
    rows = {row["site"]: row for row in program.get("/api/v1/relays").json()["items"]}
    assert (rows["osaka"]["standing"], rows["osaka"]["lag"]) == ("frozen", 61)
    assert rows["quito"]["standing"] == "lost"
    assert rows["pune"]["day_hit_ratio"] > 0.9
    path = f"/api/v1/relays/{relay('pune').pk}"
    assert program.get(path).json()["url"] == "http://relay1.pune.meridian.example:2967"
    assert len(program.get(f"{path}/history").json()) == 24 * 60
    assert len(program.get(f"{path}/history?span=90d").json()) == 26
    assert program.get(f"{path}/history?span=year").status_code == 422


def test_a_history_has_a_hole_where_nobody_asked() -> None:
    row = relay("pune")
    Sample.objects.filter(relay=row, at__gt=START - timedelta(minutes=30)).delete()
    samples = history(row, START)
    assert len(samples) == 24 * 60
    assert samples[-30:] == [None] * 30
    assert samples[-31] is not None


def test_ratios_of_nothing_are_unknown() -> None:
    assert (Traffic().hit_ratio(), Traffic().hit_percent(), Traffic().saved_ratio()) == (None,) * 3
    both = Traffic(hits=3, misses=1, upstream_bytes=2, delivered_bytes=8) + Traffic(hits=4)
    assert (both.hit_percent(), both.saved_ratio()) == (87.5, 4)


# -- charts ------------------------------------------------------------------------------------------


def test_charts_have_no_script_no_style_and_escape_what_they_say() -> None:
    """A host or release named as markup reaches a chart: it stays text."""
    nasty = '"><script>x</script>'
    drawings = [
        sparkline([1, None, 3], nasty),
        bar([Piece(3, nasty, "current"), Piece(0, "none", "silent")], nasty),
        curves([], nasty, (0.5,)),
    ]
    for drawing in drawings:
        assert "<script" not in drawing
        assert "style=" not in drawing
        assert 'role="img"' in drawing


def test_a_bar_shows_one_host_in_fifty_thousand_and_fills_its_width() -> None:
    drawing = bar([Piece(49_999, "current", "current"), Piece(1, "silent", "silent")], "hosts")
    assert 'width="0.59' in drawing or 'width="0.60' in drawing
    assert bar([], "nothing").count("<rect") == 0


@pytest.mark.parametrize(
    ("values", "moves"), [([1, 2, 3], 1), ([1, None, 3], 2), ([None, None], 0), ([], 0), ([0], 1)]
)
def test_a_gap_interrupts_a_curve(values: list[float | None], moves: int) -> None:
    line = sparkline(values, "x").partition('spark-line" d="')[2].partition('"')[0]
    assert line.count("M") == moves
