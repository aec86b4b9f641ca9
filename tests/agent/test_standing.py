"""What the console's word changes in a run: the record by which waves go, and pauses."""

import threading
from datetime import timedelta

import pytest

from fleetward.agent.regular import RegularReports
from fleetward.errors import NetworkError
from support.fakes import SeededEntropy

DEADLINE = 10


class Reports:
    """Answers of a console, one after another; the last one goes on."""

    def __init__(self, *answers: str | Exception | None) -> None:
        self._answers = list(answers)
        self.made = threading.Semaphore(0)

    def __call__(self) -> str | None:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        self.made.release()
        if isinstance(answer, Exception):
            raise answer
        return answer


def make(reports: Reports, lines: list[str], interval: timedelta) -> RegularReports:
    return RegularReports(reports, SeededEntropy(1), lines.append, interval)


def test_a_run_makes_a_report_at_once() -> None:
    reports, lines = Reports(None), []  # type: tuple[Reports, list[str]]
    regular = make(reports, lines, timedelta(hours=1))
    regular.start()
    for _ in range(3):
        regular.wake()
        assert reports.made.acquire(timeout=DEADLINE)
    regular.stop()
    assert lines == []


def test_without_a_run_the_pause_passes() -> None:
    reports, lines = Reports(None), []  # type: tuple[Reports, list[str]]
    regular = make(reports, lines, timedelta(milliseconds=1))
    regular.start()
    for _ in range(3):
        assert reports.made.acquire(timeout=DEADLINE)
    regular.stop()


def test_a_failure_is_told_when_it_begins_and_when_it_is_over() -> None:
    """The console is away for three reports, and says something else at one of them."""
    away = NetworkError("away")
    reports, lines = Reports(away, away, "refused", None), []  # type: tuple[Reports, list[str]]
    regular = make(reports, lines, timedelta(hours=1))
    regular.start()
    for _ in range(5):
        regular.wake()
        assert reports.made.acquire(timeout=DEADLINE)
    regular.stop()
    assert lines == [
        "no report to the console: away",
        "no report to the console: refused",
        "reports again",
    ]


def test_stopping_waits_for_nothing_that_has_not_begun() -> None:
    reports, lines = Reports(None), []  # type: tuple[Reports, list[str]]
    regular = make(reports, lines, timedelta(hours=1))
    regular.start()
    regular.stop()
    assert not reports.made.acquire(blocking=False)


@pytest.mark.parametrize("answer", [None, "away"])
def test_a_report_under_way_is_waited_for(answer: str | None) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def report() -> str | None:
        begun.set()
        assert may_end.wait(DEADLINE)
        return answer

    regular = RegularReports(report, SeededEntropy(1), lambda _: None)
    regular.start()
    regular.wake()
    assert begun.wait(DEADLINE)
    threading.Timer(0.02, may_end.set).start()
    regular.stop()
    assert may_end.is_set()
