"""What a relay answers: the repository's paths from its cache or upstream, and its own status."""

import json
from dataclasses import asdict

from fleetward.httpd.counters import ServerCounters
from fleetward.httpd.files import path_of
from fleetward.httpd.message import METHOD_NOT_ALLOWED, NOT_FOUND, Answer, Request, Response
from fleetward.relay.blobs import BlobCache
from fleetward.relay.counters import RelayCounters
from fleetward.relay.documents import DocumentCache
from fleetward.relay.sources import Sources
from fleetward.relay.timestamp import TimestampCache
from fleetward.wire.layout import TIMESTAMP_PATH

STATUS_PATH = "/v1/relay"
STATUS_SCHEMA = "fleetward.relay/1"


class RelayHandler:
    """The `Handler` of a relay."""

    def __init__(
        self,
        timestamp: TimestampCache,
        documents: DocumentCache,
        blobs: BlobCache,
        status: "RelayStatus",
    ) -> None:
        self._timestamp = timestamp
        self._documents = documents
        self._blobs = blobs
        self._status = status

    def max_body(self, method: str, path: str) -> int:
        """Return 0: nothing here takes a body yet."""
        return 0

    def answer(self, request: Request) -> Answer:
        """Return the answer, or what will."""
        if request.method not in {"GET", "HEAD"}:
            return METHOD_NOT_ALLOWED
        path = path_of(request.path)
        if path is None:
            return self._status.answer() if request.path == STATUS_PATH else NOT_FOUND
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


class RelayStatus:
    """`GET /v1/relay`: what the relay did, as one document."""

    def __init__(
        self, sources: Sources, counters: RelayCounters, served: ServerCounters, blobs: BlobCache
    ) -> None:
        self._sources = sources
        self._counters = counters
        self._served = served
        self._blobs = blobs

    def document(self) -> dict[str, object]:
        """Return the document; the counters' meanings are their classes' docstrings."""
        traffic = [source.client.traffic for source in self._sources]
        return {
            "schema": STATUS_SCHEMA,
            "upstreams": self._sources.states(),
            "upstream_bytes": sum(one.received_bytes for one in traffic),
            "upstream_requests": sum(one.requests for one in traffic),
            "delivered_bytes": self._served.delivered_bytes,
            "filling": self._blobs.filling,
            **asdict(self._counters),
            "server": asdict(self._served),
        }

    def answer(self) -> Response:
        """Return the document as a response."""
        headers = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
        return Response(200, headers, json.dumps(self.document()).encode())
