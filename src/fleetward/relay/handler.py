"""What a relay answers: the repository's paths from its cache or upstream, and its parts' paths."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from fleetward.httpd.counters import ServerCounters
from fleetward.httpd.files import path_of
from fleetward.httpd.message import METHOD_NOT_ALLOWED, NOT_FOUND, Answer, Request, Response
from fleetward.relay.blobs import BlobCache
from fleetward.relay.counters import RelayCounters
from fleetward.relay.documents import DocumentCache
from fleetward.relay.loops import Loops
from fleetward.relay.part import Part, Route
from fleetward.relay.sources import Sources
from fleetward.relay.timestamp import TimestampCache
from fleetward.wire.layout import TIMESTAMP_PATH

STATUS_PATH = "/v1/relay"
STATUS_SCHEMA = "fleetward.relay/1"


class Router:
    """Finds the route of a path: the exact one, else the longest that it lies under."""

    def __init__(self, routes: Iterable[Route]) -> None:
        every = tuple(routes)
        self._exact = {(r.authority, r.path): r for r in every if not r.path.endswith("/")}
        folders = [route for route in every if route.path.endswith("/")]
        self._folders = sorted(folders, key=lambda route: len(route.path), reverse=True)
        self._authorities = {route.authority for route in every}

    def find(self, path: str, authority: str = "") -> Route | None:
        """Return the route of `path`, or None where no part answers it."""
        if authority not in self._authorities:
            authority = ""
        exact = self._exact.get((authority, path))
        if exact is not None:
            return exact
        for route in self._folders:
            if route.authority == authority and path.startswith(route.path):
                return route
        return None


class RelayHandler:
    """The `Handler` of a relay."""

    def __init__(
        self,
        timestamp: TimestampCache,
        documents: DocumentCache,
        blobs: BlobCache,
        routes: Iterable[Route],
        loops: Loops,
    ) -> None:
        self._loops = loops
        self._timestamp = timestamp
        self._documents = documents
        self._blobs = blobs
        self._router = Router(routes)

    def max_body(self, method: str, path: str) -> int:
        """Return how many bytes of body the path's part takes; 0 where it takes none."""
        route = self._router.find(path)
        return route.max_body if route is not None and method in route.methods else 0

    def answer(self, request: Request) -> Answer:
        """Return the answer, or what will."""
        if b"via" in request.headers:
            return self._loops.answer(request, self._answer)
        return self._answer(request)

    def _answer(self, request: Request) -> Answer:
        path = path_of(request.path)
        if path is None or request.authority:
            route = self._router.find(request.path, request.authority)
            if route is not None or path is None:
                return _by_route(route, request)
        if request.method not in {"GET", "HEAD"}:
            return METHOD_NOT_ALLOWED
        if path.path == TIMESTAMP_PATH:
            return self._timestamp.answer(request)
        if path.digest is not None and path.path.startswith("blobs/"):
            return self._blobs.answer(request, path, path.digest)
        return self._documents.answer(request, path)

    async def stop(self) -> None:
        """End all that is under way upstream."""
        await self._blobs.stop()
        await self._documents.stop()
        await self._timestamp.stop()


def _by_route(route: Route | None, request: Request) -> Answer:
    if route is None:
        return NOT_FOUND
    if request.method not in route.methods:
        return Response(405, (("Allow", ", ".join(sorted(route.methods))),))
    return route.answer(request)


class RelayStatus:
    """`GET /v1/relay`: what the relay did, as one document."""

    def __init__(
        self, sources: Sources, counters: RelayCounters, served: ServerCounters, blobs: BlobCache
    ) -> None:
        self._sources = sources
        self._counters = counters
        self._served = served
        self._blobs = blobs
        self._parts: tuple[Part, ...] = ()

    def tell_of(self, parts: Iterable[Part]) -> None:
        """Also tell what these parts say of themselves."""
        self._parts = tuple(parts)

    def document(self) -> dict[str, object]:
        """Return the document; the counters' meanings are their classes' docstrings."""
        traffic = [source.client.traffic for source in self._sources]
        document: dict[str, object] = {
            "schema": STATUS_SCHEMA,
            "upstreams": self._sources.states(),
            "upstream_bytes": sum(one.received_bytes for one in traffic),
            "upstream_requests": sum(one.requests for one in traffic),
            "delivered_bytes": self._served.delivered_bytes,
            "filling": self._blobs.filling,
            **asdict(self._counters),
            "server": asdict(self._served),
        }
        for part in self._parts:
            document.update(part.status())
        return document

    def routes(self) -> tuple[Route, ...]:
        """Answer `GET /v1/relay`."""
        return (Route(STATUS_PATH, self._answer),)

    def _answer(self, request: Request) -> Response:
        return json_response(self.document())


def json_response(document: Mapping[str, object]) -> Response:
    """Return a document of this moment as a response."""
    headers = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
    return Response(200, headers, json.dumps(document).encode())
