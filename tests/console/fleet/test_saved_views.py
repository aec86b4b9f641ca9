"""Views of the Hosts page under a name."""

import pytest
from django.test import Client

from console.cast import add_person, add_site, signed_in
from console.hosts import add_host
from fleetward.console.audit.chain import Actor
from fleetward.console.audit.models import Entry
from fleetward.console.fleet import savedviews
from fleetward.console.fleet.models import SavedView
from fleetward.console.fleet.savedviews import MAX_NAME, save_view, views_for
from fleetward.console.permissions import Role
from fleetward.errors import UsageError

pytestmark = pytest.mark.django_db

OLGA = Actor("person", "olga", "")


def page(client: Client, path: str = "/hosts/") -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.content
    return str(answer.content.decode())


def save(client: Client, name: str, query: str, **more: str) -> str:
    answer = client.post("/hosts/views/", {"name": name, "query": query, **more})
    return page(client, answer["Location"])


def test_a_view_is_saved_and_chosen_and_marked_where_it_is_shown() -> None:
    browser = signed_in(add_person("olga", Role.OPERATOR))
    assert "Saved the view “Web, silent”." in save(browser, "Web, silent", "search=web&silent=1")
    text = page(browser)
    assert 'href="/hosts/?search=web&amp;silent=1"' in text
    assert 'aria-current="true"' not in text.partition('aria-label="Saved views"')[2]
    here = page(browser, "/hosts/?search=web&silent=1").partition('aria-label="Saved views"')[2]
    assert 'aria-current="true"' in here


def test_it_is_ones_own_until_it_is_shared() -> None:
    olga = signed_in(add_person("olga", Role.OPERATOR))
    victor = signed_in(add_person("victor", Role.VIEWER))
    save(olga, "mine", "search=a")
    save(olga, "ours", "search=b", shared="1")
    text = page(victor)
    assert "ours" in text
    assert "mine" not in text
    assert "by olga" in text


def test_a_viewer_saves_for_himself_and_shares_nothing() -> None:
    victor = add_person("victor", Role.VIEWER)
    save(signed_in(victor), "try", "search=a", shared="1")
    assert not SavedView.objects.get().is_shared
    other = SavedView.objects.create(
        owner=add_person("olga", Role.OPERATOR),
        name="ours",
        query="search=b",
        is_shared=True,
        created=SavedView.objects.get().created,
    )
    assert signed_in(victor).post(f"/hosts/views/{other.pk}/").status_code == 404
    assert SavedView.objects.filter(pk=other.pk).exists()


def test_removing() -> None:
    olga, otto = (signed_in(add_person(name, Role.OPERATOR)) for name in ("olga", "otto"))
    save(olga, "mine", "search=a")
    save(olga, "ours", "search=b", shared="1")
    mine, ours = SavedView.objects.order_by("name")
    assert otto.post(f"/hosts/views/{mine.pk}/").status_code == 404
    assert otto.post(f"/hosts/views/{ours.pk}/").status_code == 302
    assert olga.post(f"/hosts/views/{mine.pk}/").status_code == 302
    assert not SavedView.objects.exists()


def test_sharing_and_removing_a_shared_view_are_in_the_audit_log_and_private_ones_are_not() -> None:
    olga = add_person("olga", Role.OPERATOR)
    save_view(OLGA, olga, "mine", "search=a")
    assert not Entry.objects.filter(subject__startswith="view:").exists()
    shared = save_view(OLGA, olga, "ours", "search=b", is_shared=True)
    savedviews.remove_view(OLGA, shared)
    entries = Entry.objects.filter(subject="view:ours").order_by("seq")
    assert [(bool(one.before), bool(one.after)) for one in entries] == [
        (False, True),
        (True, False),
    ]


def test_a_name_is_one_view_and_the_later_filters_win() -> None:
    olga = add_person("olga", Role.OPERATOR)
    save_view(OLGA, olga, "web", "search=a")
    save_view(OLGA, olga, "  web ", "search=b")
    assert views_for(olga).get().query == "search=b"


@pytest.mark.parametrize(
    ("name", "query", "complaint"),
    [
        ("", "search=a", "name"),
        (" \n", "search=a", "name"),
        ("x" * (MAX_NAME + 1), "search=a", "name"),
        ("a\x00b", "search=a", "name"),
        ("all", "", "filter"),
        ("all", "unknown=1", "filter"),
    ],
)
def test_what_cannot_be_saved_is_told(name: str, query: str, complaint: str) -> None:
    text = save(signed_in(add_person("olga", Role.OPERATOR)), name, query)
    assert "The view was not saved" in text
    assert complaint in text
    assert not SavedView.objects.exists()


def test_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(savedviews, "MAX_VIEWS", 2)
    olga = add_person("olga", Role.OPERATOR)
    for name in ("a", "b", "b"):
        save_view(OLGA, olga, name, "search=a")
    with pytest.raises(UsageError, match="remove one"):
        save_view(OLGA, olga, "c", "search=a")


def test_a_view_shows_nobody_more_than_he_may_see_and_a_site_that_is_gone_finds_none() -> None:
    north, south = add_site("north"), add_site("south")
    add_host(0, site=north)
    add_host(1, site=south)
    olga = add_person("olga", Role.OPERATOR)
    save_view(OLGA, olga, "south", "site=south", is_shared=True)
    nora = signed_in(add_person("nora", Role.VIEWER, sites=(north,)))
    assert "No host fits" in page(nora, "/hosts/?site=south")
    south.delete()
    assert "No host fits" in page(signed_in(olga), "/hosts/?site=south")
