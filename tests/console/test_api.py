"""The API's frame and the organisation's operations."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from console.cast import PASSWORD, SetClock, add_person, add_site, bearing, token_of
from fleetward.console.audit.models import Entry
from fleetward.console.organisation.models import Site, Token, User
from fleetward.console.permissions import Role, Scope
from fleetward.console.wiring import rewired, wired

pytestmark = pytest.mark.django_db

PROBLEM = "application/problem+json"


@pytest.fixture
def ada() -> User:
    return add_person("ada", Role.ADMINISTRATOR)


@pytest.fixture
def program(ada: User) -> Client:
    return bearing(token_of(ada, *Scope))


def send(client: Client, method: str, path: str, document: object) -> Any:  # noqa: ANN401 (Django's answers)
    return client.generic(
        method, f"/api/v1{path}", json.dumps(document), content_type="application/json"
    )


# -- tokens --------------------------------------------------------------------------------------------


def test_a_token_is_kept_as_its_digest_alone(ada: User) -> None:
    text = token_of(ada, Scope.READ)
    row = Token.objects.get()
    assert text.startswith(row.prefix)
    assert text not in json.dumps(Token.objects.values().get(), default=str), (
        "the secret is nowhere in the row"
    )
    assert len(text) > 40


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer fw_aaaaaaaa_x", "Basic YWRhOng=", "Bearer \u00e9"]
)
def test_what_is_no_token_gets_401(ada: User, header: str) -> None:
    answer = Client(headers={"Authorization": header}).get("/api/v1/sites")
    assert answer.status_code == 401
    assert answer["Content-Type"] == PROBLEM
    assert answer["WWW-Authenticate"] == 'Bearer realm="fleetward"'


def test_a_token_ends_when_it_expires_is_revoked_or_its_owner_leaves(ada: User) -> None:
    with rewired(clock=SetClock()) as wiring:
        short = bearing(token_of(ada, Scope.READ, life=timedelta(hours=1)))
        long = bearing(token_of(ada, Scope.READ, life=timedelta(days=9)))
        assert short.get("/api/v1/sites").status_code == 200
        wiring.clock.sleep(timedelta(hours=1))
        assert short.get("/api/v1/sites").status_code == 401
        assert long.get("/api/v1/sites").status_code == 200
        ada.is_active = False
        ada.save()
        assert long.get("/api/v1/sites").status_code == 401


def test_a_token_loses_what_its_owner_loses(ada: User, program: Client) -> None:
    assert program.get("/api/v1/users").status_code == 200
    ada.groups.clear()
    assert program.get("/api/v1/users").status_code == 403


def test_the_last_use_is_kept_to_the_minute(ada: User) -> None:
    with rewired(clock=SetClock()) as wiring:
        program = bearing(token_of(ada, Scope.READ))
        began = wiring.clock.now()
        program.get("/api/v1/sites")
        wiring.clock.sleep(timedelta(seconds=30))
        program.get("/api/v1/sites")
        assert Token.objects.get().last_used == began
        wiring.clock.sleep(timedelta(seconds=31))
        program.get("/api/v1/sites")
        assert Token.objects.get().last_used == wiring.clock.now()


def test_a_token_makes_no_token_with_more_scopes_than_it_has(ada: User) -> None:
    program = bearing(token_of(ada, Scope.ADMINISTER))
    answer = send(program, "POST", "/tokens", {"name": "x", "scopes": ["read"]})
    assert answer.status_code == 403
    made = send(program, "POST", "/tokens", {"name": "x", "scopes": ["administer"], "days": 7})
    assert made.status_code == 200
    assert bearing(made.json()["token"]).get("/api/v1/users").status_code == 200
    assert made.json()["owner"] == "ada"


def test_a_token_can_be_revoked(ada: User, program: Client) -> None:
    victim = token_of(ada, Scope.READ)
    row = Token.objects.order_by("-pk").first()
    assert row is not None
    assert program.delete(f"/api/v1/tokens/{row.pk}").json()["revoked"] is not None
    assert bearing(victim).get("/api/v1/sites").status_code == 401
    assert program.delete(f"/api/v1/tokens/{row.pk}").status_code == 200
    assert Entry.objects.filter(action="tokens.manage").count() == 1, "the second time is no change"


def test_an_act_by_a_token_names_it_in_the_log(ada: User, program: Client) -> None:
    send(program, "POST", "/sites", {"name": "berlin", "title": "Berlin"})
    entry = Entry.objects.get(action="sites.manage")
    assert entry.actor_kind == "token"
    assert entry.actor == f"ada/{Token.objects.get().prefix}"
    assert entry.address == "127.0.0.1"


# -- problems --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", "", 404),
        ("GET", "/sites/nowhere", "", 404),
        ("PUT", "/sites", "{}", 405),
        ("POST", "/sites", "{}", 422),
        ("POST", "/sites", "no json", 400),
        ("POST", "/sites", '{"name": "Not A Name"}', 422),
        ("GET", "/sites?limit=0", "", 422),
        ("GET", "/sites?cursor=-1", "", 422),
        ("GET", "/audit?since=yesterday", "", 422),
        ("PATCH", "/users/ada", '{"groups": ["unknown"]}', 422),
        ("PATCH", "/users/ada", '{"email": "no address"}', 422),
    ],
)
def test_every_error_is_a_problem_document(
    program: Client, method: str, path: str, body: str, status: int
) -> None:
    answer = program.generic(method, f"/api/v1{path}", body, content_type="application/json")
    assert answer.status_code == status
    assert answer["Content-Type"] == PROBLEM
    document = json.loads(answer.content)
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    if status == 405:
        assert answer["Allow"]


def test_a_failure_of_the_console_is_a_problem_without_its_reason(
    program: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*rows: object, **more: object) -> None:
        raise RuntimeError("a secret reason")

    monkeypatch.setattr("fleetward.console.administration.api.listing", fail)
    program.raise_request_exception = False
    answer = program.get("/api/v1/sites")
    assert answer.status_code == 500
    assert answer["Content-Type"] == PROBLEM
    assert b"secret" not in answer.content


def test_wrong_fields_are_named(program: Client) -> None:
    answer = send(program, "POST", "/sites", {"title": "x" * 300})
    wrong = {tuple(error["where"])[-1] for error in answer.json()["errors"]}
    assert wrong == {"name", "title"}


# -- lists -----------------------------------------------------------------------------------------------


def test_a_list_comes_in_pages_that_hold_every_row_once(program: Client) -> None:
    for number in range(7):
        add_site(f"site-{number}")
    names, cursor, pages = [], "", 0
    while True:
        page = program.get(f"/api/v1/sites?limit=3{cursor}").json()
        names += [site["name"] for site in page["items"]]
        pages += 1
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
        add_site(f"meanwhile-{pages}") if pages == 1 else None
    assert len(names) == len(set(names))
    assert {f"site-{number}" for number in range(7)} <= set(names)


def test_an_answer_is_not_sent_again_to_who_has_it(program: Client) -> None:
    add_site("berlin")
    first = program.get("/api/v1/sites")
    again = program.get("/api/v1/sites", headers={"If-None-Match": first["ETag"]})
    assert again.status_code == 304
    assert not again.content
    add_site("porto")
    assert program.get("/api/v1/sites", headers={"If-None-Match": first["ETag"]}).status_code == 200


def test_a_token_of_somebody_limited_to_a_site_sees_that_site_alone() -> None:
    berlin, _ = add_site("berlin"), add_site("porto")
    program = bearing(token_of(add_person("otto", Role.OPERATOR, sites=(berlin,)), *Scope))
    assert [s["name"] for s in program.get("/api/v1/sites").json()["items"]] == ["berlin"]
    assert program.get("/api/v1/sites/porto").status_code == 404
    assert program.get("/api/v1/sites/berlin").status_code == 200


def test_an_administrator_of_one_site_governs_nobody() -> None:
    berlin = add_site("berlin")
    program = bearing(token_of(add_person("otto", Role.ADMINISTRATOR, sites=(berlin,)), *Scope))
    assert program.get("/api/v1/users").status_code == 403
    assert send(program, "POST", "/sites", {"name": "x"}).status_code == 403


# -- acts ------------------------------------------------------------------------------------------------


def test_a_site_is_added_changed_and_removed(program: Client) -> None:
    assert send(program, "POST", "/sites", {"name": "berlin", "title": "Berlin"}).status_code == 200
    assert send(program, "POST", "/sites", {"name": "berlin"}).status_code == 409
    changed = send(program, "PATCH", "/sites/berlin", {"title": "Berlin, Mitte"})
    assert changed.json()["title"] == "Berlin, Mitte"
    assert program.delete("/api/v1/sites/berlin").json()["name"] == "berlin"
    assert not Site.objects.exists()
    kept = Entry.objects.filter(subject="site:berlin").order_by("seq")
    assert [(bool(entry.before), bool(entry.after)) for entry in kept] == [
        (False, True),
        (True, True),
        (True, False),
    ]


def test_a_person_is_added_and_changed(program: Client) -> None:
    document = {"username": "grace", "password": "a long first password", "groups": ["viewers"]}
    made = send(program, "POST", "/users", document)
    assert made.status_code == 200
    assert made.json()["groups"] == ["viewers"]
    assert send(program, "POST", "/users", document).status_code == 409
    grace = User.objects.get(username="grace")
    assert grace.must_change_password
    changed = send(program, "PATCH", "/users/grace", {"active": False, "groups": ["operators"]})
    assert changed.json()["active"] is False
    assert changed.json()["groups"] == ["operators"]
    assert program.get("/api/v1/users/grace").json() == changed.json()
    entry = Entry.objects.filter(subject="user:grace").latest("seq")
    assert json.loads(entry.before)["active"] is True
    assert json.loads(entry.after)["active"] is False
    assert "password" not in entry.before + entry.after


def test_a_weak_first_password_is_refused(program: Client) -> None:
    answer = send(program, "POST", "/users", {"username": "x", "password": "password1234"})
    assert answer.status_code == 422
    assert "too common" in answer.json()["detail"]


def test_the_last_administrator_stays(program: Client, ada: User) -> None:
    changes: tuple[dict[str, object], ...] = ({"active": False}, {"groups": []})
    for change in changes:
        answer = send(program, "PATCH", "/users/ada", change)
        assert answer.status_code == 409
    ada.refresh_from_db()
    assert ada.is_active
    add_person("second", Role.ADMINISTRATOR)
    assert send(program, "PATCH", "/users/ada", {"groups": []}).status_code == 200


def test_groups_and_tokens_and_users_are_listed(program: Client) -> None:
    groups = program.get("/api/v1/groups").json()["items"]
    assert {group["role"] for group in groups} == set(Role)
    assert program.get("/api/v1/tokens").json()["items"][0]["owner"] == "ada"
    assert program.get("/api/v1/users").json()["items"][0]["username"] == "ada"


def test_the_audit_log_is_searched_and_verified(program: Client, ada: User) -> None:
    for name in ("berlin", "porto"):
        send(program, "POST", "/sites", {"name": name})
    found = program.get("/api/v1/audit?subject=porto&action=sites.").json()["items"]
    assert [entry["subject"] for entry in found] == ["site:porto"]
    today = wired().clock.now().date().isoformat()
    assert len(program.get(f"/api/v1/audit?since={today}&until={today}").json()["items"]) == 2
    assert program.get("/api/v1/audit?until=2020-01-01").json()["items"] == []
    assert program.get("/api/v1/audit/verify").json()["ok"] is True


# -- the document ----------------------------------------------------------------------------------------


def test_the_document_names_every_operation_once_and_its_problems() -> None:
    document = Client().get("/api/v1/openapi.json").json()
    names = [d["operationId"] for m in document["paths"].values() for d in m.values()]
    assert len(names) == len(set(names))
    for methods in document["paths"].values():
        for described in methods.values():
            assert list(described["responses"]["401"]["content"]) == [PROBLEM]
            assert described["security"]


# -- figures and health ----------------------------------------------------------------------------------


def test_figures_need_a_token_of_scope_read(ada: User) -> None:
    assert Client().get("/metrics").status_code == 401
    assert bearing(token_of(ada, Scope.AUDIT)).get("/metrics").status_code == 403
    answer = bearing(token_of(ada, Scope.READ)).get("/metrics")
    assert answer["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"fleetward_console_info{version=" in answer.content


def test_health_is_open_and_says_nothing_else() -> None:
    answer = Client().get("/healthz")
    assert answer.status_code == 200
    assert answer.content == b"ok\n"


def test_passwords_of_people_are_never_in_an_answer(program: Client) -> None:
    send(program, "POST", "/users", {"username": "grace", "password": PASSWORD})
    text = program.get("/api/v1/users").content.decode()
    assert PASSWORD not in text
    assert "password" not in text
