"""Asking relays, over real HTTP, and what is kept of their answers."""

import socket
from collections.abc import Iterator
from datetime import timedelta

import pytest

from console.cast import SetClock, add_site
from console.overview.generated import SITES, Plan, generate
from console.relays.relayserver import Answers, relay_server
from fleetward.config.console import KnownRelay, RelaysSettings
from fleetward.config.strict import parse_settings
from fleetward.console.catalogue.models import Repository
from fleetward.console.relays.listing import name_of, take_settings, take_signed
from fleetward.console.relays.models import HOUR, MINUTE, Listed, Relay, Sample, Turn
from fleetward.console.relays.polling import AskByHttp, count_hosts, newest_version, poll
from fleetward.console.relays.turns import LEASE, take_turn
from fleetward.core.fleet import Relays, Site
from fleetward.errors import ConfigurationError
from support.fakes import START

pytestmark = pytest.mark.django_db

STEP = timedelta(minutes=1)


@pytest.fixture
def relay() -> Iterator[Answers]:
    with relay_server() as answers:
        yield answers


@pytest.fixture
def clock() -> SetClock:
    return SetClock(START)


class Poller:
    """Polls, with a clock that goes on by a minute each time."""

    def __init__(self, *urls: str) -> None:
        self.now = START
        self.settings = RelaysSettings(known=tuple(KnownRelay(url=url) for url in urls))
        self.ask = AskByHttp(SetClock(START), self.settings)

    def __call__(self, pause: timedelta = STEP) -> None:
        self.now += pause
        poll(self.ask, self.settings, self.now)
        self.ask.close()


def test_two_answers_make_a_sample_of_what_happened_between_them(relay: Answers) -> None:
    poller = Poller(relay.url)
    relay.say({"hits": 100, "misses": 9, "upstream_bytes": 50, "delivered_bytes": 500}, version=7)
    poller()
    relay.say({"hits": 160, "misses": 10, "upstream_bytes": 70, "delivered_bytes": 900}, version=8)
    poller()
    minutes = list(Sample.objects.filter(span=MINUTE).order_by("at"))
    assert [(each.hits, each.misses) for each in minutes] == [(0, 0), (60, 1)]
    hour = Sample.objects.get(span=HOUR)
    assert (hour.asked, hour.answered, hour.hits) == (2, 2, 60)
    assert (hour.upstream_bytes, hour.delivered_bytes) == (20, 400)
    row = Relay.objects.get()
    assert (row.version, row.version_since, row.problem) == (8, START + 2 * STEP, "")


def test_a_relay_that_freezes_stands_out_against_the_others(relay: Answers) -> None:
    """One relay keeps serving version 5 while another goes on: its lag grows in its history."""
    with relay_server() as honest:
        poller = Poller(relay.url, honest.url)
        for version in (5, 9, 30):
            relay.say({}, version=5)
            honest.say({}, version=version)
            poller()
    frozen = Relay.objects.get(url=relay.url)
    lags = frozen.samples.filter(span=MINUTE).order_by("at").values_list("lag", flat=True)
    assert list(lags) == [0, 4, 25]
    assert newest_version() == 30


def test_relays_that_all_freeze_together_are_seen_by_what_the_console_verified(
    relay: Answers,
) -> None:
    Repository.objects.create(pk=1, url="https://o", timestamp=90)
    relay.say({}, version=5)
    Poller(relay.url)()
    assert Sample.objects.filter(lag=85).count() == 2


def test_a_relay_without_a_timestamp_says_what_it_follows(relay: Answers) -> None:
    relay.say({"closure": {"version": 4}})
    Poller(relay.url)()
    row = Relay.objects.get()
    assert row.version == 4
    assert row.problem.startswith("its timestamp:")
    assert row.answered == row.polled


def test_a_relay_that_does_not_answer_keeps_what_it_said(relay: Answers) -> None:
    poller = Poller(relay.url)
    relay.say({"hits": 7, "storage": {"bytes": 3}}, version=2)
    poller()
    relay.put("/v1/relay", b"down", status=503)
    poller()
    poller()
    row = Relay.objects.get()
    assert (row.answered, row.polled) == (START + STEP, START + 3 * STEP)
    assert row.problem_since == START + 2 * STEP
    assert row.said["stored_bytes"] == 3
    hour = Sample.objects.get(span=HOUR)
    assert (hour.asked, hour.answered) == (3, 1)
    relay.say({"hits": 9}, version=2)
    poller()
    row.refresh_from_db()
    assert not row.problem
    assert Relay.objects.filter(problem_since=None).exists()
    assert Sample.objects.filter(span=MINUTE).order_by("-at")[0].hits == 2


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (302, b"", {"Location": "http://169.254.169.254/latest/meta-data/"}),
        (200, b"x" * 300_000, {}),
        (200, b"<html>log in</html>", {}),
        (200, b"{}", {"Content-Encoding": "gzip"}),
        (404, b"", {}),
    ],
)
def test_a_relay_that_misbehaves_is_a_problem_and_no_more(
    relay: Answers, status: int, body: bytes, headers: dict[str, str]
) -> None:
    """A redirect into the cloud's metadata, endless data, a login page: each is one sentence."""
    relay.put("/v1/relay", body, status, **headers)
    Poller(relay.url)()
    row = Relay.objects.get()
    assert row.answered is None
    assert row.problem
    assert relay.asked == ["/v1/relay"]


def test_nobody_listens_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        Poller(f"http://127.0.0.1:{taken.getsockname()[1]}")()
    assert Relay.objects.get().problem


def test_old_samples_go(relay: Answers) -> None:
    relay.say({}, version=1)
    poller = Poller(relay.url)
    poller()
    poller(timedelta(days=2))
    assert Sample.objects.filter(span=MINUTE).count() == 1
    assert Sample.objects.filter(span=HOUR).count() == 2
    poller(timedelta(days=91))
    assert Sample.objects.filter(span=HOUR).count() == 1


def test_hosts_are_counted_by_what_their_check_ins_say() -> None:
    generate(START, Plan(hosts=80, silent=0, frozen=1.0, minutes=()))
    count_hosts(Relay.objects.all(), newest_version())
    found = {row.name: (row.hosts, row.hosts_behind) for row in Relay.objects.all()}
    assert found["relay1.osaka.meridian.example:2967"] == (80 // len(SITES), 80 // len(SITES))
    assert found["relay1.berlin.meridian.example:2967"] == (80 // len(SITES), 0)
    assert found["relay2.berlin.meridian.example:2967"] == (0, 0)


# -- which relays ------------------------------------------------------------------------------------


def listed() -> dict[str, tuple[str, str | None]]:
    return {
        row.name: (row.listed, row.site.name if row.site else None)
        for row in Relay.objects.select_related("site")
    }


def test_relays_come_from_the_signed_list_and_the_settings() -> None:
    add_site("berlin")
    site = Site(name="berlin", subnets=("10.1.0.0/16",), relays=("http://a:2967", "http://b:2967"))
    signed = Relays(sites=(site,), default=("https://c",))
    take_signed(signed, START)
    take_settings([KnownRelay(url="http://a:2967"), KnownRelay(url="http://d:1", site="no")], START)
    assert listed() == {
        "a:2967": (Listed.SIGNED, "berlin"),
        "b:2967": (Listed.SIGNED, "berlin"),
        "c": (Listed.SIGNED, None),
        "d:1": (Listed.SETTINGS, None),
    }
    take_signed(Relays(), START)
    take_settings([], START)
    assert {by for by, _ in listed().values()} == {Listed.NOBODY}
    take_signed(signed, START)
    assert listed()["a:2967"] == (Listed.SIGNED, "berlin")
    take_signed(None, START)
    assert listed()["a:2967"][0] == Listed.NOBODY


def test_a_relay_that_nobody_lists_is_not_asked(relay: Answers) -> None:
    relay.say({}, version=1)
    poller = Poller(relay.url)
    poller()
    poller.settings = RelaysSettings()
    relay.asked.clear()
    poller()
    assert relay.asked == []


def test_a_relay_is_named_as_hosts_name_it() -> None:
    assert name_of("http://user:pass@relay.example:2967/") == "relay.example:2967"
    assert name_of("https://[2001:db8::1]/up") == "[2001:db8::1]/up"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[[known]]\nurl = "ftp://x"', "no URL"),
        ('[[known]]\nurl = "http://x/"', "write 'http://x'"),
        ("poll = 0.5", "under a second"),
        ('[[known]]\nurl = "http://x"\n[[known]]\nurl = "http://x"', "twice"),
    ],
)
def test_settings_that_cannot_be(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        parse_settings(text, RelaysSettings)


# -- whose turn it is --------------------------------------------------------------------------------


def test_one_process_works_until_it_is_silent() -> None:
    assert take_turn("relays", START, "one")
    assert not take_turn("relays", START + STEP, "two")
    assert take_turn("relays", START + STEP, "one")
    assert take_turn("alerts", START, "two")
    assert take_turn("relays", START + 2 * STEP + LEASE, "two")
    assert not take_turn("relays", START + 2 * STEP + LEASE, "one")
    assert Turn.objects.count() == 2
