"""The pages of rollouts: what they say, to whom, and what they keep to themselves."""

from collections.abc import Iterator

import pytest
from django.test import Client

from console.cast import SetClock, add_person, add_site, signed_in
from console.rollouts.plans import (
    HOUR,
    MINUTE,
    add_channel,
    add_follower,
    add_release,
    move,
    numbers,
    tell,
)
from fleetward.console.catalogue.models import Channel, Product
from fleetward.console.fleet.models import Host
from fleetward.console.organisation.models import Site
from fleetward.console.permissions import Role
from fleetward.console.rollouts.counting import count_when_due
from fleetward.console.wiring import rewired
from support.fakes import START

pytestmark = pytest.mark.django_db

EARLY, LATE = numbers(0, 20), numbers(20, 100)


@pytest.fixture(autouse=True)
def _now() -> Iterator[None]:
    with rewired(clock=SetClock(START)):
        yield


@pytest.fixture
def browser() -> Client:
    return signed_in(add_person("vera", Role.VIEWER))


@pytest.fixture
def berlin() -> Site:
    return add_site("berlin")


@pytest.fixture
def fleet(berlin: Site) -> list[Host]:
    """Return hosts of which most took r2, two went back, one is gone, one is behind."""
    add_channel()
    hosts = [add_follower(number, "r2", since=START - HOUR / 2) for number in EARLY[:6]]
    for number, reason in zip(EARLY[6:8], ("sig 12: syntax error",) * 2, strict=True):
        hosts.append(add_follower(number, state="rolled-back", since=START - MINUTE, site=berlin))
        tell(hosts[-1], detail=reason)
    hosts.append(add_follower(EARLY[8], "r2", "trial", since=START - HOUR, seen=START - HOUR))
    hosts.append(add_follower(EARLY[9]))
    hosts.append(add_follower(LATE[0]))
    count_when_due(START)
    return hosts


def see(browser: Client, path: str, **headers: str) -> str:
    answer = browser.get(path, headers=headers)
    assert answer.status_code == 200, answer.content
    text: str = answer.content.decode()
    return " ".join(text.split())


def test_the_list_says_what_is_open_and_how_far_it_is(browser: Client, fleet: list[Host]) -> None:
    page = see(browser, "/rollouts/")
    assert 'href="/rollouts/yara/stable/"' in page
    assert "2 of 3 waves" in page
    assert "<dd>9 <small>of 11</small></dd>" in page
    assert 'aria-label="Wave 2: 6 confirmed, 2 failed, 1 silent, 1 behind"' in page
    assert "ring canary" in page
    assert "20 % of the hosts" in page
    assert page.count('<span class="badge good">open</span>') == 2
    assert len(fleet) == 11


def test_the_list_narrows_by_name_state_and_site(browser: Client, berlin: Site) -> None:
    add_channel()
    add_channel("sigma", state="complete", open=3)
    add_channel("sigma", "canary", state="halted")
    add_follower(EARLY[0], site=berlin)
    add_follower(EARLY[1])
    count_when_due(START)

    def listed(query: str) -> set[str]:
        page = see(browser, f"/rollouts/?{query}")
        names = ("yara/stable", "sigma/stable", "sigma/canary")
        return {name for name in names if f'href="/rollouts/{name}/' in page}

    assert listed("") == {"yara/stable", "sigma/stable", "sigma/canary"}
    assert listed("search=SIG") == {"sigma/stable", "sigma/canary"}
    assert listed("search=canary") == {"sigma/canary"}
    assert listed("state=open") == {"yara/stable", "sigma/canary"}
    assert listed("state=halted") == {"sigma/canary"}
    assert listed("state=nonsense") == listed("")
    assert listed("search=%00") == listed("")
    assert "<dd>0 <small>of 2</small></dd>" in see(browser, "/rollouts/?search=yara")
    narrowed = see(browser, "/rollouts/?site=berlin")
    assert "<dd>0 <small>of 1</small></dd>" in narrowed
    assert 'href="/rollouts/yara/stable/?site=berlin"' in narrowed
    assert "No rollout fits" in see(browser, "/rollouts/?search=clamav")


def test_before_anything_is_published_the_page_says_what_brings_rollouts(browser: Client) -> None:
    assert "fleetward origin publish" in see(browser, "/rollouts/")


def test_rollouts_under_way_come_before_complete_ones(browser: Client) -> None:
    add_channel("aaa", state="complete", open=3)
    add_channel("zzz")
    page = see(browser, "/rollouts/")
    assert page.index("/rollouts/zzz/") < page.index("/rollouts/aaa/")


def test_the_list_refreshes_itself(browser: Client, fleet: list[Host]) -> None:
    part = see(browser, "/rollouts/?state=open", **{"HX-Request": "true"})
    assert part.startswith('<div class="stack" id="rollouts" hx-get="/rollouts/?state=open"')
    assert str(len(fleet)) in part


def test_a_rollout_is_told_in_sentences(browser: Client, fleet: list[Host]) -> None:
    page = see(browser, "/rollouts/yara/stable/")
    assert "Wave 2 of 3 (20 % of the hosts) is open since 2026-11-24 01:00 UTC." in page
    assert "The next is wave 3 (100 % of the hosts)." in page
    assert "9 of 10 hosts in the open waves took it: 6 confirmed, 2 failed, 1 silent since." in page
    assert "It failed on 2 hosts: 2 went back (sig 12: syntax error)." in page
    assert "1 host took it and was not heard from since." in page
    assert "1 host may take it, and it has not yet." in page
    assert len(fleet) == 11


def test_the_hosts_that_need_a_look_come_with_their_own_words(
    browser: Client, fleet: list[Host]
) -> None:
    page = see(browser, "/rollouts/yara/stable/")
    hosts = page[page.index('id="hosts"') : page.index('id="explained"')]
    assert hosts.count("rolled-back: sig 12: syntax error") == 2
    assert fleet[8].name in hosts
    assert f">{fleet[9].name}<" not in hosts, "it is behind, as all are when a wave opens"
    behind = see(browser, "/rollouts/yara/stable/?standing=behind")
    assert f">{fleet[9].name}<" in behind
    assert f">{fleet[0].name}<" not in hosts, "it is well"
    confirmed = see(browser, "/rollouts/yara/stable/?standing=confirmed&wave=2")
    assert f">{fleet[0].name}<" in confirmed
    waiting = see(browser, "/rollouts/yara/stable/?standing=all&wave=3")
    assert f">{fleet[10].name}<" in waiting
    assert f">{fleet[0].name}<" not in waiting
    at_site = see(browser, "/rollouts/yara/stable/?site=berlin&standing=all")
    assert f">{fleet[6].name}<" in at_site
    assert f">{fleet[0].name}<" not in at_site
    assert "It failed on 2 hosts" in at_site
    assert "No host stands so" in see(browser, "/rollouts/yara/stable/?standing=vanished")


def test_many_hosts_come_in_pages(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetward.console.rollouts.views.ROWS", 3)
    add_channel()
    hosts = [add_follower(number) for number in EARLY[:5]]
    count_when_due(START)
    page = see(browser, "/rollouts/yara/stable/?standing=behind")
    assert page.count("Why?") == 3
    start = page.index("?standing=behind&amp;after=")
    link = page[start : page.index('#hosts"', start)].replace("&amp;", "&")
    rest = see(browser, f"/rollouts/yara/stable/{link}")
    assert rest.count("Why?") == 2
    names = [host.name for host in hosts]
    assert all((f">{name}<" in page) != (f">{name}<" in rest) for name in names)


def test_why_a_host_has_it_or_not(browser: Client, fleet: list[Host]) -> None:
    page = see(browser, f"/rollouts/yara/stable/?host={fleet[6].name}")
    assert f"{fleet[6].name} tried r2 and does not run it: sig 12: syntax error." in page
    waits = see(browser, f"/rollouts/yara/stable/?host={fleet[10].record}")
    assert "does not have r2, since the host&#x27;s wave is not open." in waits
    assert "wave 3 of 3 (100 % of the hosts), which is not open" in waits
    assert "There is no host “nobody”" in see(browser, "/rollouts/yara/stable/?host=nobody")
    Host.objects.update(name="twin")
    assert "Several hosts are called" in see(browser, "/rollouts/yara/stable/?host=twin")


def test_what_happened_is_told_from_the_verified_documents(browser: Client) -> None:
    row = add_channel()
    move(row, START - HOUR, 0, kind="release")
    move(row, START - 20 * MINUTE, 1)
    move(row, START - 10 * MINUTE, 1, kind="state", state="halted")
    page = see(browser, "/rollouts/yara/stable/")
    history = page[page.index('id="history"') :]
    assert history.index("is halted") < history.index("1 of 3 waves open") < history.index("→")
    assert "2026-11-24 01:50:00 UTC, with timestamp 7" in history


def test_the_live_part_is_the_part_alone(browser: Client, fleet: list[Host]) -> None:
    part = see(browser, "/rollouts/yara/stable/", **{"HX-Request": "true"})
    assert part.startswith('<div class="stack" id="rollout"')
    assert "Wave 2 of 3" in part
    assert 'id="hosts"' not in part
    assert len(fleet) == 11


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("paused", "It is paused. Hosts of the open waves still take the release."),
        ("halted", "It is halted."),
        ("reverting", "It is on its way back to the release before."),
        ("complete", "It is complete."),
    ],
)
def test_a_state_is_said_in_words(browser: Client, state: str, words: str) -> None:
    add_channel(state=state)
    assert words in see(browser, "/rollouts/yara/stable/")


def test_a_channel_without_a_plan_says_so(browser: Client) -> None:
    add_channel(plan="now", waves=[], open=0, state="complete")
    add_follower(EARLY[0], "r2", since=START - HOUR / 2)
    count_when_due(START)
    page = see(browser, "/rollouts/yara/stable/")
    assert "The channel has no plan: r2 has been open to all hosts at once since" in page
    assert "1 of 1 host took it: 1 confirmed." in page
    assert "All at once" in page
    assert "to all at once" in see(browser, "/rollouts/")


def test_what_was_counted_for_another_release_is_not_shown_for_this_one(browser: Client) -> None:
    row = add_channel()
    add_follower(EARLY[0], "r2", since=START - HOUR / 2)
    count_when_due(START)
    third = add_release(Product.objects.get(), 3)
    Channel.objects.filter(pk=row.pk).update(release=third, points_at="r3", since=START)
    page = see(browser, "/rollouts/yara/stable/")
    assert "Its hosts are being counted." in page
    assert "1 confirmed" not in page
    assert "<small>being counted</small>" in see(browser, "/rollouts/")
    count_when_due(START)
    assert "1 host may take it" in see(browser, "/rollouts/yara/stable/")


def test_places_that_are_not_known_yet_are_not_guessed(browser: Client) -> None:
    add_channel(salt=None)
    host = add_follower(EARLY[0])
    count_when_due(START)
    page = see(browser, f"/rollouts/yara/stable/?host={host.record}")
    assert "will be known once the repository was read again" in page
    assert "Its place is not known until the repository was read again" in page


def test_a_release_that_only_online_keys_vouch_for_stands_out(browser: Client) -> None:
    add_channel(release=None, points_at="evil")
    page = see(browser, "/rollouts/yara/stable/")
    assert "not vouched for" in page


def test_somebody_of_one_site_sees_its_hosts_alone(fleet: list[Host], berlin: Site) -> None:
    olga = signed_in(add_person("olga", Role.OPERATOR, sites=(berlin,)))
    page = see(olga, "/rollouts/yara/stable/?standing=all")
    assert "2 of 2 hosts" in page
    assert f">{fleet[6].name}<" in page
    assert f">{fleet[0].name}<" not in page
    asked = see(olga, f"/rollouts/yara/stable/?host={fleet[0].record}")
    assert "or not at your sites" in asked
    assert "<dd>2 <small>of 2</small></dd>" in see(olga, "/rollouts/")
    porto = add_site("porto")
    pia = signed_in(add_person("pia", Role.OPERATOR, sites=(porto,)))
    assert "syntax error" not in see(pia, "/rollouts/yara/stable/?standing=all")


def test_what_is_not_there_is_404(browser: Client) -> None:
    add_channel()
    for path in ("/rollouts/yara/canary/", "/rollouts/none/stable/", "/rollouts/a%00b/stable/"):
        assert browser.get(path).status_code == 404


def test_the_overview_shows_what_is_under_way(browser: Client, fleet: list[Host]) -> None:
    page = see(browser, "/")
    assert 'hx-get="/panels/rollouts/"' in page
    panel = see(browser, "/panels/rollouts/")
    assert 'href="/rollouts/yara/stable/"' in panel
    assert "9 of 11 hosts took it · 2 of 3 waves open; next: 100 % of the hosts" in panel
    Channel.objects.update(open=0, state="paused")
    assert "0 of 3 waves open; next: ring canary" in see(browser, "/panels/rollouts/")
    Channel.objects.update(state="complete", open=3)
    assert "None: every channel is complete" in see(browser, "/panels/rollouts/")
    assert len(fleet) == 11


def test_nothing_on_the_pages_acts(browser: Client, fleet: list[Host]) -> None:
    """No button opens a wave: this console holds no key that could sign it."""
    page = see(browser, "/rollouts/yara/stable/")
    main = page[page.index("<main") :]
    assert 'method="post"' not in main
    for word in ("Pause", "Resume", "Halt", "Revert", "Open the next"):
        assert f">{word}" not in main
    assert browser.post("/rollouts/yara/stable/", {"act": "open"}).status_code == 405
    assert len(fleet) == 11


def test_words_of_hosts_are_text(browser: Client) -> None:
    add_channel()
    host = add_follower(EARLY[0], state="rejected", since=START - MINUTE)
    tell(host, "rejected", "<script>alert(1)</script>")
    count_when_due(START)
    page = see(browser, f"/rollouts/yara/stable/?host={host.record}")
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 3
