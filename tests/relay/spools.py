"""Spools for tests: on a simulated disk, with short segments, and records with a number in them."""

from dataclasses import replace
from pathlib import Path

from fleetward.adapters.disk import Disk
from fleetward.config.relay import SpoolSettings
from fleetward.core.limits import MIB
from fleetward.core.status import HostId
from fleetward.relay.segments import Record, Way
from fleetward.relay.settings import CarryLimits
from fleetward.relay.spool import Spool
from fleetward.wire.checkins import Carried, milliseconds_of
from support.fakes import START, FakeClock
from support.simdisk import SimDisk

FOLDER = Path("/cache/spool")
SETTINGS = SpoolSettings(max_bytes=MIB, max_share=0.5, max_peer_share=0.5)
LIMITS = CarryLimits(segment_bytes=400, worth_removing_bytes=100, max_aside=3)
ALL = 1 << 30


def record(
    number: int,
    host: int = 0,
    source: str = "192.0.2.1",
    way: Way = Way.STREAM,
    length: int = 40,
) -> Record:
    """A record whose envelope begins with its number."""
    envelope = f"{number:06}".encode().ljust(length, b".")
    since = milliseconds_of(START) + number
    carried = Carried(since, "192.0.2.1", envelope)
    return Record(HostId(f"{host:016x}" * 4), source, way, since, carried)


def number_of(one: Record) -> int:
    return int(one.carried.envelope[:6])


def opened(
    disk: Disk | None = None,
    clock: FakeClock | None = None,
    settings: SpoolSettings = SETTINGS,
    limits: CarryLimits = LIMITS,
    **more: object,
) -> Spool:
    spool = Spool(
        disk or SimDisk(),
        FOLDER,
        replace(settings, **more),  # type: ignore[arg-type]
        limits,
        clock or FakeClock(),
    )
    spool.open()
    return spool


def drained(spool: Spool, count: int = 3) -> list[int]:
    """Take and remove everything, and return the numbers in their order."""
    numbers: list[int] = []
    while (taken := spool.take(count, ALL)) is not None:
        numbers += map(number_of, taken.records)
        spool.remove(taken)
    return numbers
