"""Our client does to any repository what python-tuf's own client does, request for request.

python-tuf's `Updater` passes tuf-conformance. Here it works on a folder of its own beside ours,
while a repository is rotated, rolled back, expired, broken and repaired at random; after each step
both must agree on success, on what was asked for, and on every trusted byte.
"""

import random
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient.updater import Updater

from fleetward.adapters.http import HttpSession
from fleetward.errors import FleetwardError
from fleetward.trust.ledger import Ledger, TrustHome
from fleetward.trust.rules import TufRules
from fleetward.trust.tufclient import TufClient
from fleetward.trust.updating import Repository
from support.simdisk import SimDisk
from support.sourceserver import SourceServer, source_server
from support.trusthost import real_time_clock
from support.tufsim import SimRepository, new_signers

SEEDS = [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 100))]
STEPS = 25
ONLINE = ("timestamp", "snapshot", "targets")


class Theirs:
    """python-tuf's client."""

    def __init__(self, folder: Path, anchor: bytes) -> None:
        self._folder = folder
        (folder / "root.json").write_bytes(anchor)

    def act(self, url: str, target: str | None) -> bool:
        try:
            updater = Updater(str(self._folder), f"{url}/metadata", bootstrap=None)
            updater.refresh()
            return target is None or updater.get_targetinfo(target) is not None
        except (RepositoryError, DownloadError):
            return False

    def trusted(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self._folder.glob("*.json")}


class Ours:
    """Fleetward's client, begun anew at each step as the executable is."""

    def __init__(self, anchor: bytes) -> None:
        clock = real_time_clock()
        self.session = HttpSession(clock)
        self._rules = TufRules(clock)
        self._home = TrustHome(SimDisk(), Path("/metadata"), Path("/state"))
        TufClient.begin(self._home, anchor, self.session, self._rules)

    def act(self, url: str, target: str | None) -> bool:
        client = TufClient(Ledger(self._home), self.session, self._rules)
        try:
            if target is None:
                client.refresh(Repository(f"{url}/metadata"))
            else:
                client.download(Repository(f"{url}/metadata", f"{url}/targets"), target, Path("/-"))
        except FleetwardError:
            return False
        return True

    def trusted(self) -> dict[str, bytes]:
        disk = self._home.disk
        return {
            name: disk.read(Path("/metadata") / name) for name in disk.listing(Path("/metadata"))
        }


class Mischief:
    """What happens to a repository between two visits of its clients."""

    def __init__(self, origin: SimRepository, seed: int) -> None:
        self.origin = origin
        self.random = random.Random(seed)
        origin.delegate("one", ["a/*"])
        origin.delegate("two", ["*/*"])
        origin.add_target("two", "a/b", b"content")
        origin.publish("targets", "one", "two")

    def one_step(self) -> str:
        steps: list[Callable[[], None]] = [
            self.publish,
            self.publish,
            self.rotate,
            self.rotate_root,
            self.go_back,
            self.leap,
            self.expire,
            self.renew,
            self.renew,
            self.sign_badly,
            self.serve_other_bytes,
            self.toggle_digests,
            self.rename_target,
            self.nothing,
        ]
        step = self.random.choice(steps)
        step()
        return step.__name__

    def _role(self) -> str:
        return self.random.choice([*ONLINE, "one", "two"])

    def publish(self) -> None:
        self.origin.publish(self._role())

    def rotate(self) -> None:
        for role in self.random.sample(ONLINE, self.random.randint(1, 2)):
            self.origin.rotate(role)
        self.origin.publish("root", "targets")

    def rotate_root(self) -> None:
        self.origin.rotate_root()

    def go_back(self) -> None:
        signed = self.origin.roles[self._role()]
        signed.version = max(1, signed.version - self.random.randint(1, 3))
        self.origin.publish(self._role())

    def leap(self) -> None:
        self.origin.roles[self._role()].version += self.random.randint(1, 50)
        self.origin.publish(self._role())

    def expire(self) -> None:
        role = self._role()
        self.origin.renew_expiry(role, days=-1)
        self.origin.publish(role)

    def renew(self) -> None:
        for role in (*ONLINE, "one", "two"):
            self.origin.renew_expiry(role)
        self.origin.publish("targets", "one", "two")

    def sign_badly(self) -> None:
        role = self._role()
        right, self.origin.signers[role] = self.origin.signers[role], new_signers(1)
        self.origin.publish(role)
        self.origin.signers[role] = right

    def serve_other_bytes(self) -> None:
        role = self._role()
        self.origin.publish(role)
        self.origin.files[self.origin.path(role)] += b" "

    def toggle_digests(self) -> None:
        self.origin.with_digests = not self.origin.with_digests
        self.origin.publish("targets", "one", "two")

    def rename_target(self) -> None:
        self.origin.targets("two").targets.clear()
        self.origin.add_target("two", self.random.choice(["a/b", "c/d"]), b"content")
        self.origin.publish("two")

    def nothing(self) -> None:
        """Leave the repository as it is."""


@pytest.fixture
def origin() -> SimRepository:
    return SimRepository(real_time_clock(), {"root": (2, 3), "snapshot": (1, 2)})


@pytest.fixture
def source(origin: SimRepository) -> Generator[SourceServer]:
    with source_server(origin.files) as server:
        yield server


def metadata_asked(source: SourceServer) -> list[str]:
    """Return what metadata was asked for since the last call."""
    asked = [path for path in source.asked if path.startswith("metadata/")]
    source.asked.clear()
    return asked


@pytest.mark.parametrize("seed", SEEDS)
def test_both_clients_agree(
    origin: SimRepository, source: SourceServer, tmp_path: Path, seed: int
) -> None:
    theirs, ours = Theirs(tmp_path, origin.anchor), Ours(origin.anchor)
    mischief = Mischief(origin, seed)
    story: list[str] = []
    outcomes: set[bool] = set()
    for _ in range(STEPS):
        story.append(mischief.one_step())
        print(f"seed {seed}: {story}")
        target = mischief.random.choice([None, None, "a/b", "c/d"])
        expected = theirs.act(source.url, target)
        asked = metadata_asked(source)
        assert ours.act(source.url, target) is expected
        assert metadata_asked(source) == asked
        assert ours.trusted() == theirs.trusted()
        outcomes.add(expected)
    assert outcomes == {True, False}
    ours.session.close()
