"""The fleet's API: who sees which hosts, what a list says, what people decide."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from console.cast import SetClock, add_person, add_site, bearing, token_of
from console.hosts import MINUTE, add_host, bring, check_in
from fleetward.config.console import ConsoleFileSettings
from fleetward.console.audit.models import Entry
from fleetward.console.fleet.models import Directive, EnrolmentToken, Host, HostKey
from fleetward.console.fleet.tokens import secret_of
from fleetward.console.permissions import Role, Scope
from fleetward.console.wiring import rewired, wired
from fleetward.core.enrolment import Standing
from fleetward.identity.enrolment import EnrolmentToken as Secret
from fleetward.wire.tokenfile import decode_token_file
from support.fakes import START
from support.status import event, product

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _console(tmp_path: Path) -> Iterator[None]:
    settings = ConsoleFileSettings(
        state=tmp_path, url="https://console.example", sign_in=wired().settings.sign_in
    )
    with rewired(clock=SetClock(START + 10 * MINUTE), settings=settings):
        yield


@pytest.fixture
def program() -> Client:
    return bearing(token_of(add_person("ada", Role.ADMINISTRATOR), *Scope))


def ask(client: Client, method: str, path: str, document: object = None) -> Any:  # noqa: ANN401 (Django's answers)
    body = "" if document is None else json.dumps(document)
    return client.generic(method, f"/api/v1{path}", body, content_type="application/json")


def names(client: Client, query: str = "") -> list[str]:
    answer = ask(client, "GET", f"/hosts{query}")
    assert answer.status_code == 200, answer.content
    return [host["name"] for host in answer.json()["items"]]


def record(number: int) -> str:
    return f"{number:016x}"


# -- hosts -------------------------------------------------------------------------------------------


def test_a_list_says_what_hosts_run(program: Client) -> None:
    add_host(site=add_site("north"))
    add_host(1)
    bring(check_in(n=9), at=START + 9 * MINUTE)
    first, second = ask(program, "GET", "/hosts").json()["items"]
    assert (first["name"], first["site"], first["silent"]) == ("pc-000", "north", False)
    assert [p["product"] for p in first["products"]] == ["clamav", "suricata", "yara"]
    assert first["unexpected_listeners"] == 1
    assert (second["seen"], second["silent"], second["products"]) == (None, True, [])


def test_lists_come_in_pages_with_few_queries(
    program: Client,
    django_assert_max_num_queries: Any,  # noqa: ANN401 (pytest-django's)
) -> None:
    for number in range(25):
        add_host(number)
        bring(check_in(number))
    found: list[str] = []
    query = "?limit=10"
    while True:
        with django_assert_max_num_queries(12):
            answer = ask(program, "GET", f"/hosts{query}").json()
        found += [host["name"] for host in answer["items"]]
        if answer["next"] is None:
            break
        query = f"?limit=10&cursor={answer['next']}"
    assert found == [f"pc-{number:03}" for number in range(25)]


def test_filters_narrow(program: Client) -> None:
    north = add_site("north")
    add_host(0, site=north, name="mail.example")
    add_host(1, name="db.example")
    add_host(2, name="old.example")
    bring(check_in(0, products=(product("yara", "r2"),)), at=START + 9 * MINUTE)
    bring(check_in(1, products=(product("yara", "r1"),)), at=START - 60 * MINUTE)
    bring(check_in(1, products=(product("yara", "r1"),), relay="twin"), at=START - 60 * MINUTE)
    Host.objects.filter(record=record(2)).update(standing="retired")
    assert names(program) == ["mail.example", "db.example"]
    assert names(program, "?standing=retired") == ["old.example"]
    assert names(program, "?search=MAIL") == ["mail.example"]
    assert names(program, f"?search={record(1)}") == ["db.example"]
    key = HostKey.objects.get(host__record=record(0)).key
    assert names(program, f"?search={key[:12]}") == ["mail.example"]
    assert names(program, "?site=north") == ["mail.example"]
    assert names(program, "?product=yara&release=r1") == ["db.example"]
    assert names(program, "?product=clamav") == []
    assert names(program, "?state=confirmed") == ["mail.example", "db.example"]
    assert names(program, "?silent=true") == ["db.example"]
    assert names(program, "?cloned=true") == ["db.example"]
    assert names(program, "?unexpected=true") == ["mail.example", "db.example"]
    ask(program, "PATCH", f"/hosts/{record(0)}", {"tags": ["lab"]})
    assert names(program, "?tag=lab") == ["mail.example"]


def test_a_hosts_history(program: Client) -> None:
    add_host()
    bring(check_in(n=1, events=(event(1),)), at=START + MINUTE)
    bring(check_in(n=2, products=(product("yara", "r2"),)), at=START + 2 * MINUTE)
    detail = ask(program, "GET", f"/hosts/{record(0)}").json()
    assert detail["presence"]["n"] == 2
    assert [key["standing"] for key in detail["keys"]] == ["active"]
    moves = ask(program, "GET", f"/hosts/{record(0)}/transitions").json()["items"]
    assert {"r2", ""} <= {move["release"] for move in moves}
    happened = ask(program, "GET", f"/hosts/{record(0)}/events").json()["items"]
    assert [(e["e"], e["kind"], e["record"]) for e in happened] == [(1, "confirmed", record(0))]
    assert ask(program, "GET", "/events?kind=confirmed").json()["items"] == happened
    assert ask(program, "GET", "/events?kind=drift").json()["items"] == []
    kept = ask(program, "GET", f"/hosts/{record(0)}/check-ins").json()["items"]
    assert [row["n"] for row in kept] == [2, 1]
    assert json.loads(kept[1]["said"])["events"] == [1]


@pytest.mark.parametrize("path", ["", "/transitions", "/events", "/check-ins"])
def test_an_unknown_host(program: Client, path: str) -> None:
    assert ask(program, "GET", f"/hosts/{record(9)}{path}").status_code == 404
    assert ask(program, "GET", f"/hosts/nonsense{path}").status_code == 422


def test_a_host_is_changed(program: Client) -> None:
    add_host()
    add_site("south")
    change = {"name": "new name", "site": "south", "tags": ["a", "b"]}
    answer = ask(program, "PATCH", f"/hosts/{record(0)}", change).json()
    assert (answer["name"], answer["site"], answer["tags"]) == ("new name", "south", ["a", "b"])
    assert Entry.objects.filter(action="hosts.enrol", subject=f"host:{record(0)}").count() == 1
    for wrong, status in (({"site": "nowhere"}, 404), ({"tags": ["two words"]}, 422)):
        assert ask(program, "PATCH", f"/hosts/{record(0)}", wrong).status_code == status


# -- sites -------------------------------------------------------------------------------------------


def test_whoever_is_limited_to_a_site_sees_and_does_nothing_elsewhere() -> None:
    north, south = add_site("north"), add_site("south")
    add_host(0, site=north)
    add_host(1, site=south)
    add_host(2)
    person = add_person("nora", Role.OPERATOR, sites=(north,))
    nora = bearing(token_of(person, *Scope))
    assert names(nora) == ["pc-000"]
    bring(check_in(1, events=(event(1),)))
    assert ask(nora, "GET", "/events").json()["items"] == []
    for number in (1, 2):
        for act in ("revoke", "retire", "settle-clone", "approve", "refuse"):
            answer = ask(nora, "POST", f"/hosts/{record(number)}/{act}", {})
            assert answer.status_code == 404, act
    wish = {"records": [record(0), record(1)], "kind": "update-now"}
    assert ask(nora, "POST", "/directives", wish).status_code == 404
    assert not Directive.objects.exists()
    assert ask(nora, "POST", "/enrolment-tokens", {}).status_code == 403
    assert ask(nora, "POST", "/enrolment-tokens", {"site": "south"}).status_code == 404
    assert ask(nora, "POST", "/enrolment-tokens", {"record": record(1)}).status_code == 404
    assert ask(nora, "POST", "/enrolment-tokens", {"site": "north"}).status_code == 200


def test_a_viewer_only_looks() -> None:
    add_host()
    viewer = bearing(token_of(add_person("vi", Role.VIEWER), *Scope))
    assert names(viewer) == ["pc-000"]
    for path in ("/enrolment-tokens", "/directives"):
        assert ask(viewer, "POST", path, {}).status_code in {403, 422}
    assert ask(viewer, "GET", "/enrolment-tokens").status_code == 403
    assert ask(viewer, "POST", f"/hosts/{record(0)}/revoke").status_code == 403


# -- enrolment ---------------------------------------------------------------------------------------


def test_a_token_is_made_handed_over_and_ended(program: Client) -> None:
    add_site("north")
    wish = {"note": "lab", "site": "north", "tags": ["lab"], "uses": 5, "hours": 2}
    made = ask(program, "POST", "/enrolment-tokens", wish).json()
    assert (made["site"], made["tags"], made["uses"], made["used"]) == ("north", ["lab"], 5, 0)
    name = made["token"]
    file = ask(program, "GET", f"/enrolment-tokens/{name}/file")
    assert decode_token_file(file.content.replace(b" ", b"")).pins.console.startswith("https://")
    assert Secret.parse(file.json()["token"]).text() == secret_of(name).text()
    assert [t["token"] for t in ask(program, "GET", "/enrolment-tokens").json()["items"]] == [name]
    ended = ask(program, "POST", f"/enrolment-tokens/{name}/revoke").json()
    assert ended["revoked"]
    assert ask(program, "GET", f"/enrolment-tokens/{name}/file").status_code == 409
    assert ask(program, "GET", f"/enrolment-tokens/{'0' * 16}/file").status_code == 404


@pytest.mark.parametrize(
    "wish", [{"tags": ["two words"]}, {"uses": 0}, {"hours": 99999}, {"record": "x"}]
)
def test_wishes_that_will_not_do(program: Client, wish: dict[str, object]) -> None:
    assert ask(program, "POST", "/enrolment-tokens", wish).status_code == 422
    assert not EnrolmentToken.objects.exists()


def waiting(number: int) -> Host:
    host = add_host(number)
    HostKey.objects.filter(host=host).update(standing="pending")
    Host.objects.filter(pk=host.pk).update(standing="pending", key=None)
    return host


def test_people_decide_about_hosts_that_wait(program: Client) -> None:
    for number in range(3):
        waiting(number)
    approved = ask(program, "POST", f"/hosts/{record(0)}/approve", {}).json()
    assert (approved["standing"], approved["keys"][0]["standing"]) == ("active", "active")
    joined = ask(program, "POST", f"/hosts/{record(1)}/approve", {"joins": record(0)}).json()
    assert (joined["record"], len(joined["keys"])) == (record(0), 2)
    refused = ask(program, "POST", f"/hosts/{record(2)}/refuse").json()
    assert refused["keys"][0]["standing"] == "refused"
    assert ask(program, "POST", f"/hosts/{record(2)}/refuse").status_code == 409
    assert Standing.APPROVED


def test_a_host_is_revoked_retired_and_a_clone_settled(program: Client) -> None:
    add_host()
    bring(check_in(n=1))
    bring(check_in(n=1, relay="twin"))
    assert ask(program, "GET", f"/hosts/{record(0)}").json()["clone_sign"]
    settled = ask(program, "POST", f"/hosts/{record(0)}/settle-clone").json()
    assert (settled["clone_sign"], settled["cloned"]) == ("", None)
    assert ask(program, "POST", f"/hosts/{record(0)}/retire").json()["standing"] == "retired"
    assert ask(program, "POST", f"/hosts/{record(0)}/retire").status_code == 409
    assert ask(program, "POST", f"/hosts/{record(0)}/revoke").json()["standing"] == "revoked"


# -- directives --------------------------------------------------------------------------------------


def test_a_directives_life(program: Client) -> None:
    add_host()
    bring(check_in())
    wish = {"records": [record(0)], "kind": "pause", "product": "yara", "minutes": 30}
    made = ask(program, "POST", "/directives", wish).json()[0]
    assert (made["state"], made["kind"], made["product"]) == ("queued", "pause", "yara")
    listed = ask(program, "GET", f"/directives?record={record(0)}&state=queued").json()["items"]
    assert listed == [made]
    back = ask(program, "DELETE", f"/directives/{made['directive']}")
    assert back.json()["state"] == "withdrawn"
    assert ask(program, "DELETE", f"/directives/{made['directive']}").status_code == 409
    assert ask(program, "DELETE", f"/directives/{'0' * 16}").status_code == 404


@pytest.mark.parametrize(
    "wish",
    [
        {"kind": "shell"},
        {"kind": "pause"},
        {"kind": "update-now", "minutes": 5},
        {"kind": "roll-back"},
        {"kind": "pause", "minutes": 24 * 60 + 1},
        {"kind": "update-now", "records": []},
    ],
)
def test_only_the_closed_list(program: Client, wish: dict[str, object]) -> None:
    add_host()
    answer = ask(program, "POST", "/directives", {"records": [record(0)], **wish})
    assert answer.status_code == 422
    assert not Directive.objects.exists()


def test_old_hosts_are_seen_late(program: Client) -> None:
    add_host()
    bring(check_in(n=1), at=START)
    with rewired(clock=SetClock(START + timedelta(minutes=16))):
        # The token of `program` lives a day.
        assert ask(program, "GET", "/hosts").json()["items"][0]["silent"]
