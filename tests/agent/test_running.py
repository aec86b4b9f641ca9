"""The loop: it waits with jitter, backs off, and no failure ends it."""

from datetime import timedelta

import pytest

from fleetward.agent.running import FIRST_RETRY, JITTER, pause, run_loop
from fleetward.agent.updating import UpdateReport
from fleetward.errors import ConfigurationError, ExpiredError, NetworkError
from support.fakes import FakeClock, SeededEntropy
from support.world import V1, World, fresh_disk

POLL = timedelta(minutes=10)


def test_pauses_are_spread_by_a_fifth() -> None:
    drawn = [pause(POLL, 0, n / 100) for n in range(100)]
    assert min(drawn) == POLL * (1 - JITTER)
    assert max(drawn) < POLL * (1 + JITTER)
    assert len(set(drawn)) == 100


def test_failures_are_retried_soon_and_then_less_and_less() -> None:
    middle = [pause(POLL, failures, 0.5) for failures in range(1, 30)]
    assert middle[0] == FIRST_RETRY
    assert middle[1] == 2 * FIRST_RETRY
    assert middle == sorted(middle)
    assert middle[-1] == POLL


def test_nothing_ends_the_loop() -> None:
    world, disk = World(), fresh_disk()
    world.publish(V1)
    clock, said = FakeClock(), list[str]()
    happens = [
        NetworkError("unplugged"),
        ExpiredError("root expired on 2026-01-01"),
        ConfigurationError("agent.toml: unknown key"),
        None,
        None,
    ]

    def update() -> tuple[UpdateReport, timedelta]:
        problem = happens.pop(0)
        if isinstance(problem, ConfigurationError):
            raise problem
        world.trust.error = problem
        return world.agent(disk).update(), POLL

    run_loop(update, clock, SeededEntropy(), said.append, runs=5)
    assert happens == []
    assert said[0] == "no metadata: unplugged"
    assert said[1].startswith("no metadata: root expired")
    assert said[2].startswith("failed: agent.toml")
    assert said[3] == "rules installed, runs r1"
    assert len(said) == 4
    assert clock.slept[0] < clock.slept[3]
    assert clock.slept[2] > clock.slept[0]


def test_a_failing_product_is_logged() -> None:
    world, disk = World(), fresh_disk()
    world.publish(V1, "custom")
    said = list[str]()
    run_loop(
        lambda: (world.agent(disk).update(), POLL),
        FakeClock(),
        SeededEntropy(),
        said.append,
        runs=1,
    )
    assert said == [pytest.approx(said[0])]
    assert said[0].startswith("rules failed, runs nothing: no profile")
