"""Every route with every role: what the tables say is what happens."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from console.cast import add_person, bearing, signed_in, token_of
from fleetward.console.access import EVERY_SITE, Access, Grant
from fleetward.console.api.frame import action_of, api, operations
from fleetward.console.organisation.models import User
from fleetward.console.parts import Page, Part, parts
from fleetward.console.permissions import ACTIONS, Gate, Role, Scope
from fleetward.console.web.middleware import POLICY

pytestmark = pytest.mark.django_db

PEOPLE: tuple[Role | None, ...] = (None, *Role)
"""Somebody in no group, and one of each role."""

ALL_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Door:
    """A method of a page."""

    part: Part
    page: Page
    method: str

    def __str__(self) -> str:
        return f"{self.method} /{self.page.path}"

    def url(self) -> str:
        """Return a URL of the page: of things that are not there, so that acts change nothing."""
        return "/" + re.sub(r"<(\w+):\w+>", lambda kind: _EXAMPLES[kind[1]], self.page.path)


_EXAMPLES = {"int": "999999", "slug": "nothing", "str": "nothing", "uuid": "0" * 32}


def doors() -> Iterator[Door]:
    for part in parts():
        for page in part.pages:
            for method in page.methods:
                yield Door(part, page, method)


DOORS = list(doors())


def expected(needs: str | Gate, role: Role | None) -> bool:
    if isinstance(needs, Gate):
        return True
    return Access((Grant(role, EVERY_SITE),) if role else ()).may(needs)


def somebody(role: Role | None) -> User:
    return add_person("somebody", *([role] if role else []))


@pytest.mark.parametrize("door", DOORS, ids=str)
@pytest.mark.parametrize("role", PEOPLE, ids=str)
def test_a_page_opens_for_those_of_its_table_alone(door: Door, role: Role | None) -> None:
    client = signed_in(somebody(role))
    answer = client.generic(door.method, door.url())
    needs = door.page.methods[door.method]
    if needs is Gate.TOKEN:
        assert answer.status_code == 401
    elif expected(needs, role):
        assert answer.status_code != 403, answer.content
        assert answer.status_code < 500
    else:
        assert answer.status_code == 403


@pytest.mark.parametrize("door", DOORS, ids=str)
def test_nobody_is_sent_to_the_login(door: Door) -> None:
    answer = Client().generic(door.method, door.url())
    needs = door.page.methods[door.method]
    if needs is Gate.OPEN:
        assert answer.status_code in {200, 302, 400}
    elif needs is Gate.TOKEN:
        assert answer.status_code == 401
    else:
        assert answer.status_code == 302
        assert answer["Location"].startswith("/login/")


@pytest.mark.parametrize(
    "page", {door.page.path: door.page for door in DOORS}.values(), ids=lambda page: page.path
)
def test_a_method_without_an_entry_is_not_answered(page: Page) -> None:
    client = signed_in(add_person("root", *Role))
    url = "/" + re.sub(r"<(\w+):\w+>", lambda kind: _EXAMPLES[kind[1]], page.path)
    for method in set(ALL_METHODS) - set(page.methods):
        assert client.generic(method, url).status_code == 405, method


@pytest.mark.parametrize("door", DOORS, ids=str)
def test_every_answer_has_the_security_headers(door: Door) -> None:
    client = signed_in(add_person("root", *Role))
    for whoever in (client, Client()):
        answer = whoever.generic(door.method, door.url())
        assert answer["Content-Security-Policy"] == POLICY
        assert "unsafe" not in POLICY
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["X-Frame-Options"] == "DENY"
        assert "no-store" in answer["Cache-Control"]
        text = answer.content.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), "a script inline"
        assert not re.search(r"\s(style|on\w+)=", text), "a style or handler inline"
        assert "<style" not in text


def test_every_url_comes_from_a_table() -> None:
    """Somebody adds a URL past the parts: it has no entry, and this test fails."""
    tabled = {f"{part.name}:{page.name}" for part in parts() for page in part.pages}
    provider = {"oidc_authentication_init", "oidc_authentication_callback"}
    served = {name for name in _names(get_resolver()) if not name.startswith("api:")}
    assert served == tabled | provider


def _names(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLPattern):
            yield f"{prefix}{pattern.name}"
        else:
            space = f"{pattern.namespace}:" if pattern.namespace else ""
            yield from _names(pattern, prefix + space)


def test_every_action_is_used_or_waits_for_its_part() -> None:
    used = {needs for door in DOORS for needs in door.page.methods.values() if needs in ACTIONS} | {
        action_of(operation) for _, operation in operations(api())
    }
    assert used <= set(ACTIONS) | {None}
    assert None not in used


def test_a_page_cannot_name_an_action_that_is_not_in_the_table() -> None:
    with pytest.raises(ValueError, match="unknown action"):
        Page("x/", "x", lambda request: request, {"GET": "hosts.delete-everything"})


def test_the_navigation_leads_to_routes_that_exist_and_hides_the_others() -> None:
    for role in PEOPLE:
        client = signed_in(add_person(f"p-{role}".lower(), *([role] if role else [])))
        page = client.get("/")
        for link in page.context["navigation"]:
            assert client.get(link.url).status_code == 200, (role, link)


# -- the API -------------------------------------------------------------------------------------------

OPERATIONS = [
    (method, path, action_of(operation) or "")
    for path, operation in operations(api())
    for method in sorted(operation.methods)
]


def api_url(path: str) -> str:
    return "/api/v1" + re.sub(r"{(\w+)}", "999999", path)


@pytest.mark.parametrize(("method", "path", "action"), OPERATIONS)
@pytest.mark.parametrize("role", PEOPLE, ids=str)
def test_an_operation_opens_for_those_of_its_table_alone(
    method: str, path: str, action: str, role: Role | None
) -> None:
    client = bearing(token_of(somebody(role), *Scope))
    answer = client.generic(method, api_url(path), "{}", content_type="application/json")
    if expected(action, role):
        assert answer.status_code in {200, 404, 422}, answer.content
    else:
        assert answer.status_code == 403
        assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(("method", "path", "action"), OPERATIONS)
def test_an_operation_needs_its_scope(method: str, path: str, action: str) -> None:
    others = set(Scope) - {ACTIONS[action].scope}
    client = bearing(token_of(add_person("root", *Role), *others))
    answer = client.generic(method, api_url(path), "{}", content_type="application/json")
    assert answer.status_code == 403


@pytest.mark.parametrize(("method", "path", "action"), OPERATIONS)
def test_no_operation_takes_a_session_for_a_token(method: str, path: str, action: str) -> None:
    """Another site's page cannot use the victim's cookies on the API."""
    client = signed_in(add_person("root", *Role))
    answer = client.generic(method, api_url(path), "{}", content_type="application/json")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
