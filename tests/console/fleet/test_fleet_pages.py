"""The pages Hosts, Host and Enrolment, as a browser gets them."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client

from console.cast import SetClock, add_person, add_site, signed_in
from console.hosts import MINUTE, add_host, bring, check_in
from fleetward.config.console import ConsoleFileSettings
from fleetward.console.fleet.models import Directive, EnrolmentToken, Host, HostKey
from fleetward.console.organisation.models import User
from fleetward.console.permissions import Role
from fleetward.console.wiring import rewired, wired
from fleetward.wire.tokenfile import decode_token_file
from support.fakes import START
from support.status import event, product

pytestmark = pytest.mark.django_db

PART = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def _console(tmp_path: Path) -> Iterator[None]:
    settings = ConsoleFileSettings(
        state=tmp_path, url="https://console.example", sign_in=wired().settings.sign_in
    )
    with rewired(clock=SetClock(START + 10 * MINUTE), settings=settings):
        yield


@pytest.fixture
def browser() -> Client:
    return signed_in(add_person("olga", Role.OPERATOR))


def page(client: Client, path: str, **headers: str) -> str:
    answer = client.get(path, headers=headers)
    assert answer.status_code == 200, answer.content
    return str(answer.content.decode())


def record(number: int) -> str:
    return f"{number:016x}"


def test_a_console_without_hosts_says_what_to_do(browser: Client) -> None:
    assert "fleetward agent enroll" in page(browser, "/hosts/")


def test_the_list_shows_what_each_host_runs_and_what_is_wrong(browser: Client) -> None:
    add_host(0, site=add_site("north"), name="<b>mail</b>")
    add_host(1)
    bring(check_in(0, products=(product("yara", "r2"),)), at=START + 9 * MINUTE)
    text = page(browser, "/hosts/")
    assert "&lt;b&gt;mail&lt;/b&gt;" in text
    assert "<b>mail" not in text
    assert "yara r2" in text
    assert "1 unexpected" in text
    assert ">silent<" in text
    assert "yara r2" not in page(browser, "/hosts/?silent=1")
    assert "No host fits" in page(browser, "/hosts/?search=nobody")


def test_the_table_refreshes_itself_with_its_filters(browser: Client) -> None:
    add_host()
    text = page(browser, "/hosts/?site=&search=pc", **PART)
    assert text.lstrip().startswith("<section")
    assert 'hx-get="/hosts/?site=&amp;search=pc"' in text


def test_pages_follow_each_other(browser: Client) -> None:
    for number in range(60):
        add_host(number)
    first = page(browser, "/hosts/?search=pc")
    assert "search=pc&amp;after=" in first
    after = first.partition("&amp;after=")[2].partition('"')[0]
    assert "pc-059" in page(browser, f"/hosts/?search=pc&after={after}")


@pytest.mark.parametrize(
    "query", ["?standing=nonsense", "?after=x", "?silent=maybe", "?site=%00", "?state=%FF"]
)
def test_any_filter_is_answered(browser: Client, query: str) -> None:
    add_host()
    assert browser.get(f"/hosts/{query}").status_code == 200


def test_all_that_fit_as_csv_and_no_name_becomes_a_formula(browser: Client) -> None:
    add_host(0, name="=cmd|' /C calc'!A0")
    add_host(1, name="plain")
    bring(check_in(1))
    rows = list(csv.reader(io.StringIO(page(browser, "/hosts.csv?search="))))
    assert rows[0][:3] == ["record", "name", "site"]
    assert rows[1][1].startswith("'=cmd")
    assert [row[5] for row in rows[2:]] == ["clamav", "suricata", "yara"]


def test_a_host_and_its_history(browser: Client) -> None:
    add_host()
    bring(check_in(n=1, events=(event(1),)), at=START + 2 * MINUTE)
    bring(check_in(n=2, relay="other"), at=START + 3 * MINUTE)
    text = page(browser, f"/hosts/{record(0)}/")
    for words in ("pc-000", record(0), "confirmed", "clamav@stable", "60000 ms off"):
        assert words in text
    assert page(browser, f"/hosts/{record(0)}/", **PART).lstrip().startswith('<div id="host-live"')
    assert browser.get(f"/hosts/{record(7)}/").status_code == 404


def test_a_directive_is_sent_and_its_answer_seen(browser: Client) -> None:
    add_host()
    bring(check_in())
    asked = {"record": record(0), "kind": "pause", "product": "yara"}
    answer = browser.post("/hosts/ask/", asked)
    assert answer["Location"] == f"/hosts/{record(0)}/"
    assert "Asked 1 host." in page(browser, answer["Location"])
    assert Directive.objects.get().kind == "pause"


def test_ticked_hosts_are_asked_at_once_and_what_becomes_of_it_is_shown(browser: Client) -> None:
    for number in range(3):
        add_host(number)
    asked = {"record": [record(0), record(2)], "kind": "update-now", "query": "search=pc"}
    answer = browser.post("/hosts/ask/", {**asked, "nonce": "ab" * 16})
    text = page(browser, answer["Location"])
    assert "Update now" in text
    assert "0</strong> of 2 hosts did it, 2 have yet to answer" in text
    assert {one.host.record for one in Directive.objects.all()} == {record(0), record(2)}


def test_who_answers_nothing_that_can_be_asked_keeps_his_filters(browser: Client) -> None:
    add_host()
    answer = browser.post("/hosts/ask/", {"kind": "shell", "query": "search=pc&evil=1"})
    assert answer["Location"] == "/hosts/?search=pc"


@pytest.mark.parametrize(
    "asked",
    [{"kind": "shell"}, {"kind": "roll-back"}, {"kind": "update-now", "product": "No Name"}],
)
def test_nothing_else_can_be_asked(browser: Client, asked: dict[str, str]) -> None:
    add_host()
    answer = browser.post("/hosts/ask/", {"record": record(0), **asked})
    assert "Nothing was asked" in page(browser, answer["Location"])
    assert not Directive.objects.exists()


def test_no_host_was_ticked(browser: Client) -> None:
    answer = browser.post("/hosts/ask/", {"kind": "update-now"})
    assert "Asked 0 hosts." in page(browser, answer["Location"])


def test_people_approve_refuse_and_end(browser: Client) -> None:
    for number in (0, 1):
        host = add_host(number)
        HostKey.objects.filter(host=host).update(standing="pending")
        Host.objects.filter(pk=host.pk).update(standing="pending", key=None)
    assert "Approve" in page(browser, f"/hosts/{record(0)}/")
    browser.post(f"/hosts/{record(0)}/decide/approve/")
    browser.post(f"/hosts/{record(1)}/decide/refuse/")
    browser.post(f"/hosts/{record(1)}/decide/refuse/")
    assert Host.objects.get(record=record(0)).standing == "active"
    assert HostKey.objects.get(host__record=record(1)).standing == "refused"
    bring(check_in(0, n=1), check_in(0, n=1, relay="twin"))
    assert "looks like two" in page(browser, f"/hosts/{record(0)}/")
    for act, standing in (("settle", "active"), ("retire", "retired"), ("revoke", "revoked")):
        browser.post(f"/hosts/{record(0)}/end/{act}/")
        assert Host.objects.get(record=record(0)).standing == standing
    assert browser.post(f"/hosts/{record(0)}/end/nonsense/").status_code == 302


def test_another_sites_host_is_not_there() -> None:
    add_host(0, site=add_site("south"))
    nora = signed_in(add_person("nora", Role.OPERATOR, sites=(add_site("north"),)))
    assert "pc-000" not in page(nora, "/hosts/")
    assert nora.get(f"/hosts/{record(0)}/").status_code == 404
    assert nora.post(f"/hosts/{record(0)}/end/revoke/").status_code == 404
    nora.post("/hosts/ask/", {"record": record(0), "kind": "update-now"})
    assert not Directive.objects.exists()


# -- enrolment ---------------------------------------------------------------------------------------


def test_a_token_is_made_downloaded_and_ended(browser: Client) -> None:
    add_site("north")
    wish = {"note": "lab", "site": "north", "tags": "lab pc", "uses": "3", "hours": "24"}
    assert browser.post("/settings/enrolment/", wish).status_code == 302
    token = EnrolmentToken.objects.get()
    text = page(browser, "/settings/enrolment/")
    assert token.token in text
    assert "0 of 3" in text
    file = browser.post(f"/settings/enrolment/{token.token}/file/")
    assert decode_token_file(file.content).pins.console == "https://console.example"
    assert "attachment" in file["Content-Disposition"]
    browser.post(f"/settings/enrolment/{token.token}/end/")
    browser.post(f"/settings/enrolment/{token.token}/end/")
    refused = browser.post(f"/settings/enrolment/{token.token}/file/")
    assert "There is no file" in page(browser, refused["Location"])


def test_a_token_for_a_reinstalled_host(browser: Client) -> None:
    host = add_host()
    browser.post("/settings/enrolment/", {"record": record(0), "uses": "1", "hours": "1"})
    assert EnrolmentToken.objects.get().host == host
    answer = browser.post("/settings/enrolment/", {"record": record(0), "uses": "2", "hours": "1"})
    assert "one for a record is for 1" in answer.content.decode()
    wrong = browser.post("/settings/enrolment/", {"uses": "0", "hours": "77"})
    assert wrong.status_code == 200
    assert EnrolmentToken.objects.count() == 1


def test_whoever_is_limited_to_a_site_makes_tokens_for_it_alone() -> None:
    add_site("south")
    person: User = add_person("nora", Role.OPERATOR, sites=(add_site("north"),))
    nora = signed_in(person)
    for site in ("", "south"):
        nora.post("/settings/enrolment/", {"site": site, "uses": "1", "hours": "1"})
    assert not EnrolmentToken.objects.exists()
    nora.post("/settings/enrolment/", {"site": "north", "uses": "1", "hours": "1"})
    assert EnrolmentToken.objects.count() == 1
