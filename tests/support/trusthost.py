"""A host whose trust a test puts to the proof: its disk, its clock, its session."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleetward.adapters.http import HttpSession, HttpSettings
from fleetward.core.documents import whole_second
from fleetward.core.limits import TransferLimits
from fleetward.trust.client import FleetTrust, Source, VerifiedView
from support.fakes import FakeClock
from support.simdisk import SimDisk

FOLDER = Path("/host/trust")
METADATA = FOLDER / "metadata"
STATE = FOLDER / "state"


def real_time_clock() -> FakeClock:
    """Return a clock that begins at the real time, which python-tuf reads, and then stands."""
    return FakeClock(whole_second(datetime.now(UTC)))


class Host:
    """A host that was given a trust anchor.

    Attributes:
        disk: its disk.
        clock: its clock.
        session: its connections.
        trust: its trust.
    """

    def __init__(self, anchor: bytes, clock: FakeClock) -> None:
        self.disk = SimDisk()
        self.disk.make_folder(FOLDER)
        self.clock = clock
        limits = TransferLimits(read_timeout=timedelta(seconds=5))
        self.session = HttpSession(clock, HttpSettings(limits=limits))
        self.trust = FleetTrust.create(self.disk, FOLDER, anchor, self.session, clock)

    def refresh(self, *urls: str) -> VerifiedView:
        return self.trust.refresh([Source(url) for url in urls])

    def restart(self) -> None:
        """Begin again from what is on the disk."""
        self.trust = FleetTrust(self.disk, FOLDER, self.session, self.clock)

    def kept(self) -> dict[str, bytes]:
        """Return the trusted metadata, by file name; without what a broken write has left."""
        names = [name for name in self.disk.listing(METADATA) if not name.startswith(".")]
        return {name: self.disk.read(METADATA / name) for name in names}

    def lose(self, name: str, content: bytes | None = None) -> None:
        """Lose a file of trusted metadata, or its content; begin again."""
        if content is None:
            self.disk.remove(METADATA / name)
        else:
            with self.disk.create(METADATA / name) as file:
                file.write(content)
        self.restart()


@contextmanager
def host(anchor: bytes, clock: FakeClock) -> Generator[Host]:
    made = Host(anchor, clock)
    yield made
    made.session.close()
