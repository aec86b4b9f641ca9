"""What ingest adds to the console: where hosts speak to it, past Django."""

from collections.abc import MutableMapping
from typing import Any

from fleetward.console.ingest.wiring import ingest
from fleetward.console.parts import AsgiApplication, Part


def _ingest() -> AsgiApplication:
    async def serve(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI's callables)
        await ingest()(scope, receive, send)

    return serve


def _metrics() -> str:
    return ingest().metrics() if ingest.cache_info().currsize else ""


PART = Part(
    name="ingest",
    mounts=dict.fromkeys(("/v1/checkins", "/v1/inbox", "/v1/enroll"), _ingest),
    metrics=_metrics,
)
