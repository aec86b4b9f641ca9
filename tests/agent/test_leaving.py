"""A host leaves its console: said, acknowledged, forgotten; in that order, whatever fails."""

from collections.abc import Generator
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.test_reporting_to_console import SEEN, Scene
from fleetward.adapters.http import HttpSession
from fleetward.agent.checkins import Outcome, Way
from fleetward.agent.enrolling import HOST_KEY_FILE, load_enrolled
from fleetward.agent.leaving import Left, forget, leave
from fleetward.core.enrolment import Standing
from fleetward.core.status import EventKind
from fleetward.errors import BusyError, ConfigurationError, NetworkError
from support.fakes import FakeClock
from support.simdisk import Aftermath, PowerLossError
from support.standinconsole import stand_in_console


@pytest.fixture
def scene() -> Generator[Scene]:
    clock = FakeClock()
    session = HttpSession(clock)
    with stand_in_console(clock) as console:
        yield Scene(clock, console, session)
    session.close()


def leave_it(scene: Scene, patience: timedelta = timedelta(seconds=30)) -> Left:
    reporter = scene.reporter()
    return leave(reporter, lambda: reporter.report(SEEN), scene.clock, patience)


def test_a_host_leaves_and_nothing_of_the_console_is_left(scene: Scene) -> None:
    enrolled = scene.enrol()
    scene.reporter().report(SEEN)
    assert leave_it(scene) == Left(enrolled.pins.console, 0)
    assert scene.kinds()[-1] == EventKind.LEFT.value
    assert load_enrolled(scene.home) is None
    assert scene.disk.listing(scene.home.path) == ["reports.lock"]
    assert scene.reporter().report(SEEN).way is Way.NOT_ENROLLED


def test_it_may_enrol_again_with_a_new_key(scene: Scene) -> None:
    scene.enrol()
    before = scene.disk.read(scene.home.path / HOST_KEY_FILE)
    leave_it(scene)
    scene.enrol()
    assert scene.disk.read(scene.home.path / HOST_KEY_FILE) != before
    assert scene.reporter().report(SEEN).pending == 0


def test_while_the_console_is_away_nothing_is_forgotten(scene: Scene) -> None:
    scene.enrol()
    scene.console.is_away = True
    with pytest.raises(NetworkError, match="--forget"):
        leave_it(scene, patience=timedelta(seconds=5))
    assert load_enrolled(scene.home) is not None
    scene.console.is_away = False
    assert leave_it(scene).unsaid == 0
    assert EventKind.LEFT.value in scene.kinds()


def test_an_acknowledgement_that_takes_a_while_is_waited_for(scene: Scene) -> None:
    """A relay has taken the check-in, and the console's word comes with a later report."""
    scene.enrol()
    reporter = scene.reporter()
    outcomes: list[Outcome] = []

    def slow_report() -> Outcome:
        if len(outcomes) < 3:
            outcomes.append(Outcome(Way.CARRIED, pending=1))
            return outcomes[-1]
        return reporter.report(SEEN)

    leave(reporter, slow_report, scene.clock, timedelta(seconds=30))
    assert EventKind.LEFT.value in scene.kinds()
    assert load_enrolled(scene.home) is None


def test_a_console_that_is_gone_for_good_is_forgotten_without_a_word(scene: Scene) -> None:
    enrolled = scene.enrol()
    scene.console.is_away = True
    scene.reporter().report(SEEN)
    left = forget(scene.home, scene.entropy)
    assert left.console == enrolled.pins.console
    assert left.unsaid > 0
    assert load_enrolled(scene.home) is None


def test_a_host_that_waits_for_approval_leaves_without_a_word(scene: Scene) -> None:
    scene.console.standing = Standing.PENDING
    scene.enrol()
    leave_it(scene)
    assert scene.disk.listing(scene.home.path) == ["reports.lock"]
    assert not scene.console.events


def test_a_host_that_is_not_enrolled_has_nothing_to_leave(scene: Scene) -> None:
    scene.disk.make_folder(scene.home.path)
    with pytest.raises(ConfigurationError, match="not enrolled"):
        leave_it(scene)
    with pytest.raises(ConfigurationError, match="not enrolled"):
        forget(scene.home, scene.entropy)


def test_a_report_that_is_under_way_is_not_torn(scene: Scene) -> None:
    scene.enrol()
    with scene.home.disk.lock(scene.home.path / "reports.lock"), pytest.raises(BusyError):
        forget(scene.home, scene.entropy)
    assert load_enrolled(scene.home) is not None


@pytest.mark.parametrize("aftermath", Aftermath)
def test_power_loss_at_any_instant_leaves_it_enrolled_or_gone(
    scene: Scene, aftermath: Aftermath
) -> None:
    """What is enrolled still has the key that its check-ins are signed with; nothing is half."""
    scene.enrol()
    scene.reporter().report(SEEN)
    ends: set[bool] = set()
    for steps in range(1, 100):
        disk = scene.disk.crash(Aftermath.KEEPS)
        disk.stop_at = steps
        cut = replace(scene, disk=disk)
        try:
            forget(cut.home, cut.entropy)
        except PowerLossError:
            after = replace(scene, disk=disk.crash(aftermath, seed=steps))
        else:
            break
        is_enrolled = load_enrolled(after.home) is not None
        ends.add(is_enrolled)
        if is_enrolled:
            assert after.reporter().report(SEEN).way is Way.STORED
    assert ends == {True, False}
