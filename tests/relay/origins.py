"""A real origin over HTTP for the relay's tests: publishes trees, and lists what it was asked."""

from pathlib import Path
from types import TracebackType
from typing import Self

from fleetward.adapters.disk import SystemDisk
from fleetward.core.documents import Manifest
from fleetward.core.names import ProductName
from fleetward.httpd.background import ServerThread
from fleetward.httpd.files import RepositoryHandler
from fleetward.httpd.message import Answer, Request
from fleetward.origin.create import create
from fleetward.origin.keyring import PlainKeys
from fleetward.origin.publish import Order, publish
from fleetward.wire.layout import blob_path
from origin.rigging import workshop
from support.fakes import SeededEntropy


class _Recorder:
    """Serves the repository, and notes the paths."""

    def __init__(self, root: Path) -> None:
        self.asked: list[str] = []
        self._handler = RepositoryHandler(root)

    def max_body(self, method: str, path: str) -> int:
        return self._handler.max_body(method, path)

    def answer(self, request: Request) -> Answer:
        self.asked.append(request.path)
        return self._handler.answer(request)


class Origin:
    """A repository with its keys, served while the `with` block lasts."""

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "repository"
        self._trees = folder / "trees"
        folder.mkdir(parents=True, exist_ok=True)
        self._shop = workshop(SystemDisk(), repo=self.repository, keys=folder / "keys")
        create(self._shop, PlainKeys())
        self._recorder = _Recorder(self.repository)
        self._server = ServerThread(self._recorder)
        self._noise = SeededEntropy(7)
        self._contents: dict[str, bytes] = {}
        self._releases = 0

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
        """What it was asked for, in its order."""
        return self._recorder.asked

    def blobs_asked(self) -> list[str]:
        return [path for path in self.asked if path.startswith("/blobs/")]

    def publish(self, product: str = "yara", size: int = 60_000) -> Manifest:
        """Publish a release with a new file of `size` bytes that nothing compresses."""
        self._releases += 1
        folder = self._trees / product
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self._releases}.bin").write_bytes(self._noise.token(size))
        order = Order(product=ProductName(product), tree=folder, engine="files")
        return publish(self._shop, order).manifest

    def read(self, path: str) -> bytes:
        return (self.repository / path.lstrip("/")).read_bytes()


def pack_url(manifest: Manifest) -> str:
    return "/" + blob_path(manifest.pack.sha256)


def delta_urls(manifest: Manifest) -> list[str]:
    """The deltas, smallest first."""
    return ["/" + blob_path(d.sha256) for d in sorted(manifest.deltas, key=lambda d: d.length)]
