"""Single flight: one task for each thing, whoever asks and whoever leaves."""

import asyncio

import pytest

from fleetward.relay.flights import Flights


def test_many_join_one_flight() -> None:
    async def main() -> None:
        flights: Flights[str, int] = Flights()
        begun: list[int] = []

        async def fetch() -> int:
            begun.append(1)
            await asyncio.sleep(0)
            return 7

        tasks = [flights.join("a", fetch) for _ in range(5)]
        assert "a" in flights
        assert len(flights) == 1
        assert await asyncio.gather(*(asyncio.shield(task) for task in tasks)) == [7] * 5
        assert begun == [1]
        await asyncio.sleep(0)
        assert "a" not in flights
        assert len(flights) == 0

    asyncio.run(main())


def test_who_asks_in_the_moment_of_landing_gets_a_new_flight() -> None:
    """The task has ended, and the loop has not yet told the flights of it."""

    async def main() -> None:
        flights: Flights[str, int] = Flights()
        late: list[asyncio.Task[int]] = []

        async def second() -> int:
            return 2

        async def first() -> int:
            def ask() -> None:
                assert "a" not in flights
                late.append(flights.join("a", second))

            asyncio.get_running_loop().call_soon(ask)
            return 1

        assert await flights.join("a", first) == 1
        assert "a" in flights
        assert await late[0] == 2

    asyncio.run(main())


def test_a_failure_that_nobody_waits_for_is_no_noise_and_an_end_is_an_end() -> None:
    async def main() -> None:
        flights: Flights[str, int] = Flights()

        async def fail() -> int:
            raise ValueError

        async def last() -> int:
            await asyncio.Event().wait()
            return 0

        flights.join("fails", fail)
        endless = flights.join("endless", last)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await flights.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless

    asyncio.run(main())
