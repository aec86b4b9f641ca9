"""The agent's long polls, against sources of every kind; and the thread that holds them."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.adapters.clock import SystemClock
from fleetward.adapters.http import HttpSession
from fleetward.agent.bell import ThreadBell
from fleetward.agent.longpolls import (
    FIRST_PAUSE,
    JITTER,
    MAX_PAUSE,
    UNABLE_PAUSE,
    Ladder,
    LongPolls,
)
from fleetward.agent.watching import Outlook
from fleetward.config.agent import NetworkSettings
from fleetward.wire.announcement import MAX_VERSION
from fleetward.wire.watch import LEAST_QUIET, Heard
from httpd.rawhttp import DEADLINE
from httpd.sample_repository import write
from httpd.upstreams import Asked, Out, Upstream, head, serving
from httpd.waiting import wait_until
from relay.watching import STAMP, TestOrigin
from support.fakes import FakeClock, SeededEntropy
from support.timestamps import timestamp

LONG = timedelta(seconds=DEADLINE)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def polls() -> Iterator[LongPolls]:
    made: list[HttpSession] = []

    def connect(_: NetworkSettings) -> HttpSession:
        made.append(HttpSession(SystemClock()))
        return made[-1]

    yield LongPolls(connect)
    for session in made:
        session.close()


# -- one long poll -------------------------------------------------------------------------------


def test_news_say_their_version(polls: LongPolls, tmp_path: Path) -> None:
    write(tmp_path, STAMP, timestamp(7))
    with TestOrigin(tmp_path) as origin:
        assert polls(Outlook(source=origin.url, after=6)) == (Heard.NEWS, 7)
        assert polls(Outlook(source=origin.url, after=0)) == (Heard.NEWS, 7)


ANSWERS = {
    "quiet": (head(None, status="204 No Content"), Heard.QUIET),
    "no long polls": (head(0, status="404 Not Found"), Heard.UNABLE),
    "forbidden": (head(0, status="403 Forbidden"), Heard.UNABLE),
    "gone": (head(0, status="410 Gone"), Heard.UNABLE),
    "over its limit": (head(0, status="503 Service Unavailable"), Heard.FAILED),
    "not allowed": (head(0, status="405 Method Not Allowed"), Heard.FAILED),
    "a redirect": (head(0, "Location: http://192.0.2.1/", status="302 Found"), Heard.FAILED),
    "no timestamp": (head(2) + b"{}", Heard.FAILED),
    "nothing": (head(0), Heard.FAILED),
    "no news": (head(len(timestamp(5))) + timestamp(5), Heard.FAILED),
    "endless data": (head(10**9) + b"x" * 100_000, Heard.FAILED),
    "cut": (head(500) + b"{", Heard.FAILED),
    "no HTTP": (b"SSH-2.0-nonsense\r\n\r\n", Heard.FAILED),
    "forged": (head(len(timestamp(MAX_VERSION))) + timestamp(MAX_VERSION), Heard.NEWS),
}


@pytest.mark.parametrize(("answer", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_every_answer_has_one_meaning(polls: LongPolls, answer: bytes, expected: Heard) -> None:
    async def script(_: Asked, out: Out) -> bool:
        await out.send(answer)
        return False

    with Upstream(script) as upstream:
        assert polls(Outlook(source=upstream.url, after=5))[0] is expected
        assert upstream.paths() == ["/v1/watch?after=5"]


def test_a_source_that_is_away(polls: LongPolls) -> None:
    with Upstream(serving({})) as upstream:
        url = upstream.url
    assert polls(Outlook(source=url)) == (Heard.FAILED, 0)


def test_a_source_that_is_no_url(polls: LongPolls) -> None:
    assert polls(Outlook(source="gopher://x")) == (Heard.FAILED, 0)


def test_other_network_settings_mean_another_session(tmp_path: Path) -> None:
    made: list[NetworkSettings] = []

    def connect(network: NetworkSettings) -> HttpSession:
        made.append(network)
        return HttpSession(SystemClock())

    polls = LongPolls(connect)
    write(tmp_path, STAMP, timestamp(7))
    with TestOrigin(tmp_path) as origin:
        other = NetworkSettings(ca_bundle=tmp_path)
        for network in (NetworkSettings(), NetworkSettings(), other):
            assert polls(Outlook(source=origin.url, network=network))[0] is Heard.NEWS
        polls._connected(other).close()
    assert made == [NetworkSettings(), other]


# -- the ladder ----------------------------------------------------------------------------------


def test_a_source_that_fails_is_asked_less_and_less() -> None:
    ladder = Ladder()
    pauses = [ladder.pause(Heard.FAILED, timedelta(), 0.5) for _ in range(40)]
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == MAX_PAUSE
    assert ladder.pause(Heard.QUIET, MINUTE, 0.5) == timedelta()
    assert ladder.pause(Heard.FAILED, timedelta(), 0.5) == FIRST_PAUSE
    assert ladder.pause(Heard.NEWS, timedelta(), 0.5) == timedelta()
    assert ladder.failures == 0


def test_a_source_that_answers_without_news_at_once_fails() -> None:
    """A relay that says 204 without waiting would make every host spin."""
    ladder = Ladder()
    assert ladder.pause(Heard.QUIET, LEAST_QUIET / 2, 0.5) == FIRST_PAUSE
    assert ladder.pause(Heard.QUIET, LEAST_QUIET / 2, 0.5) == 2 * FIRST_PAUSE
    assert ladder.pause(Heard.QUIET, LEAST_QUIET, 0.5) == timedelta()


def test_a_source_without_long_polls_is_tried_now_and_then() -> None:
    drawn = [Ladder().pause(Heard.UNABLE, timedelta(), n / 50) for n in range(50)]
    assert min(drawn) == UNABLE_PAUSE * (1 - JITTER)
    assert max(drawn) < UNABLE_PAUSE * (1 + JITTER)
    assert len(set(drawn)) == 50


# -- the thread ----------------------------------------------------------------------------------


class Script:
    """Long polls that end when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Outlook] = []
        self._answers: list[tuple[Heard, int]] = []
        self._more = threading.Condition()

    def __call__(self, outlook: Outlook) -> tuple[Heard, int]:
        with self._more:
            self.asked.append(outlook)
            self._more.notify_all()
            self._more.wait_for(lambda: self._answers)
            return self._answers.pop(0)

    def answer(self, heard: Heard, version: int = 0) -> None:
        with self._more:
            self._answers.append((heard, version))
            self._more.notify_all()

    def until_asked(self, times: int) -> None:
        with self._more:
            assert self._more.wait_for(lambda: len(self.asked) >= times, DEADLINE)


class Thread:
    """A bell whose waits end on other threads."""

    def __init__(self) -> None:
        self.script = Script()
        self.clock = FakeClock()
        self.bell = ThreadBell(self.script, self.clock, SeededEntropy())

    def wait(
        self, after: int, source: str | None = "http://relay", pause: timedelta = LONG
    ) -> bool:
        return self.bell.wait(Outlook(source=source, after=after), pause)

    def later(self, times: int, heard: Heard, version: int = 0) -> None:
        """Answer the next long poll once so many have been asked."""

        def act() -> None:
            self.script.until_asked(times)
            self.script.answer(heard, version)

        threading.Thread(target=act, daemon=True).start()


def test_news_ring() -> None:
    thread = Thread()
    thread.later(1, Heard.NEWS, 6)
    assert thread.wait(5)
    thread.later(2, Heard.NEWS, 7)
    assert thread.wait(6)
    assert [outlook.after for outlook in thread.script.asked] == [5, 6]


def test_a_pause_ends_without_news() -> None:
    thread = Thread()
    assert not thread.wait(5, pause=timedelta(milliseconds=1))
    assert not thread.wait(5, source=None, pause=timedelta(milliseconds=1))


def test_what_a_check_has_found_meanwhile_is_no_news() -> None:
    """The long poll of an earlier wait is answered late; the version is the host's own by now."""
    thread = Thread()
    assert not thread.wait(5, pause=timedelta(milliseconds=1))
    thread.script.until_asked(1)

    def act() -> None:
        wait_until(lambda: thread.bell.after == 6)
        thread.script.answer(Heard.NEWS, 6)
        thread.script.until_asked(2)
        thread.script.answer(Heard.NEWS, 7)

    threading.Thread(target=act, daemon=True).start()
    assert thread.wait(6)
    assert [outlook.after for outlook in thread.script.asked] == [5, 6]


def test_quiet_polls_follow_each_other() -> None:
    thread = Thread()
    thread.clock.on_sleep = None

    def act() -> None:
        for n in range(1, 4):
            thread.script.until_asked(n)
            thread.clock.advance(MINUTE)
            thread.script.answer(Heard.QUIET)
        thread.script.until_asked(4)
        thread.script.answer(Heard.NEWS, 6)

    threading.Thread(target=act, daemon=True).start()
    assert thread.wait(5)
    assert len(thread.script.asked) == 4


def test_another_source_ends_the_pause_of_a_failing_one() -> None:
    thread = Thread()
    thread.later(1, Heard.FAILED)
    assert not thread.wait(5, pause=timedelta(milliseconds=1))
    thread.later(2, Heard.NEWS, 6)
    assert thread.wait(5, source="http://other")
    assert [outlook.source for outlook in thread.script.asked] == ["http://relay", "http://other"]


def test_an_announcement_rings_too_and_is_over_with_the_next_wait() -> None:
    thread = Thread()
    threading.Timer(0.01, thread.bell.ring).start()
    assert thread.wait(5)
    thread.bell.ring()
    assert not thread.wait(5, pause=timedelta(milliseconds=1))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_begun_anew() -> None:
    """A bug in one long poll must not leave the host to its polls for ever."""
    asked: list[Outlook] = []

    def poll(outlook: Outlook) -> tuple[Heard, int]:
        asked.append(outlook)
        if len(asked) == 1:
            raise RuntimeError("a bug")
        return Heard.NEWS, 6

    bell = ThreadBell(poll, FakeClock(), SeededEntropy())
    assert not bell.wait(Outlook(source="http://relay", after=5), timedelta(milliseconds=1))
    wait_until(lambda: bell._thread is not None and not bell._thread.is_alive())
    assert bell.wait(Outlook(source="http://relay", after=5), LONG)
