"""The pages of Settings and Audit: what people do there, and what the log says of it."""

import json
from dataclasses import replace

import pytest
from django.test import Client
from django_otp.plugins.otp_totp.models import TOTPDevice

from console.cast import PASSWORD, add_person, add_site, signed_in
from fleetward.config.console import HistorySettings
from fleetward.console.audit.models import Entry
from fleetward.console.organisation.models import Group, Site, Token, User
from fleetward.console.permissions import Role
from fleetward.console.wiring import rewired, wired

pytestmark = pytest.mark.django_db

FIRST = "a long first password"


@pytest.fixture
def ada() -> User:
    return add_person("ada", Role.ADMINISTRATOR)


@pytest.fixture
def browser(ada: User) -> Client:
    return signed_in(ada)


def group(role: Role) -> Group:
    return Group.objects.get(name=f"{role}s")


def last(action: str) -> Entry:
    return Entry.objects.filter(action=action).latest("seq")


# -- people --------------------------------------------------------------------------------------------


def test_a_person_is_added_and_chooses_a_password_at_the_first_login(browser: Client) -> None:
    fields = {
        "username": "grace",
        "full_name": "Grace Hopper",
        "email": "grace@example.org",
        "password": FIRST,
        "groups": [group(Role.VIEWER).pk],
        "reach": "every",
        "is_active": "on",
    }
    answer = browser.post("/settings/users/new/", fields, follow=True)
    assert b"Grace Hopper is added" in answer.content
    grace = User.objects.get(username="grace")
    client = Client()
    client.post("/login/", {"username": "grace", "password": FIRST})
    assert client.get("/")["Location"].startswith("/account/password/")
    assert json.loads(last("users.manage").after)["groups"] == ["viewers"]
    assert grace.access().may("hosts.view")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"username": "Grace Hopper"}, "Use small letters"),
        ({"username": "ada"}, "already exists"),
        ({"password": "short"}, "too short"),
        ({"password": "grace-grace-grace", "username": "grace-grace-grace"}, "too similar"),
        ({"email": "nowhere"}, "valid email"),
        ({"username": ""}, "required"),
    ],
)
def test_a_person_who_will_not_do_is_not_added(
    browser: Client, change: dict[str, str], complaint: str
) -> None:
    fields = {"username": "grace", "password": FIRST, "reach": "every", "is_active": "on"}
    answer = browser.post("/settings/users/new/", fields | change)
    assert answer.status_code == 400
    assert complaint in answer.content.decode()
    assert User.objects.count() == 1
    assert FIRST not in answer.content.decode(), "a password is never sent back"


def test_people_are_found_by_any_of_their_names(browser: Client) -> None:
    for name in ("grace", "lin", "otto"):
        add_person(name)
    User.objects.filter(username="lin").update(full_name="Lin Chen", is_active=False)

    def found(query: str) -> list[str]:
        page = browser.get(f"/settings/users/?{query}")
        return [person.username for person in page.context["shown"].rows]

    assert found("q=chen") == ["lin"]
    assert found("q=GRA") == ["grace"]
    assert found("state=inactive") == ["lin"]
    assert found("state=active&q=t") == ["otto"]
    assert found("q=nobody") == []
    assert found("after=nonsense") == ["ada", "grace", "lin", "otto"]


def test_many_people_come_in_pages(browser: Client) -> None:
    User.objects.bulk_create(
        User(username=f"p{number:03}", created=User.objects.get().created) for number in range(60)
    )
    first = browser.get("/settings/users/").context["shown"]
    second = browser.get(f"/settings/users/?after={first.after}").context["shown"]
    names = [person.username for person in (*first.rows, *second.rows)]
    assert len(names) == len(set(names)) == 61
    assert second.after is None


def test_somebody_limited_to_a_site_is_shown_so(browser: Client) -> None:
    berlin = add_site("berlin")
    otto = add_person("otto", Role.OPERATOR)
    fields = {
        "groups": [group(Role.OPERATOR).pk],
        "reach": "some",
        "sites": [berlin.pk],
        "is_active": "on",
    }
    assert browser.post(f"/settings/users/{otto.pk}/", fields).status_code == 302
    otto = User.objects.get(pk=otto.pk)
    assert otto.access().reach("hosts.direct").sites == {berlin.pk}
    entry = last("users.manage")
    assert json.loads(entry.before)["sites"] == "every"
    assert json.loads(entry.after)["sites"] == ["berlin"]


def test_the_last_administrator_cannot_lock_everybody_out(browser: Client, ada: User) -> None:
    answer = browser.post(f"/settings/users/{ada.pk}/", {"reach": "every", "is_active": "on"})
    assert answer.status_code == 400
    assert b"no active administrator" in answer.content
    assert ada.groups.exists()


def test_another_password_ends_the_persons_sessions(browser: Client) -> None:
    otto = add_person("otto", Role.OPERATOR)
    his = signed_in(otto)
    browser.post(f"/settings/users/{otto.pk}/password/", {"password": FIRST})
    assert his.get("/account/").status_code == 302
    assert last("users.password").subject == "user:otto"
    refused = browser.post(f"/settings/users/{otto.pk}/password/", {"password": "x"}, follow=True)
    assert b"too short" in refused.content


def test_a_lost_second_factor_is_removed(browser: Client) -> None:
    otto = add_person("otto", Role.OPERATOR)
    TOTPDevice.objects.create(user=otto, name="authenticator", confirmed=True)
    assert b"Remove the second factor" in browser.get(f"/settings/users/{otto.pk}/").content
    browser.post(f"/settings/users/{otto.pk}/factor/")
    assert not TOTPDevice.objects.exists()
    assert last("account.second-factor").actor == "ada"


# -- groups --------------------------------------------------------------------------------------------


def test_a_group_of_one_site_gives_its_role_there_alone(browser: Client) -> None:
    berlin, porto = add_site("berlin"), add_site("porto")
    fields = {"name": "berliners", "role": "operator", "reach": "some", "sites": [berlin.pk]}
    assert browser.post("/settings/groups/new/", fields).status_code == 302
    otto = add_person("otto", Role.VIEWER)
    otto.groups.add(Group.objects.get(name="berliners"))
    assert otto.access().reach("hosts.direct").includes(berlin.pk)
    assert not otto.access().reach("hosts.direct").includes(porto.pk)
    assert otto.access().reach("hosts.view").includes(porto.pk)


def test_a_group_is_changed_and_removed(browser: Client) -> None:
    made = Group.objects.create(name="night", role="viewer", every_site=True)
    fields = {"name": "night", "role": "approver", "reach": "every"}
    browser.post(f"/settings/groups/{made.pk}/", fields)
    entry = last("groups.manage")
    assert (json.loads(entry.before)["role"], json.loads(entry.after)["role"]) == (
        "viewer",
        "approver",
    )
    browser.post(f"/settings/groups/{made.pk}/remove/")
    assert not Group.objects.filter(name="night").exists()


@pytest.mark.parametrize("act", ["", "remove/"])
def test_the_group_of_the_last_administrator_stays(browser: Client, act: str) -> None:
    administrators = group(Role.ADMINISTRATOR)
    fields = {"name": "administrators", "role": "viewer", "reach": "every"}
    answer = browser.post(f"/settings/groups/{administrators.pk}/{act}", fields, follow=True)
    assert b"no active administrator" in answer.content
    assert group(Role.ADMINISTRATOR).role == "administrator"


# -- sites ---------------------------------------------------------------------------------------------


def test_a_site_is_added_named_and_removed(browser: Client) -> None:
    browser.post("/settings/sites/new/", {"name": "berlin", "title": "Berlin"})
    site = Site.objects.get()
    browser.post(f"/settings/sites/{site.pk}/", {"name": "berlin", "title": "Berlin, Mitte"})
    assert b"Berlin, Mitte" in browser.get("/settings/sites/").content
    answer = browser.post("/settings/sites/new/", {"name": "berlin", "title": ""})
    assert answer.status_code == 400
    browser.post(f"/settings/sites/{site.pk}/remove/")
    assert not Site.objects.exists()


def test_a_viewer_of_one_site_sees_no_other() -> None:
    berlin, _ = add_site("berlin"), add_site("porto")
    client = signed_in(add_person("vera", Role.VIEWER, sites=(berlin,)))
    page = client.get("/settings/sites/").content
    assert b"berlin" in page
    assert b"porto" not in page
    assert b"New site" not in page


# -- tokens --------------------------------------------------------------------------------------------


def test_a_token_is_shown_once(browser: Client, ada: User) -> None:
    fields = {"name": "backup", "owner": ada.pk, "scopes": ["read"], "days": "30"}
    made = browser.post("/settings/tokens/new/", fields)
    text = made.context["made"].text
    assert text.encode() in made.content
    listed = browser.get("/settings/tokens/").content
    assert text.encode() not in listed
    assert Token.objects.get().prefix.encode() in listed
    assert text not in last("tokens.manage").after


def test_a_token_without_a_scope_is_not_made(browser: Client, ada: User) -> None:
    fields = {"name": "backup", "owner": ada.pk, "days": "30"}
    assert browser.post("/settings/tokens/new/", fields).status_code == 400
    assert not Token.objects.exists()


def test_a_token_is_revoked(browser: Client, ada: User) -> None:
    fields = {"name": "backup", "owner": ada.pk, "scopes": ["read"], "days": "7"}
    browser.post("/settings/tokens/new/", fields)
    browser.post(f"/settings/tokens/{Token.objects.get().pk}/revoke/")
    assert Token.objects.get().revoked is not None
    assert b"revoked" in browser.get("/settings/tokens/").content


# -- about and audit -----------------------------------------------------------------------------------


def test_about_says_how_people_sign_in(browser: Client) -> None:
    page = browser.get("/settings/").content
    assert b"after 30 minutes" in page
    assert b"5, then 15 minutes of waiting" in page
    assert b"https://provider.example" in page


def test_about_says_how_long_rows_stay(browser: Client) -> None:
    settings = replace(wired().settings, history=HistorySettings(events=30, silent_hosts=45))
    with rewired(settings=settings):
        page = browser.get("/settings/").content.decode()
    assert "<dt>Events</dt><dd>30 d</dd>" in page
    assert "decommissioned after 45 d" in page
    assert "<dt>Audit log</dt><dd>for ever</dd>" in page


def test_the_audit_page_searches_and_keeps_the_search_over_pages(browser: Client) -> None:
    for number in range(60):
        add = {"name": f"s{number}", "title": "x & y"}
        browser.post("/settings/sites/new/", add)
    page = browser.get("/audit/?action=sites.&subject=site:s")
    assert len(page.context["shown"].rows) == 50
    assert b"action=sites.&amp;subject=site%3As&amp;after=" in page.content
    after = page.context["shown"].after
    rest = browser.get(f"/audit/?action=sites.&subject=site:s&after={after}").context["shown"]
    assert len(rest.rows) == 10
    assert rest.after is None
    for nonsense in ("since=nonsense", "until=2026-99-99", "after=x"):
        assert browser.get(f"/audit/?{nonsense}").status_code == 200


def test_what_people_write_is_shown_as_text(browser: Client) -> None:
    """A site's title is a script; whoever reads the pages runs nothing."""
    evil = "<script>alert(1)</script>"
    browser.post("/settings/sites/new/", {"name": "evil", "title": evil})
    for path in ("/settings/sites/", "/audit/", "/settings/users/new/"):
        assert evil.encode() not in browser.get(path).content


def test_the_audit_page_verifies_the_chain(browser: Client) -> None:
    answer = browser.get("/audit/verdict/", headers={"HX-Request": "true"})
    assert b"entries hold" in answer.content


def test_no_act_of_these_pages_is_left_out_of_the_log(browser: Client, ada: User) -> None:
    before = Entry.objects.count()
    acts = (
        ("/settings/sites/new/", {"name": "berlin"}),
        ("/settings/groups/new/", {"name": "night", "role": "viewer", "reach": "every"}),
        (
            "/settings/users/new/",
            {"username": "otto", "password": PASSWORD, "reach": "every", "is_active": "on"},
        ),
        (
            "/settings/tokens/new/",
            {"name": "t", "owner": ada.pk, "scopes": ["read"], "days": "7"},
        ),
    )
    for path, fields in acts:
        browser.post(path, fields)
    assert Entry.objects.count() == before + len(acts)
    assert set(Entry.objects.values_list("actor", flat=True)) == {"ada"}
