"""The programs of a demo: an origin, a relay and hosts, with real sockets and folders.

Every host is an agent with a HOME of its own and the relay as its only source. The attacker takes
the relay's address; the hosts' settings never change. Where a console is wanted, it starts beside
all that; once the hosts are enrolled there, each reports after every run.
"""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fleetward.adapters.clock import Clock, SystemClock
from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.entropy import SystemEntropy
from fleetward.adapters.http import HttpSession
from fleetward.agent.enrolling import read_token_file
from fleetward.agent.home import Home
from fleetward.agent.slots import Slots
from fleetward.agent.updating import UpdateReport
from fleetward.agent.verifying import Verified
from fleetward.agent.wiring import create_agent, open_agent, verify_all
from fleetward.config.agent import AgentSettings, Subscription
from fleetward.config.relay import SpoolSettings
from fleetward.core.limits import MIB
from fleetward.core.names import ProductName, parse_release
from fleetward.demo.attacker import Attack, Attacker
from fleetward.demo.console import LiveConsole, settings_for
from fleetward.demo.content import ReleaseFolder
from fleetward.demo.reports import Runs, compare, enrol_host, report_host
from fleetward.httpd.background import ServerThread
from fleetward.httpd.files import RepositoryHandler
from fleetward.origin.create import create
from fleetward.origin.keyring import Keyring, PlainKeys
from fleetward.origin.publish import Order, Published, publish
from fleetward.origin.repository import Repository
from fleetward.origin.workshop import Workshop
from fleetward.relay.server import RelayThread
from fleetward.relay.settings import RelayLimits, RelaySettings

PRODUCT = ProductName("rules")
_WORKERS = 8
_BASES = 2
"""Hosts of a demo are never further behind, so it makes no deltas from older releases."""
_TIMESTAMP_LIFETIME = timedelta(milliseconds=20)
"""Nobody who watches wants to wait for the seconds that a relay may keep a timestamp."""
_SPOOL = SpoolSettings(
    delay=timedelta(milliseconds=50),
    datagrams_per_second=0,
    check_ins_per_second=0,
    enrolments_per_second=0,
)
"""All hosts have one address here, and nobody who watches wants to wait for a full batch."""
_PATIENCE = timedelta(seconds=30)
"""For what hosts reported to be seen in the console, on a busy machine."""
_PAUSE = timedelta(milliseconds=50)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that crossed the site's WAN link, and bytes that hosts got from their relay.

    Attributes:
        wan: bytes that the relay received from the origin, blobs and metadata.
        wan_blobs: of these, bytes of packs and deltas.
        delivered: bytes that the relay sent to hosts.
    """

    wan: int = 0
    wan_blobs: int = 0
    delivered: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.wan + other.wan,
            self.wan_blobs + other.wan_blobs,
            self.delivered + other.delivered,
        )

    def since(self, before: "Traffic") -> "Traffic":
        """Return what came after `before`."""
        return Traffic(
            self.wan - before.wan,
            self.wan_blobs - before.wan_blobs,
            self.delivered - before.delivered,
        )


@dataclass(frozen=True, slots=True)
class HostRun:
    """One host's run: what it reported, and when it was done, counted from the start of all."""

    name: str
    report: UpdateReport
    done_after: timedelta


class Stage:
    """Runs everything; leave the context to stop it."""

    def __init__(
        self, work: Path, hosts: int, clock: Clock | None = None, *, console: bool = False
    ) -> None:
        """Prepare it.

        Args:
            work: an empty folder.
            hosts: how many.
            clock: time.
            console: whether a console runs too, which wants the extra `console`.
        """
        self._work = work
        self._with_console = console
        self._console_url = ""
        self.console: LiveConsole | None = None
        self.patience = _PATIENCE
        self._clock = clock or SystemClock()
        self._disk = SystemDisk()
        self._relay: RelayThread | None = None
        self._before_restart = Traffic()
        self.repository = work / "origin"
        self.homes = {f"host-{n:02}": work / "hosts" / f"host-{n:02}" for n in range(1, hosts + 1)}
        self.origin_url = ""
        self.relay_url = ""

    def __enter__(self) -> Self:
        keyring = Keyring(self._disk, self._work / "keys")
        self._shop = Workshop(
            repository=Repository(self._disk, self.repository),
            keyring=keyring,
            clock=self._clock,
            entropy=SystemEntropy(),
        )
        self._anchor = create(self._shop, PlainKeys()).root
        with ExitStack() as stack:
            origin = stack.enter_context(ServerThread(RepositoryHandler(self.repository)))
            self.origin_url = origin.url
            stack.callback(self.stop_relay)
            self.start_relay()
            if self._with_console:
                self.console = stack.enter_context(self._new_console())
            self._pool = stack.enter_context(ThreadPoolExecutor(_WORKERS))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    # -- the relay ----------------------------------------------------------------------------

    def start_relay(self) -> None:
        """Start the honest relay, at its old address where it had one."""
        port = int(self.relay_url.rpartition(":")[2]) if self.relay_url else 0
        limits = RelayLimits(timestamp_lifetime=_TIMESTAMP_LIFETIME)
        settings = RelaySettings(
            (self.origin_url,),
            self._work / "relay",
            port=port,
            limits=limits,
            console=self._console_url,
            spool=_SPOOL,
        )
        self._relay = RelayThread(settings)
        self._relay.__enter__()
        self.relay_url = self._relay.url

    def stop_relay(self) -> None:
        """Stop the honest relay."""
        if self._relay:
            self._before_restart = self.traffic()
            self._relay.stop()
            self._relay = None

    def traffic(self) -> Traffic:
        """Return what has crossed so far, by the relay's own counters."""
        if self._relay is None:
            return self._before_restart
        session = HttpSession(self._clock)
        try:
            with session.get(f"{self.relay_url}/v1/relay", max_bytes=MIB) as answer:
                told: dict[str, Any] = json.loads(answer.read())
        finally:
            session.close()
        now = Traffic(told["upstream_bytes"], told["upstream_blob_bytes"], told["delivered_bytes"])
        return self._before_restart + now

    def attack(self, attack: Attack, timestamp: bytes) -> ServerThread:
        """Return a hostile server for the relay's address, to be entered; stops the honest one."""
        self.stop_relay()
        port = int(self.relay_url.rpartition(":")[2])
        return ServerThread(Attacker(self.repository, attack, timestamp), port=port)

    # -- the console ---------------------------------------------------------------------------

    def _new_console(self) -> LiveConsole:
        folder = self._work / "console"
        settings = settings_for(folder, self.origin_url, self._anchor, self.relay_url)
        return LiveConsole(folder, self._clock, settings)

    def enrol(self, console: LiveConsole) -> str:
        """Tell the relay of the console, and make every host known there; return its URL.

        Raises:
            NetworkError: the console did not start, or nobody carried a host's words to it.
        """
        url = console.ready().url
        file = read_token_file(console.token_file(len(self.homes)), None)
        self._console_url = url
        self.stop_relay()
        self.start_relay()

        def introduce(name: str) -> None:
            enrol_host(self.home(self.homes[name]), name, file, self._clock)
            self.report(name)

        list(self._pool.map(introduce, self.homes))
        return url

    def report(self, name: str) -> None:
        """Let a host report; what nobody takes goes with its next report."""
        report_host(self.home(self.homes[name]), self._clock)

    def shown(self, console: LiveConsole) -> dict[str, Runs]:
        """Return the hosts of which the console says what they say themselves, and what that is.

        Reports are on their way for a moment: it is waited for until all agree.

        Raises:
            NetworkError: the console does not answer.
        """
        homes = {name: self.home(path) for name, path in self.homes.items()}
        end = self._clock.monotonic() + self.patience
        while True:
            found = compare(homes, console)
            if len(found) == len(homes) or self._clock.monotonic() > end:
                return found
            self._clock.sleep(_PAUSE)

    # -- the origin ----------------------------------------------------------------------------

    def publish(self, release: ReleaseFolder) -> Published:
        """Publish one release on the channel `stable`."""
        name = parse_release(release.name)
        order = Order(product=PRODUCT, tree=release.tree, release=name, deltas=_BASES)
        return publish(self._shop, order)

    def timestamp(self) -> bytes:
        """Return the timestamp as it is served now."""
        return (self.repository / "metadata" / "timestamp.json").read_bytes()

    # -- the hosts -----------------------------------------------------------------------------

    def make_hosts(self) -> None:
        """Make every host's agent."""
        root = self._anchor.read_bytes()
        for path in self.homes.values():
            subscription = Subscription(product=PRODUCT, folder=path / "content")
            settings = AgentSettings(sources=(self.relay_url,), subscriptions=(subscription,))
            create_agent(self.home(path), settings, root, SystemEntropy())

    def home(self, path: Path) -> Home:
        """Return the HOME of the host at `path`."""
        return Home(self._disk, path / "agent")

    def update(
        self, names: Iterable[str], told: Callable[[HostRun], None], *, repair: bool = False
    ) -> list[HostRun]:
        """Let hosts update, several at a time; `told` is called as each is done."""
        began = self._clock.monotonic()

        def run(name: str) -> HostRun:
            report = open_agent(self.home(self.homes[name])).update(repair=repair)
            done = HostRun(name, report, self._clock.monotonic() - began)
            told(done)
            if self._console_url:
                self.report(name)
            return done

        return list(self._pool.map(run, names))

    def verify(self, name: str) -> Verified:
        """Return what `agent verify` finds on a host."""
        return verify_all(self.home(self.homes[name]))[1][0]

    def tamper(self, name: str) -> str:
        """Change one installed file of a host, as malware or a careless hand does."""
        folder = self.homes[name] / "content"
        slot = Slots(self._disk, folder).current() or ""
        tree = folder / "slots" / slot
        victim = max((p for p in tree.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 0x20
        victim.write_bytes(content)
        return victim.relative_to(tree).as_posix()
