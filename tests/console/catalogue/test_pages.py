"""The catalogue's pages and its API, over the rows of a real repository."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from console.cast import add_person, add_site, bearing, signed_in, token_of
from console.catalogue.repositories import Following, Origin, following
from console.catalogue.test_comparing import NEW, OLD
from fleetward.console.catalogue import api, views
from fleetward.console.catalogue.comparing import work_off_one
from fleetward.console.catalogue.models import Channel, Comparison, Release, Repository, Stage
from fleetward.console.fleet.models import Host, ProductState
from fleetward.console.fleet.standings import HostStanding
from fleetward.console.organisation.models import Site, User
from fleetward.console.permissions import Role, Scope
from fleetward.core.documents import Policy, RampStep
from fleetward.core.names import ProductName, ReleaseName
from fleetward.origin.products import revoke, set_floor, set_policy

pytestmark = pytest.mark.django_db

YARA = ProductName("yara")


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Following]:
    with Origin(tmp_path / "origin") as origin, following(origin, tmp_path / "console") as made:
        origin.publish(files=OLD, release="r1")
        origin.clock.advance(timedelta(hours=2))
        origin.publish(files=NEW, release="r2", urgent=True)
        made.round()
        yield made


@pytest.fixture
def viewer(console: Following) -> Client:
    return signed_in(add_person("vera", Role.VIEWER))


def text(client: Client, url: str, **headers: str) -> str:
    answer = client.get(url, headers=headers)
    assert answer.status_code == 200, answer.content
    found: str = answer.content.decode()
    assert "{{" not in found
    assert "{%" not in found
    return found


def add_host(name: str, release: str, site: Site | None, console: Following) -> None:
    now = console.origin.clock.now()
    host = Host.objects.create(
        record=f"{Host.objects.count():016x}",
        name=name,
        standing=HostStanding.ACTIVE,
        site=site,
        created=now,
        standing_since=now,
    )
    ProductState.objects.create(
        host=host, product="yara", channel="stable", release=release, state="confirmed", since=now
    )


def test_every_role_sees_every_page(console: Following) -> None:
    for role in Role:
        client = signed_in(add_person(f"a-{role}", role))
        for url in (
            *("/products/", "/products/yara/", "/products/yara/r2/", "/trust/"),
            *("/panels/releases/", "/panels/trust/", "/products/yara/r2/changes/"),
        ):
            text(client, url)


def test_the_list_of_products(console: Following, viewer: Client) -> None:
    page = text(viewer, "/products/")
    assert 'href="/products/yara/r2/"' in page
    assert "stable" in page
    assert 'href="/products/"' in page, "it is in the navigation"
    assert "No product fits" in text(viewer, "/products/?q=nothing")
    assert "r2" in text(viewer, "/products/?q=YAR")


def test_hosts_by_release_are_those_of_the_viewers_sites(console: Following) -> None:
    berlin, porto = add_site("berlin"), add_site("porto")
    for number in range(3):
        add_host(f"b{number}", "r2", berlin, console)
    add_host("b9", "r1", berlin, console)
    add_host("p0", "", porto, console)
    everything = text(signed_in(add_person("all", Role.VIEWER)), "/products/")
    assert re.search(r"r2</span> 3", everything)
    assert re.search(r"r1</span> 1", everything)
    assert re.search(r"none yet</span> 1", everything)
    some = text(signed_in(add_person("some", Role.VIEWER, sites=(porto,))), "/products/")
    assert "r2</span> 3" not in some
    assert re.search(r"none yet</span> 1", some)
    assert 'width="100.0"' in some


def test_counts_of_the_overview_are_taken_where_it_has_counted(
    console: Following, viewer: Client
) -> None:
    """A large fleet is counted in the background, not for each page."""
    add_host("b0", "r2", None, console)
    now = console.origin.clock.now()
    apps.get_model("overview", "Counted").objects.create(pk=1, at=now, seconds=1.0)
    for stands in ("current", "silent"):
        apps.get_model("overview", "Tally").objects.create(
            product="yara", channel="stable", release="r2", seq=2, freshness=stands, hosts=700
        )
    assert re.search(r"r2</span> 1,400", text(viewer, "/products/"))


def test_a_products_page(console: Following, viewer: Client) -> None:
    console.origin.publish(files=OLD, release="r3")
    set_floor(console.origin.again(), YARA, 2)
    set_policy(
        console.origin.again(),
        Policy(product=YARA, ramp=(RampStep(age=0, percent=5), RampStep(age=86_400, percent=100))),
    )
    revoke(console.origin.again(), YARA, ReleaseName("r1"), "crashes <the> engine")
    console.round()
    page = text(viewer, "/products/yara/")
    for words in ("under the floor", "revoked", "urgent", "5 % at once", "100 % after 1 day"):
        assert words in page, words
    assert "1 of 1 key" in page
    assert '<svg xmlns="http://www.w3.org/2000/svg"' in page
    assert page.count("with timestamp") == 2, "two moves of the channel"
    assert (
        "r1/"
        not in text(viewer, "/products/yara/?state=urgent#releases")
        .split('id="history"')[0]
        .split('id="releases"')[1]
    )
    assert "No release fits" in text(viewer, "/products/yara/?q=nothing")
    assert "crashes &lt;the&gt; engine" in text(viewer, "/products/yara/r1/")


def test_a_release_says_that_its_changes_are_computed_and_then_what_they_are(
    console: Following, viewer: Client
) -> None:
    page = text(viewer, "/products/yara/r2/")
    part = re.search(r'hx-get="([^"]+)"', page)
    assert part, "the page asks for the rest by itself"
    assert "Waiting to compare with r1" in page
    Comparison.objects.update(stage=Stage.COMPUTING)
    assert "Being computed" in text(viewer, part[1], **{"HX-Request": "true"})
    Comparison.objects.update(stage=Stage.QUEUED)
    assert work_off_one(console.place)
    done = text(viewer, part[1], **{"HX-Request": "true"})
    assert "hx-get" not in done, "it asks no more"
    assert "<html" not in done
    for words in ("fresh", "gone", "what it detects", "rev: 7 → 8", "Sagevo", "new.yar"):
        assert words in done, words
    found = text(viewer, "/products/yara/r2/?against=r1&rule=fresh")
    assert "fresh" in found
    assert "Sagevo" not in found


def test_a_first_release_has_nothing_to_compare_with(console: Following, viewer: Client) -> None:
    assert "no earlier release" in text(viewer, "/products/yara/r1/")
    assert "Waiting" in text(viewer, "/products/yara/r1/?against=r2")


def test_a_comparison_that_failed_can_be_asked_again(console: Following, viewer: Client) -> None:
    text(viewer, "/products/yara/r2/")
    Comparison.objects.update(stage=Stage.FAILED, reason="the <network> was away")
    page = text(viewer, "/products/yara/r2/?against=r1")
    assert "the &lt;network&gt; was away" in page
    answer = viewer.post("/products/yara/r2/again/", {"against": "r1"})
    assert answer["Location"] == "/products/yara/r2/?against=r1"
    assert Comparison.objects.get().stage == Stage.QUEUED


def test_endless_wishes_are_not_queued(
    console: Following, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody asks for every pair of releases there is."""
    monkeypatch.setattr(views, "WAITING", 0)
    assert "Many comparisons wait" in text(viewer, "/products/yara/r2/")
    assert not Comparison.objects.exists()


@pytest.mark.parametrize(
    "url",
    [
        *("/products/nothing/", "/products/yara/nothing/", "/products/yara/r2/?against=nothing"),
        *("/products/a%00b/", "/products/yara/a%00b/", "/products/" + "x" * 500 + "/"),
    ],
)
def test_what_is_not_there(viewer: Client, url: str) -> None:
    assert viewer.get(url).status_code == 404


@pytest.mark.parametrize("q", ["a%00b", "%F0%9F%92%A9", "'", "x" * 3_000, "%25"])
def test_filters_take_anything(viewer: Client, q: str) -> None:
    for url in ("/products/?q=", "/products/yara/?q=", "/products/yara/r2/?rule="):
        assert viewer.get(url + q).status_code == 200
    assert (
        viewer.get(f"/products/yara/?before={q}&older={q}&state={q}&channel={q}").status_code == 200
    )


def test_the_trust_page_counts_down(console: Following, viewer: Client) -> None:
    page = text(viewer, "/trust/")
    assert "nothing of it expires soon" in page
    assert "2 of 3: offline keys" in page
    assert page.count('class="badge good">expires in') == 7
    console.origin.clock.advance(timedelta(days=5))
    viewer = signed_in(User.objects.get(username="vera"))
    part = text(viewer, "/trust/", **{"HX-Request": "true"})
    assert "<html" not in part
    assert 'class="badge warn">expires in' in part
    assert "frozen" not in part, "this console has not asked since"
    console.round()
    page = text(viewer, "/trust/")
    assert "The repository is frozen" in page
    assert "origin steward" in page
    console.later(timedelta(days=4))
    viewer = signed_in(User.objects.get(username="vera"))
    page = text(viewer, "/trust/")
    assert 'class="badge bad">expired' in page
    assert "refused" in page


def test_a_channel_that_nobody_vouches_for_stands_out(console: Following, viewer: Client) -> None:
    """The online key is stolen: it points at a release that the product's keys did not sign."""
    Channel.objects.update(release=None, points_at="evil-1")
    for url in ("/products/", "/products/yara/", "/panels/releases/"):
        assert "which the release keys do not vouch for" in text(viewer, url)
    assert "yara/stable points at evil-1" in text(viewer, "/trust/")


def test_a_console_without_a_repository_says_what_to_do() -> None:
    client = signed_in(add_person("vera", Role.VIEWER))
    for url in ("/products/", "/trust/"):
        assert "[repository]" in text(client, url)
    text(client, "/panels/releases/")
    text(client, "/panels/trust/")


def test_many_releases_and_moves_come_in_pages(
    console: Following, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "ROWS", 1)
    monkeypatch.setattr(views, "MOVES", 1)
    console.origin.publish(files=OLD, release="r3")
    console.round()
    page = text(viewer, "/products/yara/?state=listed")
    assert "?state=listed&amp;before=3" in page
    assert "r2" in text(viewer, "/products/yara/?state=listed&before=3")
    older = re.search(r"\?older=(\d+)#history", page)
    assert older, "the history goes on"
    last = text(viewer, f"/products/yara/?older={older[1]}")
    assert not re.search(r"\?older=\d+#", last)
    assert "No channel has moved" in text(viewer, "/products/yara/?channel=other")


def test_a_clock_that_is_wrong_is_said(console: Following, viewer: Client) -> None:
    Repository.objects.update(clock_ahead=3 * 86_400)
    assert "clock is 3 d ahead" in text(viewer, "/trust/")
    Repository.objects.update(
        problem_kind="network", problem="no route", problem_since=console.origin.clock.now()
    )
    for url in ("/products/", "/trust/"):
        assert "cannot be followed" in text(viewer, url)


def test_the_number_of_queries_does_not_grow(console: Following, viewer: Client) -> None:
    urls = ("/products/", "/products/yara/", "/trust/", "/panels/releases/")

    def counted() -> list[int]:
        counts = []
        for url in urls:
            with CaptureQueriesContext(
                connection,
            ) as caught:
                text(viewer, url)
            counts.append(len(caught))
        return counts

    counted()
    before = counted()
    for number in range(3):
        console.origin.publish(files={"a.yar": b"%d" % number}, channel=f"c{number}")
        console.origin.publish(f"p{number}", {"a": b"1"})
    console.round()
    assert Release.objects.count() == 8
    assert counted() == before


# -- the API ---------------------------------------------------------------------------------------------


@pytest.fixture
def program(console: Following) -> Client:
    return bearing(token_of(add_person("prog", Role.VIEWER), Scope.READ))


def got(client: Client, path: str) -> Any:  # noqa: ANN401 (JSON)
    answer = client.get(f"/api/v1{path}")
    assert answer.status_code == 200, answer.content
    return json.loads(answer.content)


def test_products_and_releases_by_the_api(console: Following, program: Client) -> None:
    [product] = got(program, "/products")["items"]
    assert product["name"] == "yara"
    [channel] = product["channels"]
    assert (channel["name"], channel["release"], channel["previous"]) == ("stable", "r2", "r1")
    assert got(program, "/products/yara") == product
    releases = got(program, "/products/yara/releases")["items"]
    assert [release["name"] for release in releases] == ["r2", "r1"]
    assert releases[0]["deltas"][0]["base"] == "r1"
    assert got(program, "/products/yara/releases/r2") == releases[0]
    assert got(program, "/products/yara/releases?revoked=true")["items"] == []
    assert len(got(program, "/products/yara/releases?listed=true&limit=1")["items"]) == 1
    moves = got(program, "/products/yara/channels/stable/moves")["items"]
    assert [move["kind"] for move in moves] == ["first"]


def test_changes_by_the_api(console: Following, program: Client) -> None:
    url = "/products/yara/releases/r2/changes?against=r1"
    assert got(program, url)["stage"] == "queued"
    assert work_off_one(console.place)
    done = got(program, url)
    assert done["stage"] == "done"
    assert done["changes"]["counts"]["added"] == 1


def test_endless_wishes_by_the_api(
    console: Following, program: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "WAITING", 0)
    answer = program.get("/api/v1/products/yara/releases/r2/changes?against=r1")
    assert answer.status_code == 503
    assert answer["Content-Type"] == "application/problem+json"


def test_roles_and_the_repository_by_the_api(console: Following, program: Client) -> None:
    roles = got(program, "/roles")["items"]
    assert {role["standing"] for role in roles} == {"good"}
    repository = got(program, "/repository")
    assert repository["problems"] == []
    console.later(timedelta(days=8))
    program = bearing(token_of(User.objects.get(username="prog"), Scope.READ))
    [worst, *_] = got(program, "/repository")["problems"]
    assert (worst["severity"], worst["about"]) == ("bad", "repository:trust")


@pytest.mark.parametrize(
    "path",
    [
        *("/products/nothing", "/products/nothing/releases", "/products/yara/releases/nothing"),
        *("/products/yara/channels/nothing/moves",),
        "/products/yara/releases/r2/changes?against=nothing",
    ],
)
def test_what_the_api_does_not_have(program: Client, path: str) -> None:
    assert program.get(f"/api/v1{path}").status_code == 404


def test_names_that_are_none(program: Client) -> None:
    for path in (
        "/products/A%00",
        "/products/yara/releases/..",
        "/products/yara/releases/r2/changes",
    ):
        assert program.get(f"/api/v1{path}").status_code in {404, 422}


def test_a_metrics_line_for_an_alert_of_the_operators(console: Following, program: Client) -> None:
    lines = program.get("/metrics").content.decode().splitlines()
    assert 'fleetward_repository_problem{kind="none"} 0' in lines
    assert 'fleetward_channel_release_seq{product="yara",channel="stable"} 2' in lines
    assert any(line.startswith('fleetward_role_expires_seconds{role="root"}') for line in lines)
