"""P7: power loss at any instant leaves the old release or the new one, whole.

Each story is run once to count its operations, then stopped before every single one, with every
aftermath that a disk may leave; then the host starts again, and must end where it would have.
"""

import pytest

from fleetward.core.install import State
from support.simdisk import Aftermath, PowerLossError, SimDisk
from support.world import PRODUCT, V1, V2, Files, World, fresh_disk, record_on, running


def stopped(world: World, before: SimDisk, stop: int) -> SimDisk:
    """Return the disk on which an update was stopped before its operation number `stop`."""
    disk = before.crash(Aftermath.KEEPS)
    disk.stop_at = stop
    with pytest.raises(PowerLossError):
        world.agent(disk).update()
    return disk


def operations(world: World, before: SimDisk) -> int:
    disk = before.crash(Aftermath.KEEPS)
    assert world.agent(disk).update().exit_code == 0
    return len(disk.steps)


def check_every_stop(
    world: World, before: SimDisk, allowed: list[Files | None], finally_: Files
) -> None:
    for stop in range(operations(world, before)):
        disk = stopped(world, before, stop)
        for aftermath in Aftermath:
            for seed in range(3 if aftermath is Aftermath.MIXES else 1):
                after = disk.crash(aftermath, seed)
                where = f"before operation {stop}, {aftermath.name} {seed}"
                assert running(after) in allowed, where
                report = world.agent(after).update()
                assert report.exit_code == 0, (where, report.products[0].reason)
                assert running(after) == finally_, where
                assert record_on(after).state is State.CONFIRMED, where


def test_a_first_installation_is_there_or_not() -> None:
    world = World()
    world.publish(V1)
    check_every_stop(world, fresh_disk(), [None, V1], V1)


def test_an_update_by_delta_leaves_the_old_or_the_new() -> None:
    world, disk = World(), fresh_disk()
    world.publish(V1)
    world.agent(disk).update()
    world.publish(V2)
    check_every_stop(world, disk, [V1, V2], V2)


def test_an_update_by_pack_leaves_the_old_or_the_new() -> None:
    world, disk = World(), fresh_disk()
    world.publish(V1)
    world.agent(disk).update()
    world.publish(V2, deltas=False)
    check_every_stop(world, disk, [V1, V2], V2)


def test_going_back_leaves_either_and_ends_at_the_previous() -> None:
    world, disk = World(), fresh_disk()
    world.publish(V1)
    world.agent(disk).update()
    world.publish(V2)
    world.agent(disk).update()
    whole = disk.crash(Aftermath.KEEPS)
    world.agent(whole).roll_back(PRODUCT)
    for stop in range(len(whole.steps)):
        part = disk.crash(Aftermath.KEEPS)
        part.stop_at = stop
        with pytest.raises(PowerLossError):
            world.agent(part).roll_back(PRODUCT)
        for aftermath in Aftermath:
            after = part.crash(aftermath)
            assert running(after) in (V1, V2)
            world.agent(after).update()
            assert running(after) in (V1, V2)
            assert record_on(after).state in {State.CONFIRMED, State.ROLLED_BACK}
