"""`/mirror/PRODUCT/…`: what an agent on this machine confirmed, for software without an agent.

freshclam, suricata-update and curl read it as they read any web server. The agent has verified
every byte; its reader verifies nothing of Fleetward's, so between relay and reader the network is
trusted, and every answer says so in `X-Fleetward-Verified`.

    /mirror/PRODUCT/PATH            a client stays on one tree for a time after its first request
    /mirror/PRODUCT@RELEASE/PATH    this release, while it is confirmed and on disk

Rules: no folder listings (404); 503 with Retry-After where no release is confirmed, since 404
would say that the files are gone; an open file is sent whole even if its slot is removed.
"""

import asyncio
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleetward.adapters.clock import Clock
from fleetward.adapters.disk import Disk
from fleetward.config.relay import MirrorSettings
from fleetward.httpd.conditional import http_date, represent, select
from fleetward.httpd.message import FileBody, Request, Response
from fleetward.relay.mirror_trees import ConfirmedTrees, ServedTree, Stays, open_in
from fleetward.relay.part import Kind, Metric, Route

PREFIX = "/mirror/"
VERIFIED = ("X-Fleetward-Verified", "by the agent beside this relay; not by who reads this")


@dataclass(frozen=True, slots=True)
class MirrorLimits:
    """What clients of mirrors may take.

    Attributes:
        max_clients: addresses whose tree is remembered, of all products together.
        retry_after: seconds after which a client that got 503 may ask again.
    """

    max_clients: int = 16_384
    retry_after: int = 60


@dataclass(slots=True)
class _Tally:
    requests: int = 0
    unavailable: int = 0
    sent_bytes: int = 0


class _Mirror:
    """One product."""

    def __init__(self, settings: MirrorSettings, clock: Clock, disk: Disk) -> None:
        self.settings = settings
        self.trees = ConfirmedTrees(settings, clock, disk)
        self.tally = _Tally()


class MirrorPart:
    """The `Part` that answers for all mirrors."""

    def __init__(
        self,
        mirrors: Iterable[MirrorSettings],
        *,
        clock: Clock,
        disk: Disk,
        limits: MirrorLimits | None = None,
    ) -> None:
        """Take what to serve; nothing is read yet.

        Args:
            mirrors: one for each product.
            clock: the wall clock for dates, the monotonic one for stays.
            disk: where the agent's HOME lies.
            limits: what clients may take.
        """
        self._limits = limits or MirrorLimits()
        self._mirrors = {one.product: _Mirror(one, clock, disk) for one in mirrors}
        self._stays = Stays(clock, self._limits.max_clients)
        retry = ("Retry-After", str(self._limits.retry_after))
        self._unavailable = Response(503, (retry, ("Cache-Control", "no-store"), VERIFIED))
        self._absent = Response(404, (("Cache-Control", "no-store"), VERIFIED))

    def routes(self) -> tuple[Route, ...]:
        """Answer under `/mirror/`."""
        return (Route(PREFIX, self.answer),)

    async def run(self) -> None:
        """Look at the records now and then, so that a switch is dated even if nobody asks."""
        while True:
            for mirror in self._mirrors.values():
                mirror.trees.look()
            await asyncio.sleep(1)

    def answer(self, request: Request) -> Response:
        """Return the file, 304, 404, 416, or 503 where nothing is confirmed."""
        product, *names = request.path.removeprefix(PREFIX).split("/")
        product, _, release = product.partition("@")
        mirror = self._mirrors.get(product)
        if mirror is None:
            return self._absent
        mirror.tally.requests += 1
        trees = mirror.trees.look()
        if not trees:
            mirror.tally.unavailable += 1
            return self._unavailable
        if release:
            tree = next((tree for tree in trees if tree.release == release), None)
        else:
            stay = mirror.settings.stay
            tree = self._stays.choose(product, request.peer, trees, stay)
        if tree is None or not all(names) or not names:
            return self._absent
        return self._file(request, mirror, tree, names)

    def _file(
        self, request: Request, mirror: _Mirror, tree: ServedTree, names: list[str]
    ) -> Response:
        try:
            descriptor = open_in(tree.folder, names)
        except OSError:
            mirror.tally.unavailable += 1
            return self._unavailable
        if descriptor is None:
            if not tree.folder.is_dir():  # somebody other than the agent removed the slot
                mirror.tally.unavailable += 1
                return self._unavailable
            return self._absent
        response = _represent(request, tree, "/".join(names), descriptor)
        body = response.body
        if isinstance(body, FileBody) and request.method == "GET":
            mirror.tally.sent_bytes += body.length
        return response

    # -- what it tells of itself -----------------------------------------------------------------

    def status(self) -> Mapping[str, object]:
        """Return for each product which release is served, or why none is."""
        return {"mirrors": [_state(product, one) for product, one in self._mirrors.items()]}

    def metrics(self) -> Iterable[Metric]:
        """Yield what was served."""
        for product, mirror in self._mirrors.items():
            label = (("product", product),)
            tally = mirror.tally
            yield Metric(
                "mirror_requests_total", tally.requests, "Requests under /mirror/.", labels=label
            )
            yield Metric(
                "mirror_unavailable_total",
                tally.unavailable,
                "Of these, answered 503 since no confirmed release could be read.",
                labels=label,
            )
            yield Metric(
                "mirror_bytes_total",
                tally.sent_bytes,
                "Bytes of the files sent to clients that verify nothing of Fleetward's.",
                labels=label,
            )
            yield Metric(
                "mirror_confirmed",
                float(bool(mirror.trees.look())),
                "Whether a confirmed release is served.",
                Kind.GAUGE,
                label,
            )
        yield Metric("mirror_clients", len(self._stays), "Clients that stay on a tree.", Kind.GAUGE)


def _state(product: str, mirror: _Mirror) -> dict[str, object]:
    trees = mirror.trees.look()
    first = trees[0] if trees else None
    return {
        "product": product,
        "release": first and first.release,
        "tree": first and first.digest,
        "pinnable": [tree.release for tree in trees],
        "problem": mirror.trees.problem,
    }


def _represent(request: Request, tree: ServedTree, path: str, descriptor: int) -> Response:
    """Return the answer from an open file, which is closed where the answer needs it not."""
    found = os.fstat(descriptor)
    version = f"{tree.digest}\0{path}\0{found.st_size}\0{found.st_mtime_ns}"
    etag = f'"{hashlib.sha256(version.encode()).hexdigest()[:32]}"'
    headers = (
        ("Content-Type", "application/octet-stream"),
        ("ETag", etag),
        ("Last-Modified", http_date(tree.since)),
        ("Accept-Ranges", "bytes"),
        ("Cache-Control", "no-cache"),
        ("X-Fleetward-Release", tree.release),
        VERIFIED,
    )
    length = found.st_size
    response = represent(
        select(request.method, request.headers, etag.encode(), length, tree.since),
        headers,
        length,
        lambda first, count: FileBody(descriptor, first, count),
    )
    if not isinstance(response.body, FileBody):
        os.close(descriptor)
    return response
