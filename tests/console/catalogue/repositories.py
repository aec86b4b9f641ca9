"""A real origin over real HTTP for the catalogue's stories, and a console that follows it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.entropy import SystemEntropy
from fleetward.config.console import ConsoleFileSettings, RepositorySettings
from fleetward.console.catalogue.comparing import Workplace
from fleetward.console.catalogue.following import Follower
from fleetward.console.catalogue.models import Repository
from fleetward.console.catalogue.working import follower_of, workplace_of
from fleetward.console.wiring import Wiring, rewired, wired
from fleetward.core.documents import Manifest
from fleetward.core.names import ChannelName, ProductName, ReleaseName
from fleetward.httpd.background import ServerThread
from fleetward.httpd.files import RepositoryHandler
from fleetward.httpd.message import Answer, Repeatable, Request
from fleetward.origin.create import create
from fleetward.origin.finish import finish
from fleetward.origin.keyring import PlainKeys
from fleetward.origin.publish import Order, publish
from fleetward.origin.staging import Staging
from fleetward.origin.workshop import Workshop
from origin.rigging import another_run, workshop
from support.fakes import FakeClock
from support.trusthost import real_time_clock

ANCHOR = "metadata/1.root.json"


class _Switch:
    """Serves a folder, which may be changed for another, and counts what it was asked."""

    def __init__(self, root: Path) -> None:
        self.asked: list[str] = []
        self.serve(root)

    def serve(self, root: Path) -> None:
        self._handler = RepositoryHandler(root)

    def max_body(self, method: str, path: str) -> int:
        return self._handler.max_body(method, path)

    def answer(self, request: Request) -> Answer:
        self.asked.append(request.path)
        answer = self._handler.answer(request)
        # The server would repeat it past a change of folders, which no real one has.
        return answer.response if isinstance(answer, Repeatable) else answer


class Origin:
    """A repository with its keys, served while the `with` block lasts.

    Attributes:
        clock: the clock of the origin, and of the console that follows it.
        repository: its folder.
    """

    def __init__(self, folder: Path, clock: FakeClock | None = None, seed: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.clock = clock or real_time_clock()
        self.folder = folder
        self.repository = folder / "repository"
        self.shop = workshop(
            SystemDisk(), self.clock, repo=self.repository, keys=folder / "keys", seed=seed
        )
        create(self.shop, PlainKeys())
        self._switch = _Switch(self.repository)
        self._server = ServerThread(self._switch)
        self._runs = 1000 * seed

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.__exit__(kind, error, trace)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def asked(self) -> list[str]:
        return self._switch.asked

    def publish(
        self,
        product: str = "yara",
        files: dict[str, bytes] | None = None,
        *,
        channel: str = "stable",
        release: str | None = None,
        urgent: bool = False,
        engine: str = "files",
    ) -> Manifest:
        """Publish a tree of files as a product's next release."""
        tree = self.folder / "trees" / product
        shutil.rmtree(tree, ignore_errors=True)
        for path, content in (files or {"a.yar": b"rule a { condition: true }\n"}).items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
        order = Order(
            product=ProductName(product),
            tree=tree,
            release=ReleaseName(release) if release else None,
            channel=ChannelName(channel),
            engine=engine,
            urgent=urgent,
        )
        return publish(self.again(), order).manifest

    def again(self) -> Workshop:
        """Return the workshop of a later process."""
        self._runs += 1
        return another_run(self.shop, seed=self._runs)

    def renew(self) -> None:
        """Sign the timestamp anew, as the steward does every ten minutes."""
        shop = self.again()
        with shop.alone():
            finish(Staging(shop), ("timestamp",))

    def serve(self, root: Path | None = None) -> None:
        """Serve another folder from now on, or this origin's own again."""
        self._switch.serve(root or self.repository)

    def copied(self, name: str = "copy") -> Path:
        """Return a copy of the repository as it is now."""
        target = self.folder / name
        shutil.copytree(self.repository, target)
        return target


@dataclass
class Following:
    """A console that follows an origin."""

    origin: Origin
    settings: RepositorySettings
    follower: Follower = field(init=False)
    place: Workplace = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin again, as another process."""
        self.follower = follower_of(wired(), self.settings, SystemDisk())
        self.place = workplace_of(wired(), self.settings, SystemDisk())

    def round(self) -> Repository:
        """Follow once; return the repository's row."""
        self.follower.round()
        return Repository.objects.get()

    def later(self, by: timedelta) -> Repository:
        """Follow once more after a while."""
        self.origin.clock.advance(by)
        return self.round()


def repository_settings(origin: Origin, **more: object) -> RepositorySettings:
    return RepositorySettings(url=origin.url, root=origin.repository / ANCHOR, **more)  # type: ignore[arg-type]


@contextmanager
def following(origin: Origin, state: Path, **more: object) -> Iterator[Following]:
    """Give a console of its own folder that follows `origin`, with its clock."""
    state.mkdir(exist_ok=True)
    chosen = repository_settings(origin, **more)
    before: ConsoleFileSettings = wired().settings
    settings = before.having(state=state, db="sqlite:///:memory:", repository=chosen)
    wiring = Wiring(settings=settings, clock=origin.clock, entropy=SystemEntropy())
    with rewired(settings=wiring.settings, clock=wiring.clock):
        yield Following(origin, chosen)
