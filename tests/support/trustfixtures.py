"""One fleet for each story: an honest origin, a source that serves it, and a host."""

from collections.abc import Generator

import pytest

from support.fakes import FakeClock
from support.sourceserver import SourceServer, source_server
from support.trusthost import Host, host, real_time_clock
from support.tufsim import SimFleet


@pytest.fixture
def clock() -> FakeClock:
    return real_time_clock()


@pytest.fixture
def origin(clock: FakeClock) -> SimFleet:
    fleet = SimFleet(clock)
    fleet.release(1)
    return fleet


@pytest.fixture
def source(origin: SimFleet) -> Generator[SourceServer]:
    with source_server(origin.files) as server:
        yield server


@pytest.fixture
def client(origin: SimFleet, clock: FakeClock) -> Generator[Host]:
    with host(origin.anchor, clock) as made:
        yield made


@pytest.fixture
def relay(origin: SimFleet) -> Generator[SourceServer]:
    """A second source, which serves what the origin had published when the test began."""
    with source_server(dict(origin.files)) as server:
        yield server
