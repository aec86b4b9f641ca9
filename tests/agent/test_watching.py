"""What wakes an agent between its checks, and how little false news can make it do."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleetward.agent.running import run_loop
from fleetward.agent.updating import LastCheck, UpdateReport
from fleetward.agent.watching import FIRST_DEAFNESS, Listening, Outlook
from fleetward.errors import ConfigurationError, NetworkError
from support.fakes import START, FakeClock, SeededEntropy

POLL = timedelta(minutes=10)
REPORT = UpdateReport("host", LastCheck(START, "http://relay", frozen=False, error=None), ())


class ScriptedBell:
    """Rings as the test says: each entry is after how long, or None for never."""

    def __init__(self, clock: FakeClock, *rings: timedelta | None) -> None:
        self.rings = list(rings)
        self.outlooks: list[Outlook] = []
        self._clock = clock

    def wait(self, outlook: Outlook, pause: timedelta) -> bool:
        self.outlooks.append(outlook)
        ring = self.rings.pop(0) if self.rings else None
        self._clock.advance(pause if ring is None else min(ring, pause))
        return ring is not None and ring < pause


class Host:
    """An agent's waits, over time that passes by itself."""

    def __init__(self, *rings: timedelta | None, version: int = 5) -> None:
        self.clock = FakeClock()
        self.version = version
        self.bell = ScriptedBell(self.clock, *rings)
        self.wait = Listening(self.outlook, self.bell, self.clock, SeededEntropy())

    def outlook(self, _: UpdateReport) -> Outlook:
        return Outlook(source="http://relay", after=self.version, spread=timedelta(seconds=1))

    def pass_one(self) -> timedelta:
        """Wait once, and return how long that took."""
        began = self.clock.monotonic()
        self.wait(REPORT, POLL)
        return self.clock.monotonic() - began


NOW = timedelta()
SOON = timedelta(seconds=3)


def test_without_news_the_pause_is_the_ordinary_one() -> None:
    """A freezing relay answers nothing: the agent checks as often as ever."""
    host = Host()
    assert [host.pass_one() for _ in range(5)] == [POLL] * 5
    assert host.bell.outlooks[0].after == 5


def test_news_end_the_pause_after_a_small_random_delay() -> None:
    host = Host(SOON, SOON)
    first = host.pass_one()
    host.version = 6
    second = host.pass_one()
    assert SOON <= first < SOON + timedelta(seconds=1)
    assert SOON <= second < SOON + timedelta(seconds=1)
    assert first != second
    assert [outlook.after for outlook in host.bell.outlooks] == [5, 6]


def test_a_relay_forges_news_all_the_time() -> None:
    """Fast-forward: a relay serves a forged timestamp, and answers every long poll at once.

    Each check finds that nothing verified is newer. The agent listens less and less, and checks
    at most twice as often as its ordinary polls once the doubling has ended.
    """
    host = Host(*[NOW] * 100)
    waits = [host.pass_one() for _ in range(20)]
    assert waits[0] < timedelta(seconds=1)
    assert FIRST_DEAFNESS <= waits[1] < FIRST_DEAFNESS + timedelta(seconds=1)
    assert waits[2] >= 2 * FIRST_DEAFNESS
    assert all(wait >= POLL / 2 for wait in waits[7:])
    assert sum(waits, timedelta()) > 13 * POLL / 2


def test_true_news_are_heard_again_after_false_ones() -> None:
    host = Host(*[NOW] * 12)
    for _ in range(10):
        host.pass_one()
    host.version = 6
    assert host.pass_one() < timedelta(seconds=1)
    host.version = 7
    assert host.pass_one() < timedelta(seconds=1)


def test_a_quiet_pause_forgets_nothing_and_forgives_nothing() -> None:
    host = Host(NOW, NOW, None, NOW)
    for _ in range(3):
        host.pass_one()
    assert host.pass_one() >= 2 * FIRST_DEAFNESS


def test_a_run_that_could_not_begin_is_followed_by_plain_sleep() -> None:
    host = Host(NOW)
    host.wait(None, POLL)
    assert host.clock.slept == [POLL]
    assert host.bell.outlooks == []


def test_damaged_settings_are_followed_by_plain_sleep() -> None:
    host = Host(NOW)

    def damaged(_: UpdateReport) -> Outlook:
        raise ConfigurationError("agent.toml: unknown key")

    host.wait = Listening(damaged, host.bell, host.clock, SeededEntropy())
    assert host.pass_one() == POLL


@given(st.lists(st.tuples(st.sampled_from([None, NOW, SOON]), st.booleans()), max_size=60))
def test_false_news_never_cost_more_than_twice_the_polls_in_the_long_run(
    steps: list[tuple[timedelta | None, bool]],
) -> None:
    host = Host(*[ring for ring, _ in steps])
    true_news, waits = 0, list[timedelta]()
    for ring, is_true in steps:
        waits.append(host.pass_one())
        if ring is not None and is_true:
            true_news += 1
            host.version += 1
    took = sum(waits, timedelta())
    allowed = true_news * 7 + 7 + took / (POLL / 2)
    assert len(waits) <= allowed


def test_the_loop_waits_so() -> None:
    host = Host(SOON, None)
    reports: list[UpdateReport | None] = []
    happens: list[bool] = [True, False, True]

    def update() -> tuple[UpdateReport, timedelta]:
        if not happens.pop(0):
            raise NetworkError("unplugged")
        return REPORT, POLL

    def wait(report: UpdateReport | None, pause: timedelta) -> None:
        reports.append(report)
        host.wait(report, pause)

    run_loop(update, host.clock, SeededEntropy(), lambda _: None, runs=3, wait=wait)
    assert reports == [REPORT, None, REPORT]
    assert len(host.bell.outlooks) == 2
