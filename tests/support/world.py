"""A small origin in memory, and agents on a simulated disk: what the agent's suites share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fleetward.adapters.disk import Disk
from fleetward.adapters.processes import Finished
from fleetward.agent.engines import Engines
from fleetward.agent.home import Home, create_home
from fleetward.agent.records import Record, Records
from fleetward.agent.slots import Slots
from fleetward.agent.updating import Agent, CheckedView, SourceTrouble
from fleetward.config.agent import AgentSettings, EngineSettings, Subscription
from fleetward.core.consoles import Consoles
from fleetward.core.digest import Sha256, sha256_of
from fleetward.core.documents import (
    Channel,
    Delta,
    Engine,
    Floor,
    Manifest,
    Pack,
    Policy,
    ReleaseRef,
    Revoked,
    TreeIdentity,
)
from fleetward.core.names import ChannelName, ProductName, ReleaseName
from fleetward.deltas import MemoryTree, encode_deltas, encode_pack, tar_bytes
from fleetward.errors import FleetwardError, NetworkError, NotFoundError
from fleetward.wire.documents import encode
from fleetward.wire.layout import blob_path
from support.fakes import FakeClock, SeededEntropy
from support.simdisk import SimDisk

PRODUCT = ProductName("rules")
STABLE = ChannelName("stable")
SOURCE = "http://relay.test"
HOME = Path("/var/lib/fleetward")
FOLDER = Path("/srv/rules")

Files = dict[str, bytes]
V1: Files = {
    "a.yar": b"rule a {condition: true}\n" * 40,
    "sub/b.yar": b"rule b {}\n",
    "tool": b"#!",
}
V2: Files = {**V1, "sub/b.yar": b"rule b {condition: false}\n", "new.yar": b"rule new {}\n"}
V3: Files = {"a.yar": V1["a.yar"], "new.yar": b"rule newer {}\n"}


@dataclass
class _Answer:
    status: int
    content: bytes
    fault: Callable[[], None] | None = None

    def pieces(self) -> Iterator[bytes]:
        half = len(self.content) // 2
        yield self.content[:half]
        if self.fault:
            self.fault()
        yield self.content[half:]


@dataclass
class FakeFetcher:
    """Serves blobs by URL; satisfies `agent.fetching.Fetcher`.

    Attributes:
        blobs: content by path.
        lies: content by (source, path) that a source sends instead.
        breaks: sources that break off in the middle.
        asked: (url, offset) of every request.
        ignores_range: whether every answer is the whole file.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    lies: dict[tuple[str, str], bytes] = field(default_factory=dict)
    breaks: set[str] = field(default_factory=set)
    asked: list[tuple[str, int]] = field(default_factory=list)
    ignores_range: bool = False

    @contextmanager
    def get(self, url: str, *, max_bytes: int, offset: int = 0) -> Iterator[_Answer]:
        self.asked.append((url, offset))
        scheme, _, rest = url.partition("://")
        host, _, path = rest.partition("/")
        source = f"{scheme}://{host}"
        content = self.lies.get((source, path), self.blobs.get(path))
        if content is None:
            raise NotFoundError(f"{url} is not there", 404)
        resumed = offset > 0 and not self.ignores_range
        yield _Answer(
            206 if resumed else 200,
            content[offset if resumed else 0 :],
            _break if source in self.breaks else None,
        )


def _break() -> None:
    raise NetworkError("the source broke off")


@dataclass
class FakeDocuments:
    """Signed documents as the origin has them; satisfies `agent.following.SignedView`."""

    channels: dict[ChannelName, Channel] = field(default_factory=dict)
    manifests: dict[Sha256, Manifest] = field(default_factory=dict)
    floors: Floor = field(default_factory=lambda: Floor(product=PRODUCT, seq=0))
    policies: Policy = field(default_factory=lambda: Policy(product=PRODUCT))
    release_error: FleetwardError | None = None

    def channel(self, product: ProductName, channel: ChannelName) -> Channel:
        if channel not in self.channels:
            raise NotFoundError(f"no channel {channel}")
        return self.channels[channel]

    def floor(self, product: ProductName) -> Floor:
        return self.floors

    def policy(self, product: ProductName) -> Policy:
        return self.policies

    def release(self, product: ProductName, release: ReleaseName) -> Manifest | None:
        if self.release_error:
            raise self.release_error
        found = [m for m in self.manifests.values() if m.release == release]
        return found[0] if found else None

    def manifest(self, product: ProductName, ref: ReleaseRef) -> Manifest | None:
        return self.manifests.get(ref.manifest)


@dataclass
class FakeTrust:
    """Satisfies `agent.updating.Trust`."""

    documents: FakeDocuments
    error: FleetwardError | None = None
    frozen: bool = False
    consoles: Consoles | None = None
    sources_did: tuple[SourceTrouble, ...] = ()

    def check(self, sources: Sequence[str], direct: str | None = None) -> CheckedView:
        if self.error:
            raise self.error
        return CheckedView(self.documents, sources[0], self.frozen, consoles=self.consoles)

    def troubles(self) -> tuple[SourceTrouble, ...]:
        return self.sources_did


class World:
    """Publishes releases, and makes agents that follow them."""

    def __init__(self) -> None:
        self.fetcher = FakeFetcher()
        self.documents = FakeDocuments()
        self.trust = FakeTrust(self.documents)
        self.clock = FakeClock()
        self.engine_says: Callable[[str], Finished] = lambda _: Finished(0, "")
        self._trees: list[tuple[ReleaseName, MemoryTree, Sha256]] = []

    def publish(
        self,
        files: Files,
        engine: str = "files",
        *,
        created: datetime | None = None,
        deltas: bool = True,
        bases: int = 32,
    ) -> Manifest:
        tree = MemoryTree(files)
        tar = tar_bytes(tree)
        seq = len(self._trees) + 1
        manifest = Manifest(
            product=PRODUCT,
            release=ReleaseName(f"r{seq}"),
            seq=seq,
            created=created or self.clock.now(),
            engine=Engine(name=engine),
            tree=TreeIdentity(sha256=sha256_of(tar), length=len(tar), files=len(files)),
            pack=Pack(codec="zstd", **self._blob(encode_pack(tar, len(tar)))),
            deltas=tuple(self._deltas(tree, bases)) if deltas else (),
        )
        self._trees.append((manifest.release, tree, manifest.tree.sha256))
        self.point(manifest)
        return manifest

    def _deltas(self, tree: MemoryTree, bases: int) -> Iterator[Delta]:
        for release, base, digest in self._trees[-bases:]:
            for made in encode_deltas(base, tree):
                yield Delta(
                    base=release,
                    base_tree=digest,
                    codec=made.codec,
                    encoder=made.encoder,
                    memory=made.memory,
                    **self._blob(made.content),
                )

    def _blob(self, content: bytes) -> dict[str, Any]:
        digest = sha256_of(content)
        self.fetcher.blobs[blob_path(digest)] = content
        return {"sha256": digest, "length": len(content)}

    def ref(self, manifest: Manifest) -> ReleaseRef:
        digest = sha256_of(encode(manifest))
        self.documents.manifests[digest] = manifest
        return ReleaseRef(release=manifest.release, seq=manifest.seq, manifest=digest)

    def point(self, manifest: Manifest, channel: ChannelName = STABLE) -> None:
        known = self.documents.channels.get(channel)
        self.documents.channels[channel] = Channel(
            product=PRODUCT,
            channel=channel,
            release=self.ref(manifest),
            previous=known.release if known else None,
            salt="00",
        )

    def revoke(self, manifest: Manifest) -> None:
        revoked = Revoked(release=manifest.release, tree=manifest.tree.sha256, reason="broke hosts")
        floor = self.documents.floors
        self.documents.floors = replace(floor, revoked=(*floor.revoked, revoked))

    def agent(
        self,
        disk: Disk,
        *,
        boot: str = "boot-1",
        engines: tuple[EngineSettings, ...] = (),
        sources: tuple[str, ...] = (SOURCE,),
    ) -> Agent:
        home = Home(disk, HOME)
        settings = AgentSettings(
            sources=sources,
            subscriptions=(Subscription(product=PRODUCT, folder=FOLDER),),
            engines=engines,
        )

        def run(command: tuple[str, ...], _settings: EngineSettings) -> Finished:
            return self.engine_says(command[-1])

        return Agent(home, settings, self.trust, self.fetcher, self.clock, Engines(run), boot=boot)


def fresh_disk() -> SimDisk:
    """Return a disk with an agent's folder on it."""
    disk = SimDisk()
    settings = AgentSettings(
        sources=(SOURCE,), subscriptions=(Subscription(product=PRODUCT, folder=FOLDER),)
    )
    create_home(Home(disk, HOME), settings, SeededEntropy())
    return disk


def record_on(disk: Disk) -> Record:
    return Records(Home(disk, HOME)).load(PRODUCT, STABLE)


def running(disk: Disk) -> Files | None:
    """Return what readers of FOLDER/current find."""
    slots = Slots(disk, FOLDER)
    slot = slots.current()
    if slot is None:
        return None
    tree = slots.tree(slot)
    return {entry.path: tree.read(entry.path) for entry in tree.entries}
