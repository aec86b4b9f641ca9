"""A whole small fleet on loopback: an origin's repository, sources that serve it, and agents."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from zlib import crc32

from fleetward.adapters.disk import SystemDisk
from fleetward.agent.home import Home
from fleetward.agent.sources import Kept, Lookups, load_kept
from fleetward.agent.updating import Agent, UpdateReport
from fleetward.agent.wiring import create_agent, open_agent
from fleetward.config.agent import AgentSettings, DiscoverySettings, Subscription
from fleetward.core.fleet import Relays
from fleetward.core.names import ProductName, parse_release
from fleetward.discovery.finds import Services
from fleetward.origin.create import create
from fleetward.origin.fleet import set_relays
from fleetward.origin.keyring import Keyring, PlainKeys
from fleetward.origin.publish import Order, publish
from fleetward.origin.repository import Repository
from fleetward.origin.workshop import Workshop
from support.fakes import FakeClock, SeededEntropy
from support.trusthost import real_time_clock

RULES = ProductName("rules")
NOTHING = Lookups(
    addresses=lambda _: (ip_address("10.2.3.4"),),
    srv=lambda _: Services((), timedelta(hours=1)),
    mdns=tuple,
)
"""A host at 10.2.3.4 whose network tells of no relay."""


class FolderFiles(Mapping[str, bytes]):
    """A repository's files as they are now, by path."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, path: str) -> bytes:
        try:
            return (self._folder / path).read_bytes()
        except OSError:
            raise KeyError(path) from None

    def __iter__(self) -> Iterator[str]:
        found = (path for path in self._folder.rglob("*") if path.is_file())
        return (str(path.relative_to(self._folder)) for path in found)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Fleet:
    """The origin, and the time that all share.

    Attributes:
        clock: begins at the real time.
        files: what an honest source serves.
    """

    def __init__(self, folder: Path) -> None:
        self.clock: FakeClock = real_time_clock()
        self._folder, self._releases = folder, 0
        disk = SystemDisk()
        self.shop = Workshop(
            repository=Repository(disk, folder / "repo"),
            keyring=Keyring(disk, folder / "keys"),
            clock=self.clock,
            entropy=SeededEntropy(),
        )
        create(self.shop, PlainKeys())
        self.files = FolderFiles(folder / "repo")

    def publish(self, size: int = 1) -> None:
        """Publish the next release, of that many lines."""
        self._releases += 1
        tree = self._folder / "tree"
        tree.mkdir(exist_ok=True)
        (tree / "a.yar").write_text(f"rule r{self._releases} {{}}\n" * size)
        release = parse_release(f"r{self._releases}")
        publish(self.shop, Order(product=RULES, tree=tree, release=release, deltas=0))

    def follow(self, relays: Relays) -> None:
        """Sign the list of relays."""
        set_relays(self.shop, relays)

    def host(self, *sources: str, name: str = "host", **discovery: object) -> "FleetHost":
        """Make a host with these configured sources."""
        folder = self._folder / name
        settings = AgentSettings(
            sources=sources,
            subscriptions=(Subscription(product=RULES, folder=folder / "content"),),
            discovery=DiscoverySettings(**discovery),  # type: ignore[arg-type]
        )
        root = self.files["metadata/1.root.json"]
        create_agent(
            Home(SystemDisk(), folder / "home"), settings, root, SeededEntropy(crc32(name.encode()))
        )
        return FleetHost(folder, self.clock)


class FleetHost:
    """One host of a fleet.

    Attributes:
        home: its folder.
        lookups: what its network tells.
        entropy: draws its direct polls.
    """

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.folder = folder
        self.home = Home(SystemDisk(), folder / "home")
        self.lookups = NOTHING
        self.entropy = SeededEntropy(7)
        self._clock = clock

    def agent(self) -> Agent:
        """Open it, as each run does."""
        agent = open_agent(self.home, clock=self._clock)
        assert agent.finder is not None
        agent.finder.lookups, agent.finder.entropy = self.lookups, self.entropy
        return agent

    def update(self) -> UpdateReport:
        return self.agent().update()

    @property
    def content(self) -> str:
        """What its readers see."""
        return (self.folder / "content" / "current" / "a.yar").read_text()

    @property
    def kept(self) -> Kept:
        """What it remembers of its sources."""
        return load_kept(self.home)
