"""One act that asks many hosts: agreed to by number, once for each host, whatever happens meanwhile."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from django.db import transaction
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from console.cast import SetClock, add_person, add_site, bearing, signed_in, token_of
from console.hosts import MINUTE, add_host, bring, check_in
from fleetward.console.access import EVERY_SITE, Reach
from fleetward.console.audit.chain import Actor
from fleetward.console.audit.models import Entry
from fleetward.console.fleet import bulk
from fleetward.console.fleet.bulk import Order, ask, crowd_of, progress, withdraw_all
from fleetward.console.fleet.directives import MAX_HOSTS, Wish
from fleetward.console.fleet.inboxes import renumber
from fleetward.console.fleet.models import BulkDirective, Directive, Host, Presence
from fleetward.console.fleet.standings import DirectiveState, HostStanding
from fleetward.console.permissions import Role, Scope
from fleetward.console.wiring import rewired
from fleetward.core.inbox import DirectiveKind
from fleetward.errors import UsageError
from support.fakes import START

pytestmark = pytest.mark.django_db

OLGA = Actor("person", "olga", "")
UPDATE = Wish(kind=DirectiveKind.UPDATE_NOW)
NONCE = "ab" * 16


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with rewired(clock=SetClock(START + 10 * MINUTE)):
        yield


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PIECE", 2)


def order(most: int | None = None, nonce: str = NONCE, wish: Wish = UPDATE) -> Order:
    agreed = most or max(1, Host.objects.filter(standing=HostStanding.ACTIVE).count())
    return Order(wish=wish, nonce=nonce, most=agreed, query="search=pc")


def asked_hosts() -> list[str]:
    return list(Directive.objects.order_by("host").values_list("host__name", flat=True))


# -- asking ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_all_active_hosts_are_asked_once_in_pieces(count: int) -> None:
    for number in range(count):
        add_host(number)
    act = ask(OLGA, Host.objects.all(), order())
    assert (act.asked, act.is_complete) == (count, True)
    assert asked_hosts() == [f"pc-{number:03}" for number in range(count)]
    assert progress(act, EVERY_SITE)[DirectiveState.QUEUED] == count


def test_hosts_that_are_not_active_are_passed_over_and_counted() -> None:
    standings = [HostStanding.ACTIVE, *HostStanding]
    for number, standing in enumerate(standings):
        add_host(number)
        Host.objects.filter(name=f"pc-{number:03}").update(standing=standing)
    act = ask(OLGA, Host.objects.all(), order())
    assert (act.asked, act.passed_over) == (2, len(standings) - 2)


def test_one_entry_of_the_audit_log_says_it_all() -> None:
    for number in range(3):
        add_host(number)
    pause = Wish(kind=DirectiveKind.PAUSE, product="yara", pause=timedelta(hours=4))
    ask(OLGA, Host.objects.all(), order(wish=pause))
    entry = Entry.objects.get()
    assert (entry.actor, entry.action, entry.subject) == ("olga", "hosts.direct", f"bulk:{NONCE}")
    assert json.loads(entry.after or "null") == {
        "kind": "pause",
        "product": "yara",
        "filter": "search=pc",
        "hosts": 3,
        "passed_over": 0,
        "pause": "4:00:00",
    }


def test_the_inboxes_of_asked_hosts_have_news_and_those_of_others_none() -> None:
    for number in range(2):
        add_host(number)
        bring(check_in(number), at=START + MINUTE)
    agreed = order(most=1)
    before = dict(Presence.objects.values_list("key__host__name", "inbox_seq"))
    ask(OLGA, Host.objects.filter(name="pc-001"), agreed)
    after = dict(Presence.objects.values_list("key__host__name", "inbox_seq"))
    assert after["pc-001"] > before["pc-001"]
    assert after["pc-000"] == before["pc-000"]


# -- what stops it -----------------------------------------------------------------------------------


def test_no_more_than_were_agreed_to() -> None:
    """The filter found 3 hosts when the question was put; then a site was enrolled."""
    for number in range(4):
        add_host(number)
    with pytest.raises(UsageError, match="4 hosts fit now, and you agreed to 3"):
        ask(OLGA, Host.objects.all(), order(most=3))
    assert not Directive.objects.exists()
    assert not Entry.objects.exists()


@pytest.mark.usefixtures("small_pieces")
def test_hosts_that_come_while_it_runs_are_not_asked_beyond_the_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(3):
        add_host(number)

    def grow(hosts: list[int], now: datetime) -> None:
        renumber(hosts, now)
        add_host(Host.objects.count())

    monkeypatch.setattr(bulk, "renumber", grow)
    assert ask(OLGA, Host.objects.all(), order(most=3)).asked == 3
    assert asked_hosts() == ["pc-000", "pc-001", "pc-002"]


def test_a_number_out_of_the_air_is_no_agreement() -> None:
    for number in range(10):
        add_host(number)
    with pytest.raises(UsageError, match="10 hosts fit, and you agreed to 12"):
        ask(OLGA, Host.objects.all(), order(most=12))
    assert ask(OLGA, Host.objects.all(), order(most=11)).asked == 10


def test_nobody_to_ask() -> None:
    with pytest.raises(UsageError, match="no active host"):
        ask(OLGA, Host.objects.all(), order())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"nonce": "short"}, "nonce"),
        ({"nonce": "AB" * 16}, "nonce"),
        ({"most": 0}, "agree"),
        ({"most": MAX_HOSTS + 1}, "agree"),
    ],
)
def test_an_order_that_is_none(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Order(**{"wish": UPDATE, "nonce": NONCE, "most": 1, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wish",
    [
        Wish(kind=DirectiveKind.PAUSE),
        Wish(kind=DirectiveKind.PAUSE, pause=timedelta(hours=25)),
        Wish(kind=DirectiveKind.UPDATE_NOW, pause=timedelta(hours=1)),
        Wish(kind=DirectiveKind.ROLL_BACK),
        Wish(kind=DirectiveKind.UPDATE_NOW, product="No Name"),
    ],
)
def test_a_wish_that_is_not_of_the_closed_list_asks_nobody(wish: Wish) -> None:
    add_host()
    with pytest.raises(UsageError):
        ask(OLGA, Host.objects.all(), order(wish=wish))
    assert not BulkDirective.objects.exists()


# -- twice, and cut off ------------------------------------------------------------------------------


def test_pressing_twice_asks_once() -> None:
    for number in range(3):
        add_host(number)
    acts = [ask(OLGA, Host.objects.all(), order()) for _ in range(2)]
    assert [act.asked for act in acts] == [3, 3]
    assert len(asked_hosts()) == 3
    assert Entry.objects.count() == 1


class ConsoleDiedError(Exception):
    """Stands for a kill between two transactions."""


@pytest.mark.usefixtures("small_pieces")
@given(dies=st.lists(st.integers(0, 3), max_size=4), count=st.integers(1, 7))
@settings(max_examples=25, deadline=None)
def test_whenever_the_console_dies_going_on_asks_each_host_once(
    dies: list[int], count: int
) -> None:
    with transaction.atomic():
        for number in range(count):
            add_host(number)
        real = bulk._ask_piece
        for pieces in dies:
            left = [pieces]

            def mortal(*words: object, left: list[int] = left) -> BulkDirective:
                if not left[0]:
                    raise ConsoleDiedError
                left[0] -= 1
                return real(*words)  # type: ignore[arg-type]

            bulk._ask_piece = mortal  # type: ignore[assignment]
            try:
                ask(OLGA, Host.objects.all(), order())
            except ConsoleDiedError:
                assert BulkDirective.objects.get().asked == len(asked_hosts())
            finally:
                bulk._ask_piece = real
        act = ask(OLGA, Host.objects.all(), order())
        assert act.is_complete
        assert asked_hosts() == [f"pc-{number:03}" for number in range(count)]
        transaction.set_rollback(True)


def test_one_question_has_one_answer() -> None:
    """The nonce of an act cannot be used by another person, or for something else."""
    add_host()
    ask(OLGA, Host.objects.all(), order())
    with pytest.raises(UsageError, match="ask anew"):
        ask(Actor("person", "mallory", ""), Host.objects.all(), order())
    other = Wish(kind=DirectiveKind.VERIFY_TREE)
    with pytest.raises(UsageError, match="ask anew"):
        ask(OLGA, Host.objects.all(), order(wish=other))
    assert len(asked_hosts()) == 1


# -- afterwards --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_pieces")
def test_what_is_taken_back_is_what_nobody_answered() -> None:
    for number in range(5):
        add_host(number)
    act = ask(OLGA, Host.objects.all(), order())
    Directive.objects.filter(host__name="pc-000").update(state=DirectiveState.DONE)
    Directive.objects.filter(host__name="pc-001").update(state=DirectiveState.CARRIED)
    assert withdraw_all(OLGA, act, EVERY_SITE) == 4
    states = progress(act, EVERY_SITE)
    assert (states[DirectiveState.DONE], states[DirectiveState.WITHDRAWN]) == (1, 4)
    assert withdraw_all(OLGA, act, EVERY_SITE) == 0


def test_a_person_of_one_site_sees_and_takes_back_that_site_alone() -> None:
    north, south = add_site("north"), add_site("south")
    add_host(0, site=north)
    add_host(1, site=south)
    act = ask(OLGA, Host.objects.all(), order())
    reach = Reach(every=False, sites=frozenset({north.pk}))
    assert sum(progress(act, reach).values()) == 1
    assert withdraw_all(OLGA, act, reach) == 1
    assert Directive.objects.get(host__site=south).state == DirectiveState.QUEUED


def test_a_crowd_is_counted_by_site_the_largest_first() -> None:
    north = add_site("north")
    for number in range(3):
        add_host(number, site=north)
    add_host(3)
    add_host(4)
    Host.objects.filter(name="pc-004").update(standing=HostStanding.REVOKED)
    crowd = crowd_of(Host.objects.all())
    assert (crowd.active, crowd.passed_over) == (4, 1)
    assert crowd.by_site == (("north", 3), ("", 1))


# -- pages -------------------------------------------------------------------------------------------


def text_of(client: Client, path: str, **said: str) -> str:
    answer = client.post(path, said) if said else client.get(path)
    assert answer.status_code == 200, answer.content
    return str(answer.content.decode())


def test_all_that_fit_are_asked_after_a_question() -> None:
    browser = signed_in(add_person("olga", Role.OPERATOR))
    for number in range(3):
        add_host(number, name=f"web-{number}")
    add_host(3)
    asks = {"kind": "pause", "minutes": "240", "whom": "fit", "query": "search=web"}
    question = text_of(browser, "/hosts/ask/", **asks)
    assert "Pause updates: 3 hosts?" in question
    assert "takes nothing new until the pause is over" in question
    assert not Directive.objects.exists()
    nonce = question.partition('name="nonce" value="')[2][:32]
    agreed = {"kind": "pause", "minutes": "240", "query": "search=web", "most": "3", "nonce": nonce}
    answer = browser.post("/hosts/ask/all/", agreed)
    assert answer["Location"] == f"/hosts/asked/{nonce}/"
    assert "0</strong> of 3 hosts did it" in text_of(browser, answer["Location"])
    assert {one.until for one in Directive.objects.all()} == {START + 10 * MINUTE + 240 * MINUTE}
    assert "Pause updates" in text_of(browser, "/hosts/asked/")


def test_many_hosts_want_the_number_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetward.console.fleet.asking_pages.CAREFUL", 2)
    browser = signed_in(add_person("olga", Role.OPERATOR))
    for number in range(3):
        add_host(number)
    question = text_of(browser, "/hosts/ask/", kind="update-now", whom="fit", query="")
    assert "Type how many hosts that is" in question
    agreed = {"kind": "update-now", "query": "", "nonce": NONCE}
    for most in ("", "2", "three"):
        answer = browser.post("/hosts/ask/all/", {**agreed, "most": most})
        assert "Nothing was asked of any host" in text_of(browser, answer["Location"])
    assert not Directive.objects.exists()
    browser.post("/hosts/ask/all/", {**agreed, "most": "3"})
    assert Directive.objects.count() == 3


def test_an_operator_of_one_site_asks_its_hosts_alone() -> None:
    north = add_site("north")
    browser = signed_in(add_person("nora", Role.OPERATOR, sites=(north,)))
    add_host(0, site=north)
    add_host(1, site=add_site("south"))
    south = {"kind": "update-now", "whom": "fit", "query": "site=south"}
    answer = browser.post("/hosts/ask/", south)
    assert "no active host fits" in text_of(browser, answer["Location"])
    browser.post(
        "/hosts/ask/all/", {"kind": "update-now", "query": "", "most": "1", "nonce": NONCE}
    )
    assert asked_hosts() == ["pc-000"]


def test_an_act_that_was_cut_off_goes_on_by_a_button() -> None:
    browser = signed_in(add_person("olga", Role.OPERATOR))
    for number in range(3):
        add_host(number)
    ask(Actor("person", "olga", ""), Host.objects.all(), order())
    last = Directive.objects.order_by("-host").first()
    assert last is not None
    last.delete()
    reached = Host.objects.order_by("pk").values_list("pk", flat=True)[1]
    BulkDirective.objects.update(is_complete=False, asked=2, reached=reached)
    assert "Cut off." in text_of(browser, f"/hosts/asked/{NONCE}/")
    browser.post(f"/hosts/asked/{NONCE}/on/")
    assert len(asked_hosts()) == 3
    assert "Cut off." not in text_of(browser, f"/hosts/asked/{NONCE}/")
    browser.post(f"/hosts/asked/{NONCE}/back/")
    assert set(Directive.objects.values_list("state", flat=True)) == {DirectiveState.WITHDRAWN}


def test_a_pause_that_is_over_is_not_gone_on_with() -> None:
    for number in range(2):
        add_host(number)
    pause = Wish(kind=DirectiveKind.PAUSE, pause=timedelta(hours=1))
    ask(OLGA, Host.objects.all(), order(wish=pause))
    BulkDirective.objects.update(is_complete=False, asked=0, reached=0)
    with (
        rewired(clock=SetClock(START + timedelta(hours=2))),
        pytest.raises(UsageError, match="pause is over"),
    ):
        ask(OLGA, Host.objects.all(), order(wish=pause))
    assert len(asked_hosts()) == 2


def test_people_of_one_site_learn_no_names_of_others_from_an_act() -> None:
    north = add_site("north")
    add_host(0, site=north)
    ask(OLGA, Host.objects.all(), order())
    nora = signed_in(add_person("nora", Role.VIEWER, sites=(north,)))
    text = text_of(nora, f"/hosts/asked/{NONCE}/")
    assert "0</strong> of 1 hosts" in text
    assert "olga" not in text
    assert "search=pc" not in text


def test_pressing_twice_for_ticked_hosts_asks_once_and_the_audit_log_names_them() -> None:
    browser = signed_in(add_person("olga", Role.OPERATOR))
    records = [add_host(number).record for number in range(3)]
    asked = {"kind": "update-now", "record": records[:2], "nonce": NONCE}
    answers = [browser.post("/hosts/ask/", asked)["Location"] for _ in range(2)]
    assert answers == [f"/hosts/asked/{NONCE}/"] * 2
    assert asked_hosts() == ["pc-000", "pc-001"]
    entry = Entry.objects.get(action="hosts.direct")
    assert json.loads(entry.after or "null")["records"] == records[:2]


def test_an_act_that_is_not_there() -> None:
    browser = signed_in(add_person("olga", Role.OPERATOR))
    assert browser.get(f"/hosts/asked/{NONCE}/").status_code == 404


# -- API ---------------------------------------------------------------------------------------------


def test_programs_ask_many_hosts_and_follow_it() -> None:
    client = bearing(token_of(add_person("olga", Role.OPERATOR), Scope.READ, Scope.OPERATE))
    for number in range(3):
        add_host(number)
    wish = {"hosts": {"search": "pc"}, "kind": "update-now", "most": 2, "nonce": NONCE}
    url = "/api/v1/bulk-directives"
    refused = client.post(url, wish, content_type="application/json")
    assert refused.status_code == 422
    assert "you agreed to 2" in refused.json()["detail"]
    agreed = {**wish, "most": 3}
    made = [client.post(url, agreed, content_type="application/json") for _ in range(2)]
    assert [one.json()["states"]["queued"] for one in made] == [3, 3]
    assert client.get(url).json()["items"][0]["query"] == "search=pc"
    assert client.get(f"{url}/{NONCE}").json()["asked"] == 3
    assert client.delete(f"{url}/{NONCE}").json()["states"]["withdrawn"] == 3
    assert client.get(f"{url}/{'0' * 32}").status_code == 404
